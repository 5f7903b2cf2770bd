//! The three objects that Python nodes read: database, checksum, manifest, in this order, each confirmed by the
//! store. Knows how they are written; not whether they should be.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::head::Head;
use super::manifest::{Manifest, ManifestExtra};
use crate::config::Config;
use crate::database::Facts;
use crate::error::{Code, CommandResult, Failure};
use crate::failpoint;
use crate::lock::{LockError, Seen, Verifier};
use crate::storage::records;
use crate::storage::{Body, Bucket, Digests, Meta};
use crate::sum::Sum;
use crate::ui::{Progress, Ui};

/// The copy of the memory that Python nodes read.
#[derive(Clone, Copy)]
pub struct Mirror<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// The project's place in the store.
    pub bucket: &'a Bucket,
    /// The person.
    pub ui: &'a Ui,
    /// What this machine last wrote there, or was about to.
    pub note: Option<&'a MirrorNote>,
}

/// The database object for Python nodes, as this machine left it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MirrorNote {
    /// SHA-256, written down before the deed: a mirror that was cut off half way is not a Python node's push (F21).
    pub sha256: Sum,
    /// Its etag; `None` until the store has confirmed it.
    pub etag: Option<String>,
}

/// What goes up.
#[derive(Debug)]
pub struct Upload<'a> {
    /// The database object.
    pub object: &'a Path,
    /// The object that it replaces, as seen before the last checks.
    pub over: &'a Seen,
    /// Its size and digests.
    pub digests: &'a Digests,
    /// What is in it.
    pub facts: &'a Facts,
    /// Epoch of our term.
    pub epoch: Option<i64>,
    /// claude-mem's version here.
    pub claude_mem: Option<String>,
    /// The commit that is mirrored.
    pub commit: u64,
}

impl Mirror<'_> {
    /// Writes the three objects and looks whether the store has what was sent (F22). Returns the etag of the database object.
    ///
    /// # Errors
    /// The store's; a stored object that is not what was sent.
    pub async fn write(&self, upload: &Upload<'_>, verifier: &Verifier<'_>) -> CommandResult<String> {
        let keys = &self.bucket.keys;
        let progress = self.ui.progress("upload", upload.digests.size);
        let body = Body::File(upload.object, upload.digests);
        let sent = verifier.write(upload.over, body, &progress).await;
        progress.done();
        let sent = sent?;
        failpoint::reach("mirror.database");
        let confirmed = self.confirm(upload.digests, &sent).await?;
        failpoint::reach("mirror.confirmed");
        let line = format!("{}  claude-mem.db\n", upload.digests.sha256);
        announce(verifier, keys.sha256(), line.as_bytes()).await?;
        failpoint::reach("mirror.checksum");
        let manifest = records::to_bytes(&self.manifest(upload)?)?;
        announce(verifier, keys.manifest(), &manifest).await?;
        failpoint::reach("mirror.manifest");
        // A Python node, or one that FORCE_PUSH let in, may have put another database under our announcements.
        match self.bucket.store.head(&keys.database()).await? {
            Some(there) if there == confirmed => Ok(confirmed.etag.0),
            Some(_) => Err(self.not_as_sent("was written by somebody else in the same moment")),
            None => Err(self.not_as_sent("is not there")),
        }
    }

    /// Whether the object is still the one that its announcements speak of, as far as this machine can tell without reading
    /// it: a Python node that was cut off may have put another one under them.
    ///
    /// # Errors
    /// The store's.
    pub async fn is_in_place(&self, head: &Head) -> CommandResult<bool> {
        let there = self.bucket.store.head(&self.bucket.keys.database()).await?;
        Ok(there.is_some_and(|meta| match self.written(head) {
            Some(etag) => *etag == meta.etag.0,
            None => true,
        }))
    }

    /// The etag of the announced object, where this machine wrote it.
    fn written(&self, head: &Head) -> Option<&String> {
        let (note, announced) = (self.note?, head.announced()?);
        note.etag.as_ref().filter(|_| note.sha256 == announced)
    }

    /// Keeps a copy of the object that is about to be overwritten where nobody can say what is in it: no word announces it,
    /// it is not the one that we left there, or the push is forced. A Python node's rows may be nowhere else in the bucket
    /// (F08).
    ///
    /// # Errors
    /// The store's.
    pub async fn keep_what_nobody_knows(&self, head: Option<&Head>) -> CommandResult {
        let Some(meta) = self.bucket.store.head(&self.bucket.keys.database()).await? else {
            return Ok(());
        };
        let announced = head.is_some_and(|head| head.announced().is_some());
        let known = match head.and_then(|head| self.written(head)) {
            Some(etag) => *etag == meta.etag.0,
            None => announced && !self.config.overrides.force_push,
        };
        if known { Ok(()) } else { self.keep().await }
    }

    /// Keeps a copy of the object in the bucket, under a name that the same object always gets.
    ///
    /// # Errors
    /// The store's.
    pub async fn keep(&self) -> CommandResult {
        let Some(meta) = self.bucket.store.head(&self.bucket.keys.database()).await? else {
            return Ok(());
        };
        let name = Sum::of(format!("{} {}", meta.etag.0, meta.size));
        let kept = self.bucket.keys.overwritten(name);
        self.bucket.store.copy(&self.bucket.keys.database(), &kept).await?;
        self.ui.line(format!("      what is overwritten is kept as {kept}"));
        failpoint::reach("push.kept");
        Ok(())
    }

    /// Makes sure that the store has what was sent (F22).
    async fn confirm(&self, digests: &Digests, sent: &Meta) -> CommandResult<Meta> {
        let found = self.bucket.confirm(&self.bucket.keys.database(), digests, Some(sent)).await?;
        found.as_sent().map_err(|problem| self.not_as_sent(&problem))
    }

    fn not_as_sent(&self, problem: &str) -> Failure {
        let (key, store) = (self.bucket.keys.database(), self.bucket.store.name());
        Failure::of(Code::BadObject, format!("{key} at {store} is not what was sent: it {problem}"))
            .hint("push again: membridge push_sqlite")
    }

    fn manifest(&self, upload: &Upload<'_>) -> CommandResult<Manifest> {
        let config = &self.config;
        let token = self
            .bucket
            .context
            .token()
            .map_err(|error| Failure::of(Code::NoRandomness, format!("no random numbers: {error}")))?;
        Ok(Manifest {
            project: config.project.name.clone(),
            canonical_id: config.project.cid.clone(),
            timestamp: records::iso(self.bucket.context.server_now()),
            source_host: config.node.host.clone(),
            db_size: Some(upload.digests.size),
            sha256: upload.digests.sha256.to_string(),
            observations: Some(upload.facts.counts.observations),
            session_summaries: Some(upload.facts.counts.session_summaries),
            user_prompts: Some(upload.facts.counts.user_prompts),
            tables: upload.facts.tables.clone().into(),
            membridge: Some(ManifestExtra {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                node_id: config.node.id.clone(),
                epoch: upload.epoch,
                content_digest: upload.facts.digest.to_string(),
                schema_version: upload.facts.schema_version,
                claude_mem_version: upload.claude_mem.clone(),
                push_id: token,
                commit: Some(upload.commit),
            }),
            other: serde_json::Map::new(),
        })
    }
}

/// Writes an announcement of the database that is there now. A predecessor that was held up past its time may get
/// one write in before us; as long as the lock is ours, ours goes over it.
async fn announce(verifier: &Verifier<'_>, key: String, bytes: &[u8]) -> CommandResult {
    const ATTEMPTS: u32 = 3;
    let mut attempt = 1;
    loop {
        let seen = verifier.look(key.clone()).await?;
        match verifier.write(&seen, Body::Bytes(bytes), &Progress::hidden()).await {
            Err(LockError::Overtaken(_)) if attempt < ATTEMPTS => attempt += 1,
            end => return Ok(end.map(|_| ())?),
        }
    }
}
