//! What people entered by hand at this server: projects and agents, in one small file. Knows no HTTP.

use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::private_files::write_private;

/// A project that somebody entered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProjectEntry {
    /// Its name.
    pub name: String,
    /// Its canonical id.
    pub canonical_id: String,
    /// Seconds since 1970.
    pub created_at: f64,
}

/// How an agent was when we last spoke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AgentStatus {
    /// Not asked yet.
    #[default]
    Unknown,
    /// It answered.
    Online,
    /// Nobody listens there.
    Offline,
    /// It works for us now.
    Syncing,
    /// It answered with an error.
    Error,
}

/// An agent that somebody entered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentEntry {
    /// Its name.
    pub name: String,
    /// Where it is, without a trailing slash.
    pub url: String,
    /// How it was.
    #[serde(default)]
    pub status: AgentStatus,
    /// Seconds since 1970.
    pub registered_at: f64,
    /// When it last answered.
    #[serde(default)]
    pub last_seen: Option<f64>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Pages {
    #[serde(default)]
    projects: Vec<ProjectEntry>,
    #[serde(default)]
    agents: Vec<AgentEntry>,
}

/// The book.
#[derive(Debug)]
pub struct Book {
    file: PathBuf,
    pages: Mutex<Pages>,
}

impl Book {
    /// Opens it.
    ///
    /// # Errors
    /// It is there and cannot be read: it is a person's, and is not written over.
    pub fn open(file: PathBuf) -> io::Result<Self> {
        let pages = match std::fs::read(&file) {
            Ok(text) => serde_json::from_slice(&text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Pages::default(),
            Err(error) => return Err(error),
        };
        Ok(Self { file, pages: Mutex::new(pages) })
    }

    /// The projects, oldest first.
    pub fn projects(&self) -> Vec<ProjectEntry> {
        self.pages().projects.clone()
    }

    /// The agents, oldest first.
    pub fn agents(&self) -> Vec<AgentEntry> {
        self.pages().agents.clone()
    }

    /// Enters a project; `false` when its name is taken.
    ///
    /// # Errors
    /// The file cannot be written; then nothing was entered.
    pub fn add_project(&self, entry: ProjectEntry) -> io::Result<bool> {
        self.change(|pages| {
            let new = pages.projects.iter().all(|known| known.name != entry.name);
            if new {
                pages.projects.push(entry);
            }
            new
        })
    }

    /// Takes a project out; `false` when there is none of that name.
    ///
    /// # Errors
    /// As for [`Book::add_project`].
    pub fn remove_project(&self, name: &str) -> io::Result<bool> {
        self.change(|pages| {
            let before = pages.projects.len();
            pages.projects.retain(|known| known.name != name);
            pages.projects.len() < before
        })
    }

    /// Enters an agent; `false` when its name is taken.
    ///
    /// # Errors
    /// As for [`Book::add_project`].
    pub fn add_agent(&self, entry: AgentEntry) -> io::Result<bool> {
        self.change(|pages| {
            let new = pages.agents.iter().all(|known| known.name != entry.name);
            if new {
                pages.agents.push(entry);
            }
            new
        })
    }

    /// Takes an agent out; `false` when there is none of that name.
    ///
    /// # Errors
    /// As for [`Book::add_project`].
    pub fn remove_agent(&self, name: &str) -> io::Result<bool> {
        self.change(|pages| {
            let before = pages.agents.len();
            pages.agents.retain(|known| known.name != name);
            pages.agents.len() < before
        })
    }

    /// Notes how an agent was; one that is not in the book is not.
    ///
    /// # Errors
    /// As for [`Book::add_project`].
    pub fn saw_agent(&self, name: &str, status: AgentStatus, answered: Option<f64>) -> io::Result<bool> {
        self.change(|pages| {
            let agent = pages.agents.iter_mut().find(|known| known.name == name);
            agent.is_some_and(|agent| {
                let changed = agent.status != status || answered.is_some();
                agent.status = status;
                agent.last_seen = answered.or(agent.last_seen);
                changed
            })
        })
    }

    /// Changes a copy, and takes it for the book once it is written.
    fn change(&self, change: impl FnOnce(&mut Pages) -> bool) -> io::Result<bool> {
        let mut pages = self.pages();
        let mut next = pages.clone();
        if !change(&mut next) {
            return Ok(false);
        }
        write_private(&self.file, &serde_json::to_vec_pretty(&next)?)?;
        *pages = next;
        Ok(true)
    }

    fn pages(&self) -> std::sync::MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::{AgentEntry, AgentStatus, Book, ProjectEntry};

    #[test]
    fn entries_outlive_a_restart_and_names_are_unique() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("deep/fleet.json");
        let book = Book::open(file.clone()).unwrap();
        let project =
            ProjectEntry { name: "mem".into(), canonical_id: "6fe2e0f6071ac2bb".into(), created_at: 1.0 };
        let agent = AgentEntry {
            name: "a1".into(),
            url: "http://127.0.0.1:8001".into(),
            status: AgentStatus::Unknown,
            registered_at: 2.0,
            last_seen: None,
        };
        assert!(book.add_project(project.clone()).unwrap() && book.add_agent(agent.clone()).unwrap());
        assert!(!book.add_project(project.clone()).unwrap() && !book.add_agent(agent).unwrap());
        assert!(book.saw_agent("a1", AgentStatus::Online, Some(3.0)).unwrap());
        assert!(!book.saw_agent("nobody", AgentStatus::Online, Some(3.0)).unwrap());
        let again = Book::open(file).unwrap();
        assert_eq!(again.projects(), [project]);
        assert_eq!((again.agents()[0].status, again.agents()[0].last_seen), (AgentStatus::Online, Some(3.0)));
        assert!(again.remove_agent("a1").unwrap() && !again.remove_agent("a1").unwrap());
        assert!(again.remove_project("mem").unwrap() && !again.remove_project("mem").unwrap());
    }

    #[test]
    fn a_book_that_cannot_be_read_is_not_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("fleet.json");
        std::fs::write(&file, "{").unwrap();
        assert!(Book::open(file.clone()).is_err());
        assert_eq!(std::fs::read_to_string(file).unwrap(), "{");
    }
}
