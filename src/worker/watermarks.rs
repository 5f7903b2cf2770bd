//! claude-mem's note of what its vector store holds, `chroma-sync-state.json`: for each project the last id that was
//! embedded, and (from 13.12.2) ids below it that are still to be. A running worker keeps it in memory and overwrites it,
//! so it is edited only while none runs and claude-mem cannot start one. Knows ids, not what they stand for.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::WorkerError;
use super::facts::{Embedding, embedding};
use super::find::Site;
use super::probe::{WorkerState, probe_site, silent};
use super::spawn_lock::SpawnLock;
use crate::config::Config;
use crate::context::Context;
use crate::failpoint;
use crate::private_files::write_private;

/// The file, in claude-mem's data directory.
const FILE: &str = "chroma-sync-state.json";
/// More than any such file has (bytes).
const LIMIT: u64 = 16 << 20;

/// What claude-mem embeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Observations.
    Observations,
    /// Session summaries.
    Summaries,
    /// Prompts.
    Prompts,
}

impl Kind {
    /// Its field in the file.
    fn field(self) -> &'static str {
        match self {
            Self::Observations => "observations",
            Self::Summaries => "summaries",
            Self::Prompts => "prompts",
        }
    }
}

/// A row that did not come through the worker.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Foreign {
    /// claude-mem's name of the project.
    pub project: String,
    /// What it is.
    pub kind: Kind,
    /// Its local id.
    pub id: i64,
}

/// The file with these rows told, where that changes anything. A project that it does not name is embedded from the start,
/// and rows above its last id are found without being told.
fn told(state: &Value, how: Embedding, rows: &[Foreign]) -> Option<Value> {
    let mut after = state.clone();
    let projects = after.as_object_mut()?;
    for row in rows {
        let Some(project) = projects.get_mut(&row.project).and_then(Value::as_object_mut) else { continue };
        let field = row.kind.field();
        let last = project.get(field).and_then(Value::as_i64).unwrap_or(0);
        if row.id > last {
            continue;
        }
        match how {
            Embedding::Pending => add_pending(project, field, row.id),
            Embedding::Watermark => {
                project.insert(field.to_owned(), row.id.saturating_sub(1).into());
            }
            Embedding::Compares => {}
        }
    }
    (after != *state).then_some(after)
}

/// Lists an id, in order and once. What claude-mem would not take for a list is made one, as it does itself.
fn add_pending(project: &mut Map<String, Value>, field: &str, id: i64) {
    let pending = project.entry("pending").or_insert_with(|| Value::Object(Map::new()));
    if !pending.is_object() {
        *pending = Value::Object(Map::new());
    }
    let Some(ids) = pending.as_object_mut() else { return };
    let listed = ids.get(field).and_then(Value::as_array);
    let mut listed: Vec<i64> = listed.into_iter().flatten().filter_map(Value::as_i64).collect();
    if let Err(at) = listed.binary_search(&id) {
        listed.insert(at, id);
        ids.insert(field.to_owned(), listed.into());
    }
}

/// Tells claude-mem's next start of these rows. `false`: a worker runs, or claude-mem is starting one, and it is for another
/// time.
///
/// # Errors
/// The file, or spawn.lock, cannot be read or written.
pub async fn tell(config: &Config, context: &Context, rows: &[Foreign]) -> Result<bool, WorkerError> {
    let site = Site::of(config);
    let Some(how) = site.installed_version().as_deref().and_then(embedding) else {
        return Ok(false);
    };
    let path = site.data_dir.join(FILE);
    if how == Embedding::Compares || !path.exists() {
        return Ok(true);
    }
    let locked = SpawnLock::take(&site.data_dir, context.now());
    let Some(lock) = locked.map_err(|error| failed(&site.data_dir.join("spawn.lock"), &error))? else {
        return Ok(false);
    };
    if matches!(probe_site(&site).await, WorkerState::Running(_)) {
        return Ok(false);
    }
    let state = read(&path).map_err(|error| failed(&path, &error))?;
    // What claude-mem cannot read either it takes for empty, and embeds everything.
    if let Some(after) = state.and_then(|state| told(&state, how, rows)) {
        failpoint::reach("vectors.before-told");
        let text = serde_json::to_vec_pretty(&after).unwrap_or_default();
        write_private(&path, &text).map_err(|error| failed(&path, &error))?;
    }
    // Releases before 13.5.6 ignore the lock: one that has just started has read the file, or will overwrite it.
    Ok(lock.held() && silent(&site).is_none())
}

fn read(path: &Path) -> io::Result<Option<Value>> {
    let mut text = Vec::new();
    std::fs::File::open(path)?.take(LIMIT).read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text).ok())
}

fn failed(path: &Path, error: &io::Error) -> WorkerError {
    WorkerError::SyncState { path: PathBuf::from(path), problem: error.to_string() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Embedding, Foreign, Kind, told};
    use crate::worker::facts::embedding;

    fn row(project: &str, kind: Kind, id: i64) -> Foreign {
        Foreign { project: project.to_owned(), kind, id }
    }

    #[test]
    fn each_release_is_told_in_its_own_way() {
        let table = [
            ("13.25.3", Some(Embedding::Pending)),
            ("13.12.2", Some(Embedding::Pending)),
            ("13.12.1", Some(Embedding::Watermark)),
            ("12.5.0", Some(Embedding::Watermark)),
            ("12.4.9", Some(Embedding::Compares)),
            ("9.1.1", Some(Embedding::Compares)),
            ("soon", None),
        ];
        for (version, how) in table {
            assert_eq!(embedding(version), how, "{version}");
        }
    }

    #[test]
    fn only_what_lies_below_the_last_id_has_to_be_told() {
        let state = json!({
            "mem": {"observations": 100, "summaries": 10, "prompts": 0, "other": true},
            "new": {"observations": 5, "summaries": 0, "prompts": 0, "pending": {"observations": [2, 4]}},
        });
        let rows = [
            row("mem", Kind::Observations, 101),
            row("mem", Kind::Observations, 90),
            row("mem", Kind::Observations, 80),
            row("mem", Kind::Observations, 90),
            row("mem", Kind::Prompts, 3),
            row("mem", Kind::Summaries, 10),
            row("new", Kind::Observations, 3),
            row("unknown", Kind::Observations, 1),
        ];
        let pending = told(&state, Embedding::Pending, &rows).unwrap();
        assert_eq!(
            pending,
            json!({
                "mem": {"observations": 100, "summaries": 10, "prompts": 0, "other": true,
                    "pending": {"observations": [80, 90], "summaries": [10]}},
                "new": {"observations": 5, "summaries": 0, "prompts": 0, "pending": {"observations": [2, 3, 4]}},
            })
        );
        let lowered = told(&state, Embedding::Watermark, &rows).unwrap();
        assert_eq!(lowered["mem"], json!({"observations": 79, "summaries": 9, "prompts": 0, "other": true}));
        assert_eq!(lowered["new"]["observations"], 2);
        assert_eq!(told(&state, Embedding::Compares, &rows), None);
        assert_eq!(told(&pending, Embedding::Pending, &rows), None, "told once");
        for garbage in [json!(null), json!([]), json!("x"), json!({"mem": 7})] {
            assert_eq!(told(&garbage, Embedding::Pending, &rows), None);
        }
        let odd = json!({"mem": {"observations": 100, "pending": 7}});
        let mended = told(&odd, Embedding::Pending, &rows[1..2]).unwrap();
        assert_eq!(mended["mem"]["pending"], json!({"observations": [90]}));
    }
}
