//! Who we are and what we sync: the canonical project id, the host name, the node id. Pure functions.

use sha2::{Digest, Sha256};

use crate::context::hex;

/// The canonical id of a project: the first 16 hex digits of the SHA-256 of its name's UTF-8 bytes
/// (as the Python script computes it). It names the project's folder in the bucket.
pub fn canonical_id(project: &str) -> String {
    let digest = Sha256::digest(project.as_bytes());
    hex(digest.get(..8).unwrap_or_default())
}

/// A project: the name people gave it and the id its objects live under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    /// As in CLAUDE_PROJECT_ID.
    pub name: String,
    /// See [`canonical_id`].
    pub cid: String,
}

impl Project {
    /// The project of that name.
    pub fn new(name: impl Into<String>) -> Self {
        let name = name.into();
        let cid = canonical_id(&name);
        Self { name, cid }
    }
}

/// The identity of this machine: one host name for locks, manifests and backups, one node id for leadership (F26).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// MEMBRIDGE_HOSTNAME, or the operating system's host name.
    pub host: String,
    /// MEMBRIDGE_NODE_ID, or the host name.
    pub id: String,
}

#[cfg(test)]
mod tests {
    use super::canonical_id;

    #[test]
    fn canonical_ids_are_the_check_values_of_the_contract() {
        let table = [
            ("mem", "6fe2e0f6071ac2bb"),
            ("garden-seedling", "aeeafec3a5b5710f"),
            ("сад", "e4b16ee4be9e8cde"),
        ];
        for (name, id) in table {
            assert_eq!(canonical_id(name), id, "{name}");
        }
    }
}
