//! Claude Code's hooks: whether its settings.json calls ours, whether the scripts are there, and how they went last.
//! Judges what the evidence holds; reads nothing.

use super::evidence::Evidence;
use super::finding::{Check, Finding};
use crate::amount::Clock;
use crate::hook::settings::{Hook, HookSettings};
use crate::jobs::journal::Entry;

pub(super) const CHECKS: &[Check] = &[
    Check {
        name: "hook_session_start",
        run: session_start,
        remedy: "membridge hooks install --write-settings",
    },
    Check { name: "hook_stop", run: stop, remedy: "membridge hooks install --write-settings" },
    Check {
        name: "last_hooks",
        run: last,
        remedy: "look into ~/.claude-mem-minio/hook.log, and try by hand: membridge sync",
    },
];

fn session_start(evidence: &Evidence) -> Finding {
    judge(&evidence.hooks, "SessionStart", "hook-pull")
}

fn stop(evidence: &Evidence) -> Finding {
    judge(&evidence.hooks, "Stop", "hook-push")
}

fn judge(settings: &HookSettings, event: &str, word: &str) -> Finding {
    match settings {
        HookSettings::Missing(path) => {
            return Finding::warning(format!("{event}: {} is not there", path.display()));
        }
        HookSettings::Damaged(path, problem) => {
            return Finding::warning(format!("{event}: {} cannot be understood: {problem}", path.display()))
                .remedy(format!("repair {}", path.display()));
        }
        HookSettings::Found { off: Some(off), .. } => {
            return Finding::warning(format!("{event}: {off}")).remedy(off.remedy());
        }
        HookSettings::Found { .. } => {}
    }
    match settings.of(event).first() {
        None => Finding::warning(format!("{event}: no hook command containing {word}")),
        Some(Hook { missing: Some(path), .. }) => {
            Finding::error(format!("{event}: {} is not there", path.display()))
                .remedy("install the wrapper scripts: membridge hooks install")
        }
        Some(hook) => Finding::ok(format!("{event}: {}", hook.command)),
    }
}

fn last(evidence: &Evidence) -> Finding {
    let lines: Vec<_> = evidence.results.each().map(|entry| describe(entry, &evidence.clock)).collect();
    if lines.is_empty() {
        return Finding::info("last hooks: none has run yet");
    }
    let line = format!("last hooks: {}", lines.join("; "));
    if evidence.results.each().any(|entry| entry.failed() || entry.warned()) {
        Finding::warning(line)
    } else {
        Finding::ok(line)
    }
}

fn describe(entry: &Entry, clock: &Clock) -> String {
    let code = entry.code.map_or(String::new(), |code| format!(", exit code {code}"));
    let said = if entry.message.is_empty() { String::new() } else { format!(": {}", entry.message) };
    format!("{} {}{code}, {}{said}", entry.event, entry.outcome, clock.when_said(&entry.time))
}
