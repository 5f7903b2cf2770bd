//! Which segments there are that we do not have. One listing of the node records says it; the segments themselves are listed
//! at a first sync, once a day, and where one is missing that should be there.

use futures_util::{StreamExt, stream};
use rusqlite::{OptionalExtension, params};

use super::RowsError;
use super::gather::{self, Gathered, Listed};
use super::holes::{self, Holes};
use super::log::{ListedNode, RowLog};
use super::report::Collected;
use super::shadow::{Shadow, ShadowError};
use super::stamp::Writer;
use super::wanted::{past, wanted};

/// All segments are listed at least this often (milliseconds).
const LIST_EVERY: i64 = 24 * 60 * 60 * 1000;

/// So many node records are asked for at once: a session waits for them, and on a slow line for each of them alone.
const AT_ONCE: usize = 8;

/// What is new in the log.
#[derive(Debug, Default)]
pub struct News {
    /// What is to be read, by writer.
    pub listed: Listed,
    /// The highest number in our own folder, as far as it was looked at.
    pub own: u64,
    /// Node records that were read: their versions are kept once their segments are here.
    versions: Vec<(Writer, String)>,
    /// All segments were listed.
    all: bool,
}

/// What is new, between being read and being taken in.
#[derive(Debug)]
pub struct Noted {
    /// What there is.
    pub news: News,
    /// How far the segments were read, where any were.
    pub gathered: Option<Gathered>,
    /// What came of it so far.
    pub report: Collected,
}

/// Asks the store what is new; `nodes`: the node records as they were listed at the beginning of this sync.
///
/// # Errors
/// The store's.
pub async fn ask(
    log: &RowLog<'_>,
    nodes: Option<Vec<ListedNode>>,
    shadow: &Shadow,
    (me, first, now_ms): (Writer, bool, i64),
) -> Result<News, RowsError> {
    let listed_ms: Option<i64> = shadow.get("listed_ms")?;
    let fresh = listed_ms.is_some_and(|at| (0..LIST_EVERY).contains(&now_ms.saturating_sub(at)));
    let ours: Option<String> = shadow.get("node_etag")?;
    if first || !fresh || ours.is_none() {
        return all(log, me).await;
    }
    let nodes = match nodes {
        Some(nodes) => nodes,
        None => Box::pin(log.nodes()).await?,
    };
    let mut changed = Vec::new();
    for node in nodes {
        let Ok(writer) = node.writer.parse::<Writer>() else {
            continue;
        };
        let version = node.etag.map(|etag| etag.0);
        let known = if writer == me { ours.clone() } else { known_version(shadow, writer)? };
        if version.is_none() || version != known {
            changed.push(writer);
        }
    }
    let read = |writer: Writer| async move { (writer, Box::pin(log.node(&writer.to_string())).await) };
    let mut records = stream::iter(changed.into_iter().map(read)).buffered(AT_ONCE);
    let mut news = News::default();
    while let Some((writer, record)) = records.next().await {
        let record = match record {
            Ok(record) => record,
            Err(error) if error.is_damage() => {
                log.ignore(&error);
                return all(log, me).await;
            }
            Err(error) => return Err(error.into()),
        };
        let Some((record, etag)) = record else {
            continue;
        };
        if writer == me {
            news.own = record.last;
            continue;
        }
        let collected = shadow.collected(writer)?;
        let past = past(collected, record.last, &record.folds);
        if past > collected {
            shadow.set_collected(writer, past)?;
        }
        let numbers = wanted(past, record.last, &record.folds);
        news.listed.insert(writer, numbers.into_iter().collect());
        news.versions.push((writer, etag.0));
    }
    // What could not be read may have changed without a word.
    for damaged in shadow.get::<Holes>(holes::NAME)?.unwrap_or_default().damaged {
        news.listed.entry(damaged.writer).or_default().insert(damaged.number);
    }
    Ok(news)
}

/// Everything that is there.
///
/// # Errors
/// The store's.
pub async fn all(log: &RowLog<'_>, me: Writer) -> Result<News, RowsError> {
    let listed = gather::list(log).await?;
    let own = listed.get(&me).and_then(|numbers| numbers.last().copied()).unwrap_or(0);
    Ok(News { listed, own, all: true, ..News::default() })
}

impl News {
    /// Whether all segments were listed, and not only told of.
    pub fn is_all(&self) -> bool {
        self.all
    }

    /// Everything of it is here.
    ///
    /// # Errors
    /// The shadow's.
    pub fn done(&self, shadow: &Shadow, now_ms: i64) -> Result<(), ShadowError> {
        for (writer, version) in &self.versions {
            let sql = "INSERT INTO writers(writer, number, node) VALUES (?1, 0, ?2) ON CONFLICT(writer) DO UPDATE SET node = ?2";
            shadow.db.prepare_cached(sql)?.execute(params![writer, version])?;
        }
        if self.all {
            shadow.set("listed_ms", &now_ms)?;
        }
        Ok(())
    }
}

fn known_version(shadow: &Shadow, writer: Writer) -> Result<Option<String>, ShadowError> {
    let mut statement = shadow.db.prepare_cached("SELECT node FROM writers WHERE writer = ?1")?;
    Ok(statement.query_row([writer], |row| row.get(0)).optional()?.flatten())
}
