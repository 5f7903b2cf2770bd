//! Whether the memory is safe: where both sides stand, when they last met, what was kept of what was replaced.
//! What the bucket keeps of former states is judged here too, by its listing: `membridge verify` reads the packs.

use super::evidence::{Evidence, Local};
use super::finding::{Check, Finding};
use super::questions::Asked;
use crate::amount;
use crate::config::Paths;
use crate::history::log;
use crate::storage::Entry;
use crate::storage::keys::Keys;
use crate::sync::outlook::Answer;
use crate::ui::human_bytes;
use crate::visible::short_path;

/// How many backups are named in a line.
const NAMED: usize = 3;

pub(super) const CHECKS: &[Check] = &[
    Check { name: "sync_state", run: sync_state, remedy: "membridge sync" },
    Check { name: "last_push", run: last_push, remedy: "membridge push_sqlite" },
    Check { name: "last_sync", run: last_sync, remedy: "membridge sync" },
    Check {
        name: "waiting",
        run: waiting,
        remedy: "they come by themselves: rows of a newer claude-mem after its update here, others after the next sync",
    },
    Check {
        name: "segments",
        run: segments,
        remedy: "put that object back from a copy of the store; without one its rows come with the next base of the machine that wrote it",
    },
    Check { name: "clocks", run: clocks, remedy: "set that machine's clock (timedatectl set-ntp true)" },
    Check { name: "backups", run: backups, remedy: "see them: membridge restore-backup" },
    Check { name: "history", run: history, remedy: "membridge verify" },
    Check { name: "kept", run: kept, remedy: "look under projects/ID/membridge in the bucket" },
    Check { name: "excluded", run: excluded, remedy: "membridge promote NODE, another machine" },
];

fn sync_state(evidence: &Evidence) -> Finding {
    let Some(outlook) = evidence.outlook() else {
        let why = match (&evidence.local, &evidence.bucket.nodes) {
            (Local::Broken(_), _) => "the local database cannot be read",
            (Local::NotConfigured, _) => "CLAUDE_MEM_DB is not set",
            (_, Asked::Not(why)) => why,
            (_, Asked::Failed(failure)) => {
                let finding = Finding::failed(failure);
                return Finding { text: format!("sync: unknown: {}", failure.message), ..finding };
            }
            (_, Asked::Got(_)) => "not known",
        };
        return Finding::skipped(format!("sync: unknown ({why})"));
    };
    let answer = outlook.answer();
    let line = format!("sync: {}", outlook.describe());
    let finding = match answer {
        Answer::Everywhere | Answer::InStore => Finding::ok(line),
        Answer::Unsent if outlook.is_overdue(since_sync(evidence)) => {
            Finding::warning(format!("{line}, last sync {}", last_sync_of(evidence)))
        }
        Answer::Unsent => Finding::info(line),
        Answer::Nothing | Answer::OnlyThere | Answer::OnlyHere | Answer::Offline | Answer::Held => {
            Finding::warning(line)
        }
    };
    match answer.remedies() {
        [] => finding,
        remedies => finding.remedy(remedies.join("; ")),
    }
}

/// Seconds since the last sync that ended well.
fn since_sync(evidence: &Evidence) -> Option<i64> {
    let at = evidence.record.as_ref()?.last_sync.as_deref()?.parse::<jiff::Timestamp>().ok()?;
    Some(evidence.now.saturating_sub(at.as_second()))
}

fn last_sync_of(evidence: &Evidence) -> String {
    let at = evidence.record.as_ref().and_then(|record| record.last_sync.as_deref());
    at.map_or("none on record".to_owned(), |at| evidence.clock.when_said(at))
}

/// What was taken from the log and cannot be here yet, and what did not win.
fn waiting(evidence: &Evidence) -> Finding {
    let Some(standing) = &evidence.standing else {
        return Finding::info("waiting: nothing (never synced)");
    };
    if let Some(text) = evidence.record.as_ref().and_then(|record| record.postponed(&evidence.clock)) {
        return Finding::warning(format!("waiting: {text}")).remedy("membridge sync");
    }
    let count: u64 = standing.waiting.values().sum();
    let conflicts = match standing.conflicts {
        0 => String::new(),
        kept => {
            let paths = Paths::new(&evidence.settings);
            let state = short_path(&paths.state, &paths.home);
            format!("; {} that did not win, kept in {state}", amount::count(kept, "version", "versions"))
        }
    };
    if count == 0 {
        return Finding::ok(format!("waiting: nothing{conflicts}"));
    }
    let reasons: Vec<String> =
        standing.waiting.iter().map(|(reason, count)| format!("{count}: {reason}")).collect();
    let rows = amount::count(count, "row", "rows");
    Finding::warning(format!("waiting: {rows} of other machines ({}){conflicts}", reasons.join("; ")))
}

/// What other machines sent and nobody can read.
fn segments(evidence: &Evidence) -> Finding {
    match &evidence.standing {
        Some(standing) if !standing.damaged.is_empty() => Finding::warning(format!(
            "segments: {} cannot be read until it changes: {}",
            standing.damaged.len(),
            standing.damaged.join("; ")
        )),
        _ => Finding::ok("segments: all that came could be read"),
    }
}

/// A clock that is days ahead makes a machine's changes win over later ones.
fn clocks(evidence: &Evidence) -> Finding {
    match &evidence.standing {
        Some(standing) if !standing.ahead.is_empty() => {
            let writers: Vec<String> = standing.ahead.iter().map(ToString::to_string).collect();
            Finding::warning(format!(
                "clocks: records come from more than a day ahead of the store: {}",
                writers.join(", ")
            ))
        }
        _ => Finding::ok("clocks: no record is ahead of the store's clock"),
    }
}

fn last_push(evidence: &Evidence) -> Finding {
    let at = evidence.record.as_ref().and_then(|record| record.last_push.as_deref());
    let at = at.map_or("none on record".to_owned(), |at| evidence.clock.when_said(at));
    Finding::ok(format!("last archive from here: {at}"))
}

fn last_sync(evidence: &Evidence) -> Finding {
    Finding::ok(format!("last sync: {}", last_sync_of(evidence)))
}

fn backups(evidence: &Evidence) -> Finding {
    let Some(newest) = evidence.backups.first() else {
        return Finding::ok("backups: none (no pull has replaced anything)");
    };
    let size = evidence.backups.iter().filter_map(|backup| backup.size).sum();
    let count = evidence.backups.len();
    let line = format!("backups: {count} ({}), newest {}", human_bytes(size), newest.name);
    if newest.size.is_none_or(|size| size == 0) {
        return Finding::warning(format!("{line}, and the newest holds no database"));
    }
    let precious: Vec<String> = evidence
        .backups
        .iter()
        .filter(|backup| backup.is_precious() && backup.size.is_some())
        .map(|backup| format!("{} ({})", backup.name, backup.describe()))
        .collect();
    if precious.is_empty() {
        return Finding::ok(line);
    }
    let more = match precious.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let named: Vec<_> = precious.iter().take(NAMED).map(String::as_str).collect();
    Finding::warning(format!(
        "{line}; {} the only copy of some rows: {}{more}",
        if precious.len() == 1 { "1 may be" } else { "some may be" },
        named.join(", ")
    ))
    .remedy(
        "put one back: membridge restore-backup NAME; nothing of it is wanted: \
         membridge restore-backup --forget NAME",
    )
}

/// Commits without packs cannot be restored.
fn history(evidence: &Evidence) -> Finding {
    let (objects, project) = match (&evidence.bucket.objects, &evidence.project) {
        (Asked::Got(objects), Some(project)) => (objects, project),
        (Asked::Not(why), _) => return Finding::skipped(format!("history: not listed ({why})")),
        _ => return Finding::skipped("history: not listed"),
    };
    let keys = Keys::new(&project.cid);
    let under = |prefix: &str| -> Vec<&Entry> {
        objects.iter().filter(|object| object.key.starts_with(prefix)).collect()
    };
    let (commits, packs) = (under(&keys.commits()), under(&keys.packs()));
    let size = packs.iter().map(|pack| pack.size).sum();
    let pushes = amount::count(commits.len() as u64, "push", "pushes");
    let line = format!("history: {pushes} can be restored ({} in packs)", human_bytes(size));
    if let Some(hole) = log::hole(commits.iter().filter_map(|commit| keys.commit_of(&commit.key))) {
        return Finding::warning(format!("history: {hole}"))
            .remedy("find what deletes objects there, an expiry (lifecycle) rule or a script; then: membridge verify --all");
    }
    match (commits.is_empty(), packs.is_empty()) {
        (true, _) => Finding::info("history: none yet"),
        (false, true) => Finding::warning(format!("history: {pushes} listed, and no packs are there")),
        (false, false) => Finding::ok(line),
    }
}

/// What forced pushes overwrote, and everything else of ours in the bucket.
fn kept(evidence: &Evidence) -> Finding {
    let objects = match &evidence.bucket.objects {
        Asked::Not(why) => return Finding::skipped(format!("bucket: not listed ({why})")),
        Asked::Failed(failure) => return Finding::failed(failure),
        Asked::Got(objects) => objects,
    };
    let size = objects.iter().map(|object| object.size).sum();
    let overwritten = objects.iter().filter(|object| object.key.contains("/membridge/overwritten/")).count();
    let number = amount::count(objects.len() as u64, "object", "objects");
    let line = format!("bucket: {number}, {}", human_bytes(size));
    if overwritten == 0 {
        return Finding::ok(line);
    }
    let kept = amount::count(overwritten as u64, "database", "databases");
    Finding::ok(format!("{line}; {kept} kept that forced pushes overwrote"))
}

/// Projects that stay on this machine, and what that means for the archive.
fn excluded(evidence: &Evidence) -> Finding {
    let globs = evidence.config.as_ref().map_or(&[][..], |config| &config.rows.excluded);
    if globs.is_empty() {
        return Finding::ok("excluded: no project stays on this machine alone");
    }
    let line = format!(
        "excluded: what is recorded in {} stays on this machine; it neither archives nor mirrors (MEMBRIDGE_EXCLUDE_PROJECTS)",
        globs.join(", ")
    );
    let lease = evidence.bucket.lease.got().and_then(Option::as_ref);
    let primary =
        lease.zip(evidence.node.as_ref()).is_some_and(|(lease, node)| lease.primary_node_id == node.id);
    if primary {
        return Finding::warning(format!("{line}; and this machine is primary, so nobody archives"));
    }
    Finding::info(line)
}
