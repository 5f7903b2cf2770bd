//! `key init` and `key rotate`: what is written from now on is sealed, with a first key or with a new one; what is there
//! already is named in the project's note, object by object.

use super::super::mirror;
use super::super::run::Run;
use super::place::{key_id, reach};
use crate::config::Config;
use crate::error::{Code, CommandResult, Failure};
use crate::history::log;
use crate::join::{self, Files, JoinError};
use crate::leadership;
use crate::lock::{Lock, local};
use crate::outcome::Outcome;
use crate::progress::Progress;
use crate::python::setting;
use crate::rows::log::RowLog;
use crate::rows::store_identity::{Standing, StoreIdentity};
use crate::seal::{Keyring, MasterKey, Memory, Seal, Vouched, Watch};
use crate::storage::{Bucket, Etag, Outcome as Written, Sink};
use crate::sum::Sum;
use crate::ui::Report;

pub(super) async fn init(run: &Run, force: bool) -> CommandResult<Report> {
    let (config, bucket, files) = reach(run)?;
    if let Some((note, _)) = join::read(&bucket).await? {
        return Err(Failure::of(
            Code::AlreadyThere,
            format!("project {} is sealed already, with key {}", config.project.name, note.key(&bucket)?),
        )
        .hint("bring its key here: membridge key import")
        .hint("change it: membridge key rotate"));
    }
    if !force {
        nobody_reads_the_copy(run, &bucket).await?;
    }
    let found = Keyring::read(&files.key).map_err(JoinError::from)?;
    let is_new = found.is_none();
    let ring = match found {
        Some(ring) => ring,
        None => Keyring::new(MasterKey::new(bucket.salt()?)),
    };
    let work = Work { run, config: &config, bucket: &bucket, files: &files, there: None };
    let (sealed, vouched) = match work.under_the_lock(ring).await? {
        Changed::Sealed(sealed, vouched) => (sealed, vouched),
        Changed::Overtaken => {
            // Ours has sealed nothing; where we cannot know that, it stays.
            if is_new {
                let _ = std::fs::remove_file(&files.key);
            }
            return Err(overtaken());
        }
    };
    let ui = &run.ui;
    ui.line(format!("sealed: project {} with key {}", config.project.name, key_id(&sealed)));
    ui.line(format!(
        "the key is at {} and nowhere else: keep a copy where no machine is",
        files.key.display()
    ));
    ui.line("  membridge key show            prints it; without it nobody reads this memory again");
    ui.line("next: membridge sync, then on each other machine: membridge key import");
    if !vouched.commits.is_empty() || !vouched.segments.is_empty() {
        ui.line("what was written before stays in the clear for now: membridge key init --purge");
    }
    Ok(Report::ok(Outcome::Set)
        .with("key_id", key_id(&sealed))
        .with("file", files.key.display().to_string())
        .with("next", "membridge sync"))
}

pub(super) async fn rotate(run: &Run) -> CommandResult<Report> {
    let (config, mut bucket, files) = reach(run)?;
    bucket.seal = join::ask(&bucket, &files, true).await?;
    let (Seal::On(fleet), Some((_, etag))) = (bucket.seal.clone(), join::read(&bucket).await?) else {
        return Err(
            Failure::of(Code::NotFound, "this project is not sealed").hint("to seal it: membridge key init")
        );
    };
    let before = fleet.keys.current().id();
    // A bucket that was put back is not what is gone on from.
    log::head(&bucket, None).await?;
    let ring = fleet.keys.clone().led_by(MasterKey::new(bucket.salt()?));
    let work = Work { run, config: &config, bucket: &bucket, files: &files, there: Some(&etag) };
    let Changed::Sealed(sealed, _) = work.under_the_lock(ring).await? else {
        return Err(overtaken());
    };
    bucket.store.delete(&bucket.keys.wrapped_key(&before.to_string())).await?;
    let ui = &run.ui;
    ui.line(format!("project {} is sealed with key {} from now on", config.project.name, key_id(&sealed)));
    ui.line(format!("key {before} opens what it sealed before, and nothing newer"));
    ui.line("next: membridge sync, then on each other machine: membridge key import");
    ui.line("a passphrase has to be set again: membridge key passphrase");
    ui.line("for a lost machine change the keys of the bucket too: DEPLOYMENT.md says how");
    Ok(Report::ok(Outcome::Set).with("key_id", key_id(&sealed)).with("next", "membridge sync"))
}

fn overtaken() -> Failure {
    Failure::of(Code::Contended, "another machine sealed the project at the same moment")
        .hint("see with which key: membridge key status")
}

/// A Python node needs the database in the clear.
async fn nobody_reads_the_copy(run: &Run, bucket: &Bucket) -> CommandResult {
    let copy = bucket.store.head(&bucket.keys.manifest()).await?.is_some();
    if copy && setting::read(bucket).await?.is_on() {
        return Err(Failure::of(
            Code::Refused,
            "the bucket keeps a copy of the database for Python nodes, and they cannot read what is sealed",
        )
        .hint("when none is left: membridge mirror off, then again")
        .hint("all the same, and they get nothing newer from then on: membridge key init --force"));
    }
    mirror::nobody_needs_it(run, bucket).await.map_err(|failure| Failure {
        hints: vec![
            "install membridge there (MIGRATION.md)".to_owned(),
            "all the same, and it gets nothing newer from then on: membridge key init --force".to_owned(),
        ],
        message: failure.message.replace("the mirror stays on", "not sealed"),
        ..failure
    })
}

/// How it ended.
enum Changed {
    /// The project as it is from now on, and what of before may still be used.
    Sealed(Box<Bucket>, Vouched),
    /// Another machine was faster.
    Overtaken,
}

/// Sealing a project with a key that leads from now on.
struct Work<'a> {
    run: &'a Run,
    config: &'a Config,
    /// As it was until now.
    bucket: &'a Bucket,
    files: &'a Files,
    /// The version of the note that is there.
    there: Option<&'a Etag>,
}

impl Work<'_> {
    /// Nobody may push meanwhile: what is there is listed once.
    async fn under_the_lock(&self, ring: Keyring) -> CommandResult<Changed> {
        let state = &self.config.paths.state;
        let machine = local::machine_token(state, &self.run.context).map_err(|error| {
            Failure::of(Code::LocalFile, format!("cannot write in {}: {error}", state.display()))
        })?;
        let _critical = self.run.context.critical();
        let mut guard = Lock::of(self.config, self.bucket, &machine).acquire().await?;
        let end = guard.hold(self.change(ring)).await;
        if let Err(error) = guard.release().await {
            self.run.ui.warn(format!("the lock could not be given back ({error}); it runs out by itself"));
        } else if let Ok(Changed::Sealed(sealed, _)) = &end {
            Lock::sign_anew(self.bucket, sealed).await?;
        }
        end
    }

    async fn change(&self, ring: Keyring) -> CommandResult<Changed> {
        let (config, files) = (self.config, self.files);
        self.run.ui.line("looking at what is there");
        let vouched = self.inventory().await?;
        // The key first: nothing may ever be sealed with a key that is nowhere.
        ring.write(&files.key).map_err(JoinError::from)?;
        let seen = files.memory()?;
        // What was seen of a project that is sealed for the first time is of another one.
        let mut memory = match self.there {
            Some(_) => seen,
            None => Memory { known: seen.known, anew: seen.anew, ..Memory::default() },
        };
        memory.sealed_with(&ring, vouched.clone());
        let (_, mut sealed, _) = reach(self.run)?;
        sealed.seal = Seal::on(ring.clone(), vouched.clone(), Watch::new(memory.clone(), None));
        self.sign_store(&sealed).await?;
        // Before the note: whoever finds the one and not the other writes nothing. The old one goes when the note is there.
        join::mark(&sealed, ring.current().id(), &[]).await?;
        let written = join::write(&sealed, &ring, vouched.clone(), self.there).await?;
        crate::failpoint::reach("key.sealed");
        if written == Written::Lost {
            return Ok(Changed::Overtaken);
        }
        files.remember(&memory)?;
        if let Some(before) = self.bucket.seal.key() {
            join::mark(&sealed, ring.current().id(), &[ring.current().id(), before.id()]).await?;
        }
        setting::write(&sealed, setting::Change::Mirror(false), &config.node.id).await?;
        leadership::sign_anew(self.bucket, &sealed).await?;
        Ok(Changed::Sealed(Box::new(sealed), vouched))
    }

    async fn sign_store(&self, sealed: &Bucket) -> CommandResult {
        let identity = StoreIdentity::new(sealed, &self.config.paths.state);
        match identity.look().await? {
            Standing::Same => {}
            Standing::FirstTime => drop(identity.meet(&self.config.node.id).await?),
            Standing::Other | Standing::Missing => {
                return Err(Failure::of(
                    Code::StoreForeign,
                    format!("{} is not the store that this machine synced with", sealed.store.name()),
                )
                .hint("see what is wrong, and what to do: membridge sync"));
            }
        }
        Ok(identity.sign().await?)
    }

    /// What is there and may still be used: commits and segments, with the checksums that they have now. In a project that
    /// is sealed already only what is authentic is taken over.
    async fn inventory(&self) -> CommandResult<Vouched> {
        let mut vouched = Vouched::default();
        for listed in log::numbers(self.bucket).await? {
            if let Some(sha256) = self.commit(listed.number).await? {
                vouched.commits.insert(listed.number, sha256);
            }
        }
        let rows = RowLog::new(self.bucket, &self.config.paths.tmp());
        for listed in rows.segments().await? {
            if let Some(sha256) = self.segment(&rows, &listed.writer, listed.number).await? {
                vouched.segments.entry(listed.writer).or_default().insert(listed.number, sha256);
            }
        }
        Ok(vouched)
    }

    async fn commit(&self, number: u64) -> CommandResult<Option<Sum>> {
        if !self.bucket.seal.is_on() {
            return self.sum(&self.bucket.keys.commit(number)).await;
        }
        match log::get(self.bucket, number).await {
            Ok(commit) => Ok(commit.and_then(|commit| commit.stored)),
            Err(error) if error.is_damage() => Ok(self.left_out(&error)),
            Err(error) => Err(error.into()),
        }
    }

    async fn segment(&self, rows: &RowLog<'_>, writer: &str, number: u64) -> CommandResult<Option<Sum>> {
        if !self.bucket.seal.is_on() {
            return self.sum(&self.bucket.keys.segment(writer, number)).await;
        }
        match rows.get(writer, number).await {
            Ok(fetched) => Ok(fetched.map(|fetched| fetched.sha256)),
            Err(error) if error.is_damage() => Ok(self.left_out(&error)),
            Err(error) => Err(error.into()),
        }
    }

    fn left_out(&self, why: &dyn std::fmt::Display) -> Option<Sum> {
        self.run.ui.warn(format!("not taken over: {why}"));
        None
    }

    /// SHA-256 of an object; `None` when it is gone.
    async fn sum(&self, key: &str) -> CommandResult<Option<Sum>> {
        let folder = self.config.paths.tmp();
        let fail = |error: std::io::Error| {
            Failure::of(Code::LocalFile, format!("cannot write in {}: {error}", folder.display()))
        };
        crate::private_files::make_private_folder(&folder).map_err(fail)?;
        let file = tempfile::tempfile_in(&folder).map_err(fail)?;
        let mut sink = Sink::new(file, crate::rows::segment::SIZE_LIMIT, Progress::hidden());
        if self.bucket.store.download(key, &mut sink).await?.is_none() {
            return Ok(None);
        }
        Ok(Some(sink.finish().await.map_err(fail)?.1))
    }
}
