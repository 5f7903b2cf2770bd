//! `status`: one screen. Project, role, where both sides stand, last push and pull, lock, head. Four small requests,
//! no download, no full check: doctor does those. Changes nothing.

use serde_json::{Value, json};

use super::run::Run;
use crate::config::Config;
use crate::database::{self, files};
use crate::error::{CommandResult, Failure};
use crate::exit::ExitCode;
use crate::install::image::short;
use crate::jobs::Journal;
use crate::jobs::journal::LastResults;
use crate::leadership::decide::Role;
use crate::leadership::{Leadership, LeadershipError, Standing};
use crate::lock::decide::{Verdict, Why};
use crate::lock::local::known_machine_token;
use crate::lock::{Lock, Sight};
use crate::outcome::Outcome;
use crate::python::head::{self, Head};
use crate::storage::{Bucket, StoreError};
use crate::sync::record::{RecordFile, SyncRecord};
use crate::sync::state::{self, Seen, State};
use crate::ui::{Report, Tone, Ui};

/// What the bucket said.
struct Answers {
    standing: Standing,
    lock: Option<(Sight, Verdict)>,
    head: Option<Head>,
}

pub(super) async fn run(run: &Run) -> CommandResult<Report> {
    let (config, bucket) = run.open()?;
    let ui = &run.ui;
    ui.line(format!("project: {} ({})", config.project.name, config.project.cid));
    ui.line(format!("node: {}", config.node.id));
    let real = files::resolve(&config.database)?;
    let record = RecordFile::peek(&config.paths.state, &bucket.store.name(), &config.project.cid, &real);
    let asked = ask(&config, &bucket, record.as_ref()).await;

    let head = asked.as_ref().ok().and_then(|bucket| bucket.head.as_ref());
    let base = record.as_ref().and_then(|record| match &asked {
        Ok(_) => record.base_for(head.and_then(Head::sha256)),
        Err(_) => record.base.clone(),
    });
    let (path, known) = (real.clone(), base.clone());
    let local = database::blocking(move || state::quick_look(&path, known.as_ref())).await;

    let mut report = Report::ok(Outcome::Shown)
        .with("project_name", config.project.name.clone())
        .with("canonical_project_id", config.project.cid.clone())
        .with("node_id", config.node.id.clone())
        .with("store", bucket.store.name());
    let mut failed = false;
    report = match &asked {
        Ok(bucket) => show_role(ui, &config, &bucket.standing, report),
        Err(failure) => {
            failed = true;
            show_failure(ui, "bucket", failure);
            report
                .with("error", failure.message.clone())
                .with("code", failure.code.word())
                .with("hints", failure.hints.clone())
        }
    };
    report = match (&local, &asked) {
        (Err(failure), _) => {
            failed = true;
            show_failure(ui, "database", failure);
            report.with("database_error", failure.message.clone())
        }
        (Ok(local), Ok(_)) => {
            let state = state::judge(base.as_ref(), local.as_ref(), head);
            let secondary = asked
                .as_ref()
                .is_ok_and(|bucket| config.leadership.enabled && bucket.standing.role == Role::Secondary);
            show_state(ui, &state, secondary, report)
        }
        (Ok(local), Err(_)) => show_local(ui, local.as_ref(), report),
    };
    report = show_record(ui, record.as_ref(), report);
    if let Ok(bucket) = &asked {
        report = show_lock(run, bucket, report);
        report = show_head(ui, bucket.head.as_ref(), report);
    }
    show_hooks(ui, &Journal::of(&config.paths.home).last_results());
    if failed {
        report.exit = ExitCode::Error;
    }
    Ok(report)
}

async fn ask(config: &Config, bucket: &Bucket, record: Option<&SyncRecord>) -> CommandResult<Answers> {
    let leadership = Leadership::of(config, bucket);
    let role = async { leadership.look().await.map_err(|error: LeadershipError| Failure::from(error)) };
    let lock = async {
        let read = Lock::look(bucket).await;
        read.map_err(|error: StoreError| Failure::from(error))
    };
    // All at once, and judged in a fixed order: the same trouble gives the same words.
    let (standing, lock, head) =
        tokio::join!(role, lock, head::read(bucket, record.map(SyncRecord::knows).unwrap_or_default()));
    let standing = standing?;
    let lock = lock?.map(|sight| {
        // What a push would be told; no lock is taken for an earlier run's where this machine cannot be known.
        let machine = known_machine_token(&config.paths.state, &bucket.context).unwrap_or_default();
        let verdict = Lock::of(config, bucket, &machine).judge(Some(&sight));
        (sight, verdict)
    });
    Ok(Answers { standing, lock, head: head? })
}

fn show_failure(ui: &Ui, what: &str, failure: &Failure) {
    ui.toned(Tone::Bad, &format!("{what}: "), &failure.message);
    for hint in &failure.hints {
        ui.line(format!("  → {hint}"));
    }
}

fn show_role(ui: &Ui, config: &Config, standing: &Standing, report: Report) -> Report {
    let role = if config.leadership.enabled { standing.role.to_string() } else { "off".to_owned() };
    let lease = match &standing.lease {
        Some(lease) => format!("primary: {}, epoch: {}", lease.primary_label(), lease.epoch),
        None => "no lease yet".to_owned(),
    };
    ui.line(format!("role: {role} ({lease})"));
    report
        .with("role", role)
        .with("primary", json!(standing.lease.as_ref().map(|lease| &lease.primary_node_id)))
}

fn show_state(ui: &Ui, state: &State, secondary: bool, report: Report) -> Report {
    let tone = match state.standing {
        state::Standing::InSync => Tone::Good,
        state::Standing::Diverged => Tone::Bad,
        _ => Tone::Caution,
    };
    ui.toned(tone, "sync: ", &state.describe());
    match state.standing.remedy() {
        Some("membridge push_sqlite") if secondary => {
            ui.line("  → this node is secondary, its push is refused; make it primary: membridge promote");
            ui.line("  → or push this once all the same: ALLOW_SECONDARY_PUSH=1 membridge push_sqlite");
        }
        Some(remedy) => ui.line(format!("  → {remedy}")),
        None => {}
    }
    report
        .with("sync", state.standing.word())
        .with("certain", state.certain)
        .with("observations", json!(state.here))
        .with("observations_in_bucket", json!(state.there))
}

fn show_local(ui: &Ui, local: Option<&Seen>, report: Report) -> Report {
    let observations = local.map(|seen| seen.counts.observations);
    ui.line(match local {
        Some(seen) => format!("here: {}", seen.counts.describe()),
        None => "here: no database".to_owned(),
    });
    report.with("sync", "unknown").with("observations", json!(observations))
}

fn show_record(ui: &Ui, record: Option<&SyncRecord>, report: Report) -> Report {
    let push = record.and_then(|record| record.last_push.clone());
    let pull = record.and_then(|record| record.last_pull.clone());
    ui.line(format!("last push: {}", push.as_deref().unwrap_or("none on record")));
    ui.line(format!("last pull: {}", pull.as_deref().unwrap_or("none on record")));
    report.with("last_push", json!(push)).with("last_pull", json!(pull))
}

fn show_lock(run: &Run, bucket: &Answers, report: Report) -> Report {
    let Some((sight, verdict)) = &bucket.lock else {
        run.ui.line("lock: free");
        return report.with("lock", Value::Null);
    };
    let (host, age) = (&sight.record.hostname, sight.age(run.context.server_now().as_second()));
    let (line, free_in) = match verdict {
        Verdict::Take => {
            run.ui.line("lock: free");
            return report.with("lock", Value::Null);
        }
        Verdict::TakeOver(Why::Stale) => {
            (format!("lock: stale, left by {host} {age}s ago; the next push takes it over"), 0)
        }
        Verdict::TakeOver(_) => (format!("lock: held by {host} for {age}s"), 0),
        Verdict::Refuse(held) => {
            (format!("lock: held by {host} for {age}s (free in {}s)", held.free_in), held.free_in)
        }
    };
    run.ui.line(line);
    report.with("lock", json!({"host": host, "age_seconds": age, "free_in_seconds": free_in}))
}

fn show_head(ui: &Ui, head: Option<&Head>, report: Report) -> Report {
    let Some(head) = head else {
        ui.line("head: nothing in the bucket");
        return report.with("head", Value::Null);
    };
    let (sha256, at) = (head.sha256().unwrap_or_default(), head.time());
    ui.line(format!(
        "head: {}, pushed by {} at {}",
        short(sha256),
        head.source(),
        at.unwrap_or("an unknown time")
    ));
    let value = json!({"sha256": sha256, "source_host": head.source(), "timestamp": at});
    report.with("head", value)
}

/// A hook that failed is what a person would otherwise never see (F12).
fn show_hooks(ui: &Ui, last: &LastResults) {
    for entry in last.each().filter(|entry| entry.failed() || entry.warned()) {
        let how = if entry.failed() { "failed" } else { "warned" };
        ui.warn(format!(
            "the last {} hook {how} at {}: {} (see: membridge doctor)",
            entry.event, entry.time, entry.message
        ));
    }
}
