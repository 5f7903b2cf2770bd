//! Is the project called as it was yesterday? A CLAUDE_PROJECT_ID that was changed on one machine parts it from the others
//! without a word, so somebody has to say it. Judges records; changes nothing.

use super::record::SyncRecord;
use crate::visible::shell_word;

/// For so long after the last sync under another name it is said (seconds).
const SAID_FOR: i64 = 30 * 86_400;

/// Another name of the project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Renamed {
    /// The database was synced under that name until then (ISO time), and nobody said that the new one is meant.
    Was {
        /// The other name.
        project: String,
        /// When it was last synced under it.
        until: String,
    },
    /// Another machine has given the project that name.
    Now(String),
}

impl Renamed {
    /// One line for people; `current`: the name that is set here.
    pub fn describe(&self, current: &str) -> String {
        match self {
            Self::Was { project, until } => {
                let day = until.get(..10).unwrap_or("an earlier day");
                format!(
                    "this database was synced as '{project}' until {day}, and is now synced as '{current}'"
                )
            }
            Self::Now(project) => {
                format!("another machine has renamed the project '{current}' to '{project}'")
            }
        }
    }

    /// What to type.
    pub fn remedy(&self, current: &str) -> String {
        match self {
            Self::Was { project, .. } => format!(
                "when that is meant: membridge rename-project {0}; otherwise set CLAUDE_PROJECT_ID={1} again",
                shell_word(current),
                shell_word(project)
            ),
            Self::Now(project) => format!("membridge rename-project {}", shell_word(project)),
        }
    }
}

/// Decides from the records of one database in one store; `now`: seconds since 1970.
pub fn judge(records: &[SyncRecord], current: &str, now: i64) -> Option<Renamed> {
    let mine = records.iter().find(|record| record.project == current);
    if let Some(name) = mine.and_then(|record| record.renamed_to.as_deref()).filter(|name| *name != current) {
        return Some(Renamed::Now(name.to_owned()));
    }
    let at = |time: &str| time.parse::<jiff::Timestamp>().ok();
    let others = records.iter().filter(|record| record.project != current);
    let others = others.filter_map(|record| Some((record, record.last_sync.as_deref()?)));
    let (other, until) = others.max_by_key(|(_, last)| at(last))?;
    if mine.and_then(|record| record.succeeds.as_deref()) == Some(other.project.as_str()) {
        return None;
    }
    // Whoever goes back to the first name has mended it.
    let first = |record: &SyncRecord| record.first_sync.as_deref().and_then(at);
    let older = mine.is_none_or(|mine| mine.last_sync.is_none() || first(other) < first(mine));
    let recent = at(until).is_some_and(|at| now.saturating_sub(at.as_second()) < SAID_FOR);
    (older && recent).then(|| Renamed::Was { project: other.project.clone(), until: until.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::{Renamed, judge};
    use crate::sync::record::{RecordFile, SyncRecord};
    use std::path::Path;

    fn record(project: &str, first: Option<&str>, last: Option<&str>) -> SyncRecord {
        let state = tempfile::tempdir().unwrap();
        let file = RecordFile::load(state.path(), "s3", project, "6f", Path::new("/x.db")).unwrap();
        SyncRecord { first_sync: first.map(str::to_owned), last_sync: last.map(str::to_owned), ..file.record }
    }

    #[test]
    fn a_name_that_changed_is_noticed_until_somebody_says_that_it_is_meant() {
        let [monday, tuesday, friday] =
            ["2026-01-05T10:00:00+00:00", "2026-01-06T10:00:00+00:00", "2026-01-09T10:00:00+00:00"];
        let now = "2026-01-09T11:00:00Z".parse::<jiff::Timestamp>().unwrap().as_second();
        let mem = record("mem", Some(monday), Some(tuesday));
        let was = Some(Renamed::Was { project: "mem".to_owned(), until: tuesday.to_owned() });
        let fresh = record("new", None, None);
        let synced = record("new", Some(tuesday), Some(friday));
        assert_eq!(judge(std::slice::from_ref(&mem), "mem", now), None);
        assert_eq!(judge(std::slice::from_ref(&mem), "new", now), was);
        assert_eq!(judge(&[fresh, mem.clone()], "new", now), was);
        assert_eq!(judge(&[mem.clone(), synced.clone()], "new", now), was);
        assert_eq!(judge(&[mem.clone(), synced.clone()], "mem", now), None, "the name is the old one again");
        let old = record("mem", None, Some(tuesday));
        assert_eq!(judge(&[old, synced.clone()], "new", now), was, "a record of an earlier membridge");
        assert_eq!(judge(&[mem.clone(), synced.clone()], "new", now + 40 * 86_400), None);
        let meant = SyncRecord { succeeds: Some("mem".to_owned()), ..synced };
        assert_eq!(judge(&[mem.clone(), meant], "new", now), None);
        let told = SyncRecord { renamed_to: Some("it's new".to_owned()), ..mem };
        let renamed = judge(&[told], "mem", now).unwrap();
        assert_eq!(renamed, Renamed::Now("it's new".to_owned()));
        assert_eq!(renamed.remedy("mem"), r"membridge rename-project 'it'\''s new'");
    }
}
