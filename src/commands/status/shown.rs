//! What `status` shows of what it found: the answer first, then a line for each matter, ids only with `-v`. Whatever a
//! person is warned of stands in the report's `warnings` too. Asks nothing.

use serde_json::{Value, json};

use super::super::run::Run;
use super::look::There;
use crate::amount::{Clock, count};
use crate::config::{Config, PLAIN_HTTP};
use crate::error::{Code, Failure};
use crate::exit::ExitCode;
use crate::jobs::journal::LastResults;
use crate::leadership::LeaseRecord;
use crate::lock::decide::{Verdict, Why};
use crate::sync::outlook::{Answer, Machine, Outlook};
use crate::sync::record::SyncRecord;
use crate::ui::{Report, Tone, Ui};
use crate::visible::short_path;

/// An archive older than this is named (seconds).
const OLD_ARCHIVE: i64 = 3 * 86_400;
/// So many other machines have a line each.
const MACHINES: usize = 3;

/// What was shown so far.
pub(super) struct Shown<'a> {
    ui: &'a Ui,
    verbose: bool,
    config: &'a Config,
    clock: Clock,
    now: i64,
    report: Report,
    warnings: Vec<String>,
}

impl<'a> Shown<'a> {
    pub(super) fn new(run: &'a Run, config: &'a Config, report: Report) -> Self {
        Self {
            ui: &run.ui,
            verbose: run.verbose,
            config,
            clock: run.context.clock(),
            now: run.context.server_now().as_second(),
            report,
            warnings: Vec::new(),
        }
    }

    pub(super) fn end(self) -> Report {
        self.report.with("warnings", self.warnings)
    }

    fn fact(&mut self, name: &str, value: impl Into<Value>) {
        self.report.facts.insert(name.to_owned(), value.into());
    }

    /// A label in a column, and what there is to say.
    fn line(&self, label: &str, text: &str) {
        self.ui.line(format!("  {:<12} {text}", format!("{label}:")));
    }

    /// A line that somebody should look at.
    fn caution(&mut self, label: &str, text: &str) {
        self.ui.toned(Tone::Caution, &format!("  {:<12} ", format!("{label}:")), text);
        self.warnings.push(format!("{label}: {text}"));
    }

    fn remedy(&self, remedy: &str) {
        self.ui.line(format!("  → {remedy}"));
    }

    pub(super) fn answer(&mut self, outlook: &Outlook) {
        let (answer, text) = (outlook.answer(), outlook.describe());
        let tone = match answer {
            _ if answer.is_safe() => Tone::Good,
            Answer::Held => Tone::Bad,
            _ => Tone::Caution,
        };
        self.ui.verdict(tone, &text);
        for remedy in answer.remedies() {
            self.remedy(remedy);
        }
        if answer == Answer::Held {
            self.warnings.push(text);
        }
        self.fact("sync", answer.word());
        self.fact("observations", json!(outlook.observations));
        self.fact("unsent", json!(outlook.unsent));
    }

    pub(super) fn database(&mut self, trouble: &Failure) {
        self.trouble("database", trouble);
        self.report.exit = ExitCode::Error;
        self.fact("database_error", trouble.message.clone());
    }

    fn trouble(&mut self, what: &str, failure: &Failure) {
        self.ui.toned(Tone::Bad, &format!("{what}: "), &failure.message);
        for hint in &failure.hints {
            self.remedy(hint);
        }
        self.warnings.push(format!("{what}: {}", failure.message));
    }

    pub(super) fn machines(&mut self, outlook: &Outlook) {
        let mut others = outlook.others();
        let all: Vec<Value> = others.iter().map(Machine::to_json).collect();
        // Whoever is behind first.
        others.sort_by_key(|machine| std::cmp::Reverse(machine.lacks));
        let width = others.iter().take(MACHINES).map(|machine| machine.record.name().chars().count()).max();
        for machine in others.iter().take(MACHINES) {
            let seen = machine.record.at().map_or("never".to_owned(), |at| self.clock.ago(self.clock.at(at)));
            let behind = match machine.lacks {
                0 => String::new(),
                behind => format!(", {} behind", count(behind, "sync", "syncs")),
            };
            let name = format!("{:<1$}", machine.record.name(), width.unwrap_or_default());
            let observations = count(machine.observations(), "observation", "observations");
            self.ui.line(format!("  {name}  {observations}, seen {seen}{behind}"));
        }
        if let Some(more) = others.len().checked_sub(MACHINES).filter(|more| *more > 0) {
            let more = count(more as u64, "more machine", "more machines");
            self.ui.line(format!("  {more}: membridge nodes"));
        }
        self.fact("machines", all);
    }

    pub(super) fn last_sync(&mut self, outlook: &Outlook, record: Option<&SyncRecord>) {
        let sync = record.and_then(|record| record.last_sync.clone());
        let at = sync.as_deref().and_then(|text| text.parse::<jiff::Timestamp>().ok());
        let text = at.map_or("never".to_owned(), |at| self.clock.when(at));
        if outlook.is_overdue(at.map(|at| self.now.saturating_sub(at.as_second()))) {
            self.caution("last sync", &format!("{text}, and memory waits to be sent"));
        } else {
            self.line("last sync", &text);
        }
        let push = record.and_then(|record| record.last_push.clone());
        self.fact("last_sync", json!(sync));
        self.fact("last_push", json!(push));
    }

    pub(super) fn waiting(&mut self, outlook: &Outlook, record: Option<&SyncRecord>) {
        if let Some(text) = record.and_then(|record| record.postponed(&self.clock)) {
            self.caution("waiting", &text);
        }
        let Some(standing) = &outlook.standing else {
            return;
        };
        for (reason, waiting) in &standing.waiting {
            self.caution("waiting", &format!("{}: {reason}", count(*waiting, "row", "rows")));
        }
        for problem in &standing.damaged {
            self.caution("damaged", &format!("a segment cannot be read until it changes: {problem}"));
        }
        if standing.conflicts > 0 {
            let versions = count(standing.conflicts, "version", "versions");
            let state = short_path(&self.config.paths.state, &self.config.paths.home);
            self.caution("conflicts", &format!("{versions} that did not win, kept in {state}"));
        }
        if !self.config.rows.excluded.is_empty() {
            self.line("excluded", &self.config.rows.excluded.join(", "));
        }
        self.fact("waiting", json!(standing.waiting));
        self.fact("held", json!(standing.held));
        self.fact("conflicts", standing.conflicts);
        self.fact("damaged", json!(standing.damaged));
    }

    pub(super) fn archive(&mut self, there: &There) {
        let enabled = self.config.leadership.enabled;
        let primary = there.standing.lease.as_ref().map(LeaseRecord::primary_label);
        let by = match primary {
            _ if !enabled => "whoever comes first".to_owned(),
            Some(primary) if primary == self.config.node.id => format!("{primary} (this machine)"),
            Some(primary) => primary.to_owned(),
            None => "nobody yet".to_owned(),
        };
        self.fact("role", if enabled { there.standing.role.to_string() } else { "off".to_owned() });
        self.fact("primary", json!(primary));
        let Some(head) = &there.head else {
            let by = if primary.is_some() { format!("; {by} will make it") } else { String::new() };
            self.line("archive", &format!("none yet{by}"));
            return self.fact("head", Value::Null);
        };
        let at = head.time().and_then(|time| time.parse::<jiff::Timestamp>().ok());
        let age = at.map_or("of an unknown time".to_owned(), |at| self.clock.when(at));
        let text = format!("{age}, kept by {by}");
        if at.is_some_and(|at| self.now.saturating_sub(at.as_second()) > OLD_ARCHIVE) {
            self.caution("archive", &text);
            self.remedy(&format!("it is old: run membridge sync on {by}, or: membridge promote"));
        } else {
            self.line("archive", &text);
        }
        let head = json!({"sha256": head.sha256(), "source_host": head.source(), "timestamp": head.time()});
        self.fact("head", head);
    }

    pub(super) fn lock(&mut self, there: &There) {
        let Some((sight, verdict)) = &there.lock else {
            return self.fact("lock", Value::Null);
        };
        let (host, age) = (&sight.record.hostname, sight.age(self.now));
        let (text, free_in) = match verdict {
            Verdict::Take => return self.fact("lock", Value::Null),
            Verdict::TakeOver(Why::Stale) => {
                let ago = self.clock.ago(self.clock.at(self.now.saturating_sub(age)));
                (format!("stale, left by {host} {ago}; the next push takes it over"), 0)
            }
            Verdict::TakeOver(_) => (format!("held by {host} for {age}s"), 0),
            Verdict::Refuse(held) => {
                (format!("held by {host} for {age}s (free in {}s)", held.free_in), held.free_in)
            }
        };
        self.line("lock", &text);
        self.fact("lock", json!({"host": host, "age_seconds": age, "free_in_seconds": free_in}));
    }

    /// What nobody with the key wrote.
    pub(super) fn ignored(&mut self, there: &There) {
        for what in &there.ignored {
            self.caution("ignored", what);
        }
    }

    /// What travels in the clear.
    pub(super) fn privacy(&mut self) {
        if !self.config.store.is_private() {
            self.ui.toned(Tone::Caution, "  ", PLAIN_HTTP);
            self.warnings.push(PLAIN_HTTP.to_owned());
        }
    }

    /// The store does not answer, or not as it should.
    pub(super) fn store(&mut self, failure: &Failure) {
        if matches!(failure.code, Code::StoreUnreachable | Code::StoreBusy) {
            self.line("store", &failure.message);
            self.warnings.push(format!("store: {}", failure.message));
        } else {
            self.trouble("store", failure);
        }
        self.report.exit = ExitCode::Error;
        self.fact("error", failure.message.clone());
        self.fact("code", failure.code.word());
        self.fact("hints", failure.hints.clone());
    }

    /// A hook that failed is what a person would otherwise never see (F12).
    pub(super) fn hooks(&mut self, last: &LastResults) {
        for entry in last.each().filter(|entry| entry.failed() || entry.warned()) {
            let how = if entry.failed() { "failed" } else { "warned" };
            let (event, when) = (&entry.event, self.clock.when_said(&entry.time));
            let text = format!("the last {event} hook {how} {when}: {}", entry.message);
            self.ui.warn(format!("{text} (see: membridge doctor)"));
            self.warnings.push(text);
        }
    }

    /// What only whoever looks for a fault wants to see.
    pub(super) fn ids(&self, outlook: &Outlook, there: Option<&There>) {
        if !self.verbose {
            return;
        }
        self.line("project", &format!("{} ({})", self.config.project.name, self.config.project.cid));
        self.line("node", &self.config.node.id);
        self.line("store", &self.config.store.name());
        if let Some(standing) = &outlook.standing {
            let writer = standing.writer.map_or("none".to_owned(), |writer| writer.to_string());
            self.line("writer", &format!("{writer}, segment {}", standing.segment));
        }
        if let Some(lease) = there.and_then(|there| there.standing.lease.as_ref()) {
            self.line("epoch", &lease.epoch.to_string());
        }
        if let Some(sha256) = there.and_then(|there| there.head.as_ref()?.sha256()) {
            self.line("image", &sha256.to_string());
        }
    }
}
