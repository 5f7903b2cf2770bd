//! The names of objects in the bucket (pinned by tests/it/contract.rs and docs/format.md). Pure text.

/// The keys of one project.
#[derive(Debug, Clone)]
pub struct Keys {
    root: String,
}

impl Keys {
    /// For a canonical project id.
    pub fn new(cid: &str) -> Self {
        Self { root: format!("projects/{cid}") }
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
    pub fn overwritten(&self, sha256: &str) -> String {
        format!("{}/membridge/overwritten/{sha256}.db", self.root)
    }

    /// The folder of commits.
    pub fn commits(&self) -> String {
        format!("{}/membridge/commits/", self.root)
    }

    /// One commit; ten digits, so that the order of keys is the order of numbers.
    pub fn commit(&self, number: u64) -> String {
        format!("{}{number:010}.json", self.commits())
    }

    /// The folder of packs.
    pub fn packs(&self) -> String {
        format!("{}/membridge/packs/", self.root)
    }

    /// One pack, named by the SHA-256 of its bytes.
    pub fn pack(&self, sha256: &str) -> String {
        format!("{}{sha256}.zst", self.packs())
    }

    /// Settings of the whole fleet.
    pub fn settings(&self) -> String {
        format!("{}/membridge/settings.json", self.root)
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

#[cfg(test)]
mod tests {
    use super::Keys;

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
        assert_eq!(keys.pack("ab12"), "projects/6fe2e0f6071ac2bb/membridge/packs/ab12.zst");
    }
}
