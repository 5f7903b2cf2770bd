//! `rename-project NEW`: the memory of this machine goes on under another project name. What the old name's log holds is
//! taken in first, deletions too, so that nothing comes back under the new one. The old project stays as it is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::config::quoted;
use super::run::{Run, seal};
use crate::cli::PlanArgs;
use crate::config::{Config, Settings, Source, env_file};
use crate::error::{Code, CommandResult, Failure};
use crate::history::log;
use crate::outcome::Outcome;
use crate::private_files::write_private;
use crate::python::setting::{self, Change};
use crate::rows::log::RowLog;
use crate::storage::{Bucket, Store};
use crate::sync::record::RecordFile;
use crate::sync::renamed::{self, Renamed};
use crate::sync::{Session, Wish, sync};
use crate::ui::Report;

const SETTING: &str = "CLAUDE_PROJECT_ID";

/// One of the two names, and its place in the store.
struct Place {
    config: Config,
    bucket: Bucket,
}

impl Place {
    fn open(run: &Run, name: &str) -> CommandResult<Self> {
        let mut settings = run.settings.clone();
        settings.set(SETTING, name.to_owned(), Source::Flag);
        let config = Config::new(&settings)?;
        let store = Store::open(&config.store, &run.context)?;
        let bucket = Bucket::new(store, &config.project.cid, Arc::clone(&run.context), &config.paths.state);
        Ok(Self { config, bucket })
    }

    /// Whether any machine has left anything there.
    async fn is_used(&self) -> CommandResult<bool> {
        let rows = RowLog::new(&self.bucket, &self.config.paths.tmp());
        Ok(!rows.nodes().await?.is_empty()
            || log::head(&self.bucket, None).await?.is_some()
            || self.bucket.store.head(&self.bucket.keys.manifest()).await?.is_some())
    }

    async fn is_sealed(&self) -> CommandResult<bool> {
        Ok(self.bucket.store.head(&self.bucket.keys.key_note()).await?.is_some())
    }

    /// Makes the memory here and that of the machines under this name one.
    async fn sync(&self, run: &Run, succeeds: Option<&str>) -> CommandResult {
        let Self { config, mut bucket } = Self::open(run, &self.config.project.name)?;
        bucket.seal = seal(&config, &bucket, true).await?;
        let (session, mut record) = Session::open(config, bucket, run.ui.clone()).await?;
        if let Some(old) = succeeds {
            record.record.succeeds = Some(old.to_owned());
            record.save()?;
        }
        Box::pin(sync(&session, &mut record, Wish::Whole)).await?;
        Ok(())
    }
}

pub(super) async fn run(run: &Run, new: &str, join: bool, plan: PlanArgs) -> CommandResult<Report> {
    let current = Config::new(&run.settings)?.project.name;
    let before = if new == current { former(run, new)? } else { current.clone() };
    let (old, place) = (Place::open(run, &before)?, Place::open(run, new)?);
    if plan.dry_run {
        old.bucket.store.leave_no_trace();
        place.bucket.store.leave_no_trace();
    }
    let file = if new == current { None } else { Some(file_with(&run.settings, new)?) };
    if old.is_sealed().await? || place.is_sealed().await? {
        return Err(Failure::of(Code::Refused, "a sealed project cannot be renamed: its key is made for its name")
            .hint("keep the name, which nobody reads in the bucket; or begin a sealed project of the new name on every machine"));
    }
    let known = setting::read(&old.bucket).await?.renamed_to;
    if known.as_deref() != Some(new) && new != current && !join && place.is_used().await? {
        return Err(Failure::of(Code::AlreadyThere, format!("the store holds a project '{new}' already"))
            .hint("choose another name; or, to make both one memory: the same command with --join"));
    }
    if plan.dry_run {
        run.ui.line(format!(
            "DRY RUN: would sync as '{before}', then go on as '{new}' ({})",
            place.config.project.cid
        ));
        if let Some((path, _)) = file {
            run.ui.line(format!("DRY RUN: would set {SETTING} in {}", path.display()));
        }
        return Ok(report(Outcome::WouldRename, &before, new, None).with("dry_run", true));
    }
    run.ui.line(format!("the last sync as '{before}':"));
    old.sync(run, None).await?;
    setting::write(&old.bucket, Change::Renamed(new), &old.config.node.id).await?;
    if let Some((path, text)) = &file {
        keep_and_write(path, text)?;
        run.ui.line(format!(
            "{}: {SETTING}={} (what it was is kept beside it, .before-rename)",
            path.display(),
            quoted(new, &run.settings.home)
        ));
    }
    run.ui.line(format!("the first sync as '{new}':"));
    place.sync(run, Some(&before)).await?;
    run.ui.line(format!("RENAMED from '{before}' to '{new}' ({})", place.config.project.cid));
    run.ui.line(format!(
        "  → on every other machine: membridge rename-project {}",
        quoted(new, &run.settings.home)
    ));
    run.ui.line(format!(
        "  → what was pushed as '{before}' stays in the store: membridge history --project {}",
        quoted(&before, &run.settings.home)
    ));
    Ok(report(Outcome::Renamed, &before, new, file.map(|(path, _)| path)))
}

fn report(outcome: Outcome, before: &str, new: &str, file: Option<PathBuf>) -> Report {
    let report = Report::ok(outcome).with("from", before).with("to", new);
    match file {
        Some(path) => report.with("file", path.display().to_string()),
        None => report,
    }
}

/// The name under which this database was synced before somebody set the new one.
fn former(run: &Run, new: &str) -> CommandResult<String> {
    let place = Place::open(run, new)?;
    let real = crate::database::files::resolve(&place.config.database)?;
    let records = RecordFile::all(&place.config.paths.state, &place.bucket.store.name(), &real);
    match renamed::judge(&records, new, run.context.now().as_second()) {
        Some(Renamed::Was { project, .. }) => Ok(project),
        _ => Err(Failure::of(Code::Usage, format!("the project is called '{new}' already"))
            .hint("see it: membridge print_project")),
    }
}

/// The file that names the project, and its text with the new name.
fn file_with(settings: &Settings, new: &str) -> CommandResult<(PathBuf, String)> {
    let by_hand = |why: String, how: String| Err(Failure::of(Code::BadSetting, why).hint(how));
    let again = "and then the same command again";
    let file = match (settings.source(SETTING), &settings.file) {
        (Some(Source::File), Some(file)) => file,
        (Some(source), _) => {
            return by_hand(
                format!("{SETTING} comes from the {source}, which membridge cannot change"),
                format!("set {SETTING}={} there, {again}", quoted(new, &settings.home)),
            );
        }
        (None, _) => return Err(settings.not_set(SETTING).into()),
    };
    let fail = |error: std::io::Error| Failure::of(Code::LocalFile, format!("{}: {error}", file.display()));
    // A link stays a link.
    let file = file.canonicalize().map_err(fail)?;
    let text = std::fs::read_to_string(&file).map_err(fail)?;
    match with_name(&text, new, &settings.home) {
        Some(text) => Ok((file, text)),
        None => by_hand(
            format!("the line with {SETTING} in {} cannot be changed without touching more", file.display()),
            format!("set {SETTING}={} there by hand, {again}", quoted(new, &settings.home)),
        ),
    }
}

/// The text with another project name; `None` where that is not one plain line.
fn with_name(text: &str, new: &str, home: &Path) -> Option<String> {
    let mut changed = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let start = line.trim_start();
        let assigned = start.strip_prefix("export ").map_or(start, str::trim_start);
        if assigned.starts_with(&format!("{SETTING}=")) {
            changed.push_str(line.get(..line.len() - assigned.len())?);
            for part in [SETTING, "=", &quoted(new, home), "\n"] {
                changed.push_str(part);
            }
        } else {
            changed.push_str(line);
        }
    }
    let read = |text: &str| -> Option<BTreeMap<String, String>> { env_file::parse(text, |_| None).ok() };
    let (mut before, mut after) = (read(text)?, read(&changed)?);
    let (_, name) = (before.remove(SETTING)?, after.remove(SETTING)?);
    (name == new && before == after).then_some(changed)
}

fn keep_and_write(path: &Path, text: &str) -> CommandResult {
    let fail = |error: std::io::Error| {
        Failure::of(Code::LocalFile, format!("cannot write {}: {error}", path.display()))
    };
    let mut kept = path.as_os_str().to_owned();
    kept.push(".before-rename");
    let before = std::fs::read(path).map_err(fail)?;
    write_private(Path::new(&kept), &before).map_err(fail)?;
    write_private(path, text.as_bytes()).map_err(fail)
}

#[cfg(test)]
mod tests {
    use super::with_name;
    use std::path::Path;

    #[test]
    fn only_the_name_is_changed_in_the_file() {
        let table = [
            ("A=1\nCLAUDE_PROJECT_ID=mem\nB=2", Some("A=1\nCLAUDE_PROJECT_ID='new'\nB=2")),
            ("  export CLAUDE_PROJECT_ID=\"mem\" # mine\n", Some("  export CLAUDE_PROJECT_ID='new'\n")),
            (
                "CLAUDE_PROJECT_ID=a\nCLAUDE_PROJECT_ID=b\n",
                Some("CLAUDE_PROJECT_ID='new'\nCLAUDE_PROJECT_ID='new'\n"),
            ),
            ("A=1 CLAUDE_PROJECT_ID=mem\n", None),
            ("CLAUDE_PROJECT_ID=mem B=2\n", None),
            ("CLAUDE_PROJECT_ID=mem\nDB=/x/$CLAUDE_PROJECT_ID\n", None),
            ("# CLAUDE_PROJECT_ID=mem\n", None),
        ];
        for (text, wanted) in table {
            assert_eq!(with_name(text, "new", Path::new("/home/ann")).as_deref(), wanted, "{text}");
        }
    }
}
