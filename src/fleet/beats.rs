//! The last heartbeat of each node in each project: in memory, and in a file once a minute, so that a restart does not
//! forget who there is. Knows no HTTP.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::private_files::write_private;

/// More nodes than a person has.
const MOST: usize = 4096;

/// Between two events about a node that says nothing new, seconds.
const QUIET: f64 = 5.0;

/// What a node said of itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Beat {
    /// Its name.
    pub node_id: String,
    /// The project.
    pub canonical_id: String,
    /// How many observations it has.
    #[serde(default)]
    pub obs_count: Option<i64>,
    /// Digest of its memory.
    #[serde(default)]
    pub db_sha: Option<String>,
    /// When it was alive, by what it said; seconds since 1970.
    pub last_seen: f64,
    /// When we heard of it last, by our clock.
    #[serde(default)]
    pub heard_at: f64,
    /// When we heard of it first.
    pub registered_at: f64,
    /// Its addresses.
    #[serde(default)]
    pub ip_addrs: Vec<String>,
    /// The project's name.
    #[serde(default)]
    pub project_id: Option<String>,
    /// The version of its agent.
    #[serde(default)]
    pub agent_version: Option<String>,
    /// Where its agent can be asked. Whoever sends it has the agents' key.
    #[serde(default)]
    pub agent_url: Option<String>,
}

/// All of them, by project and node.
#[derive(Debug, Default)]
pub struct Beats {
    by_key: BTreeMap<(String, String), Beat>,
    told: BTreeMap<(String, String), f64>,
    dirty: bool,
}

impl Beats {
    /// Those of the last run. A file that cannot be read costs ten seconds: then the nodes are heard again.
    pub fn read(file: &Path) -> Self {
        let text = std::fs::read(file).unwrap_or_default();
        let beats: Vec<Beat> = serde_json::from_slice(&text).unwrap_or_default();
        let by_key = beats.into_iter().take(MOST).map(|beat| (key(&beat), beat)).collect();
        Self { by_key, ..Self::default() }
    }

    /// Takes a beat in; returns whether pages want to hear of it: the node is new, or was not named for a while.
    pub fn note(&mut self, mut beat: Beat) -> bool {
        let key = key(&beat);
        let now = beat.heard_at;
        self.dirty = true;
        if let Some(before) = self.by_key.get(&key) {
            beat.registered_at = before.registered_at;
            // Old agents leave it out every other time.
            beat.project_id = beat.project_id.or_else(|| before.project_id.clone());
            beat.obs_count = beat.obs_count.or(before.obs_count);
            beat.db_sha = beat.db_sha.or_else(|| before.db_sha.clone());
        } else if self.by_key.len() >= MOST {
            let silent = self.by_key.iter().min_by(|a, b| a.1.heard_at.total_cmp(&b.1.heard_at));
            if let Some(silent) = silent.map(|(key, _)| key.clone()) {
                self.by_key.remove(&silent);
                self.told.remove(&silent);
            }
        }
        self.by_key.insert(key.clone(), beat);
        let tell = self.told.get(&key).is_none_or(|told| now - told >= QUIET || now < *told);
        if tell {
            self.told.insert(key, now);
        }
        tell
    }

    /// Those of one project, in the order in which they came.
    pub fn of(&self, cid: &str) -> Vec<Beat> {
        let from = (cid.to_owned(), String::new());
        let mut found: Vec<Beat> = self
            .by_key
            .range(from..)
            .take_while(|(key, _)| key.0 == cid)
            .map(|(_, beat)| beat.clone())
            .collect();
        found.sort_by(|a, b| a.registered_at.total_cmp(&b.registered_at));
        found
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Beat> {
        self.by_key.values()
    }

    /// What there is to write down, when something changed since the last time.
    pub fn take_changes(&mut self) -> Option<Vec<Beat>> {
        std::mem::take(&mut self.dirty).then(|| self.by_key.values().cloned().collect())
    }
}

/// Writes them down.
///
/// # Errors
/// The file cannot be written.
pub fn write(file: &Path, beats: &[Beat]) -> io::Result<()> {
    write_private(file, &serde_json::to_vec(beats)?)
}

fn key(beat: &Beat) -> (String, String) {
    (beat.canonical_id.clone(), beat.node_id.clone())
}

#[cfg(test)]
mod tests {
    use super::{Beat, Beats, MOST, write};

    fn beat(node: &str, at: f64) -> Beat {
        Beat {
            node_id: node.to_owned(),
            canonical_id: "ab".to_owned(),
            last_seen: at,
            heard_at: at,
            registered_at: at,
            ..Beat::default()
        }
    }

    #[test]
    fn a_node_keeps_its_first_day_and_what_it_said_once() {
        let mut beats = Beats::default();
        assert!(beats.note(Beat { obs_count: Some(5), project_id: Some("mem".into()), ..beat("pi", 1.0) }));
        assert!(!beats.note(beat("pi", 2.0)), "nothing new within seconds");
        assert!(beats.note(beat("pi", 7.0)));
        beats.note(beat("desk", 3.0));
        let of: Vec<_> = beats.of("ab");
        assert_eq!((of[0].registered_at, of[0].last_seen, of[0].obs_count), (1.0, 7.0, Some(5)));
        assert_eq!(of[0].project_id.as_deref(), Some("mem"));
        assert_eq!(of[1].node_id, "desk");
        assert!(beats.of("a").is_empty() && beats.of("abc").is_empty());
    }

    #[test]
    fn memory_has_a_bound_and_the_silent_go_first() {
        let mut beats = Beats::default();
        for n in 0..MOST + 3 {
            #[expect(clippy::cast_precision_loss, reason = "small")]
            beats.note(beat(&format!("node-{n}"), n as f64));
        }
        assert_eq!(beats.all().count(), MOST);
        assert!(beats.all().all(|beat| beat.heard_at >= 3.0));
    }

    #[test]
    fn they_outlive_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("beats.json");
        let mut beats = Beats::read(&file);
        beats.note(beat("pi", 1.0));
        write(&file, &beats.take_changes().unwrap()).unwrap();
        assert!(beats.take_changes().is_none());
        assert_eq!(Beats::read(&file).of("ab"), beats.of("ab"));
        std::fs::write(&file, "nonsense").unwrap();
        assert_eq!(Beats::read(&file).all().count(), 0);
    }
}
