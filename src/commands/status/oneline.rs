//! `status --oneline`: for Claude Code's status line and shell prompts. Reads what this machine knows by itself, and says how
//! old that is; asks no store, opens no connection, changes nothing.

use serde_json::json;

use super::super::run::Run;
use super::look;
use crate::config::Config;
use crate::error::CommandResult;
use crate::jobs::Journal;
use crate::outcome::Outcome;
use crate::sync::outlook::Brief;
use crate::ui::{Report, Tone};

pub(super) async fn run(run: &Run) -> CommandResult<Report> {
    let config = Config::new(&run.settings)?;
    let store = config.store.name();
    let here = look::here(&config, &store).await?;
    let clock = run.context.clock();
    let synced = here.record.as_ref().and_then(|record| record.last_sync.as_deref());
    let at = synced.and_then(|text| text.parse::<jiff::Timestamp>().ok());
    let (mut brief, mut text) = here.outlook.briefly(at.map(|at| clock.briefly(at)).as_deref());
    if let Some(trouble) = &here.trouble {
        (brief, text) = (Brief::Bad, trouble.message.clone());
    }
    // What was recorded is here all the same, and is sent by the next one.
    let results = Journal::of(&config.paths).last_results();
    let failed = results.each().max_by(|a, b| a.time.cmp(&b.time)).filter(|entry| entry.failed());
    if failed.is_some() && brief != Brief::Bad {
        (brief, text) = (Brief::Waits, format!("{text}, the last try failed"));
    }
    let tone = match brief {
        Brief::Good => Tone::Good,
        Brief::Waits => Tone::Caution,
        Brief::Bad => Tone::Bad,
    };
    run.ui.verdict(tone, &text);
    let age = at.map(|at| run.context.server_now().as_second().saturating_sub(at.as_second()));
    let warnings: Vec<&str> = failed.iter().map(|entry| entry.message.as_str()).collect();
    let held = here.outlook.standing.as_ref().map(|standing| standing.held.clone());
    Ok(Report::ok(Outcome::Shown)
        .with("project_name", config.project.name.clone())
        .with("store", store)
        .with("line", text)
        .with("observations", json!(here.outlook.observations))
        .with("unsent", json!(here.outlook.unsent))
        .with("held", json!(held.unwrap_or_default()))
        .with("last_sync", json!(synced))
        .with("age_seconds", json!(age))
        .with("warnings", json!(warnings)))
}
