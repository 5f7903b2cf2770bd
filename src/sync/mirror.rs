//! The three objects that Python nodes read: database, checksum, manifest, in this order, each confirmed by the
//! store. Knows how they are written; not whether they should be.

use super::session::Session;
use crate::database::Facts;
use crate::error::{CommandResult, Failure};
use crate::failpoint;
use crate::lock::{LockError, Seen, Verifier};
use crate::storage::records::{self, Manifest, ManifestExtra};
use crate::storage::{Body, Digests};
use crate::ui::Progress;

/// What goes up.
#[derive(Debug)]
pub struct Upload<'a> {
    /// The database object.
    pub object: &'a std::path::Path,
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
    pub commit: Option<u64>,
}

/// Writes the three objects and looks whether the store has what was sent (F22).
///
/// # Errors
/// The store's; a stored object that is not what was sent.
pub async fn write(session: &Session, upload: &Upload<'_>, verifier: &Verifier<'_>) -> CommandResult {
    let keys = &session.keys;
    let progress = session.ui.progress("upload", upload.digests.size);
    let body = Body::File(upload.object, upload.digests);
    let sent = verifier.write(upload.over, body, &progress).await;
    progress.done();
    sent?;
    failpoint::reach("mirror.database");
    confirm(session, upload.digests).await?;
    failpoint::reach("mirror.confirmed");
    let line = format!("{}  claude-mem.db\n", upload.digests.sha256);
    announce(verifier, keys.sha256(), line.as_bytes()).await?;
    failpoint::reach("mirror.checksum");
    let manifest = records::to_bytes(&manifest(session, upload)?)
        .map_err(|error| Failure::new(format!("the manifest cannot be written: {error}")))?;
    announce(verifier, keys.manifest(), &manifest).await?;
    failpoint::reach("mirror.manifest");
    // A Python node, or one that FORCE_PUSH let in, may have put another database under our announcements.
    confirm(session, upload.digests).await
}

/// Writes an announcement of the database that is there now. A predecessor that was held up past its time may get
/// one write in before us; as long as the lock is ours, ours goes over it.
async fn announce(verifier: &Verifier<'_>, key: String, bytes: &[u8]) -> CommandResult {
    const ATTEMPTS: u32 = 3;
    let mut attempt = 1;
    loop {
        let seen = verifier.look(key.clone()).await?;
        match verifier
            .write(&seen, Body::Bytes(bytes), &Progress::hidden())
            .await
        {
            Err(LockError::Overtaken(_)) if attempt < ATTEMPTS => attempt += 1,
            end => return Ok(end.map(|_| ())?),
        }
    }
}

/// Compares size and, where the store's etag is one, checksum of the stored object with what was sent.
async fn confirm(session: &Session, digests: &Digests) -> CommandResult {
    let key = session.keys.database();
    let problem = match session.store.head(&key).await? {
        None => "it is not there".to_owned(),
        Some(meta) if meta.size != digests.size => {
            format!("it has {} bytes instead of {}", meta.size, digests.size)
        }
        Some(meta) => {
            let etag = meta.etag.0.trim_matches('"').to_ascii_lowercase();
            // Servers that encrypt or compose objects answer other etags: those say nothing about the content,
            // but the transfer was signed over its SHA-256.
            let plain_md5 = etag.len() == 32 && etag.bytes().all(|byte| byte.is_ascii_hexdigit());
            let plain_sha256 = etag.len() == 64 && etag.bytes().all(|byte| byte.is_ascii_hexdigit());
            if (plain_md5 && etag != digests.md5) || (plain_sha256 && etag != digests.sha256) {
                "it has another checksum".to_owned()
            } else {
                return Ok(());
            }
        }
    };
    Err(Failure::new(format!(
        "{key} at {} is not what was sent: {problem}",
        session.store.name()
    ))
    .hint("push again: membridge push_sqlite"))
}

fn manifest(session: &Session, upload: &Upload<'_>) -> CommandResult<Manifest> {
    let config = &session.config;
    let token = session
        .context
        .token()
        .map_err(|error| Failure::new(format!("no random numbers: {error}")))?;
    Ok(Manifest {
        project: config.project.name.clone(),
        canonical_id: config.project.cid.clone(),
        timestamp: records::iso(session.context.server_now()),
        source_host: config.node.host.clone(),
        db_size: Some(upload.digests.size),
        sha256: upload.digests.sha256.clone(),
        observations: Some(upload.facts.counts.observations),
        session_summaries: Some(upload.facts.counts.session_summaries),
        user_prompts: Some(upload.facts.counts.user_prompts),
        tables: upload.facts.tables.clone().into(),
        membridge: Some(ManifestExtra {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            node_id: config.node.id.clone(),
            epoch: upload.epoch,
            content_digest: upload.facts.digest.clone(),
            schema_version: upload.facts.schema_version,
            claude_mem_version: upload.claude_mem.clone(),
            push_id: token,
            commit: upload.commit,
        }),
        other: serde_json::Map::new(),
    })
}
