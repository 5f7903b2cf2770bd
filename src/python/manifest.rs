//! `sqlite/manifest.json`: what is said about the database object that Python nodes read. A value; unknown fields survive.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// `sqlite/manifest.json`. Python reads `observations` only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Project name.
    #[serde(default)]
    pub project: String,
    /// Canonical project id.
    #[serde(default)]
    pub canonical_id: String,
    /// ISO time.
    #[serde(default)]
    pub timestamp: String,
    /// Host that pushed.
    #[serde(default)]
    pub source_host: String,
    /// Bytes of the database object.
    #[serde(default)]
    pub db_size: Option<u64>,
    /// SHA-256 of the database object, 64 hex digits.
    pub sha256: String,
    /// Row counts.
    #[serde(default)]
    pub observations: Option<u64>,
    /// Row counts.
    #[serde(default)]
    pub session_summaries: Option<u64>,
    /// Row counts.
    #[serde(default)]
    pub user_prompts: Option<u64>,
    /// Tables of the database, as the script lists them.
    #[serde(default)]
    pub tables: Value,
    /// Ours: which schema, which content, whose term.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub membridge: Option<ManifestExtra>,
    /// What other versions added.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// What membridge adds to the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestExtra {
    /// Version of membridge that pushed.
    pub version: String,
    /// Node id that pushed.
    pub node_id: String,
    /// Epoch of the lease under which it pushed; absent with leadership off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<i64>,
    /// Digest of the memory rows, 64 hex digits.
    pub content_digest: String,
    /// Highest schema version of the database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema_version: Option<i64>,
    /// claude-mem's version on the pushing machine, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claude_mem_version: Option<String>,
    /// Random token of this push.
    pub push_id: String,
    /// The commit that these objects mirror.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::Manifest;

    #[test]
    fn a_manifest_keeps_what_it_does_not_know() {
        let text =
            r#"{"project": "p", "sha256": "ab", "observations": 5, "tables": ["a"], "future": {"x": 1}}"#;
        let manifest: Manifest = serde_json::from_str(text).unwrap();
        assert_eq!(manifest.observations, Some(5));
        let value = serde_json::to_value(&manifest).unwrap();
        assert_eq!(value.pointer("/future/x").and_then(serde_json::Value::as_i64), Some(1));
    }
}
