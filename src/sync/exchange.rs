//! Rows, both ways: what others have recorded comes in, what was recorded here goes out, and this machine's record says so.
//! Asks `rows` for each step; how a step is made is its business.

use super::company;
use super::gate::Standing;
use super::node;
use super::record::RecordFile;
use super::session::Session;
use super::wish::Wish;
use crate::database::code::Admits;
use crate::error::CommandResult;
use crate::failpoint;
use crate::install::precaution;
use crate::python::Head;
use crate::python::object;
use crate::rows::ahead::{self, Ahead};
use crate::rows::glance::lately;
use crate::rows::log::{ListedNode, RowLog};
use crate::rows::{self, Begun, Collected, NewsNoted, Published, Restoring, Rows, Scanned, Site, TakenIn};
use crate::worker::{self, watermarks};

/// What was exchanged.
#[derive(Debug, Default)]
pub(super) struct Exchanged {
    pub(super) begun: Begun,
    pub(super) collected: Collected,
    pub(super) scanned: Scanned,
    pub(super) published: Published,
    /// Rows came that are not in the database yet: its worker could not have stood it.
    pub(super) postponed: bool,
    /// How this machine stands in the log afterwards.
    pub(super) standing: rows::Standing,
}

impl Exchanged {
    fn came(&mut self, collected: Option<Collected>, tell: &mut impl FnMut(Moment<'_>)) {
        let Some(collected) = collected else {
            self.postponed = true;
            return;
        };
        tell(Moment::Came(&collected));
        self.collected.add(collected);
    }
}

/// How often a sync takes a new writer id: a second copy of the state in the same moment is no accident.
const ATTEMPTS: u32 = 3;

/// A moment that a person may want to hear of.
pub(super) enum Moment<'a> {
    /// Rows have come.
    Came(&'a Collected),
    /// Rows are about to go.
    Goes(&'a Scanned),
}

/// What the store has said in this sync before the turn of the rows.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// The node records, where they were listed.
    pub(super) nodes: Option<Vec<ListedNode>>,
    /// Segments that were asked for at the same time.
    pub(super) ahead: Ahead,
}

/// A session that starts waits for what comes: the segments that may come next are asked for together with the node records.
pub(super) async fn ask_ahead(session: &Session, wish: Wish) -> Ahead {
    if wish != Wish::Start {
        return Ahead::default();
    }
    let (bucket, paths) = (&session.bucket, &session.config.paths);
    let next = lately(&paths.state, &bucket.store.name(), bucket.keys.project(), &session.database);
    let log = RowLog::new(bucket, &paths.tmp());
    ahead::fetch(&log, &next.unwrap_or_default()).await
}

/// Finishes what was begun, collects, scans and publishes, and tells of each before the next; `own`: the database was here
/// before this sync.
pub(super) async fn rows(
    session: &Session,
    rows: &mut Rows<'_>,
    wish: Wish,
    (mut heard, own): (Heard, bool),
    mut tell: impl FnMut(Moment<'_>),
) -> CommandResult<Exchanged> {
    if session.accept_deletions {
        rows.accept_deletions()?;
    }
    if session.put_back {
        rows.put_back()?;
    }
    let mut done = Exchanged::default();
    for _ in 0..ATTEMPTS {
        done.begun = rows.begin(wish.depth()).await?;
        failpoint::reach("sync.begun");
        // Whatever else would be read or written first would take it for what it is not.
        if !settle(session, rows, wish).await? {
            done.postponed = true;
            break;
        }
        if let Some(noted) = rows.note_ahead(std::mem::take(&mut heard.ahead))? {
            done.came(take_in(session, rows, wish, (noted, own)).await?, &mut tell);
        }
        let noted = rows.note_news(heard.nodes.take()).await?;
        done.came(take_in(session, rows, wish, (noted, own)).await?, &mut tell);
        failpoint::reach("sync.collected");
        // What the log says comes before anything that a machine says for the first time.
        if !wish.publishes() || done.postponed && noted.first {
            break;
        }
        let mut scanned = rows.scan()?;
        if scanned.asks > 0 {
            let noted = company::something(rows)?;
            match company::write(session, rows, wish, noted, async |rows| rows.ask().await).await? {
                Some(()) => scanned = rows.scan()?,
                None => done.postponed = true,
            }
        }
        tell(Moment::Goes(&scanned));
        done.published = rows.publish(scanned.clone()).await?;
        done.scanned = scanned;
        if !done.published.new_writer {
            break;
        }
        session
            .ui
            .warn("the state of this machine is a copy of another one's: it goes on under an id of its own");
    }
    node::announce(session, rows).await?;
    tracing::debug!(?done.begun, ?done.published, "rows exchanged");
    failpoint::reach("sync.published");
    done.standing = rows.standing()?;
    Ok(done)
}

/// Others' rows are about to come into a database with memory of its own for the first time.
async fn back_up(session: &Session) -> CommandResult {
    if !session.has_memory().await? {
        return Ok(());
    }
    let context = &session.bucket.context;
    if let Some(backup) =
        precaution::before_first_arrival(&session.config, context, &session.database).await?
    {
        session.ui.line(format!("      Backup: {}", backup.display()));
    }
    failpoint::reach("sync.backed-up");
    Ok(())
}

/// Does what an upgrade of claude-mem asks for; whether it is done.
async fn settle(session: &Session, rows: &mut Rows<'_>, wish: Wish) -> CommandResult<bool> {
    if !rows.has_to_settle()? {
        rows.settle().await?;
        return Ok(true);
    }
    let noted = company::something(rows)?;
    let settled = company::write(session, rows, wish, noted, async |rows| rows.settle().await).await?;
    Ok(settled.is_some())
}

/// Takes in what is new; `None`: not now, because of the worker.
async fn take_in(
    session: &Session,
    rows: &mut Rows<'_>,
    wish: Wish,
    (noted, own): (NewsNoted, bool),
) -> CommandResult<Option<Collected>> {
    if own && noted.never && noted.is_anything && session.rehearsal.is_none() {
        back_up(session).await?;
    }
    company::write(session, rows, wish, noted, async |rows| rows.take_in_news().await).await
}

/// A person has put an earlier state in place: the next sync tells the log, instead of the log correcting it.
pub(super) async fn restored(session: &Session) -> CommandResult {
    let how = if session.add_only { Restoring::Adding } else { Restoring::Exactly };
    Ok(open(session).await?.restored(how)?)
}

/// Takes in the image that a Python node pushed; `None`: not now, because of the worker. One that was taken in already is not fetched again, however long it takes
/// until somebody archives it.
pub(super) async fn take_image(
    session: &Session,
    record: &mut RecordFile,
    rows: &mut Rows<'_>,
    (wish, head): (Wish, &Head),
) -> CommandResult<Option<TakenIn>> {
    if head.sha256().is_some() && head.sha256() == record.record.taken_in {
        return Ok(Some(TakenIn::default()));
    }
    let image = object::download(&session.landing(Admits::Any), None).await?;
    let short = image.sha256.map_or(String::new(), |sum| sum.short());
    session.ui.line(format!("      the push of {} is taken in ({})", head.source(), short));
    let key = session.bucket.keys.database();
    let listed = session.bucket.store.list(&key).await?;
    let modified = listed.iter().find(|entry| entry.key == key).map_or(0, |entry| entry.modified);
    let noted = company::something(rows)?;
    let modified_ms = modified.saturating_mul(1000);
    let take = async |rows: &mut Rows<'_>| rows.take_image(&image.path, modified_ms).await;
    let Some(taken) = company::write(session, rows, wish, noted, take).await? else {
        return Ok(None);
    };
    // The commit that holds these rows comes next; nobody may find it before the segment that they are in.
    node::announce(session, rows).await?;
    // What came, not what was announced: a push that was cut off has both, and they differ.
    record.record.taken_in = image.sha256;
    record.save()?;
    Ok(Some(taken))
}

/// The end of a sync: segments are folded where it is time, and this machine's record says how it stands. Trouble with
/// either never fails a sync: the segments are there.
pub(super) async fn close(session: &Session, rows: &mut Rows<'_>, wish: Wish, standing: Option<&Standing>) {
    let end = async {
        if wish.depth() == rows::Depth::Whole {
            let folded = rows.fold().await?;
            tracing::info!(?folded, "segments folded");
        }
        node::keep(session, wish, standing, rows).await
    };
    if let Err(failure) = end.await {
        tracing::warn!(%failure, "the record of this machine is behind");
    }
    if let Err(failure) = embed(session, rows).await {
        tracing::warn!(%failure, "claude-mem is not told yet which rows its search lacks");
    }
}

/// Where the worker is stopped, its next start is told which of the rows that arrived it has to embed.
async fn embed(session: &Session, rows: &mut Rows<'_>) -> CommandResult {
    let foreign = rows.unembedded()?;
    if foreign.is_empty() || !watermarks::tell(&session.config, &session.bucket.context, &foreign).await? {
        return Ok(());
    }
    Ok(rows.told_of_unembedded()?)
}

/// Opens the log of this database.
pub(super) async fn open(session: &Session) -> CommandResult<Rows<'_>> {
    let claude_mem = worker::local_version(&session.config, &worker::probe(&session.config).await);
    Ok(Rows::open(Site {
        bucket: &session.bucket,
        database: session.database.clone(),
        state: session.config.paths.state.clone(),
        node: &session.config.node,
        tool_uses: session.config.rows.tool_uses,
        excluded: session.config.rows.excluded.clone(),
        claude_mem,
        bars: session.ui.bars(),
    })?)
}
