//! claude-mem on this machine: its worker, its version, and what of it does not mix with syncing.

use super::evidence::Evidence;
use super::finding::{Check, Finding};
use crate::amount::count;
use crate::worker::facts::{self, Gate};
use crate::worker::{WorkerState, settings};

pub(super) const CHECKS: &[Check] = &[
    Check {
        name: "worker",
        run: worker,
        remedy: "start a Claude session: claude-mem starts its worker by itself",
    },
    Check {
        name: "claude_mem_version",
        run: version,
        remedy: "update claude-mem on this machine and start it once, then: membridge pull_sqlite",
    },
    Check { name: "cloud_sync", run: cloud_sync, remedy: "use one way of syncing only" },
    Check {
        name: "vector_store",
        run: vector_store,
        remedy: "stop the worker and move the vector store away: claude-mem builds a new one",
    },
];

fn worker(evidence: &Evidence) -> Finding {
    match &evidence.worker {
        // claude-mem starts it with the next session, and stops it when the last one ends.
        WorkerState::Absent => Finding::info("worker: not running"),
        WorkerState::Foreign { port, database } => Finding::warning(format!(
            "worker: the one on port {port} works on another database, {}",
            database.display()
        ))
        .remedy("check CLAUDE_MEM_DB and CLAUDE_MEM_DATA_DIR"),
        WorkerState::Running(worker) => {
            let Some(endpoint) = &worker.endpoint else {
                return Finding::warning(format!("worker: process {} runs and does not answer", worker.pid))
                    .remedy("check CLAUDE_MEM_WORKER_PORT, and the newest file of ~/.claude-mem/logs");
            };
            let version = worker.version.as_deref().unwrap_or("of unknown version");
            let line = format!("worker: claude-mem {version} on {}:{}", endpoint.host, endpoint.port);
            if !worker.ready {
                return Finding::error(format!("{line} is not ready"))
                    .remedy("look into the newest file of ~/.claude-mem/logs: the database may be one that it cannot open");
            }
            match worker.queue_depth {
                Some(depth) if depth > 0 => {
                    Finding::ok(format!("{line}, ready, {} queued", count(depth, "event", "events")))
                }
                _ => Finding::ok(format!("{line}, ready")),
            }
        }
    }
}

/// F44: a claude-mem that does not know the schema of the bucket's database.
fn version(evidence: &Evidence) -> Finding {
    let local = evidence.claude_mem();
    let shown = local.as_deref().unwrap_or("of unknown version");
    let remote = evidence.bucket.head.got().and_then(Option::as_ref);
    let Some((head, schema)) = remote.and_then(|head| Some((head, head.schema_version()?))) else {
        return match local {
            Some(version) => Finding::ok(format!("claude-mem: {version}")),
            None => Finding::info("claude-mem: not found on this machine"),
        };
    };
    let migrated = match &evidence.local {
        super::evidence::Local::Sound(sound) => sound.facts.schema_version,
        _ => None,
    };
    match facts::gate(local.as_deref(), migrated, head.claude_mem_version(), schema) {
        // Rows travel between versions; a whole image does not.
        Gate::Closed { knows } if evidence.has_database() => Finding::info(format!(
            "claude-mem: {shown} knows schema {knows}, the archive has schema {schema}: rows come all the same, what is new in them is kept until claude-mem is updated here"
        )),
        Gate::Closed { knows } => Finding::warning(format!(
            "claude-mem: {shown} knows schema {knows}, the bucket's database has schema {schema}: it cannot be fetched as the first one"
        )),
        Gate::Open if local.is_none() => Finding::ok(format!(
            "claude-mem: version not known here; its database has come as far as the bucket's (schema {schema})"
        )),
        Gate::Open => Finding::ok(format!("claude-mem: {shown} knows the bucket's schema {schema}")),
        Gate::Unknown => Finding::info(format!(
            "claude-mem: version not known here; the bucket's database has schema {schema}"
        )),
    }
}

fn cloud_sync(evidence: &Evidence) -> Finding {
    let Some(site) = &evidence.site else {
        return Finding::skipped("Cloud Sync: claude-mem's settings were not looked for");
    };
    if let Some(refusal) = settings::refusal(&site.settings) {
        return Finding::error(refusal.to_string()).remedy(refusal.hint());
    }
    match &site.settings.warning {
        Some(warning) => {
            Finding::warning(warning.to_string()).remedy(format!("repair {}", warning.path.display()))
        }
        None => Finding::ok("Cloud Sync: off, SQLite is the store"),
    }
}

/// F17: it belongs to the row ids of one database.
fn vector_store(evidence: &Evidence) -> Finding {
    let Some(site) = &evidence.site else {
        return Finding::skipped("vector store: not looked for");
    };
    let there: Vec<_> = facts::VECTOR_STORES
        .iter()
        .filter(|name| site.data_dir.join(name).symlink_metadata().is_ok())
        .copied()
        .collect();
    match there.as_slice() {
        [] => Finding::ok("vector store: none"),
        names => Finding::ok(format!("vector store: {}", names.join(", "))),
    }
}
