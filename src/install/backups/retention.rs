//! Which safety backups are forgotten: those that are too old or too many, and only where the manifest says that their
//! rows are elsewhere. Never the newest, never what is not ours (F16).

use std::path::Path;

use jiff::Timestamp;

use super::{list, made_at, remove};
use crate::config::BackupRetention;

/// Removes backups that are too old or too many; never `made`, the one just made, whatever the clock says, and never one
/// whose rows may be nowhere else: those neither count nor go.
pub fn retain(root: &Path, retention: BackupRetention, now: Timestamp, made: &Path) {
    let mut listed = list(root);
    listed.retain(|backup| !backup.is_precious());
    let names: Vec<&str> = listed.iter().map(|backup| backup.name.as_str()).collect();
    for name in expired(&names, retention, now) {
        let folder = root.join(name);
        if folder != made {
            remove(&folder);
        }
    }
}

/// Which of these backups (newest first) go. The newest stays whatever the settings say.
fn expired<'a>(names: &[&'a str], retention: BackupRetention, now: Timestamp) -> Vec<&'a str> {
    let now = now.to_zoned(jiff::tz::TimeZone::UTC).datetime();
    let too_old = |name: &str| {
        made_at(name)
            .is_some_and(|at| now.duration_since(at).as_hours() > retention.max_days.saturating_mul(24))
    };
    let max = usize::try_from(retention.max_count).unwrap_or(usize::MAX).max(1);
    names
        .iter()
        .enumerate()
        .skip(1)
        .filter(|(index, name)| *index >= max || too_old(name))
        .map(|(_, name)| *name)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Backup, list, made_at};
    use super::{expired, retain};
    use crate::config::BackupRetention;
    use std::path::Path;

    fn now() -> jiff::Timestamp {
        "2026-03-15T12:00:00Z".parse().unwrap()
    }

    /// The least that a manifest can say.
    fn told(folder: &Path, manifest: &str) {
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(folder.join("manifest.json"), manifest).unwrap();
    }

    const ELSEWHERE: &str = r#"{"local_ahead": false}"#;

    #[test]
    fn f16_retention_keeps_the_newest_and_counts_only_ours() {
        let keep = |max_days, max_count| BackupRetention { max_days, max_count };
        let names = ["20260315-110000-1", "20260315-110000", "20260310-000000", "20260201-000000"];
        let table = [
            (keep(14, 50), vec!["20260201-000000"]),
            (keep(14, 2), vec!["20260310-000000", "20260201-000000"]),
            (keep(0, 1), vec!["20260315-110000", "20260310-000000", "20260201-000000"]),
            (keep(36_500, 50), vec![]),
        ];
        for (retention, gone) in table {
            assert_eq!(expired(&names, retention, now()), gone, "{retention:?}");
        }
        assert!(expired(&["20200101-000000"], keep(0, 1), now()).is_empty(), "the newest is never deleted");
        assert!(expired(&[], keep(0, 1), now()).is_empty());
    }

    #[test]
    fn f16_the_last_of_one_second_is_the_newest_also_when_earlier_ones_are_gone() {
        let root = tempfile::tempdir().unwrap();
        let mut made = Vec::new();
        for _ in 0..4 {
            let backup = Backup::begin(root.path(), now()).unwrap();
            told(&backup.folder, ELSEWHERE);
            retain(root.path(), BackupRetention { max_days: 0, max_count: 1 }, now(), &backup.folder);
            assert!(backup.folder.is_dir());
            assert_eq!(list(root.path()).len(), 1);
            made.push(backup.folder);
        }
        made.dedup();
        assert_eq!(made.len(), 4);
    }

    #[test]
    fn f16_foreign_names_are_not_backups() {
        for name in [
            "notes",
            "20260101",
            "20260101-0000000",
            "2026-0101-000000",
            "20261301-000000",
            "20260101-000000-",
            "20260101-000000-x",
            "сад",
        ] {
            assert!(made_at(name).is_none(), "{name}");
        }
        let root = tempfile::tempdir().unwrap();
        for name in ["20200101-000000", "20200102-000000", "mine", "20200103-000000.bak"] {
            told(&root.path().join(name), ELSEWHERE);
        }
        std::fs::write(root.path().join("20200104-000000"), "a file").unwrap();
        retain(root.path(), BackupRetention { max_days: 0, max_count: 1 }, now(), Path::new(""));
        let mut left: Vec<_> = std::fs::read_dir(root.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["20200102-000000", "20200103-000000.bak", "20200104-000000", "mine"]);
        assert_eq!(list(root.path()).len(), 1);
    }

    #[test]
    fn f16_what_may_be_the_only_copy_is_never_forgotten_and_does_not_count() {
        let root = tempfile::tempdir().unwrap();
        let manifests = [
            // As membridge and the script write them, as an interrupted run leaves them, as nobody wrote them.
            ("20200101-000000", Some(r#"{"local_obs": 5, "local_ahead": true}"#), true),
            ("20200102-000000", Some(r#"{"local_obs": null, "local_ahead": false}"#), false),
            ("20200103-000000", None, false),
            ("20200104-000000", Some("{\"local_ahead\": fal"), true),
            ("20200105-000000", Some("{}"), true),
            ("20200106-000000", Some(r#"{"local_ahead": "no"}"#), true),
            ("20200107-000000", Some(ELSEWHERE), true),
            ("20200108-000000", Some(r#"{"local_ahead": true}"#), true),
        ];
        for (name, manifest, _) in manifests {
            let folder = root.path().join(name);
            std::fs::create_dir(&folder).unwrap();
            std::fs::write(folder.join("claude-mem.db"), "rows").unwrap();
            if let Some(manifest) = manifest {
                told(&folder, manifest);
            }
        }
        let keep = BackupRetention { max_days: 1, max_count: 1 };
        retain(root.path(), keep, now(), Path::new(""));
        for (name, manifest, stays) in manifests {
            assert_eq!(root.path().join(name).is_dir(), stays, "{name}: {manifest:?}");
        }
    }
}
