//! Which safety backups are asked about: those that are too old or too many. Whether one goes is not said by its manifest but
//! proved (`proof`). Never the newest, never what is not ours (F16).

use jiff::Timestamp;

use super::{Listed, made_at};
use crate::config::BackupRetention;

/// The backups among these (newest first) that may go once all their rows are proved to be elsewhere.
pub fn candidates(listed: Vec<Listed>, retention: BackupRetention, now: Timestamp) -> Vec<Listed> {
    let names: Vec<&str> = listed.iter().map(|backup| backup.name.as_str()).collect();
    let expired: Vec<String> = expired(&names, retention, now).into_iter().map(str::to_owned).collect();
    listed.into_iter().filter(|backup| expired.contains(&backup.name)).collect()
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
    use super::{candidates, expired};
    use crate::config::BackupRetention;
    use std::path::Path;

    fn now() -> jiff::Timestamp {
        "2026-03-15T12:00:00Z".parse().unwrap()
    }

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
            let keep = BackupRetention { max_days: 0, max_count: 1 };
            for old in candidates(list(root.path()), keep, now()) {
                Backup { folder: old.folder }.discard();
            }
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
            std::fs::create_dir(root.path().join(name)).unwrap();
        }
        std::fs::write(root.path().join("20200104-000000"), "a file").unwrap();
        let names: Vec<_> = list(root.path()).into_iter().map(|backup| backup.name).collect();
        assert_eq!(names, ["20200102-000000", "20200101-000000"]);
    }

    #[test]
    fn a_backup_of_another_database_is_known_by_its_manifest() {
        let root = tempfile::tempdir().unwrap();
        let here = root.path().join("claude-mem.db");
        let told = |name: &str, manifest: &str| {
            std::fs::create_dir(root.path().join(name)).unwrap();
            std::fs::write(root.path().join(name).join("manifest.json"), manifest).unwrap();
        };
        let path = |path: &Path| format!(r#"{{"db_path": "{}", "local_ahead": false}}"#, path.display());
        told("20200101-000000", &path(&here));
        told("20200102-000000", &path(Path::new("/elsewhere/claude-mem.db")));
        told("20200103-000000", "{}");
        let ours: Vec<_> = list(root.path()).into_iter().map(|backup| backup.is_of(&here)).collect();
        assert_eq!(ours, [true, false, true], "newest first");
    }
}
