//! The local database and the disk it lies on.

use super::evidence::{Evidence, Local};
use super::finding::{Check, Finding};
use crate::database::{files, rebuild_command};
use crate::python::Head;
use crate::ui::human_bytes;

pub(super) const CHECKS: &[Check] = &[
    Check {
        name: "database",
        run: database,
        remedy: "get the memory of your other machines: membridge pull_sqlite",
    },
    Check { name: "observations", run: observations, remedy: "look at the database's own finding" },
    Check { name: "schema", run: schema, remedy: "start claude-mem once, so that it migrates its database" },
    Check {
        name: "free_space",
        run: free_space,
        remedy: "free space before the next pull: old backups lie in ~/.claude-mem/backups",
    },
    Check { name: "leftovers", run: leftovers, remedy: "the next push or pull removes them: membridge sync" },
];

fn database(evidence: &Evidence) -> Finding {
    match &evidence.local {
        Local::NotConfigured => Finding::error("database: CLAUDE_MEM_DB not set")
            .remedy("set CLAUDE_MEM_DB=$HOME/.claude-mem/claude-mem.db: membridge config init"),
        Local::Missing(path) => {
            let finding = Finding::warning(format!("database: there is none at {}", path.display()));
            match evidence.bucket.head.got() {
                Some(None) => finding.remedy("start claude-mem once, or check CLAUDE_MEM_DB"),
                _ => finding,
            }
        }
        Local::Broken(failure) => Finding::failed(failure),
        Local::Sound(sound) => {
            let line = format!("database: {} ({})", sound.path.display(), human_bytes(sound.size));
            match sound.damaged.first() {
                None => Finding::ok(format!("{line}, integrity ok")),
                Some(index) => Finding::warning(format!(
                    "{line}: all rows are whole, the search index {index} is damaged"
                ))
                .remedy(rebuild_command(&sound.path, index)),
            }
        }
    }
}

fn observations(evidence: &Evidence) -> Finding {
    match &evidence.local {
        Local::Sound(sound) => {
            let counts = &sound.facts.counts;
            Finding::ok(format!("observations: {} ({})", counts.observations, counts.describe_rest()))
        }
        Local::Missing(_) | Local::NotConfigured => Finding::skipped("observations: no database"),
        Local::Broken(_) => Finding::skipped("observations: the database cannot be read"),
    }
}

fn schema(evidence: &Evidence) -> Finding {
    let Local::Sound(sound) = &evidence.local else {
        return Finding::skipped("schema: no database");
    };
    match sound.facts.schema_version {
        Some(version) => Finding::ok(format!("schema: version {version}")),
        None => Finding::warning("schema: the database names no schema version"),
    }
}

/// As the pull asks (see [`files::room_for`]).
fn free_space(evidence: &Evidence) -> Finding {
    let Some(free) = evidence.free else {
        return Finding::skipped("free space: not known");
    };
    let here = match &evidence.local {
        Local::Sound(sound) => sound.size,
        _ => 0,
    };
    let head = evidence.bucket.head.got().and_then(Option::as_ref);
    let Some(there) = head.and_then(Head::size) else {
        return Finding::ok(format!("free space: {}", human_bytes(free)));
    };
    let needed = files::room_for(there, here);
    let line = format!("free space: {}, the next pull needs {}", human_bytes(free), human_bytes(needed));
    if free < needed { Finding::error(line) } else { Finding::ok(line) }
}

fn leftovers(evidence: &Evidence) -> Finding {
    match evidence.leftovers {
        0 => Finding::ok("temporary files: none left over"),
        count => Finding::info(format!(
            "temporary files: {count} left over by runs that were killed; the next push or pull removes them"
        )),
    }
}
