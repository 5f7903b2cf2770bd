//! doctor's questions to the bucket: each with an end, each answered by itself. Reads only; the one exception is the
//! capability probe, made only when it is asked for. Judges nothing.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crate::config::Paths;
use crate::context::Context;
use crate::error::Failure;
use crate::identity::Project;
use crate::join::{self, Files};
use crate::leadership::{self, LeaseRecord};
use crate::lock::{Lock, Sight};
use crate::python::head::{self, Head};
use crate::rows::log::RowLog;
use crate::rows::node::NodeRecord;
use crate::seal::{KeyId, MasterKey};
use crate::storage::probe::{Capability, Verdict};
use crate::storage::{Bucket, Entry, Store, StoreError, StoreErrorKind};
use crate::sync::record::SyncRecord;

/// How long one question to the store may take, with its retries.
const PATIENCE: Duration = Duration::from_secs(20);

/// Something that was asked for.
#[derive(Debug)]
pub enum Asked<T> {
    /// It was not, and why.
    Not(&'static str),
    /// It did not come.
    Failed(Failure),
    /// It came.
    Got(T),
}

impl<T> Asked<T> {
    /// What came, when it came.
    pub fn got(&self) -> Option<&T> {
        match self {
            Self::Got(value) => Some(value),
            Self::Not(_) | Self::Failed(_) => None,
        }
    }
}

/// What doctor is asked to do.
#[derive(Debug, Clone, Copy, Default)]
pub struct Scope {
    /// Do not ask the store.
    pub no_network: bool,
    /// Try the store's conditional writes now.
    pub probe: bool,
}

/// What the bucket said of itself and of our project in it.
#[derive(Debug)]
pub struct Answers {
    /// Endpoint and bucket, or the directory.
    pub name: Option<String>,
    /// A directory store has a probe verdict by construction.
    pub directory: bool,
    /// Whether it can be used at all.
    pub reach: Asked<()>,
    /// The key with which the project is sealed, or why this machine may not take part; `None`: it is not sealed.
    pub sealing: Asked<Option<KeyId>>,
    /// What in a sealed project is not authentic.
    pub ignored: Vec<String>,
    /// Seconds that the store's clock is ahead of ours.
    pub skew: i64,
    /// What its conditional writes are worth; `None`: nobody has found out yet.
    pub verdict: Asked<Option<Verdict>>,
    /// The lock.
    pub lock: Asked<Option<Sight>>,
    /// The lease.
    pub lease: Asked<Option<LeaseRecord>>,
    /// The database there.
    pub head: Asked<Option<Head>>,
    /// What each machine last said.
    pub nodes: Asked<Vec<NodeRecord>>,
    /// All objects of the project.
    pub objects: Asked<Vec<Entry>>,
    /// Canonical ids of other projects that hold a database; asked for only when ours holds none.
    pub others: Asked<Vec<String>>,
}

/// Asks the bucket for everything that the checks judge; a question that fails leaves the others alone.
pub(super) async fn ask_bucket(
    store: Asked<Store>,
    directory: bool,
    project: Option<&Project>,
    record: Option<&SyncRecord>,
    paths: &Paths,
    context: &Arc<Context>,
    scope: Scope,
) -> Answers {
    let mut answers = Answers {
        name: store.got().map(Store::name),
        directory,
        reach: Asked::Not("the store is not configured"),
        sealing: Asked::Not("the store cannot be used"),
        ignored: Vec::new(),
        skew: 0,
        verdict: Asked::Not("the store cannot be used"),
        lock: Asked::Not("the store cannot be used"),
        lease: Asked::Not("the store cannot be used"),
        head: Asked::Not("the store cannot be used"),
        nodes: Asked::Not("the store cannot be used"),
        objects: Asked::Not("the store cannot be used"),
        others: Asked::Not("not asked for"),
    };
    let store = match store {
        Asked::Got(store) => store,
        Asked::Not(_) => return answers,
        Asked::Failed(failure) => {
            answers.reach = Asked::Failed(failure);
            return answers;
        }
    };
    let capability = Capability::new(&store, &paths.state);
    if scope.no_network {
        const OFFLINE: &str = "--no-network";
        answers.reach = Asked::Not(OFFLINE);
        answers.verdict = Asked::Got(capability.remembered(&store, context));
        answers.lock = Asked::Not(OFFLINE);
        answers.lease = Asked::Not(OFFLINE);
        answers.head = Asked::Not(OFFLINE);
        answers.nodes = Asked::Not(OFFLINE);
        answers.objects = Asked::Not(OFFLINE);
        return answers;
    }
    answers.reach = ask(&store, store.check()).await;
    answers.skew = context.skew_seconds();
    if answers.reach.got().is_none() {
        return answers;
    }
    answers.verdict = Asked::Got(capability.remembered(&store, context));
    let Some(project) = project else {
        const NAMELESS: &str = "CLAUDE_PROJECT_ID is not set";
        answers.lock = Asked::Not(NAMELESS);
        answers.lease = Asked::Not(NAMELESS);
        answers.head = Asked::Not(NAMELESS);
        answers.nodes = Asked::Not(NAMELESS);
        answers.objects = Asked::Not(NAMELESS);
        return answers;
    };
    let mut bucket = Bucket::new(store, &project.cid, Arc::clone(context), &paths.state);
    answers.sealing =
        match Box::pin(join::ask(&bucket, &Files::of(&paths.key, &paths.state, &bucket), false)).await {
            Ok(seal) => {
                bucket.seal = seal;
                Asked::Got(bucket.seal.key().map(MasterKey::id))
            }
            Err(error) => Asked::Failed(error.into()),
        };
    let (store, keys) = (&bucket.store, &bucket.keys);
    let root = keys.root();
    let log = RowLog::new(&bucket, &paths.tmp());
    let (lock, lease, head, nodes, objects) = tokio::join!(
        ask(store, Lock::look(&bucket)),
        ask(store, leadership::look(&bucket)),
        ask(store, head::read(&bucket, record.map(SyncRecord::knows).unwrap_or_default())),
        ask(store, log.known_nodes()),
        ask(store, store.list(&root)),
    );
    answers.ignored = bucket.ignored();
    answers.nodes = nodes;
    answers.skew = context.skew_seconds();
    answers.lock = lock;
    answers.lease = lease;
    if let Asked::Got(None) = head {
        answers.others = match ask(store, store.list("projects/")).await {
            Asked::Got(entries) => Asked::Got(databases(&entries)),
            Asked::Failed(failure) => Asked::Failed(failure),
            Asked::Not(why) => Asked::Not(why),
        };
    }
    answers.head = head;
    answers.objects = objects;
    if scope.probe {
        let probed = ask(store, bucket.probe()).await;
        answers.verdict = match probed {
            Asked::Got(verdict) => Asked::Got(Some(verdict)),
            Asked::Failed(failure) => Asked::Failed(failure),
            Asked::Not(why) => Asked::Not(why),
        };
    }
    answers
}

/// The canonical ids of the projects that hold a database.
fn databases(entries: &[Entry]) -> Vec<String> {
    entries
        .iter()
        .filter_map(|entry| {
            let rest = entry.key.strip_prefix("projects/")?;
            rest.strip_suffix("/sqlite/claude-mem.db").map(str::to_owned)
        })
        .collect()
}

/// One question to the store, with an end.
async fn ask<T, E: Into<Failure>>(store: &Store, question: impl Future<Output = Result<T, E>>) -> Asked<T> {
    match tokio::time::timeout(PATIENCE, question).await {
        Ok(Ok(answer)) => Asked::Got(answer),
        Ok(Err(error)) => Asked::Failed(error.into()),
        Err(_) => {
            let detail = format!("no answer within {} s", PATIENCE.as_secs());
            Asked::Failed(StoreError::new(StoreErrorKind::Interrupted, store.name(), "ask", detail).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::databases;
    use crate::storage::Entry;

    #[test]
    fn other_projects_are_known_by_their_database() {
        let entries: Vec<_> = [
            "projects/aa/sqlite/claude-mem.db",
            "projects/aa/sqlite/claude-mem.db.sha256",
            "projects/bb/locks/active.lock",
            "projects/cc/sqlite/claude-mem.db",
            "elsewhere/dd/sqlite/claude-mem.db",
        ]
        .into_iter()
        .map(|key| Entry { key: key.to_owned(), size: 1, modified: 0, etag: None })
        .collect();
        assert_eq!(databases(&entries), ["aa", "cc"]);
    }
}
