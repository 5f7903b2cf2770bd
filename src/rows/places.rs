//! Where our files of one database lie. They belong to the database, the project and the store: in a store that was
//! replaced on purpose everything begins anew. Knows names, reads the note of the store's identity, and nothing else.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::store_identity::remembered;
use crate::context::hex;

/// Our files for one database, in `~/.membridge/rows`.
#[derive(Debug)]
pub struct Places {
    /// The shadow.
    pub shadow: PathBuf,
    /// The id of this installation.
    pub writer: PathBuf,
    /// The bytes of a segment that is to go up.
    pub outbox: PathBuf,
    /// For temporary files.
    pub scratch: PathBuf,
    /// Versions that did not win.
    pub conflicts: PathBuf,
}

impl Places {
    /// For a database (links followed), the project `cid` and the store of this name, as our state directory remembers it.
    pub fn new(state: &Path, store: &str, cid: &str, database: &Path) -> Self {
        let store = remembered(state, store, cid).map(|note| note.id).unwrap_or_default();
        let parts = [cid.as_bytes(), store.as_bytes(), database.as_os_str().as_bytes()];
        let mut name = Sha256::new();
        for part in parts {
            name.update(part);
            name.update([0]);
        }
        let name = hex(name.finalize().get(..8).unwrap_or_default());
        let folder = state.join("rows");
        Self {
            shadow: folder.join(format!("{name}.sqlite")),
            writer: folder.join(format!("{name}.writer")),
            outbox: folder.join(format!("{name}.outbox")),
            conflicts: state.join("conflicts"),
            scratch: folder,
        }
    }
}

/// Lets the files of one database be those of another: a copy of it.
pub fn rename(state: &Path, store: &str, cid: &str, from: &Path, to: &Path) {
    let (from, to) = (Places::new(state, store, cid, from), Places::new(state, store, cid, to));
    for (from, to) in [(from.shadow, to.shadow), (from.writer, to.writer), (from.outbox, to.outbox)] {
        let _ = std::fs::rename(from, to);
    }
}
