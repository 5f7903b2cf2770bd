//! What differs between claude-mem's releases, in tables with their sources, and the pure rules over them.
//! The only place that may name a release of claude-mem. Touches no file and no network.

use std::time::Duration;

/// One release whose database was looked at.
#[derive(Debug, Clone, Copy)]
pub struct Release {
    /// Its version.
    pub version: Version,
    /// The highest number in `schema_versions` of a database it made.
    pub schema: i64,
}

/// A version as claude-mem writes it: three numbers. A suffix such as `-beta` is dropped.
pub type Version = (u64, u64, u64);

const fn release(version: Version, schema: i64) -> Release {
    Release { version, schema }
}

/// Releases in order, with the highest of the `schema_versions` in the databases that they make. A release
/// between two rows knows at least the lower row.
pub const RELEASES: &[Release] = &[
    release((9, 1, 1), 21),
    release((10, 3, 3), 21),
    release((10, 4, 0), 23),
    release((12, 0, 0), 26),
    release((12, 4, 9), 30),
    release((13, 0, 0), 32),
    release((13, 15, 3), 49),
    release((13, 25, 3), 52),
];

/// `spawn.lock` is stale when it was not touched for this long (13.5.6 and later).
pub const SPAWN_LOCK_STALE: Duration = Duration::from_secs(90);

/// From this release on a worker waits five seconds for somebody else's lock on its database. Older ones answer 500 at once,
/// and what they were told is lost.
const WAITS_FOR_LOCKS: Version = (13, 10, 2);

/// Whether a worker of this release can stand that somebody else writes beside it. One that does not say its version can.
pub fn waits_for_locks(version_text: Option<&str>) -> bool {
    version_text.and_then(version).is_none_or(|version| version >= WAITS_FOR_LOCKS)
}

/// Port of releases before 12.3.3.
pub const OLD_PORT: u16 = 37_777;

/// Port from 12.3.3 on: one per user.
pub fn port_of_user(uid: u32) -> u16 {
    37_700 + u16::try_from(uid % 100).unwrap_or_default()
}

/// The words by which a worker is known in a process list. Never in our own arguments: workers 10.3.1–12.4.5 kill
/// what carries them.
pub const WORKER_WORD: &str = "worker-service";

/// The worker's script, relative to the plugin.
pub const WORKER_SCRIPT: &str = "scripts/worker-service.cjs";

/// What belongs to the local row ids in the data directory.
pub const VECTOR_STORES: &[&str] = &["chroma", "vector-db", "chroma-sync-state.json"];

/// Where this lies in the data directory claude-mem does not rename the projects of a database by the git folders of this
/// machine.
pub const REMAPPED: &str = ".cwd-remap-applied-v1";

/// How claude-mem's next start is told of rows that did not come through its worker and lie below the last id that it has
/// embedded: those above it finds by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Embedding {
    /// Their ids are listed in `pending` of chroma-sync-state.json.
    Pending,
    /// The project's last id there is lowered below the first of them.
    Watermark,
    /// There is no such file: it compares everything with the vector store.
    Compares,
}

/// Which of them a release needs. That from 13.12.2 on an edited file embeds just what is missing is documented for claude-mem
/// and was seen with its worker; that 12.5.0 to 13.12.1 keep a last id and no list, and older ones neither, is taken from the
/// rules of the row log and was not run. `None`: not a version.
pub fn embedding(version_text: &str) -> Option<Embedding> {
    let version = version(version_text)?;
    Some(if version >= (13, 12, 2) {
        Embedding::Pending
    } else if version >= (12, 5, 0) {
        Embedding::Watermark
    } else {
        Embedding::Compares
    })
}

/// How long the worker may take, per step.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For somebody else's spawn.lock to go.
    pub spawn_lock: Duration,
    /// For the queue to drain before a stop; from 13.4.0 queued events live in memory only.
    pub drain: Duration,
    /// For the process to go after it was asked over HTTP.
    pub shutdown: Duration,
    /// For the process to go after SIGTERM, and once more after SIGKILL.
    pub terminate: Duration,
    /// For readiness after a start.
    pub ready: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            spawn_lock: Duration::from_secs(15),
            drain: Duration::from_secs(10),
            shutdown: Duration::from_secs(15),
            terminate: Duration::from_secs(5),
            ready: crate::failpoint::ready_limit().unwrap_or(Duration::from_secs(30)),
        }
    }
}

/// Reads `13.25.3`, `v13.25.3` or `13.25.3-beta.1`.
pub fn version(text: &str) -> Option<Version> {
    let text = text.trim().trim_start_matches('v');
    let numbers = text.split(['-', '+']).next()?;
    let mut parts = numbers.split('.').map(|part| part.parse::<u64>().ok());
    let version = (parts.next()??, parts.next()??, parts.next()??);
    parts.next().is_none().then_some(version)
}

/// The highest schema version that a release of claude-mem is known to understand: that of the newest row which is
/// not newer than it. A release older than all rows cannot know more than the first; one newer than all rows is
/// taken to know everything, because claude-mem migrates forward. `None`: not a version.
pub fn knows(version_text: &str) -> Option<i64> {
    let version = version(version_text)?;
    let newest = RELEASES.last()?;
    if version > newest.version {
        return Some(i64::MAX);
    }
    let row = RELEASES.iter().rev().find(|row| row.version <= version);
    row.or(RELEASES.first()).map(|row| row.schema)
}

/// Whether the claude-mem of this machine may open a database that came from elsewhere (F44).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// It may.
    Open,
    /// Neither a claude-mem that says its version nor a database that one has migrated is here.
    Unknown,
    /// It would lose columns, or never get ready.
    Closed {
        /// The highest schema version that it is known to understand.
        knows: i64,
    },
}

/// Decides the gate. `local` and `remote` are claude-mem versions (of this machine, and of the machine that wrote
/// the database, where known); `schema` is the highest schema version of the remote database, and `migrated` that
/// of the local one, which the local claude-mem has evidently reached.
pub fn gate(local: Option<&str>, migrated: Option<i64>, remote: Option<&str>, schema: i64) -> Gate {
    let Some((local, known)) = local.and_then(|text| Some((version(text)?, knows(text)?))) else {
        // Nobody to ask: the local database shows how far the local claude-mem has come.
        return match migrated {
            None => Gate::Unknown,
            Some(knows) if knows < schema => Gate::Closed { knows },
            Some(_) => Gate::Open,
        };
    };
    let reached = known.max(migrated.unwrap_or(i64::MIN));
    // Same release or newer than the writer's: whatever the table lacks, it can read what the older one wrote.
    let as_new = remote.and_then(version).is_some_and(|remote| local >= remote);
    if schema <= reached || as_new { Gate::Open } else { Gate::Closed { knows: reached } }
}

#[cfg(test)]
mod tests {
    use super::{Gate, RELEASES, gate, knows, port_of_user, version, waits_for_locks};

    #[test]
    fn versions_are_read_and_ordered() {
        let table = [
            ("13.25.3", Some((13, 25, 3))),
            ("v9.1.1", Some((9, 1, 1))),
            ("13.0.0-beta.2", Some((13, 0, 0))),
            ("13.0", None),
            ("13.0.0.1", None),
            ("", None),
            ("-1.0.0", None),
            ("latest", None),
        ];
        for (text, expected) in table {
            assert_eq!(version(text), expected, "{text}");
        }
        assert!(RELEASES.is_sorted_by_key(|row| (row.version, row.schema)));
    }

    #[test]
    fn a_release_knows_the_schema_of_the_row_below_it() {
        let table = [
            ("8.0.0", Some(21)),
            ("9.1.1", Some(21)),
            ("10.3.9", Some(21)),
            ("10.6.3", Some(23)),
            ("12.0.0", Some(26)),
            ("12.4.8", Some(26)),
            ("13.11.0", Some(32)),
            ("13.15.3", Some(49)),
            ("13.25.3", Some(52)),
            ("13.25.4", Some(i64::MAX)),
            ("14.0.0", Some(i64::MAX)),
            ("?", None),
        ];
        for (text, expected) in table {
            assert_eq!(knows(text), expected, "{text}");
        }
    }

    #[test]
    fn f44_the_gate_closes_only_where_columns_would_be_lost() {
        let table = [
            // local, local schema, writer, schema, verdict
            (Some("13.25.3"), Some(52), Some("10.6.3"), 23, Gate::Open),
            (Some("10.6.3"), Some(23), Some("13.25.3"), 52, Gate::Closed { knows: 23 }),
            (Some("10.6.3"), Some(23), None, 49, Gate::Closed { knows: 23 }),
            (Some("13.11.0"), None, Some("13.25.3"), 52, Gate::Closed { knows: 32 }),
            (Some("10.5.0"), None, Some("10.6.3"), 23, Gate::Open),
            // Between two rows: the writer is not newer, or the local database is already there.
            (Some("13.20.0"), None, Some("13.18.0"), 50, Gate::Open),
            (Some("13.20.0"), Some(50), Some("13.21.0"), 50, Gate::Open),
            (Some("99.0.0"), None, Some("99.1.0"), 900, Gate::Open),
            // Where no version is known, the database that is here tells.
            (None, Some(23), Some("13.25.3"), 52, Gate::Closed { knows: 23 }),
            (None, Some(52), Some("13.25.3"), 52, Gate::Open),
            (None, None, Some("13.25.3"), 52, Gate::Unknown),
            (Some("dev"), None, None, 52, Gate::Unknown),
        ];
        for (local, migrated, remote, schema, verdict) in table {
            assert_eq!(gate(local, migrated, remote, schema), verdict, "{local:?} {remote:?} {schema}");
        }
    }

    #[test]
    fn a_worker_waits_for_locks_from_13_10_2_on() {
        for (version, waits) in [
            (Some("9.1.1"), false),
            (Some("10.6.3"), false),
            (Some("13.10.1"), false),
            (Some("13.10.2"), true),
            (Some("13.25.3"), true),
            (Some("dev"), true),
            (None, true),
        ] {
            assert_eq!(waits_for_locks(version), waits, "{version:?}");
        }
    }

    #[test]
    fn each_user_has_a_port() {
        assert_eq!(port_of_user(0), 37_700);
        assert_eq!(port_of_user(1000), 37_700);
        assert_eq!(port_of_user(1001), 37_701);
        assert_eq!(port_of_user(65_534), 37_734);
    }
}
