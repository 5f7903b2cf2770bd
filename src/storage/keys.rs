//! The names of objects in the bucket (pinned by tests/it/contract.rs and docs/format.md). Pure text.

use crate::sum::Sum;

/// Before the canonical id in every key of ours.
const PROJECTS: &str = "projects/";

/// The keys of one project.
#[derive(Debug, Clone)]
pub struct Keys {
    root: String,
}

impl Keys {
    /// For a canonical project id.
    pub fn new(cid: &str) -> Self {
        Self { root: format!("{PROJECTS}{cid}") }
    }

    /// The canonical project id.
    pub fn project(&self) -> &str {
        self.root.strip_prefix(PROJECTS).unwrap_or(&self.root)
    }

    /// Everything of the project lies under this prefix.
    pub fn root(&self) -> String {
        format!("{}/", self.root)
    }

    /// The database for Python nodes.
    pub fn database(&self) -> String {
        format!("{}/sqlite/claude-mem.db", self.root)
    }

    /// Its checksum line.
    pub fn sha256(&self) -> String {
        format!("{}/sqlite/claude-mem.db.sha256", self.root)
    }

    /// Its manifest.
    pub fn manifest(&self) -> String {
        format!("{}/sqlite/manifest.json", self.root)
    }

    /// The lock.
    pub fn lock(&self) -> String {
        format!("{}/locks/active.lock", self.root)
    }

    /// Where a forced push keeps what it overwrites.
    pub fn overwritten(&self, sum: Sum) -> String {
        format!("{}/membridge/overwritten/{sum}.db", self.root)
    }

    /// The folder of commits.
    pub fn commits(&self) -> String {
        format!("{}/membridge/commits/", self.root)
    }

    /// One commit; ten digits, so that the order of keys is the order of numbers.
    pub fn commit(&self, number: u64) -> String {
        format!("{}{number:010}.json", self.commits())
    }

    /// The number of the commit that a key names; `None` for every other key. Ten digits, no more: the order of keys is the
    /// order of numbers.
    pub fn commit_of(&self, key: &str) -> Option<u64> {
        let digits = key.strip_prefix(&self.commits())?.strip_suffix(".json")?;
        let plain = digits.len() == 10 && digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse().ok().filter(|number| plain && *number > 0)
    }

    /// The folder of packs.
    pub fn packs(&self) -> String {
        format!("{}/membridge/packs/", self.root)
    }

    /// One pack, named by the SHA-256 of its bytes.
    pub fn pack(&self, sum: Sum) -> String {
        format!("{}{sum}.zst", self.packs())
    }

    /// The folder of the row log.
    pub fn rows(&self) -> String {
        format!("{}/membridge/rows/", self.root)
    }

    /// The folder of one writer's segments.
    pub fn rows_of(&self, writer: &str) -> String {
        format!("{}{writer}/", self.rows())
    }

    /// One segment; ten digits, so that the order of keys is the order of numbers.
    pub fn segment(&self, writer: &str, number: u64) -> String {
        format!("{}{number:010}.seg", self.rows_of(writer))
    }

    /// The writer and the number of a segment, from its key; `None` for whatever else lies there.
    pub fn segment_of<'a>(&self, key: &'a str) -> Option<(&'a str, u64)> {
        let (writer, name) = key.strip_prefix(&self.rows())?.split_once('/')?;
        let digits = name.strip_suffix(".seg")?;
        let number = digits.parse().ok().filter(|number| *number > 0 && format!("{number:010}") == digits)?;
        is_writer(writer).then_some((writer, number))
    }

    /// The folder of node records.
    pub fn nodes(&self) -> String {
        format!("{}/membridge/nodes/", self.root)
    }

    /// The node record of one writer.
    pub fn node(&self, writer: &str) -> String {
        format!("{}{writer}.json", self.nodes())
    }

    /// The writer of a node record, from its key; `None` for whatever else lies there.
    pub fn node_of<'a>(&self, key: &'a str) -> Option<&'a str> {
        let writer = key.strip_prefix(&self.nodes())?.strip_suffix(".json")?;
        is_writer(writer).then_some(writer)
    }

    /// The mark of the key with which the project is sealed. It lies among the node records, whose listing every sync begins
    /// with: a machine that does not know of the key finds out before it writes anything.
    pub fn key_mark(&self, id: &str) -> String {
        format!("{}{id}.key", self.nodes())
    }

    /// The key that a mark names, from its object's key.
    pub fn key_mark_of<'a>(&self, key: &'a str) -> Option<&'a str> {
        key.strip_prefix(&self.nodes())?.strip_suffix(".key")
    }

    /// What tells this store from another one under the same name.
    pub fn store_identity(&self) -> String {
        format!("{}/membridge/store.json", self.root)
    }

    /// Settings of the whole fleet.
    pub fn settings(&self) -> String {
        format!("{}/membridge/settings.json", self.root)
    }

    /// The note that says with which key the project is sealed.
    pub fn key_note(&self) -> String {
        format!("{}/membridge/key.json", self.root)
    }

    /// A key that is wrapped by a passphrase.
    pub fn wrapped_key(&self, id: &str) -> String {
        format!("{}/membridge/keys/{id}.json", self.root)
    }

    /// The folder of claims for `what`, where conditional writes do not work.
    pub fn claims(&self, what: &str) -> String {
        format!("{}/membridge/claims/{what}/", self.root)
    }

    /// The folder of the capability probe.
    pub fn probe(&self) -> String {
        format!("{}/membridge/probe/", self.root)
    }

    /// The lease.
    pub fn lease(&self) -> String {
        format!("{}/leadership/lease.json", self.root)
    }

    /// The record of a lease write: `at` as `YYYYMMDDTHHMMSSZ`.
    pub fn audit(&self, at: &str, node: &str) -> String {
        let node = node.replace(['/', ':'], "_");
        format!("{}/leadership/audit/{at}-{node}.json", self.root)
    }
}

/// Whether it is the id of a writer: 32 lower-case hex digits, so that it can stand in a key.
pub fn is_writer(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::Keys;
    use crate::sum::Sum;

    #[test]
    fn segments_and_node_records_are_known_by_their_keys_and_nothing_else_is() {
        let keys = Keys::new("6fe2e0f6071ac2bb");
        let writer = "0123456789abcdef0123456789abcdef";
        let (segment, node) = (keys.segment(writer, 7), keys.node(writer));
        assert_eq!(segment, format!("projects/6fe2e0f6071ac2bb/membridge/rows/{writer}/0000000007.seg"));
        assert_eq!(node, format!("projects/6fe2e0f6071ac2bb/membridge/nodes/{writer}.json"));
        assert_eq!(keys.store_identity(), "projects/6fe2e0f6071ac2bb/membridge/store.json");
        assert_eq!(keys.segment_of(&segment), Some((writer, 7)));
        assert_eq!(keys.segment_of(&keys.segment(writer, u64::MAX)), Some((writer, u64::MAX)));
        assert_eq!(keys.node_of(&node), Some(writer));
        let rows = keys.rows();
        for other in [
            "0000000000.seg",
            "7.seg",
            "00000000007.seg",
            "+000000007.seg",
            "0000000007.tmp",
            "0000000007.seg.tmp",
            "a/0000000007.seg",
            "18446744073709551616.seg",
        ] {
            assert_eq!(keys.segment_of(&format!("{rows}{writer}/{other}")), None, "{other}");
        }
        for writer in ["", "..", "0123456789ABCDEF0123456789abcdef", "0123456789abcdef0123456789abcdef0"] {
            assert_eq!(keys.segment_of(&format!("{rows}{writer}/0000000007.seg")), None, "{writer}");
            assert_eq!(keys.node_of(&keys.node(writer)), None, "{writer}");
        }
        assert_eq!(keys.segment_of(&node), None);
        assert_eq!(keys.node_of(&segment), None);
    }

    #[test]
    fn keys_are_those_of_the_contract() {
        let keys = Keys::new("6fe2e0f6071ac2bb");
        assert_eq!(keys.database(), "projects/6fe2e0f6071ac2bb/sqlite/claude-mem.db");
        assert_eq!(keys.sha256(), "projects/6fe2e0f6071ac2bb/sqlite/claude-mem.db.sha256");
        assert_eq!(keys.manifest(), "projects/6fe2e0f6071ac2bb/sqlite/manifest.json");
        assert_eq!(keys.lock(), "projects/6fe2e0f6071ac2bb/locks/active.lock");
        assert_eq!(keys.lease(), "projects/6fe2e0f6071ac2bb/leadership/lease.json");
        assert_eq!(
            keys.audit("20260102T030405Z", "a/b:c"),
            "projects/6fe2e0f6071ac2bb/leadership/audit/20260102T030405Z-a_b_c.json"
        );
        assert_eq!(keys.commit(42), "projects/6fe2e0f6071ac2bb/membridge/commits/0000000042.json");
        let sum = Sum::of("");
        assert_eq!(keys.pack(sum), format!("projects/6fe2e0f6071ac2bb/membridge/packs/{sum}.zst"));
    }
}
