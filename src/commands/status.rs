//! `status`: one question, is my memory safe and everywhere, and at most six short lines. A few small requests, no
//! download, no full check: doctor does those. Changes nothing.

use std::time::Duration;

use serde_json::{Value, json};

use super::run::Run;
use crate::config::{Config, PLAIN_HTTP, Paths};
use crate::database::look::look;
use crate::database::{self, facts, files};
use crate::error::{Code, CommandResult, Failure};
use crate::exit::ExitCode;
use crate::jobs::Journal;
use crate::jobs::journal::LastResults;
use crate::leadership::{Leadership, Standing};
use crate::lock::decide::{Verdict, Why};
use crate::lock::local::known_machine_token;
use crate::lock::{Lock, Sight};
use crate::outcome::Outcome;
use crate::python::head::{self, Head};
use crate::rows::Tally;
use crate::rows::glance::glance;
use crate::rows::log::RowLog;
use crate::rows::node::NodeRecord;
use crate::storage::Bucket;
use crate::sync::outlook::{Answer, Outlook};
use crate::sync::record::{RecordFile, SyncRecord};
use crate::ui::{Report, Tone, Ui, ago};
use crate::visible::short_path;

/// How long the store may take; status is a glance, and says calmly that the store does not answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// An archive older than this is named (seconds).
const OLD_ARCHIVE: i64 = 3 * 86_400;

/// What the bucket said.
struct There {
    standing: Standing,
    lock: Option<(Sight, Verdict)>,
    nodes: Vec<NodeRecord>,
    head: Option<Head>,
}

pub(super) async fn run(run: &Run) -> CommandResult<Report> {
    let (config, bucket) = run.open_to_read()?;
    let ui = &run.ui;
    let real = files::resolve(&config.database)?;
    let record = RecordFile::peek(&config.paths.state, &bucket.store.name(), &config.project.cid, &real);
    let there = match tokio::time::timeout(PATIENCE, ask(&config, &bucket, record.as_ref())).await {
        Ok(there) => there,
        Err(_) => Err(Failure::of(
            Code::StoreUnreachable,
            format!("{} did not answer within {} s", bucket.store.name(), PATIENCE.as_secs()),
        )),
    };
    let observations = observations(&real).await;
    let (standing, unsent) = glance(&config.paths.state, &bucket.store.name(), &config.project.cid, &real)
        .unwrap_or_else(|error| {
            // A database that cannot be read is said below.
            tracing::debug!(%error, "no glance at the rows");
            (None, Tally::default())
        });
    let outlook = Outlook {
        observations: *observations.as_ref().unwrap_or(&None),
        unsent,
        standing,
        nodes: there.as_ref().ok().map(|there| there.nodes.clone()),
        archived: there.as_ref().is_ok_and(|there| there.head.is_some()),
    };
    let mut report = Report::ok(Outcome::Shown)
        .with("project_name", config.project.name.clone())
        .with("canonical_project_id", config.project.cid.clone())
        .with("node_id", config.node.id.clone())
        .with("store", bucket.store.name());
    report = show_answer(ui, &outlook, report);
    if let Err(failure) = &observations {
        show_failure(ui, "database", failure);
        report.exit = ExitCode::Error;
        report = report.with("database_error", failure.message.clone());
    }
    let now = bucket.context.server_now().as_second();
    report = show_machines(ui, &outlook, now, report);
    report = show_sync(ui, record.as_ref(), now, report);
    report = show_waiting(ui, &config.paths, &outlook, report);
    match &there {
        Ok(there) => {
            report = show_archive(ui, &config, there, now, report);
            report = show_lock(run, there, report);
            if !config.store.is_private() {
                ui.line(format!("  {PLAIN_HTTP}"));
            }
        }
        Err(failure) => {
            if is_offline(failure.code) {
                ui.line(format!("  store: {}", failure.message));
            } else {
                show_failure(ui, "store", failure);
            }
            report.exit = ExitCode::Error;
            report = report
                .with("error", failure.message.clone())
                .with("code", failure.code.word())
                .with("hints", failure.hints.clone());
        }
    }
    Ok(show_hooks(ui, &Journal::of(&config.paths).last_results(), report))
}

async fn observations(path: &std::path::Path) -> CommandResult<Option<u64>> {
    if !path.exists() {
        return Ok(None);
    }
    let path = path.to_owned();
    let counts =
        database::blocking(move || look(&path, |connection| facts::counts(connection, &path))).await?;
    Ok(Some(counts.observations))
}

async fn ask(config: &Config, bucket: &Bucket, record: Option<&SyncRecord>) -> CommandResult<There> {
    let known = record.map(SyncRecord::knows).unwrap_or_default();
    let leadership = Leadership::of(config, bucket);
    let role = async { leadership.look().await.map_err(Failure::from) };
    let log = RowLog::new(bucket, &config.paths.tmp());
    let nodes = async { log.known_nodes().await.map_err(Failure::from) };
    let lock = async { Lock::look(bucket).await.map_err(Failure::from) };
    // All at once, and judged in a fixed order: the same trouble gives the same words.
    let (standing, lock, nodes, head) = tokio::join!(role, lock, nodes, head::read(bucket, known));
    let standing = standing?;
    let lock = lock?.map(|sight| {
        // What a push would be told; no lock is taken for an earlier run's where this machine cannot be known.
        let machine = known_machine_token(&config.paths.state, &bucket.context).unwrap_or_default();
        let verdict = Lock::of(config, bucket, &machine).judge(Some(&sight));
        (sight, verdict)
    });
    Ok(There { standing, lock, nodes: nodes?, head: head? })
}

fn is_offline(code: Code) -> bool {
    matches!(code, Code::StoreUnreachable | Code::StoreBusy)
}

fn show_failure(ui: &Ui, what: &str, failure: &Failure) {
    ui.toned(Tone::Bad, &format!("{what}: "), &failure.message);
    for hint in &failure.hints {
        ui.line(format!("  → {hint}"));
    }
}

fn show_answer(ui: &Ui, outlook: &Outlook, report: Report) -> Report {
    let answer = outlook.answer();
    let tone = match answer {
        _ if answer.is_safe() => Tone::Good,
        Answer::Held => Tone::Bad,
        _ => Tone::Caution,
    };
    ui.verdict(tone, &outlook.describe());
    if let Some(remedy) = answer.remedy() {
        ui.line(format!("  → {remedy}"));
    }
    report
        .with("sync", answer.word())
        .with("observations", json!(outlook.observations))
        .with("unsent", json!(outlook.unsent))
}

fn show_machines(ui: &Ui, outlook: &Outlook, now: i64, report: Report) -> Report {
    let mut machines = Vec::new();
    for machine in outlook.others() {
        let record = machine.record;
        let seen = record.at().map_or("never".to_owned(), |at| ago(now, at));
        let observations = record.counts.get("observations").copied().unwrap_or(0);
        let behind = match machine.behind {
            0 => String::new(),
            behind => format!(", {behind} of our segments behind"),
        };
        ui.line(format!("  {}: {observations} observations, seen {seen}{behind}", record.name()));
        machines.push(json!({
            "node_id": record.node_id, "host": record.host, "observations": observations, "last_seen": record.time,
            "behind": machine.behind, "role": record.role,
        }));
    }
    report.with("machines", Value::Array(machines))
}

fn show_sync(ui: &Ui, record: Option<&SyncRecord>, now: i64, report: Report) -> Report {
    let sync = record.and_then(|record| record.last_sync.clone());
    let at = sync.as_deref().and_then(|text| text.parse::<jiff::Timestamp>().ok());
    ui.line(format!("  last sync: {}", at.map_or("never".to_owned(), |at| ago(now, at.as_second()))));
    let push = record.and_then(|record| record.last_push.clone());
    report.with("last_sync", json!(sync)).with("last_push", json!(push))
}

fn show_lock(run: &Run, there: &There, report: Report) -> Report {
    let Some((sight, verdict)) = &there.lock else {
        return report.with("lock", Value::Null);
    };
    let (host, age) = (&sight.record.hostname, sight.age(run.context.server_now().as_second()));
    let (line, free_in) = match verdict {
        Verdict::Take => {
            return report.with("lock", Value::Null);
        }
        Verdict::TakeOver(Why::Stale) => {
            (format!("  lock: stale, left by {host} {age}s ago; the next push takes it over"), 0)
        }
        Verdict::TakeOver(_) => (format!("  lock: held by {host} for {age}s"), 0),
        Verdict::Refuse(held) => {
            (format!("  lock: held by {host} for {age}s (free in {}s)", held.free_in), held.free_in)
        }
    };
    run.ui.line(line);
    report.with("lock", json!({"host": host, "age_seconds": age, "free_in_seconds": free_in}))
}

fn show_waiting(ui: &Ui, paths: &Paths, outlook: &Outlook, report: Report) -> Report {
    let Some(standing) = &outlook.standing else {
        return report;
    };
    for (reason, count) in &standing.waiting {
        ui.line(format!("  {count} {} {reason}", if *count == 1 { "row waits:" } else { "rows wait:" }));
    }
    for problem in &standing.damaged {
        ui.line(format!("  1 segment cannot be read until it changes: {problem}"));
    }
    if standing.conflicts > 0 {
        let what = if standing.conflicts == 1 {
            "version that did not win is"
        } else {
            "versions that did not win are"
        };
        let state = short_path(&paths.state, &paths.home);
        ui.line(format!("  {} {what} kept in {state}", standing.conflicts));
    }
    report
        .with("waiting", json!(standing.waiting))
        .with("held", json!(standing.held))
        .with("conflicts", standing.conflicts)
        .with("damaged", json!(standing.damaged))
}

fn show_archive(ui: &Ui, config: &Config, there: &There, now: i64, report: Report) -> Report {
    let role = if config.leadership.enabled { there.standing.role.to_string() } else { "off".to_owned() };
    let lease = there.standing.lease.as_ref();
    let primary = lease.map(crate::leadership::LeaseRecord::primary_label);
    let by = match primary {
        _ if !config.leadership.enabled => "whoever comes first".to_owned(),
        Some(primary) if primary == config.node.id => format!("{primary} (this machine)"),
        Some(primary) => primary.to_owned(),
        None => "nobody yet".to_owned(),
    };
    let report = report.with("role", role).with("primary", json!(primary));
    let Some(head) = &there.head else {
        ui.line(format!("  archive: none yet; kept by {by}"));
        return report.with("head", Value::Null);
    };
    let at =
        head.time().and_then(|time| time.parse::<jiff::Timestamp>().ok()).map(jiff::Timestamp::as_second);
    let age = at.map_or("of an unknown time".to_owned(), |at| ago(now, at));
    ui.line(format!("  archive: {age}, kept by {by}"));
    if at.is_some_and(|at| now.saturating_sub(at) > OLD_ARCHIVE) {
        ui.line(format!("  → it is old: run membridge sync on {by}, or: membridge promote"));
    }
    report.with(
        "head",
        json!({"sha256": head.sha256(), "source_host": head.source(), "timestamp": head.time()}),
    )
}

/// A hook that failed is what a person would otherwise never see (F12).
fn show_hooks(ui: &Ui, last: &LastResults, report: Report) -> Report {
    let mut warnings = Vec::new();
    for entry in last.each().filter(|entry| entry.failed() || entry.warned()) {
        let how = if entry.failed() { "failed" } else { "warned" };
        let text = format!(
            "the last {} hook {how} at {}: {} (see: membridge doctor)",
            entry.event, entry.time, entry.message
        );
        ui.warn(&text);
        warnings.push(text);
    }
    report.with("warnings", warnings)
}
