//! What the bucket holds for our project: the newest commit, or what a Python node has pushed since. Reads; decides only
//! which of the two is newer.

use super::announcements::{self, Announced};
use super::error::ReadError;
use super::manifest::{Manifest, ManifestExtra};
use crate::amount::{Clock, count};
use crate::history::{Commit, log};
use crate::storage::records::MOST;
use crate::storage::{Bucket, Etag};
use crate::sum::Sum;

/// The newest memory in the bucket.
#[derive(Debug, Clone, PartialEq)]
pub enum Head {
    /// The newest commit.
    Commit(Committed),
    /// A database object that no commit knows: a Python node has pushed since.
    Foreign(Foreign),
}

/// See [`Head::Commit`].
#[derive(Debug, Clone, PartialEq)]
pub struct Committed {
    /// The commit.
    pub commit: Box<Commit>,
    /// SHA-256 of the object for Python nodes, as announced.
    pub announced: Option<Sum>,
    /// The objects for Python nodes mirror that commit.
    pub mirrored: bool,
}

/// See [`Head::Foreign`].
#[derive(Debug, Clone, PartialEq)]
pub struct Foreign {
    /// What is said about the object; `None` where it is there and nobody announces it.
    pub announced: Option<Announced>,
    /// The newest commit, on which the next push builds.
    pub before: Option<Box<Commit>>,
}

impl Head {
    /// The head as a Python node, or nobody's commit, left it.
    pub fn foreign(announced: Option<Announced>, before: Option<Commit>) -> Self {
        Self::Foreign(Foreign { announced, before: before.map(Box::new) })
    }

    /// A commit that nothing mirrors.
    pub fn of(commit: Commit) -> Self {
        Self::Commit(Committed { commit: Box::new(commit), announced: None, mirrored: false })
    }

    /// The head commit, when the head is one.
    pub fn commit(&self) -> Option<&Commit> {
        match self {
            Self::Commit(head) => Some(&head.commit),
            Self::Foreign(_) => None,
        }
    }

    /// The newest commit, whether it is the head or not.
    pub fn newest(&self) -> Option<&Commit> {
        match self {
            Self::Commit(head) => Some(&head.commit),
            Self::Foreign(head) => head.before.as_deref(),
        }
    }

    /// What names this state: SHA-256 of the commit's image, or of the object that a Python node announces.
    pub fn sha256(&self) -> Option<Sum> {
        match self {
            Self::Commit(head) => Some(head.commit.sha256),
            Self::Foreign(_) => self.announced(),
        }
    }

    /// SHA-256 of the object for Python nodes, as announced.
    pub fn announced(&self) -> Option<Sum> {
        match self {
            Self::Commit(head) => head.announced,
            Self::Foreign(head) => Some(head.announced.as_ref()?.sha256),
        }
    }

    /// Whether the objects for Python nodes mirror the head commit.
    pub fn mirrored(&self) -> bool {
        matches!(self, Self::Commit(Committed { mirrored: true, .. }))
    }

    /// What a Python node, or somebody without a commit, says about the head, where its announcements agree.
    pub fn manifest(&self) -> Option<&Manifest> {
        match self {
            Self::Commit(_) => None,
            Self::Foreign(head) => head.announced.as_ref()?.manifest.as_deref(),
        }
    }

    fn extra(&self) -> Option<&ManifestExtra> {
        self.manifest()?.membridge.as_ref()
    }

    /// The content digest, when a membridge node pushed it.
    pub fn digest(&self) -> Option<Sum> {
        match self.commit() {
            Some(commit) => Some(commit.content_digest),
            None => self.extra()?.content_digest.parse().ok(),
        }
    }

    /// The fencing token of the push (F24).
    pub fn epoch(&self) -> Option<i64> {
        match self.commit() {
            Some(commit) => commit.epoch,
            // One that nothing could follow fences nobody.
            None => self.extra()?.epoch.filter(|epoch| epoch.unsigned_abs() <= MOST),
        }
    }

    /// The claude-mem that wrote it, when a membridge node pushed it and knew.
    pub fn claude_mem_version(&self) -> Option<&str> {
        match self.commit() {
            Some(commit) => commit.claude_mem_version.as_deref(),
            None => self.extra()?.claude_mem_version.as_deref(),
        }
    }

    /// Its highest schema version, when a membridge node pushed it.
    pub fn schema_version(&self) -> Option<i64> {
        self.commit().map_or_else(|| self.extra()?.schema_version, |commit| commit.schema_version)
    }

    /// The membridge that pushed it, when one did.
    pub fn membridge_version(&self) -> Option<&str> {
        match self.commit() {
            Some(commit) => Some(&commit.membridge_version),
            None => self.extra().map(|extra| extra.version.as_str()),
        }
    }

    /// The host that pushed it, where anybody says.
    pub fn host(&self) -> Option<&str> {
        match self.commit() {
            Some(commit) => Some(&commit.host),
            None => self.manifest().map(|manifest| manifest.source_host.as_str()),
        }
    }

    /// Who pushed it, for people.
    pub fn source(&self) -> &str {
        self.host().unwrap_or("an unknown host")
    }

    /// `12 observations, pushed by desk 5 minutes ago (14:03)`, for people.
    pub fn describe(&self, clock: &Clock) -> String {
        let observations =
            self.observations().map_or("an unknown number of observations".to_owned(), |number| {
                count(number, "observation", "observations")
            });
        match self.time() {
            Some(time) => {
                format!("{observations}, pushed by {} {}", self.source(), clock.when_said(time))
            }
            None => "a database without a manifest".to_owned(),
        }
    }

    /// When it was pushed, ISO, where anybody says.
    pub fn time(&self) -> Option<&str> {
        match self.commit() {
            Some(commit) => Some(&commit.time),
            None => self.manifest().map(|manifest| manifest.timestamp.as_str()),
        }
    }

    /// Observations, where anybody says.
    pub fn observations(&self) -> Option<u64> {
        match self.commit() {
            Some(commit) => Some(commit.counts.observations),
            None => self.manifest()?.observations,
        }
    }

    /// Bytes of the database, where anybody says.
    pub fn size(&self) -> Option<u64> {
        match self.commit() {
            Some(commit) => Some(commit.image_bytes()),
            None => self.manifest()?.db_size,
        }
    }
}

/// What this machine remembers of the bucket, and need not ask again.
#[derive(Debug, Clone, Copy, Default)]
pub struct Known {
    /// Number of the newest commit.
    pub commit: Option<u64>,
    /// SHA-256 of what it wrote for Python nodes last, or was about to.
    pub mirror: Option<Sum>,
}

/// Reads what the bucket holds; `None` when that is nothing for the project.
///
/// # Errors
/// See [`ReadError`].
pub async fn read(bucket: &Bucket, known: Known) -> Result<Option<Head>, ReadError> {
    Ok(look(bucket, known).await?.0)
}

/// Reads what the bucket holds, and the version of the manifest for Python nodes that this rests on.
///
/// # Errors
/// See [`ReadError`].
pub async fn look(bucket: &Bucket, known: Known) -> Result<(Option<Head>, Option<Etag>), ReadError> {
    if bucket.seal.is_on() {
        // A Python node has no key: what it announces there is nobody's memory.
        return Ok((log::head(bucket, known.commit).await?.map(Head::of), None));
    }
    // The announcements first: whatever they mirror is then among the commits that are read after them.
    let (announced, manifest) = announcements::read(bucket).await?;
    let commit = log::head(bucket, known.commit).await?;
    let head = match choose(announced, commit, known.mirror) {
        None => unannounced(bucket, None).await?,
        head => head,
    };
    Ok((head, manifest))
}

/// The head where nobody announces one. A Python node writes its database first: one that was cut off right after left
/// an object that no word speaks of, and its rows may be nowhere else in the bucket.
async fn unannounced(bucket: &Bucket, commit: Option<Commit>) -> Result<Option<Head>, ReadError> {
    if bucket.store.head(&bucket.keys.database()).await?.is_none() {
        return Ok(commit.map(Head::of));
    }
    Ok(Some(Head::foreign(None, commit)))
}

/// What the bucket holds, for a push that is told to write over announcements that nobody can read: the object that
/// they should speak of counts as the push of a Python node.
///
/// # Errors
/// See [`ReadError`].
pub async fn without_announcements(bucket: &Bucket, known: Known) -> Result<Option<Head>, ReadError> {
    let commit = log::head(bucket, known.commit).await?;
    if bucket.seal.is_on() {
        return Ok(commit.map(Head::of));
    }
    unannounced(bucket, commit).await
}

/// Which is newer: the newest commit, or what the objects for Python nodes announce? Theirs are the newest memory only
/// when no commit knows them: we write them after the commit that they mirror, and a push that finds others makes a
/// commit of them first. `ours`: what this machine wrote there last, or was about to.
fn choose(announced: Option<Announced>, commit: Option<Commit>, ours: Option<Sum>) -> Option<Head> {
    let (announced, commit) = match (announced, commit) {
        (None, None) => return None,
        (Some(announced), None) => return Some(Head::foreign(Some(announced), None)),
        (None, Some(commit)) => return Some(Head::of(commit)),
        (Some(announced), Some(commit)) => (announced, commit),
    };
    let known = [commit.mirror_sha256, commit.legacy_seen, ours].contains(&Some(announced.sha256));
    let mirrors = announced.commit();
    if known || mirrors.is_some() {
        let mirrored = mirrors == Some(commit.number);
        let announced = Some(announced.sha256);
        return Some(Head::Commit(Committed { commit: Box::new(commit), announced, mirrored }));
    }
    Some(Head::foreign(Some(announced), Some(commit)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::commit::tests::sample;

    #[test]
    fn the_newest_memory_is_the_newest_commit_unless_no_commit_knows_what_is_announced() {
        let commit = || {
            let mut commit = sample(7, 0);
            (commit.mirror_sha256, commit.legacy_seen) = (Some(Sum::of("mirror")), Some(Sum::of("seen")));
            commit
        };
        let python = |of: &str| Announced { sha256: Sum::of(of), manifest: None };
        let of_ours = |number: Option<u64>| {
            let text = format!(
                r#"{{"sha256": "", "membridge": {{"version": "1", "node_id": "a", "content_digest": "d",
                "push_id": "p", "commit": {}}}}}"#,
                number.map_or("null".to_owned(), |number| number.to_string())
            );
            Announced { sha256: Sum::of("new"), manifest: Some(serde_json::from_str(&text).unwrap()) }
        };
        for (announced, ours, foreign, mirrored) in [
            (python("new"), None, true, false),
            (python("mirror"), None, false, false),
            (python("seen"), None, false, false),
            (python("new"), Some(Sum::of("new")), false, false),
            (of_ours(Some(7)), None, false, true),
            (of_ours(Some(6)), None, false, false),
            (of_ours(None), None, true, false),
        ] {
            let sha256 = announced.sha256;
            let head = choose(Some(announced), Some(commit()), ours).unwrap();
            assert_eq!(head.commit().is_none(), foreign, "{sha256} {ours:?}");
            assert_eq!(head.mirrored(), mirrored, "{sha256} {ours:?}");
            assert_eq!(head.newest().map(|commit| commit.number), Some(7));
            assert_eq!(head.announced(), Some(sha256));
        }
        assert!(choose(None, None, None).is_none());
        assert_eq!(choose(None, Some(commit()), None), Some(Head::of(commit())));
        let alone = choose(Some(python("new")), None, None).unwrap();
        assert_eq!((alone.sha256(), alone.newest()), (Some(Sum::of("new")), None));
        // An object that nobody announces is no state that anything could be compared with.
        assert_eq!(Head::foreign(None, Some(commit())).sha256(), None);
    }
}
