//! A machine of a life, and what the model notes of it. Knows files and processes, not what is right.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::LazyLock;

use serde_json::Value;

use super::bucket::{Held, versions_in};
use crate::rows_model::machine;
use crate::rows_model::memory::{Edit, Memory, Token};
use crate::support::claude_mem::Version;
use crate::support::machine::Machine;
use crate::support::process::Outcome;

/// The releases that live together.
pub const VERSIONS: [Version; 4] = [Version::V9_1_1, Version::V10_3_3, Version::V13_15_3, Version::V13_25_3];

static HIGHEST: LazyLock<Vec<(i64, Version)>> =
    LazyLock::new(|| VERSIONS.iter().map(|version| (version.highest_schema(), *version)).collect());

/// What is here, and in which versions.
pub type Tokens = BTreeMap<Token, Vec<Edit>>;

pub struct Node {
    pub machine: Machine,
    /// Whether a whole sync ended well since the state was lost or an old file put back.
    pub settled: bool,
    /// What was here at the last sync, and at the one before where that one did not end well.
    pub known: BTreeSet<Token>,
    pub before_crash: BTreeSet<Token>,
    /// Whether the last sync did not end well.
    pub crashed: bool,
    /// What the person says to the next sync about rows that vanished in mass.
    pub accepts: bool,
    /// Whether a person is asked at all.
    pub asked: bool,
    /// Edits of the person here that an old file has undone, until the next sync.
    pub undone: Vec<Edit>,
    /// A file that somebody kept.
    pub old: Option<(Vec<u8>, Version)>,
    /// Versions that a restore here has replaced.
    pub replaced: BTreeSet<Edit>,
    /// Whether the fleet has a key that was not brought here yet.
    pub lacks_key: bool,
}

/// A run of the binary that has ended.
pub struct Ran {
    pub outcome: Outcome,
    pub json: Value,
}

impl Ran {
    pub fn of(outcome: Outcome) -> Ran {
        let json = serde_json::from_str(&outcome.stdout).unwrap_or_default();
        Ran { outcome, json }
    }

    pub fn code(&self) -> i32 {
        self.outcome.code
    }

    /// The word for the kind of trouble; empty where there is none.
    pub fn trouble(&self) -> &str {
        self.json["code"].as_str().unwrap_or_default()
    }

    /// What was asked was done, or was not this node's to do; rows were exchanged.
    pub fn exchanged(&self) -> bool {
        matches!(self.code(), 0 | 2 | 3)
    }

    pub fn matter(&self, word: &str) -> bool {
        !self.json["matters"][word].is_null()
    }

    /// Everything that a person reads of it.
    pub fn said(&self) -> String {
        let mut said = String::new();
        for field in ["error", "warning"] {
            said += self.json[field].as_str().unwrap_or_default();
            said.push('\n');
        }
        for hint in self.json["hints"].as_array().into_iter().flatten() {
            said += hint.as_str().unwrap_or_default();
            said.push('\n');
        }
        said
    }

    pub fn brief(&self) -> String {
        let outcome = self.json["outcome"].as_str().unwrap_or_default();
        format!("{} {outcome} {} {}", self.code(), self.trouble(), self.said().replace('\n', " "))
    }
}

impl Node {
    pub fn new(machine: Machine) -> Node {
        Node {
            machine,
            settled: false,
            known: BTreeSet::new(),
            before_crash: BTreeSet::new(),
            crashed: false,
            accepts: false,
            asked: true,
            undone: Vec::new(),
            old: None,
            replaced: BTreeSet::new(),
            lacks_key: false,
        }
    }

    pub fn has_database(&self) -> bool {
        self.machine.db_path().exists()
    }

    pub fn version(&self) -> Version {
        version_of(&self.machine.db_path())
    }

    pub fn memory(&self) -> Memory {
        let path = self.machine.db_path();
        Memory::open(&path, version_of(&path))
    }

    pub fn tokens(&self) -> Tokens {
        if self.has_database() { self.memory().tokens() } else { Tokens::new() }
    }

    /// Makes a database of this release.
    pub fn create(&self, version: Version) {
        let path = self.machine.db_path();
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("make the folder");
        drop(Memory::create(&path, version));
    }

    /// Puts another file in the place of the database.
    pub fn replace(&self, image: &[u8]) {
        let path = self.machine.db_path();
        for end in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{end}", path.display()));
        }
        let beside = self.machine.write(".claude-mem/other.db", image);
        std::fs::rename(beside, path).expect("put it there");
    }

    pub fn state(&self) -> PathBuf {
        self.machine.path(".membridge")
    }

    /// Loses what membridge knows: the shadow, the writer id too, or everything but the versions that did not win.
    pub fn lose_state(&self, writer_too: bool, all: bool) {
        let folder = if all { self.state() } else { self.state().join("rows") };
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.expect("an entry").path();
            let is_writer = path.extension().is_some_and(|kind| kind == "writer");
            if path.is_dir() && all && !path.ends_with("conflicts") {
                std::fs::remove_dir_all(path).expect("lose a folder");
            } else if path.is_file() && (all || writer_too || !is_writer) {
                std::fs::remove_file(path).expect("lose a file");
            }
        }
    }

    /// Memories of records that wait here.
    pub fn waiting(&self) -> BTreeSet<Token> {
        machine::waiting(&self.state())
    }

    /// Folders of safety backups, oldest first.
    pub fn backups(&self) -> Vec<String> {
        let folder = self.machine.path(".claude-mem/backups/pull-overwrite");
        let names = std::fs::read_dir(folder).into_iter().flatten();
        let mut names: Vec<String> = names
            .map(|entry| entry.expect("an entry"))
            .filter(|entry| entry.path().join("claude-mem.db").exists())
            .map(|entry| entry.file_name().into_string().expect("a name"))
            .collect();
        names.sort();
        names
    }

    /// Adds what is live here, what is in backups, and the versions that did not win.
    pub fn hold(&self, held: &mut Held) {
        let backups = self.backups().into_iter();
        let kept = backups.map(|name| {
            self.machine.path(&format!(".claude-mem/backups/pull-overwrite/{name}/claude-mem.db"))
        });
        for path in kept.chain([self.machine.db_path()]).filter(|path| path.exists()) {
            for (token, edits) in Memory::open(&path, Version::V13_25_3).tokens() {
                held.entry(token).or_default().extend(edits);
            }
        }
        for entry in std::fs::read_dir(self.state().join("conflicts")).into_iter().flatten() {
            let text = std::fs::read(entry.expect("an entry").path()).unwrap_or_default();
            versions_in(&String::from_utf8_lossy(&text), held);
        }
    }
}

/// The release whose schema a database has.
pub fn version_of(path: &std::path::Path) -> Version {
    let db = rusqlite::Connection::open(path).expect("open a database");
    db.busy_timeout(std::time::Duration::from_secs(5)).expect("a timeout");
    let highest: i64 =
        db.query_row("SELECT max(version) FROM schema_versions", [], |row| row.get(0)).expect("a version");
    let known = HIGHEST.iter().rfind(|(number, _)| *number <= highest);
    known.unwrap_or_else(|| panic!("schema {highest}")).1
}
