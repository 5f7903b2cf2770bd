//! `export FILE` and `import FILE`: memory in claude-mem's own form, so that it is never locked in.

use std::io::BufWriter;
use std::path::Path;

use serde_json::{Value, json};

use super::run::Run;
use crate::cli::PlanArgs;
use crate::config::Config;
use crate::database::export::{self, Exported};
use crate::database::import::{self, Imported};
use crate::database::snapshot::Pinned;
use crate::database::{self, DatabaseError, files, install};
use crate::error::CommandResult;
use crate::outcome::Outcome;
use crate::rows::Tally;
use crate::sync::restore;
use crate::ui::Report;

/// Writes a new file, whole or not at all.
pub(super) async fn export(run: &Run, file: &Path, only: Option<String>) -> CommandResult<Report> {
    let config = Config::new(&run.settings)?;
    let file = restore::free_name(file)?;
    let (live, tmp, target) = (config.database.clone(), config.paths.tmp(), file.clone());
    let (progress, now) =
        (run.ui.progress("export", files::size_with_wal(&config.database)), run.context.now());
    let exported = database::blocking(move || {
        let pinned = Pinned::beside_writers(&live, &tmp)?;
        let path = files::temporary(&install::folder_of(&target), "export")?;
        let fail = |error| DatabaseError::io("write", &target, error);
        let made = std::fs::OpenOptions::new().write(true).open(&path).map_err(fail)?;
        let mut out = BufWriter::with_capacity(64 * 1024, made);
        let exported =
            export::export(pinned.connection(), only.as_deref(), now, (&mut out, &target), &progress)?;
        drop(out);
        progress.done();
        files::sync_file(&path)?;
        path.persist_noclobber(&target).map_err(|error| fail(error.error))?;
        Ok(exported)
    })
    .await?;
    let Exported { rows, mended } = exported;
    let mut tally = Tally::default();
    for (table, count) in &rows {
        tally.add_many(table, *count);
    }
    let what = if tally.total() == 0 { "no rows".to_owned() } else { tally.describe() };
    run.ui.line(format!("exported {what} to {}", file.display()));
    if mended > 0 {
        run.ui.warn(format!("{mended} texts hold bytes that JSON cannot: a mark stands in their place"));
    }
    run.ui.line(
        "  → take it in elsewhere with: membridge import FILE, or claude-mem's scripts/import-memories.ts",
    );
    Ok(Report::ok(Outcome::Written)
        .with("file", file.display().to_string())
        .with("rows", json!(tally.0))
        .with("mended", mended))
}

/// Takes the rows of a file in that are not here yet.
pub(super) async fn import(run: &Run, file: &Path, plan: PlanArgs) -> CommandResult<Report> {
    let config = Config::new(&run.settings)?;
    let (live, source) = (config.database.clone(), file.to_owned());
    let size = std::fs::metadata(file).map_or(0, |meta| meta.len());
    let progress = run.ui.progress("import", size.saturating_mul(2));
    let write = !plan.dry_run;
    let work = move || Ok(import::import(&live, &source, write, &progress));
    let Imported { added, here, refused, reasons } = database::blocking(work).await??;
    let (added, here) = (Tally(added), Tally(here));
    let there = match here.total() {
        0 => String::new(),
        _ => format!(" ({} were here already)", here.describe()),
    };
    let what = if added.total() == 0 { "nothing new".to_owned() } else { added.describe() };
    let did = if plan.dry_run { "DRY RUN: would import" } else { "imported" };
    run.ui.line(format!("{did} {what}{there}"));
    if refused > 0 {
        run.ui.warn(format!("{refused} rows were left out: {}", reasons.join("; ")));
    }
    let outcome = match (added.total(), plan.dry_run) {
        (_, true) => Outcome::WouldImport,
        (0, false) => Outcome::UpToDate,
        (_, false) => {
            run.ui.line("  → send it to the other machines with: membridge sync");
            Outcome::Imported
        }
    };
    let by_table = |tally: &Tally| -> Value { json!(tally.0) };
    let report = Report::ok(outcome)
        .with("added", by_table(&added))
        .with("here", by_table(&here))
        .with("refused", refused)
        .with("reasons", json!(reasons));
    Ok(if plan.dry_run { report.with("dry_run", true) } else { report })
}
