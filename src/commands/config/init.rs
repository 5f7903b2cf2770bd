//! `config init`: a first config.env, written once the connection that it describes has worked; or, with `--edit`, another
//! round through the answers of one that is there, in which everything else stays as it is.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use super::super::answers::{Answer, Answers, stopped};
use super::super::key;
use super::super::run::Run;
use super::questions::{self, MEMORY, PYTHON, Question, STORE};
use super::text;
use crate::amount;
use crate::config::paths::expand_home;
use crate::config::{self, Config, ConfigError, PLAIN_HTTP, Settings, Source};
use crate::database::files;
use crate::error::{Code, CommandResult, Failure};
use crate::outcome::Outcome;
use crate::private_files::{make_private_folder, write_private};
use crate::python::head::{self, Head, Known};
use crate::python::setting;
use crate::storage::{Bucket, Store};
use crate::ui::Report;

/// One conversation.
struct Talk<'a> {
    run: &'a Run,
    answers: Answers,
    settings: Settings,
    /// Settings that a person is asked for; flags and the environment have answered the others.
    open: Vec<&'static str>,
}

/// The person has left.
struct Left;

/// What was done when somebody left before the end.
const NOTHING: &str = "nothing was written";

pub(super) async fn begin(run: &Run, edit: bool) -> CommandResult<Report> {
    let target = &run.config_target;
    let answers = Answers::open();
    let there = target.symlink_metadata().is_ok();
    let edit = edit || (there && answers.terminal && wants_to_edit(run, target));
    if there && !edit {
        return Err(already_there(target));
    }
    if let Some(problem) = run.file_problem.clone().filter(|_| there) {
        return Err(problem.into());
    }
    let before = if there { Some(read(target)?) } else { None };
    questions::sound(&run.settings).map_err(|why| Failure::of(Code::BadSetting, why))?;
    let open = STORE.iter().chain(&MEMORY).map(|question| question.name);
    let open = open.filter(|name| match run.settings.source(name) {
        Some(Source::Flag | Source::Environment) => false,
        Some(Source::File) => edit,
        Some(Source::Default) | None => true,
    });
    let mut talk = Talk { run, answers, open: open.collect(), settings: run.settings.clone() };
    if let Err(Left) = talk.through().await? {
        return Ok(stopped(&run.ui, NOTHING));
    }
    talk.conclude(before).await
}

/// A finished file is gone through again only when somebody wants it.
fn wants_to_edit(run: &Run, target: &Path) -> bool {
    let question = format!("{} is there already. Go through its answers again?", target.display());
    run.ui.confirm(&question) == Some(true)
}

impl Talk<'_> {
    /// All questions; those about the store until it has answered.
    async fn through(&mut self) -> CommandResult<Result<(), Left>> {
        loop {
            for question in &STORE {
                let of_a_server = question.name != "MINIO_ENDPOINT";
                if of_a_server && questions::is_folder(&self.settings) {
                    continue;
                }
                if let Err(Left) = self.settle(question).await? {
                    return Ok(Err(Left));
                }
            }
            match self.try_store().await {
                Ok(()) => break,
                Err(failure) if self.answers.terminal && self.asks_for_the_store() => {
                    self.answers.tell_why(&failure);
                }
                Err(failure) => {
                    let message = format!("{}; no config.env was written", failure.message);
                    return Err(Failure { message, ..failure });
                }
            }
        }
        for question in &MEMORY {
            if let Err(Left) = self.settle(question).await? {
                return Ok(Err(Left));
            }
        }
        Ok(Ok(()))
    }

    fn asks_for_the_store(&self) -> bool {
        STORE.iter().any(|question| self.open.contains(&question.name))
    }

    /// Asks until the answer can be used.
    async fn settle(&mut self, question: &Question) -> CommandResult<Result<(), Left>> {
        let name = question.name;
        if !self.open.contains(&name) {
            return Ok(Ok(()));
        }
        loop {
            let present = self.settings.get(name).map(str::to_owned);
            let present = present.or_else(|| questions::default(question, &self.settings.home));
            let answer = match (self.answers.ask(question.asked(), present.as_deref()).await?, present) {
                (Answer::Said(answer), _) | (Answer::Nothing, Some(answer)) => answer,
                (Answer::End, Some(answer)) if !self.answers.terminal => answer,
                (Answer::End, _) if self.answers.terminal => {
                    self.answers.end_line();
                    return Ok(Err(Left));
                }
                (Answer::Nothing, None) if self.answers.terminal => continue,
                (Answer::End | Answer::Nothing, _) => {
                    let place = config::USUAL_PLACE.to_owned();
                    return Err(ConfigError::NotSet { name, place }.into());
                }
            };
            match questions::understood(name, &answer, &self.settings) {
                Ok(value) => {
                    self.settings.set(name, value, Source::File);
                    return Ok(Ok(()));
                }
                Err(why) if self.answers.terminal => self.answers.tell(&why),
                Err(why) => {
                    return Err(Failure::of(Code::BadSetting, format!("{why}; no config.env was written")));
                }
            }
        }
    }

    async fn try_store(&self) -> CommandResult {
        let store = Store::open(&config::store(&self.settings)?, &self.run.context)?;
        Ok(store.check().await?)
    }

    /// Everything is answered, and the store has answered too: the file is written.
    async fn conclude(mut self, before: Option<String>) -> CommandResult<Report> {
        let (run, target, ui) = (self.run, &self.run.config_target, &self.run.ui);
        let home = self.settings.home.clone();
        if let Some(path) = self.settings.get("CLAUDE_MEM_DB").map(|path| expand_home(path, &home)) {
            let source = self.settings.source("CLAUDE_MEM_DB").unwrap_or(Source::File);
            self.settings.set("CLAUDE_MEM_DB", path.display().to_string(), source);
        }
        let checked = Config::new(&self.settings)?;
        let store = Store::open(&checked.store, &run.context)?;
        let (cid, state) = (&checked.project.cid, &checked.paths.state);
        let mut bucket = Bucket::new(store, cid, Arc::clone(&run.context), state);
        let Some(sealed) = key::meet(run, &self.answers, &checked, &mut bucket).await? else {
            return Ok(stopped(ui, NOTHING));
        };
        let there = head::read(&bucket, Known::default()).await?;
        let Ok(copy) = self.settle_copy(&bucket, there.as_ref()).await? else {
            return Ok(stopped(ui, NOTHING));
        };
        ui.line(format!("connected: {}", bucket.store.name()));
        if let Some(before) = before {
            self.change(&before)?;
        } else {
            write_new(target, &text::render(&self.settings)?)?;
            ui.line(format!("written: {}", target.display()));
            if !checked.store.is_private() {
                ui.warn(PLAIN_HTTP);
            }
            for name in text::NOT_KEPT.iter().filter(|name| text::said(&self.settings, name)) {
                ui.line(format!("left out: {name}, which is for single runs or not used at all"));
            }
        }
        for line in sealed {
            ui.line(line);
        }
        if let Some(on) = copy {
            setting::write(&bucket, setting::Change::Mirror(on), &checked.node.id).await?;
            ui.line(questions::about_copy(on));
        }
        let next = next_step(run, &checked, there.as_ref());
        ui.line(format!("next: {next}"));
        Ok(Report::ok(Outcome::Written)
            .with("file", target.display().to_string())
            .with("store", bucket.store.name())
            .with("next", next))
    }

    /// Whether a copy for Python nodes is to be kept. A person who brings the first machine is asked; later it is said by
    /// `membridge mirror`. `None`: nobody was asked.
    async fn settle_copy(
        &self,
        bucket: &Bucket,
        there: Option<&Head>,
    ) -> CommandResult<Result<Option<bool>, Left>> {
        let settled = there.is_some() || bucket.seal.is_on() || setting::read(bucket).await?.was_said();
        if settled || !self.answers.terminal {
            return Ok(Ok(None));
        }
        loop {
            let answer = match self.answers.ask(PYTHON, Some(questions::NO)).await? {
                Answer::Said(answer) => answer,
                Answer::Nothing => questions::NO.to_owned(),
                Answer::End => {
                    self.answers.end_line();
                    return Ok(Err(Left));
                }
            };
            match questions::yes_or_no(&answer) {
                Ok(on) => return Ok(Ok(Some(on))),
                Err(why) => self.answers.tell(why),
            }
        }
    }

    /// Changes what was answered otherwise; the file as it was stays beside it.
    fn change(&self, before: &str) -> CommandResult {
        let (target, ui) = (&self.run.config_target, &self.run.ui);
        let now = self.open.iter().filter_map(|name| Some((*name, self.settings.get(name)?)));
        let changes: BTreeMap<&str, &str> =
            now.filter(|(name, value)| self.run.settings.get(name) != Some(value)).collect();
        if changes.is_empty() {
            ui.line(format!("unchanged: {}", target.display()));
            return Ok(());
        }
        let new = text::edited(before, &changes, &self.settings.home)?;
        // Through a link, which stays one.
        let real = target.canonicalize().unwrap_or_else(|_| target.clone());
        let mut kept = real.clone().into_os_string();
        kept.push(".before");
        let fail = |error: std::io::Error| cannot_write(target, &error);
        write_private(Path::new(&kept), before.as_bytes()).map_err(fail)?;
        write_private(&real, new.as_bytes()).map_err(fail)?;
        let names: Vec<&str> = changes.keys().copied().collect();
        ui.line(format!("changed: {} in {}", names.join(", "), target.display()));
        ui.line(format!("as it was: {}", Path::new(&kept).display()));
        Ok(())
    }
}

/// Says what lies there already, and what to do first.
fn next_step(run: &Run, checked: &Config, there: Option<&Head>) -> &'static str {
    let (ui, name) = (&run.ui, &checked.project.name);
    let has_database = files::has_content(&checked.database);
    match (there, there.and_then(Head::observations)) {
        (None, _) => ui.line(format!("the bucket holds nothing yet for project {name}")),
        (Some(_), Some(count)) => {
            let observations = amount::count(count, "observation", "observations");
            ui.line(format!("the bucket holds {observations} for project {name}"));
        }
        (Some(_), None) => ui.line(format!("the bucket holds a database for project {name}")),
    }
    if there.is_none() && !has_database {
        ui.line(format!(
            "there is no database at {} yet: claude-mem makes it in the first Claude session, so start one first",
            checked.database.display()
        ));
    }
    match (there, has_database) {
        (None, _) => "membridge push_sqlite",
        (Some(_), false) => "membridge pull_sqlite",
        (Some(_), true) => "membridge sync",
    }
}

fn already_there(target: &Path) -> Failure {
    Failure::of(Code::AlreadyThere, format!("{} is there already and is never overwritten", target.display()))
        .hint("see what it says: membridge config")
        .hint("go through its answers again: membridge config init --edit")
        .hint("write another one: membridge config init --config PATH")
}

fn cannot_write(target: &Path, error: &std::io::Error) -> Failure {
    Failure::of(Code::LocalFile, format!("cannot write {}: {error}", target.display()))
}

fn read(target: &Path) -> CommandResult<String> {
    std::fs::read_to_string(target)
        .map_err(|error| Failure::of(Code::LocalFile, format!("cannot read {}: {error}", target.display())))
}

/// Writes a new file, 0600; one that appeared meanwhile stays.
fn write_new(target: &Path, text: &str) -> CommandResult {
    let fail = |error: std::io::Error| cannot_write(target, &error);
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    make_private_folder(folder).map_err(fail)?;
    let mut file = tempfile::Builder::new().prefix(".config-").tempfile_in(folder).map_err(fail)?;
    file.write_all(text.as_bytes()).map_err(fail)?;
    file.as_file().sync_all().map_err(fail)?;
    match file.persist_noclobber(target) {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => Err(already_there(target)),
        Err(error) => Err(fail(error.error)),
    }
}
