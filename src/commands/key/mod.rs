//! `key`: the fleet's key, with which the memory in the bucket is sealed. The key itself is printed by `key show` alone.

mod place;
mod purge;
mod seal;

use super::answers::{Answers, stopped};
use super::run::Run;
use crate::cli::KeyAction;
use crate::config::Config;
use crate::error::{Code, CommandResult, Failure};
use crate::history::log;
use crate::join::{self, Files, Note};
use crate::outcome::Outcome;
use crate::progress::Progress;
use crate::seal::{
    KeyError, KeyId, Keyring, MIN_PASSPHRASE, MasterKey, Memory, Seal, Seen, Watch, Wrapped, fingerprint,
};
use crate::storage::{Body, Bucket};
use crate::ui::{Report, Ui};
use place::{key_id, reach};

/// What was done when somebody left at a question.
const NOTHING: &str = "nothing was changed";

pub(super) async fn run(run: &Run, action: KeyAction) -> CommandResult<Report> {
    match action {
        KeyAction::Init { purge: true, yes, .. } => purge::run(run, yes).await,
        KeyAction::Init { force, .. } => seal::init(run, force).await,
        KeyAction::Show => show(run),
        KeyAction::Import => import(run).await,
        KeyAction::Passphrase { remove } => passphrase(run, remove).await,
        KeyAction::Rotate => seal::rotate(run).await,
        KeyAction::Status => status(run).await,
    }
}

fn show(run: &Run) -> CommandResult<Report> {
    let paths = crate::config::Paths::new(&run.settings);
    let ring = Keyring::read(&paths.key).map_err(join::JoinError::from)?.ok_or_else(|| {
        Failure::of(Code::NotFound, format!("there is no key at {}", paths.key.display()))
            .hint("make one, and seal the project with it: membridge key init")
            .hint("or bring the fleet's: membridge key import")
    })?;
    if run.ui.json {
        return Err(Failure::of(Code::Refused, "a key is printed as text only, never as JSON")
            .hint("membridge key show, without --json"));
    }
    run.ui.verbatim(&format!("{}\n", ring.current().reveal()));
    Ok(Report::ok(Outcome::Shown))
}

async fn import(run: &Run) -> CommandResult<Report> {
    let (_, mut bucket, files) = reach(run)?;
    let Some((note, _)) = join::read(&bucket).await? else {
        return Err(Failure::of(
            Code::NotFound,
            "this project is not sealed: there is nothing to bring a key for",
        )
        .hint("to seal it: membridge key init"));
    };
    let Some(lines) = bring(&Answers::open(), &mut bucket, &files, &note).await? else {
        return Ok(stopped(&run.ui, NOTHING));
    };
    for line in lines {
        run.ui.line(line);
    }
    Ok(Report::ok(Outcome::Written)
        .with("key_id", key_id(&bucket))
        .with("file", files.key.display().to_string()))
}

/// Asks for the key of a sealed project on a new machine. What is to be said about it; nothing in a project that is not
/// sealed. `None`: the person has left.
pub(super) async fn meet(
    run: &Run,
    answers: &Answers,
    config: &Config,
    bucket: &mut Bucket,
) -> CommandResult<Option<Vec<String>>> {
    let files = Files::of(&config.paths.key, &config.paths.state, bucket);
    let Some((note, _)) = join::read(bucket).await? else {
        return Ok(Some(Vec::new()));
    };
    if let Ok(seal) = join::join(bucket, &files, true).await {
        bucket.seal = seal;
        return Ok(Some(Vec::new()));
    }
    run.ui.line(format!("project {} is sealed with key {}", config.project.name, note.key(bucket)?));
    bring(answers, bucket, &files, &note).await
}

/// Asks for the key or its passphrase, proves that it is the project's, and keeps it. What was seen of the bucket before
/// is forgotten. `None`: the person has left.
async fn bring(
    answers: &Answers,
    bucket: &mut Bucket,
    files: &Files,
    note: &Note,
) -> CommandResult<Option<Vec<String>>> {
    let id = note.key(bucket)?;
    let wrapped = bucket.read::<Wrapped>(&bucket.keys.wrapped_key(&id.to_string())).await?;
    let question = match wrapped {
        Some(_) => "The fleet's key (mbkey1-…) or its passphrase (not shown)",
        None => "The fleet's key (mbkey1-…, not shown)",
    };
    let wrapped = wrapped.map(|(wrapped, _)| wrapped);
    let key = loop {
        let answer = answers.secret(question).await?;
        if answer.is_none() && answers.terminal {
            return Ok(None);
        }
        match understood(answer.unwrap_or_default(), wrapped.clone(), id).await {
            Ok(key) => break key,
            Err(failure) if answers.terminal => answers.tell_why(&failure),
            Err(failure) => return Err(failure),
        }
    };
    let inside = note.open(&key, bucket)?;
    let ring = match Keyring::read(&files.key).map_err(join::JoinError::from)? {
        Some(ring) => ring.led_by(key),
        None => Keyring::new(key),
    };
    let ring = ring.over(inside.older);
    ring.write(&files.key).map_err(join::JoinError::from)?;
    // What was seen is forgotten, also where it cannot be read; not how the project was known.
    let before = files.memory().unwrap_or_default();
    let mut memory = Memory { known: before.known, anew: before.anew, ..Memory::default() };
    memory.sealed_with(&ring, inside.vouched.clone());
    files.remember(&memory)?;
    bucket.seal = Seal::on(ring, inside.vouched, Watch::new(memory, Some(files.memory.clone())));
    let head = newest(bucket).await?;
    Ok(Some(vec![
        format!("key: {id}, kept at {} (0600)", files.key.display()),
        format!("compare with another machine's membridge key status: {}", compared(bucket, head.as_ref())),
    ]))
}

/// The key that an answer stands for: itself, or the passphrase around it. It must be the key `id`.
async fn understood(answer: String, wrapped: Option<Wrapped>, id: KeyId) -> CommandResult<MasterKey> {
    let key = match wrapped {
        Some(wrapped) if !answer.to_ascii_lowercase().starts_with("mbkey1-") => {
            let unwrapped = tokio::task::spawn_blocking(move || wrapped.unwrap(&answer)).await.ok().flatten();
            unwrapped.ok_or_else(|| {
                Failure::of(Code::KeyNeeded, "that is not the passphrase of the fleet's key")
            })?
        }
        _ => MasterKey::parse(&answer).map_err(|error| wrong_key(&error))?,
    };
    if key.id() == id {
        return Ok(key);
    }
    let problem = format!("that is key {}, and this project is sealed with key {id}", key.id());
    Err(Failure::of(Code::KeyNeeded, problem).hint("on a machine that syncs: membridge key show"))
}

fn wrong_key(error: &KeyError) -> Failure {
    Failure::of(Code::KeyNeeded, error.to_string()).hint("on a machine that syncs: membridge key show")
}

async fn newest(bucket: &Bucket) -> CommandResult<Option<Seen>> {
    let head = log::head(bucket, None).await?;
    Ok(head.and_then(|head| Some(Seen { number: head.number, sha256: head.stored? })))
}

/// What two machines have in common that have the same key and see the same bucket.
fn compared(bucket: &Bucket, head: Option<&Seen>) -> String {
    let words = bucket.seal.key().map(|key| fingerprint(key, bucket.keys.project(), head).join(" "));
    let head = head.map_or("no push yet".to_owned(), |head| format!("push {}", head.number));
    format!("{head}: {}", words.unwrap_or_default())
}

async fn passphrase(run: &Run, remove: bool) -> CommandResult<Report> {
    let (_, mut bucket, files) = reach(run)?;
    bucket.seal = join::join(&bucket, &files, true).await?;
    let Some(key) = bucket.seal.key().cloned() else {
        return Err(
            Failure::of(Code::NotFound, "this project is not sealed").hint("to seal it: membridge key init")
        );
    };
    let object = bucket.keys.wrapped_key(&key.id().to_string());
    if remove {
        bucket.store.delete(&object).await?;
        run.ui.line("the passphrase is taken away: new machines need the key itself");
        return Ok(Report::ok(Outcome::Set));
    }
    let answers = Answers::open();
    let Some(first) = new_passphrase(&answers).await? else {
        return Ok(stopped(&run.ui, NOTHING));
    };
    let salt = bucket.salt()?;
    let wrapped = tokio::task::spawn_blocking(move || Wrapped::wrap(&key, &first, salt)).await;
    let wrapped = wrapped.map_err(|error| Failure::of(Code::Internal, error.to_string()))?;
    let bytes = crate::storage::records::to_bytes(&wrapped)?;
    bucket.store.put(&object, Body::Bytes(&bytes), &Progress::hidden()).await?;
    run.ui.line("set: membridge key import and config init on a new machine take the passphrase too");
    run.ui.line("whoever has the bucket can try passphrases against it: choose one that nobody guesses");
    Ok(Report::ok(Outcome::Set))
}

/// A passphrase for the key, typed twice at a terminal. `None`: the person has left.
async fn new_passphrase(answers: &Answers) -> CommandResult<Option<String>> {
    let first = answers.secret("A passphrase (not shown)").await?;
    if first.is_none() && answers.terminal {
        return Ok(None);
    }
    let first = first.unwrap_or_default();
    if first.chars().count() < MIN_PASSPHRASE {
        let problem = format!("a passphrase has at least {MIN_PASSPHRASE} characters; five words do well");
        return Err(Failure::of(Code::Refused, problem));
    }
    if answers.terminal && answers.secret("Once more").await?.as_deref() != Some(&first) {
        return Err(Failure::of(Code::Refused, "the two are not the same; nothing was changed"));
    }
    Ok(Some(first))
}

async fn status(run: &Run) -> CommandResult<Report> {
    let (config, mut bucket, files) = reach(run)?;
    bucket.store.leave_no_trace();
    let ui = &run.ui;
    let note = join::read(&bucket).await?.map(|(note, _)| note);
    let name = &config.project.name;
    match &note {
        None => ui.line(format!("project {name} is not sealed")),
        Some(note) => ui.line(format!("project {name} is sealed with key {}", note.key(&bucket)?)),
    }
    show_file(ui, &files);
    bucket.seal = join::ask(&bucket, &files, false).await?;
    let report = Report::ok(Outcome::Shown).with("sealed", bucket.seal.is_on());
    if !bucket.seal.is_on() {
        return Ok(report);
    }
    let object = bucket.keys.wrapped_key(&key_id(&bucket));
    let wrapped = bucket.store.head(&object).await?.is_some();
    ui.line(format!("passphrase: {}", if wrapped { "set" } else { "none" }));
    let head = newest(&bucket).await?;
    let words = compared(&bucket, head.as_ref());
    ui.line(format!("the same on every machine that sees the same: {words}"));
    Ok(report.with("key_id", key_id(&bucket)).with("passphrase", wrapped).with("words", words))
}

fn show_file(ui: &Ui, files: &Files) {
    let there = files.key.symlink_metadata().is_ok();
    let word = if there { "key file" } else { "no key file" };
    ui.line(format!("{word}: {}", files.key.display()));
}
