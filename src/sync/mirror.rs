//! The three objects that Python nodes read: database, checksum, manifest, in this order, each confirmed by the
//! store. Knows how they are written; not whether they should be.

use sha2::{Digest, Sha256};

use super::commit::Terms;
use super::mirror_setting;
use super::record::{RecordFile, SyncRecord};
use super::remote::Head;
use super::session::Session;
use super::shot::Shot;
use crate::context::hex;
use crate::database::Facts;
use crate::error::{CommandResult, Failure};
use crate::failpoint;
use crate::history::Commit;
use crate::lock::{LockError, Seen, Verifier};
use crate::storage::records::{self, Manifest, ManifestExtra};
use crate::storage::{Body, Digests};
use crate::ui::Progress;

/// What goes up.
#[derive(Debug)]
struct Upload<'a> {
    /// The database object.
    object: &'a std::path::Path,
    /// The object that it replaces, as seen before the last checks.
    over: &'a Seen,
    /// Its size and digests.
    digests: &'a Digests,
    /// What is in it.
    facts: &'a Facts,
    /// Epoch of our term.
    epoch: Option<i64>,
    /// claude-mem's version here.
    claude_mem: Option<String>,
    /// The commit that is mirrored.
    commit: u64,
}

/// Brings them up to date, where the shot has an object for them, over what was there (`over`) before the decision was
/// made. False: it was left to the next push.
pub(super) async fn refresh(
    session: &Session,
    record: &mut RecordFile,
    shot: &Shot,
    (head, commit): (Option<&Head>, &Commit),
    terms: &Terms,
    over: Option<Seen>,
    verifier: &Verifier<'_>,
) -> CommandResult<bool> {
    let (Some(object), Some(over)) = (&shot.object, over) else {
        return Ok(false);
    };
    keep_what_nobody_knows(session, &record.record, head).await?;
    let upload = Upload {
        object: &object.path,
        over: &over,
        digests: &object.digests,
        facts: &shot.facts,
        epoch: terms.epoch,
        claude_mem: terms.claude_mem.clone(),
        commit: commit.number,
    };
    record.mirror(&object.digests.sha256, None)?;
    match write(session, &upload, verifier).await {
        Ok(etag) => {
            record.mirror(&object.digests.sha256, Some(etag))?;
            Ok(true)
        }
        // The commit stands; whoever holds the lock now brings the objects for Python nodes up to date.
        Err(failure) if matches!(verifier.verify().await, Err(error) if !matches!(error, LockError::Store(_))) =>
        {
            session.ui.warn(format!("the copy for Python nodes was left to the next push: {failure}"));
            Ok(false)
        }
        Err(failure) => Err(failure),
    }
}

/// Writes the three objects and looks whether the store has what was sent (F22). Returns the etag of the database object.
///
/// # Errors
/// The store's; a stored object that is not what was sent.
async fn write(session: &Session, upload: &Upload<'_>, verifier: &Verifier<'_>) -> CommandResult<String> {
    let keys = &session.bucket.keys;
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

/// Whether a whole push has something to do here although no memory is new.
///
/// # Errors
/// The store's.
pub async fn is_due(session: &Session, record: Option<&SyncRecord>, head: &Head) -> CommandResult<bool> {
    if !head.is_commit || !mirror_setting::read(&session.bucket).await?.is_on() {
        return Ok(false);
    }
    Ok(!head.mirrored || !is_in_place(session, record, head).await?)
}

/// Whether the object is still the one that its announcements speak of, as far as this machine can tell without reading
/// it: a Python node that was cut off may have put another one under them.
///
/// # Errors
/// The store's.
pub async fn is_in_place(session: &Session, record: Option<&SyncRecord>, head: &Head) -> CommandResult<bool> {
    let there = session.bucket.store.head(&session.bucket.keys.database()).await?;
    Ok(there.is_some_and(|meta| match record.and_then(|record| written(record, head)) {
        Some(etag) => *etag == meta.etag.0,
        None => true,
    }))
}

/// The etag of the announced object, where this machine wrote it.
fn written<'a>(record: &'a SyncRecord, head: &Head) -> Option<&'a String> {
    let note = record.mirror.as_ref()?;
    let announced = head.announced.as_deref()?;
    note.etag.as_ref().filter(|_| note.sha256 == announced)
}

/// Keeps a copy of the object that is about to be overwritten where nobody can say what is in it: no word announces it,
/// it is not the one that we left there, or the push is forced. A Python node's rows may be nowhere else in the bucket
/// (F08).
///
/// # Errors
/// The store's.
async fn keep_what_nobody_knows(
    session: &Session,
    record: &SyncRecord,
    head: Option<&Head>,
) -> CommandResult {
    let Some(meta) = session.bucket.store.head(&session.bucket.keys.database()).await? else {
        return Ok(());
    };
    let announced = head.is_some_and(|head| head.announced.is_some());
    let known = match head.and_then(|head| written(record, head)) {
        Some(etag) => *etag == meta.etag.0,
        None => announced && !session.config.overrides.force_push,
    };
    if known { Ok(()) } else { keep(session).await }
}

/// Keeps a copy of the object in the bucket, under a name that the same object always gets.
///
/// # Errors
/// The store's.
pub async fn keep(session: &Session) -> CommandResult {
    let Some(meta) = session.bucket.store.head(&session.bucket.keys.database()).await? else {
        return Ok(());
    };
    let name = hex(&Sha256::digest(format!("{} {}", meta.etag.0, meta.size)));
    let kept = session.bucket.keys.overwritten(&name);
    session.bucket.store.copy(&session.bucket.keys.database(), &kept).await?;
    session.ui.line(format!("      what is overwritten is kept as {kept}"));
    failpoint::reach("push.kept");
    Ok(())
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

/// Compares size and, where the store's etag is one, checksum of the stored object with what was sent.
async fn confirm(session: &Session, digests: &Digests) -> CommandResult<String> {
    let key = session.bucket.keys.database();
    let problem = match session.bucket.store.head(&key).await? {
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
                return Ok(meta.etag.0);
            }
        }
    };
    Err(Failure::new(format!("{key} at {} is not what was sent: {problem}", session.bucket.store.name()))
        .hint("push again: membridge push_sqlite"))
}

fn manifest(session: &Session, upload: &Upload<'_>) -> CommandResult<Manifest> {
    let config = &session.config;
    let token = session
        .bucket
        .context
        .token()
        .map_err(|error| Failure::new(format!("no random numbers: {error}")))?;
    Ok(Manifest {
        project: config.project.name.clone(),
        canonical_id: config.project.cid.clone(),
        timestamp: records::iso(session.bucket.context.server_now()),
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
            commit: Some(upload.commit),
        }),
        other: serde_json::Map::new(),
    })
}
