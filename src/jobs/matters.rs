//! What a person has to be told about, and may be told at the start of a session, in the one line that Claude Code shows to
//! the person and not to the model. The background work writes down what there is; the hook says each matter at most once a
//! day. Knows neither store nor database.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::context::hex;
use crate::private_files::write_private;

/// How long a matter that was told is not told again (seconds).
const AGAIN: i64 = 86_400;
/// How long nothing may get through before it is a matter (seconds).
const SILENCE: i64 = 86_400;
/// Longer texts are nobody's line.
const MAX_TEXT: usize = 400;

/// Matters by their word, as they lie in our state directory.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Matters {
    /// What there is to be told.
    #[serde(default)]
    open: BTreeMap<String, String>,
    /// When each was last told, seconds since 1970.
    #[serde(default)]
    told: BTreeMap<String, i64>,
    /// When a sync last ended well, seconds since 1970.
    #[serde(default)]
    last_good: Option<i64>,
}

/// How a sync ended, as far as people have to know.
#[derive(Debug, Clone, Copy)]
pub enum Ended<'a> {
    /// Well; `matters` of its report.
    Well(&'a BTreeMap<String, String>),
    /// With an error of this code and these words.
    Badly {
        /// See [`crate::error::Code`].
        code: &'a str,
        /// One line.
        message: &'a str,
    },
}

impl Matters {
    /// Takes in how a sync ended at `now`.
    pub fn heard(&mut self, ended: Ended<'_>, now: i64) {
        match ended {
            Ended::Well(matters) => {
                self.open.clone_from(matters);
                self.last_good = Some(now);
            }
            Ended::Badly { code: "store_foreign", message } => {
                self.open.insert("store".to_owned(), message.to_owned());
            }
            Ended::Badly { message, .. } => {
                // The first failure of a machine that never got through begins the silence.
                let since = *self.last_good.get_or_insert(now);
                if now.saturating_sub(since) > SILENCE {
                    self.open.insert(
                        "silence".to_owned(),
                        format!("nothing has been sent for more than a day: {message}"),
                    );
                }
            }
        }
    }

    /// The line for Claude Code, when there is anything to tell that was not told within a day; it counts as told.
    pub fn tell(&mut self, now: i64) -> Option<String> {
        let due =
            |told: Option<&i64>| told.is_none_or(|told| !(0..AGAIN).contains(&now.saturating_sub(*told)));
        let due: Vec<(String, String)> = (self.open.iter())
            .filter(|(word, _)| due(self.told.get(*word)))
            .map(|(word, text)| (word.clone(), text.chars().take(MAX_TEXT).collect()))
            .collect();
        self.told.retain(|word, _| self.open.contains_key(word));
        if due.is_empty() {
            return None;
        }
        for (word, _) in &due {
            self.told.insert(word.clone(), now);
        }
        let texts: Vec<String> = due.into_iter().map(|(_, text)| text).collect();
        Some(json!({"systemMessage": format!("membridge: {}", texts.join("; "))}).to_string())
    }
}

/// The file of one database's matters.
#[derive(Debug, Clone)]
pub struct MattersFile(PathBuf);

impl MattersFile {
    /// In our state directory; `database` as the settings name it.
    pub fn of(state: &Path, database: &str) -> Self {
        let name = Sha256::digest(database.as_bytes());
        Self(folder(state).join(format!("{}.json", hex(name.get(..8).unwrap_or_default()))))
    }

    /// All that there are.
    pub fn all(state: &Path) -> Vec<Self> {
        let entries = std::fs::read_dir(folder(state)).into_iter().flatten().flatten();
        let files = entries
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|kind| kind == "json"));
        files.map(Self).collect()
    }

    /// What lies there; nothing where it cannot be read.
    pub fn load(&self) -> Matters {
        std::fs::read(&self.0).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
    }

    /// Writes it; a full disk only means that a person is told again.
    pub fn save(&self, matters: &Matters) {
        if let Ok(text) = serde_json::to_vec_pretty(matters) {
            let _ = write_private(&self.0, &text);
        }
    }
}

fn folder(state: &Path) -> PathBuf {
    state.join("matters")
}

#[cfg(test)]
mod tests {
    use super::{Ended, Matters};

    const DAY: i64 = 86_400;

    #[test]
    fn each_matter_is_told_once_a_day_and_no_longer_than_there_is_one() {
        let mut matters = Matters::default();
        let held = [("held".to_owned(), "60 observations vanished".to_owned())].into();
        assert_eq!(matters.tell(0), None);
        matters.heard(Ended::Well(&held), 100);
        let line = matters.tell(100).unwrap();
        assert_eq!(line, r#"{"systemMessage":"membridge: 60 observations vanished"}"#);
        matters.heard(Ended::Well(&held), 200);
        assert_eq!(matters.tell(200), None);
        assert_eq!(matters.tell(100 + DAY - 1), None);
        assert!(matters.tell(100 + DAY).is_some());
        matters.heard(Ended::Well(&[].into()), 100 + DAY);
        assert_eq!(matters.tell(100 + 9 * DAY), None);
        // It comes back: that is news.
        matters.heard(Ended::Well(&held), 100 + 9 * DAY);
        assert!(matters.tell(100 + 9 * DAY).is_some());
    }

    #[test]
    fn silence_is_told_after_a_day_and_another_store_at_once() {
        let failed = Ended::Badly { code: "store_unreachable", message: "no answer" };
        let mut matters = Matters::default();
        matters.heard(Ended::Well(&[].into()), 0);
        matters.heard(failed, DAY);
        assert_eq!(matters.tell(DAY), None);
        matters.heard(failed, DAY + 1);
        assert!(matters.tell(DAY + 1).unwrap().contains("more than a day: no answer"));
        let mut matters = Matters::default();
        matters.heard(failed, 50);
        assert_eq!(matters.tell(50), None);
        matters.heard(Ended::Badly { code: "store_foreign", message: "the store is empty" }, 60);
        assert!(matters.tell(60).unwrap().contains("the store is empty"));
    }
}
