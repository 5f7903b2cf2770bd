//! What `status` looks at: the database and our own record of it, and, in a few small requests, the store. Shows nothing.

use std::path::PathBuf;

use crate::config::Config;
use crate::database::look::look;
use crate::database::{self, facts, files};
use crate::error::{CommandResult, Failure};
use crate::leadership::{Leadership, Standing};
use crate::lock::decide::Verdict;
use crate::lock::local::known_machine_token;
use crate::lock::{Lock, Sight};
use crate::python::head::{self, Head};
use crate::rows::Tally;
use crate::rows::glance::glance;
use crate::rows::log::RowLog;
use crate::rows::node::NodeRecord;
use crate::storage::Bucket;
use crate::sync::outlook::Outlook;
use crate::sync::record::{RecordFile, SyncRecord};

/// What the bucket said.
pub(super) struct There {
    pub(super) standing: Standing,
    pub(super) lock: Option<(Sight, Verdict)>,
    pub(super) nodes: Vec<NodeRecord>,
    pub(super) head: Option<Head>,
    /// What in a sealed project is not authentic.
    pub(super) ignored: Vec<String>,
}

/// What this machine knows by itself.
pub(super) struct Here {
    pub(super) outlook: Outlook,
    pub(super) record: Option<SyncRecord>,
    /// Why the database cannot be read, where it cannot.
    pub(super) trouble: Option<Failure>,
}

/// Reads the database and our own record of it; asks no store. `store` is its name.
pub(super) async fn here(config: &Config, store: &str) -> CommandResult<Here> {
    let real = files::resolve(&config.database)?;
    let (paths, cid) = (&config.paths, &config.project.cid);
    let record = RecordFile::peek(&paths.state, store, cid, &real);
    let observations = observations(real.clone()).await;
    let (standing, unsent) = glance(&paths.state, store, cid, &real).unwrap_or_else(|error| {
        // A database that cannot be read is said beside.
        tracing::debug!(%error, "no glance at the rows");
        (None, Tally::default())
    });
    let (observations, trouble) = match observations {
        Ok(count) => (count, None),
        Err(failure) => (None, Some(failure)),
    };
    let excludes = !config.rows.excluded.is_empty();
    let outlook = Outlook { observations, unsent, standing, excludes, ..Outlook::default() };
    Ok(Here { outlook, record, trouble })
}

async fn observations(path: PathBuf) -> CommandResult<Option<u64>> {
    if !path.exists() {
        return Ok(None);
    }
    let counts =
        database::blocking(move || look(&path, |connection| facts::counts(connection, &path))).await?;
    Ok(Some(counts.observations))
}

pub(super) async fn there(
    config: &Config,
    bucket: &Bucket,
    record: Option<&SyncRecord>,
) -> CommandResult<There> {
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
    Ok(There { standing, lock, nodes: nodes?, head: head?, ignored: bucket.ignored() })
}
