//! The projects that hooks of this machine have told the agent about: one JSON object by canonical id in a file. Knows
//! no route.

use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::identity::canonical_id;
use crate::private_files::write_private;

/// More projects than a person has; a program that goes wild must not fill the disk.
const MOST: usize = 1000;

/// One project.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Its name.
    pub project_id: String,
    /// Its canonical id.
    pub canonical_id: String,
    /// Seconds since 1970.
    pub created_at: f64,
    /// Seconds since 1970.
    pub last_seen: f64,
    /// Where it lies on this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// What somebody noted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notes: Option<String>,
    /// Where it was cloned from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repo_url: Option<String>,
}

/// What a hook says.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// The name.
    pub project_id: String,
    /// Where it lies.
    pub path: Option<String>,
    /// A note.
    pub notes: Option<String>,
}

/// The list.
#[derive(Debug)]
pub struct Projects {
    file: PathBuf,
    known: Mutex<Map<String, Value>>,
}

impl Projects {
    /// Reads the list. One that cannot be read is set aside, and the hooks will make a new one.
    pub fn read(file: PathBuf) -> Self {
        let text = std::fs::read(&file);
        let known = match text.as_deref().map(serde_json::from_slice) {
            Ok(Ok(Value::Object(known))) => known,
            Ok(_) => {
                let mut aside = file.as_os_str().to_owned();
                aside.push(".damaged");
                let _ = std::fs::rename(&file, aside);
                Map::new()
            }
            Err(_) => Map::new(),
        };
        Self { file, known: Mutex::new(known) }
    }

    /// Adds a project, or notes that it was seen; returns how many there are.
    ///
    /// # Errors
    /// The file cannot be written; there are too many.
    pub fn see(&self, told: Told, now: f64) -> io::Result<usize> {
        let mut known = self.known();
        let cid = canonical_id(&told.project_id);
        let before = known.get(&cid).and_then(|entry| Entry::deserialize(entry).ok());
        if before.is_none() && known.len() >= MOST {
            return Err(io::Error::other(format!("{MOST} projects are known already")));
        }
        let entry = match before {
            Some(before) => Entry {
                last_seen: now,
                path: told.path.or(before.path),
                notes: told.notes.or(before.notes),
                ..before
            },
            None => Entry {
                project_id: told.project_id,
                canonical_id: cid.clone(),
                created_at: now,
                last_seen: now,
                path: told.path,
                notes: told.notes,
                repo_url: None,
            },
        };
        let mut next = known.clone();
        next.insert(cid, serde_json::to_value(entry)?);
        write_private(&self.file, &serde_json::to_vec_pretty(&next)?)?;
        *known = next;
        Ok(known.len())
    }

    /// All of them. Entries of other versions that make no sense are left alone and not shown.
    pub fn all(&self) -> Vec<Entry> {
        self.known().values().filter_map(|entry| Entry::deserialize(entry).ok()).collect()
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Map<String, Value>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::{Projects, Told};

    fn told(name: &str) -> Told {
        Told { project_id: name.to_owned(), ..Told::default() }
    }

    #[test]
    fn a_project_is_kept_with_its_first_day_and_its_notes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("deep/projects.json");
        let projects = Projects::read(file.clone());
        assert_eq!(projects.see(Told { path: Some("/x".into()), ..told("mem") }, 1.0).unwrap(), 1);
        assert_eq!(projects.see(told("garden"), 2.0).unwrap(), 2);
        assert_eq!(projects.see(told("mem"), 3.0).unwrap(), 2);
        let again = Projects::read(file).all();
        let mem = again.iter().find(|entry| entry.project_id == "mem").unwrap();
        assert_eq!((mem.created_at, mem.last_seen, mem.path.as_deref()), (1.0, 3.0, Some("/x")));
        assert_eq!(mem.canonical_id, "6fe2e0f6071ac2bb");
    }

    #[test]
    fn a_list_that_is_none_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("projects.json");
        std::fs::write(&file, "[1, 2").unwrap();
        let projects = Projects::read(file.clone());
        assert!(projects.all().is_empty());
        projects.see(told("mem"), 1.0).unwrap();
        assert_eq!(std::fs::read_to_string(folder.path().join("projects.json.damaged")).unwrap(), "[1, 2");
        // What another version wrote stays.
        std::fs::write(&file, r#"{"ab": {"future": 1}}"#).unwrap();
        let projects = Projects::read(file.clone());
        projects.see(told("mem"), 1.0).unwrap();
        assert_eq!(projects.all().len(), 1);
        assert!(std::fs::read_to_string(file).unwrap().contains("future"));
    }
}
