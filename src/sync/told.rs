//! What a sync tells the person and the program that asked for it: the pinned words of push and pull, counts in words, and
//! the contract's answers about the image in the bucket (exit codes 2 and 3). Decides nothing about memory.

use std::collections::BTreeMap;

use serde_json::json;

use super::archive::Archived;
use super::exchange::{Exchanged, Moment};
use super::gate::Standing;
use super::record::{RecordFile, SyncRecord};
use super::renamed;
use super::session::Session;
use super::wish::{Stage, Wish};
use crate::amount;
use crate::database::{Counts, rebuild_command};
use crate::error::{CommandResult, Failure};
use crate::exit::ExitCode;
use crate::install::Installed;
use crate::leadership::Role;
use crate::outcome::Outcome;
use crate::python::Head;
use crate::rows::{Collected, Scanned, TakenIn, Tally};
use crate::ui::Report;

/// Rows that wait for the end of a session for so long (seconds) are named at the start of the next one.
const LONG: i64 = 3_600;

/// What has happened so far.
pub(super) struct Told<'a> {
    session: &'a Session,
    wish: Wish,
    installed: Option<Counts>,
    received: Collected,
    sent: Tally,
    python: TakenIn,
    warnings: Vec<String>,
    /// What a person is told at the start of the next session, by a word for each matter.
    matters: BTreeMap<&'static str, String>,
}

impl<'a> Told<'a> {
    pub(super) fn new(session: &'a Session, wish: Wish) -> Self {
        Self {
            session,
            wish,
            installed: None,
            received: Collected::default(),
            sent: Tally::default(),
            python: TakenIn::default(),
            warnings: Vec::new(),
            matters: BTreeMap::new(),
        }
    }

    pub(super) fn installed(&mut self, installed: Installed) {
        self.installed = Some(installed.counts);
        self.warnings.extend(installed.trouble);
    }

    pub(super) fn taken_in(&mut self, taken: TakenIn) {
        self.python = taken;
    }

    /// Rows have come, or are about to go: said when it is so.
    pub(super) fn hears(&self, moment: &Moment<'_>) {
        let (stage, tallies) = match moment {
            Moment::Came(Collected { new, changed, deleted, .. }) => {
                let words = ["received", "changed by other machines", "deleted by other machines"];
                (Stage::Received, [new, changed, deleted].into_iter().zip(words))
            }
            Moment::Goes(Scanned { new, changed, deleted, .. }) => {
                let words = ["sending", "sending changes", "sending deletions"];
                (Stage::Sent, [new, changed, deleted].into_iter().zip(words))
            }
        };
        for (tally, what) in tallies.filter(|(tally, _)| tally.total() > 0) {
            self.session.ui.step(stage.label(self.wish), format!("{what}: {}", tally.describe()));
        }
    }

    /// Rows came and went.
    pub(super) fn exchanged(&mut self, exchanged: &Exchanged) {
        if let Some(why) = &exchanged.begun.went_back {
            let text = format!(
                "an older file of the database was put back here ({}): what the other machines know was taken in again",
                why.describe()
            );
            self.matter("went_back", text);
        }
        let scanned = &exchanged.scanned;
        for tally in [&scanned.new, &scanned.changed, &scanned.deleted] {
            for (table, count) in &tally.0 {
                self.sent.add_many(table, *count);
            }
        }
        for title in &exchanged.collected.titles {
            tracing::info!(title, "received");
        }
        if exchanged.published.bytes > 0 {
            tracing::info!(
                bytes = exchanged.published.bytes,
                segments = exchanged.published.segments,
                "published"
            );
        }
        for conflict in &exchanged.collected.conflicts {
            let title = conflict.title.as_deref().unwrap_or("a row without a title");
            let whose = conflict.kept.describe();
            let kept = conflict
                .file
                .as_ref()
                .map_or(String::new(), |file| format!("; the other version: {}", file.display()));
            self.matter("conflict", format!("'{title}' was changed here and elsewhere: {whose} stays{kept}"));
        }
        let damaged = &exchanged.standing.damaged;
        for problem in exchanged.collected.refused.iter().filter(|problem| !damaged.contains(problem)) {
            self.warnings
                .push(format!("a segment could not be read and is tried again by the next sync: {problem}"));
        }
        for problem in damaged {
            self.matter(
                "damaged",
                format!("what another machine sent cannot be read until it changes in the store: {problem}"),
            );
        }
        let unindexed = &exchanged.collected.unindexed;
        if unindexed.total() > 0 {
            let indexes = unindexed.0.keys().map(|table| format!("{table}_fts"));
            let commands: Vec<String> =
                indexes.map(|index| rebuild_command(&self.session.database, &index)).collect();
            let text = format!(
                "{} arrived and claude-mem's search by words does not know of it: its index is not kept here. Make it anew: {}",
                unindexed.describe(),
                commands.join("; ")
            );
            self.matter("search_index", text);
        }
        let held = &exchanged.standing.held;
        if held.total() > 0 {
            let text = format!(
                "{} vanished here at once and are held, other machines keep them. Deleted on purpose: membridge sync --accept-deletions. To have them back: membridge sync --put-back",
                held.describe()
            );
            self.matter("held", text);
        }
        for (reason, count) in &exchanged.standing.waiting {
            let rows = amount::count(*count, "row waits", "rows wait");
            self.matter("waiting", format!("{rows}: {reason}"));
        }
        self.received.add(exchanged.collected.clone());
    }

    /// Once, however often a sync that was overtaken comes by.
    fn matter(&mut self, word: &'static str, text: String) {
        if !self.warnings.contains(&text) {
            self.warnings.push(text.clone());
        }
        self.matters.insert(word, text);
    }

    /// The project is called otherwise than it was, and nobody said that this is meant.
    fn renamed(&mut self) {
        let config = &self.session.config;
        if config.project_for_once {
            return;
        }
        let store = self.session.bucket.store.name();
        let records = RecordFile::all(&config.paths.state, &store, &self.session.database);
        let (name, now) = (&config.project.name, self.session.bucket.context.now().as_second());
        if let Some(renamed) = renamed::judge(&records, name, now) {
            self.matter("renamed", format!("{}: {}", renamed.describe(name), renamed.remedy(name)));
        }
    }

    /// Rows of others have waited for the end of a session for so long that a person should know.
    fn postponed(&mut self, record: &SyncRecord) {
        let context = &self.session.bucket.context;
        let waits = record.postponed_at.map(|since| context.server_now().as_second().saturating_sub(since));
        if waits.is_some_and(|waits| waits >= LONG)
            && let Some(text) = record.postponed(&context.clock())
        {
            self.matter("postponed", text);
        }
    }

    /// The end: the pinned words, the report, the contract's refusals.
    pub(super) async fn conclude(
        mut self,
        record: &mut RecordFile,
        standing: Option<&Standing>,
        image: Option<&Head>,
        archived: Archived,
        exchanged: &Exchanged,
    ) -> CommandResult<Report> {
        let session = self.session;
        let counts = match &archived {
            Archived::UpToDate { counts } | Archived::Committed { counts, .. } => *counts,
            _ if self.wish.is_typed() || self.installed.is_some() => session.counts().await?,
            _ => Counts::default(),
        };
        self.renamed();
        self.postponed(&record.record);
        record.record.synced(session.bucket.context.now());
        record.save()?;
        if let Archived::Committed { warning, .. } = &archived {
            self.warnings.extend(warning.clone());
        }
        let ignored = session.bucket.ignored().into_iter();
        self.warnings.extend(ignored.map(|what| format!("{what}; it is ignored (see: membridge doctor)")));
        for warning in &self.warnings {
            session.ui.warn(warning);
        }
        match self.wish {
            Wish::Push => self.push(standing, archived, &counts),
            Wish::Pull => self.pull(standing, image, &counts).await,
            _ => Ok(self.whole(archived, &counts, exchanged)),
        }
    }

    fn moved(&self) -> bool {
        let received =
            self.received.new.total() + self.received.changed.total() + self.received.deleted.total();
        let python = self.python.new.total() + self.python.changed.total();
        received + python + self.sent.total() > 0 || self.installed.is_some()
    }

    fn report(&self, outcome: Outcome, counts: &Counts) -> Report {
        let by_table = |tally: &Tally| json!(tally.0.iter().collect::<BTreeMap<_, _>>());
        let mut report = Report::ok(outcome)
            .with("observations", counts.observations)
            .with("received", by_table(&self.received.new))
            .with("changed", by_table(&self.received.changed))
            .with("deleted", by_table(&self.received.deleted))
            .with("sent", by_table(&self.sent))
            .with("conflicts", self.received.conflicts.len());
        if self.python.new.total() + self.python.changed.total() > 0 {
            report = report.with("taken_in", by_table(&self.python.new));
        }
        let moved = [
            ("sent", &self.sent),
            ("received", &self.received.new),
            ("changed", &self.received.changed),
            ("deleted", &self.received.deleted),
            ("taken in", &self.python.new),
        ];
        let moved = moved.iter().filter(|(_, tally)| tally.total() > 0);
        let moved: Vec<String> = moved.map(|(what, tally)| format!("{what} {}", tally.describe())).collect();
        report = report.with("moved", moved.join(", "));
        if !self.matters.is_empty() {
            report = report.with("matters", json!(self.matters));
        }
        if self.warnings.is_empty() { report } else { report.with("warning", self.warnings.join("; ")) }
    }

    fn push(
        &self,
        standing: Option<&Standing>,
        archived: Archived,
        counts: &Counts,
    ) -> CommandResult<Report> {
        let ui = &self.session.ui;
        match archived {
            Archived::Committed { commit, bytes, .. } => {
                ui.line(format!("PUSH COMPLETE ({})", counts.describe()));
                Ok(self
                    .report(Outcome::Pushed, counts)
                    .with("sha256", commit.sha256.to_string())
                    .with("commit", commit.number)
                    .with("bytes", bytes))
            }
            Archived::NotOurs => Err(self.refused(standing)),
            Archived::Withheld => {
                ui.step(
                    "3/6",
                    "Archive: off here, because MEMBRIDGE_EXCLUDE_PROJECTS keeps projects on this machine",
                );
                let sent = self.sent.total() > 0;
                let how = if sent { "PUSH COMPLETE" } else { "already up to date" };
                ui.line(format!("{how} ({})", counts.describe()));
                Ok(self.report(if sent { Outcome::Pushed } else { Outcome::UpToDate }, counts))
            }
            Archived::UpToDate { .. } if self.sent.total() > 0 => {
                ui.line(format!("PUSH COMPLETE ({})", counts.describe()));
                Ok(self.report(Outcome::Pushed, counts))
            }
            _ => {
                ui.line(format!("already up to date ({})", counts.describe()));
                Ok(self.report(Outcome::UpToDate, counts))
            }
        }
    }

    /// A secondary's push: its rows are shared, the image is not its to push.
    fn refused(&self, standing: Option<&Standing>) -> Failure {
        let node = &self.session.config.node.id;
        let lease = standing.and_then(|standing| standing.lease.as_ref());
        let primary = lease.map_or("nobody", |lease| lease.primary_label());
        let why = match lease {
            Some(lease) if lease.primary_node_id == *node => {
                "its lease has expired, and PRIMARY_NODE_ID names another node".to_owned()
            }
            _ => format!("{primary} is primary"),
        };
        let shared = match self.sent.total() {
            0 => "; nothing here waits to be sent".to_owned(),
            _ => format!("; its rows are shared all the same ({})", self.sent.describe()),
        };
        Failure::with_exit(
            ExitCode::SecondaryRefusesPush,
            format!("push refused: this node ({node}) is secondary, {why}{shared}"),
        )
        .hint("share memory without pushing the image: membridge sync")
        .hint("push the image once all the same: ALLOW_SECONDARY_PUSH=1 membridge push_sqlite")
        .hint("make this node the primary from now on: membridge promote")
    }

    /// The rows were exchanged; what the contract says of a pull is about the image in the bucket.
    async fn pull(
        &self,
        standing: Option<&Standing>,
        image: Option<&Head>,
        counts: &Counts,
    ) -> CommandResult<Report> {
        let session = self.session;
        let Some(head) = image else {
            session.ui.line(format!("SYNC COMPLETE ({})", counts.describe()));
            return Ok(self.report(Outcome::Pulled, counts));
        };
        let same = self.installed.is_none() && session.holds_just(head).await?;
        if same && !self.moved() {
            session.ui.line(format!("already up to date ({})", counts.describe()));
            return Ok(self.report(Outcome::UpToDate, counts));
        }
        let foreign = match head {
            Head::Commit(head) => head.commit.node_id != session.config.node.id,
            Head::Foreign(_) => true,
        };
        let primary = standing.is_some_and(|standing| standing.role == Role::Primary);
        if primary && foreign && !same && self.installed.is_none() && !session.config.overrides.primary_pull {
            return Err(self.keeps_its_own(head));
        }
        session.ui.step(Stage::Now.label(self.wish), format!("Here now: {}", counts.describe()));
        session.ui.line(format!("SYNC COMPLETE ({})", counts.describe()));
        Ok(self.report(Outcome::Pulled, counts).with("sha256", json!(head.sha256())))
    }

    fn keeps_its_own(&self, head: &Head) -> Failure {
        let node = &self.session.config.node.id;
        let failure = Failure::with_exit(
            ExitCode::PrimaryRefusesPull,
            format!(
                "pull refused: this node ({node}) is primary and the bucket holds another database, pushed by {}; the rows of the other machines were taken in",
                head.source()
            ),
        );
        match head {
            Head::Foreign(_) => failure.hint("take the rows of that Python node in: membridge sync"),
            Head::Commit(_) => failure.hint("put what is here on top of it: membridge push_sqlite"),
        }
    }

    fn whole(&self, archived: Archived, counts: &Counts, exchanged: &Exchanged) -> Report {
        let ui = &self.session.ui;
        let report = match (self.wish, self.moved()) {
            (Wish::Whole, true) => {
                ui.line(format!("SYNC COMPLETE ({})", counts.describe()));
                self.report(Outcome::Synced, counts)
            }
            (Wish::Whole, false) => {
                ui.line(format!("already up to date ({})", counts.describe()));
                self.report(Outcome::UpToDate, counts)
            }
            (_, true) => self.report(Outcome::Synced, counts),
            (_, false) => self.report(Outcome::UpToDate, counts),
        };
        let report = report.with("segment", exchanged.standing.segment);
        match archived {
            Archived::Committed { commit, bytes, .. } => report
                .with("commit", commit.number)
                .with("sha256", commit.sha256.to_string())
                .with("bytes", bytes),
            _ => report,
        }
    }
}
