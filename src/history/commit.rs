//! One push: the record `membridge/commits/NNNNNNNNNN.json`. Immutable; its `chain` names every pack that its image
//! is made of, so that one commit is enough to restore it. Pure values: reads and writes nothing.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::pack::Kind;
use super::spool::Spooled;
use crate::database::{Counts, Facts};
use crate::seal::Place;
use crate::storage::records;
use crate::sum::Sum;

/// The only schema of commits there is. A higher number is another format, and is refused.
pub const SCHEMA: u32 = 1;
/// How the problem with another schema ends.
pub const UNKNOWN_SCHEMA: &str = "is not known to this membridge";
/// More links than anybody writes: the limit that keeps a hostile commit small.
const MAX_LINKS: usize = 1024;

/// More writers than any fleet has, clones and lost state directories included.
const MAX_WRITERS: usize = 10_000;

/// One pack of a chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The commit that the pack was made for.
    pub number: u64,
    /// SHA-256 of the pack: its key.
    pub pack: Sum,
    /// Bytes of the pack.
    pub size: u64,
    /// SHA-256 of the image, once this pack is applied.
    pub image: Sum,
}

/// Where a commit comes from that mirrors the push of a Python node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adopted {
    /// SHA-256 of the database object that the node wrote.
    pub sha256: Sum,
    /// Host that wrote it.
    #[serde(default)]
    pub host: String,
    /// Its manifest's time.
    #[serde(default)]
    pub timestamp: String,
}

/// A commit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Commit {
    /// See [`SCHEMA`].
    pub schema: u32,
    /// Its number: one more than its parent's.
    pub number: u64,
    /// The commit it follows; absent in the first one.
    pub parent: Option<u64>,
    /// What its own pack holds.
    pub kind: Kind,
    /// SHA-256 of its own pack.
    pub pack: Sum,
    /// Bytes of its own pack.
    pub pack_size: u64,
    /// Bytes of a page.
    pub page_size: u32,
    /// Pages of the image.
    pub page_count: u32,
    /// SHA-256 of the image.
    pub sha256: Sum,
    /// The packs from the nearest full one to its own, which are applied in this order.
    pub chain: Vec<Link>,
    /// Digest of the memory rows.
    pub content_digest: Sum,
    /// Rows.
    pub counts: Counts,
    /// Highest schema version of the database.
    #[serde(default)]
    pub schema_version: Option<i64>,
    /// claude-mem's version on the pushing machine.
    #[serde(default)]
    pub claude_mem_version: Option<String>,
    /// Node that pushed.
    #[serde(default)]
    pub node_id: String,
    /// Host that pushed.
    #[serde(default)]
    pub host: String,
    /// Epoch of the lease under which it pushed: the fencing token (F24). Absent with leadership off.
    #[serde(default)]
    pub epoch: Option<i64>,
    /// ISO time, by the store's clock.
    #[serde(default)]
    pub time: String,
    /// Version of membridge that pushed.
    #[serde(default)]
    pub membridge_version: String,
    /// SHA-256 of the database object that mirrors this commit for Python nodes, where it was made before the commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror_sha256: Option<Sum>,
    /// Set when the commit mirrors the push of a Python node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adopted_from: Option<Adopted>,
    /// SHA-256 of the database object of a Python node, as announced when this commit was made: all of it is in this
    /// commit or in an earlier one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub legacy_seen: Option<Sum>,
    /// What of the row log its image contains: for each writer the number of the last segment. Empty in a commit that
    /// mirrors the push of a Python node, which says nothing of what it was made from.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub seen: BTreeMap<String, u64>,
    /// SHA-256 of what is stored under the number before: the commits of a sealed project are a chain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prev: Option<Sum>,
    /// SHA-256 of what is stored under this number, in a sealed project. Known once it was read; no part of it.
    #[serde(skip)]
    pub stored: Option<Sum>,
    /// Random: no two commits have the same bytes.
    pub token: String,
    /// What other versions added.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// Who pushes, and when.
#[derive(Debug, Clone, Default)]
pub struct Author {
    /// See [`Commit::node_id`].
    pub node_id: String,
    /// See [`Commit::host`].
    pub host: String,
    /// See [`Commit::epoch`].
    pub epoch: Option<i64>,
    /// See [`Commit::claude_mem_version`].
    pub claude_mem_version: Option<String>,
    /// The time by the store's clock.
    pub time: Timestamp,
    /// A random token of this push.
    pub token: String,
}

impl Commit {
    /// The commit that follows `parent` (`None`: the first one) with what was spooled and what is in it.
    pub fn following(parent: Option<&Self>, spooled: &Spooled, facts: &Facts, author: Author) -> Self {
        let number = parent.map_or(1, |parent| parent.number.saturating_add(1));
        let mut chain = match (spooled.kind, parent) {
            (Kind::Delta, Some(parent)) => parent.chain.clone(),
            _ => Vec::new(),
        };
        chain.push(Link {
            number,
            pack: spooled.digests.sha256,
            size: spooled.digests.size,
            image: spooled.sha256,
        });
        Self {
            schema: SCHEMA,
            number,
            parent: parent.map(|parent| parent.number),
            kind: spooled.kind,
            pack: spooled.digests.sha256,
            pack_size: spooled.digests.size,
            page_size: spooled.shape.page_size,
            page_count: spooled.shape.page_count,
            sha256: spooled.sha256,
            chain,
            content_digest: facts.digest,
            counts: facts.counts,
            schema_version: facts.schema_version,
            claude_mem_version: author.claude_mem_version,
            node_id: author.node_id,
            host: author.host,
            epoch: author.epoch,
            time: records::iso(author.time),
            membridge_version: env!("CARGO_PKG_VERSION").to_owned(),
            mirror_sha256: None,
            adopted_from: None,
            legacy_seen: None,
            seen: BTreeMap::new(),
            prev: parent.and_then(|parent| parent.stored),
            stored: None,
            token: author.token,
            other: Map::new(),
        }
    }

    /// Whether everything of the row log that its image contains has been collected by a machine that stands at `ours`.
    pub fn is_within(&self, ours: &BTreeMap<String, u64>) -> bool {
        self.seen.iter().all(|(writer, number)| ours.get(writer).is_some_and(|ours| ours >= number))
    }

    /// Bytes of the image.
    pub fn image_bytes(&self) -> u64 {
        u64::from(self.page_size) * u64::from(self.page_count)
    }

    /// Bytes of all packs of its chain: what a reader without a base downloads.
    pub fn chain_bytes(&self) -> u64 {
        self.chain.iter().fold(0, |sum, link| sum.saturating_add(link.size))
    }

    /// Where in its chain the image with this SHA-256 is: the packs behind it lead from there to here.
    pub fn links_after(&self, image: Sum) -> Option<&[Link]> {
        let at = self.chain.iter().rposition(|link| link.image == image)?;
        self.chain.get(at + 1..)
    }

    /// Where a pack of its chain belongs: a delta behind the image that it goes on from.
    pub fn place_of(&self, link: &Link) -> Place<'static> {
        let before = self.chain.iter().take_while(|other| other.number < link.number).last();
        Place::Pack { parent: before.map(|before| before.image) }
    }

    /// When it was made; `None` when that is not a time.
    pub fn at(&self) -> Option<Timestamp> {
        self.time.parse().ok()
    }

    /// Who made it, for people.
    pub fn author(&self) -> &str {
        match &self.adopted_from {
            Some(adopted) if !adopted.host.is_empty() => &adopted.host,
            _ if self.host.is_empty() => "an unknown host",
            _ => &self.host,
        }
    }

    /// Reads a commit that was found under `number`, strict about everything that a restore rests on.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(bytes: &[u8], number: u64) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Version {
            schema: u32,
        }
        let version: Version = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if version.schema != SCHEMA {
            return Err(format!("its schema {} {UNKNOWN_SCHEMA}", version.schema));
        }
        let commit: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        match commit.flaw(number) {
            None => Ok(commit),
            Some(flaw) => Err(flaw.to_owned()),
        }
    }

    /// What makes it unusable, if anything.
    fn flaw(&self, number: u64) -> Option<&'static str> {
        let Some((own, before)) = self.chain.split_last() else {
            return Some("its chain is empty");
        };
        let mut numbers = self.chain.iter().rev().zip(0_u64..);
        if self.number != number || number == 0 {
            Some("its number is not that of its key")
        } else if self.parent.map_or(1, |parent| parent.saturating_add(1)) != number {
            Some("its parent is not the commit before")
        } else if self.seen.len() > MAX_WRITERS || self.seen.keys().any(|writer| writer.len() > 64) {
            Some("it names more writers than there can be")
        } else if self.epoch.is_some_and(|epoch| epoch.unsigned_abs() > records::MOST) {
            Some("its epoch is beyond 2^53")
        } else if !self.page_size.is_power_of_two() || !(512..=65536).contains(&self.page_size) {
            Some("its page size makes no sense")
        } else if self.page_count == 0 || self.page_count == u32::MAX {
            Some("its page count makes no sense")
        } else if self.chain.len() > MAX_LINKS {
            Some("its chain is too long")
        } else if own.pack != self.pack || own.size != self.pack_size || own.image != self.sha256 {
            Some("its chain does not end with its own pack")
        } else if (self.kind == Kind::Full) != before.is_empty() {
            Some("its chain does not fit its kind")
        } else if !numbers.all(|(link, back)| link.number.checked_add(back) == Some(number)) {
            Some("its chain has a gap")
        } else {
            None
        }
    }
}

#[cfg(test)]
#[path = "commit_tests.rs"]
pub(crate) mod tests;
