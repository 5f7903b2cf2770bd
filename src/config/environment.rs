//! The environment of the process as values, so that nothing below `main` reads it. Knows no setting.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The environment of the process, read once in `main`.
#[derive(Clone, Default)]
pub struct Environment {
    values: BTreeMap<String, String>,
    /// Names whose value is not UTF-8.
    pub(super) unreadable: Vec<String>,
    home: Option<PathBuf>,
}

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Values may be keys and passwords.
        f.debug_struct("Environment").field("names", &self.values.keys()).finish_non_exhaustive()
    }
}

impl Environment {
    /// Reads the process's environment. A value that is not UTF-8 is kept as a name only, and reported
    /// when somebody asks for it. Without HOME the home directory is that of the user database.
    pub fn capture() -> Self {
        let mut environment = Self::default();
        for (name, value) in std::env::vars_os() {
            match (name.into_string(), value.into_string()) {
                (Ok(name), Ok(value)) => {
                    environment.values.insert(name, value);
                }
                // Not ours, and full of other people's folders: the others are searched.
                (Ok(name), Err(value)) if name == "PATH" => {
                    let folders = std::env::split_paths(&value).filter(|folder| folder.to_str().is_some());
                    let path = std::env::join_paths(folders).unwrap_or_default();
                    environment.values.insert(name, path.to_string_lossy().into_owned());
                }
                (Ok(name), Err(_)) => environment.unreadable.push(name),
                (Err(_), _) => {}
            }
        }
        environment.home =
            std::env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from).or_else(|| {
                nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten().map(|user| user.dir)
            });
        // A user without a name has no home; whoever tells us where to keep our state has said enough.
        let state = environment.values.get("MEMBRIDGE_STATE_DIR").filter(|folder| !folder.is_empty());
        environment.home = environment.home.take().or_else(|| state.map(PathBuf::from));
        environment
    }

    /// An environment of these variables, for tests and tools.
    pub fn from_values(values: impl IntoIterator<Item = (String, String)>) -> Self {
        let values: BTreeMap<_, _> = values.into_iter().collect();
        let home = values.get("HOME").map(PathBuf::from);
        Self { values, unreadable: Vec::new(), home }
    }

    /// The same with these variables beside it.
    #[must_use]
    pub fn with(&self, more: &BTreeMap<String, String>) -> Self {
        let mut with = self.clone();
        with.values.extend(more.iter().map(|(name, value)| (name.clone(), value.clone())));
        with
    }

    /// A variable; empty counts as unset.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The home directory, when there is one.
    pub fn home(&self) -> Option<&Path> {
        self.home.as_deref()
    }
}
