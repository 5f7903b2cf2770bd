//! Which config.env is read, where a new one goes, and the reading of it. Knows no setting.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::{ConfigError, Environment, env_file};

/// Where a new config.env goes: the place that was named, else the first of the usual ones.
pub fn file_to_write(environment: &Environment, flag: Option<&Path>) -> PathBuf {
    if let Some(path) = flag {
        return path.to_owned();
    }
    if let Some(path) = environment.get("MEMBRIDGE_CONFIG_ENV") {
        return PathBuf::from(path);
    }
    match environment.get("MEMBRIDGE_DIR") {
        Some(dir) => Path::new(dir).join("config.env"),
        None => environment.home().unwrap_or(Path::new("/")).join(".claude-mem-minio/config.env"),
    }
}

pub(super) fn find_file(
    environment: &Environment,
    flag: Option<&Path>,
    home: &Path,
) -> Result<Option<PathBuf>, ConfigError> {
    // A file that somebody named must be there; the two default places may be empty.
    let named =
        flag.map(Path::to_owned).or_else(|| environment.get("MEMBRIDGE_CONFIG_ENV").map(PathBuf::from));
    if let Some(path) = named {
        return Ok(Some(path));
    }
    let candidates = match environment.get("MEMBRIDGE_DIR") {
        Some(dir) => vec![Path::new(dir).join("config.env")],
        None => vec![home.join(".claude-mem-minio/config.env"), home.join("membridge/config.env")],
    };
    for path in candidates {
        // Not through a link: one that leads nowhere (a disk that is not mounted) must not mean other settings.
        match path.symlink_metadata() {
            Ok(_) => return Ok(Some(path)),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
            Err(error) => {
                return Err(ConfigError::Unreadable { path, problem: error.to_string() });
            }
        }
    }
    Ok(None)
}

pub(super) fn read_file(
    path: &Path,
    environment: &Environment,
) -> Result<BTreeMap<String, String>, ConfigError> {
    let unreadable = |problem: String| ConfigError::Unreadable { path: path.to_owned(), problem };
    let facts = std::fs::metadata(path).map_err(|error| unreadable(error.to_string()))?;
    // A pipe would be waited for; /dev/null is how one says: no file.
    if !facts.is_file() && path != Path::new("/dev/null") {
        return Err(unreadable("not a regular file".to_owned()));
    }
    let text = std::fs::read(path).map_err(|error| unreadable(error.to_string()))?;
    let home = environment.home().map(|home| home.to_string_lossy().into_owned());
    let lookup = |name: &str| match name {
        "HOME" => home.clone(),
        _ => environment.get(name).map(str::to_owned),
    };
    env_file::parse(&text, lookup).map_err(|error| ConfigError::BadLine { path: path.to_owned(), error })
}
