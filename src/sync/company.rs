//! In whose company rows arrive. A worker before 13.10.2, or beside a database without a log of writes, answers 500 to
//! whoever meets a lock, and what it was told is lost: it is stopped for as long as rows arrive, and started again. Never in
//! the middle of a session: then the rows stay in the store until it ends.

use super::session::Session;
use super::wish::Wish;
use crate::error::CommandResult;
use crate::failpoint;
use crate::rows::{Guest, NewsNoted, Rows, RowsError};
use crate::worker::{self, Quiesced};

/// What becomes of an arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Company {
    /// The worker can stand it, or there is none that could mind.
    Beside,
    /// The worker is kept from running meanwhile.
    Quiesced,
    /// It is left for another time.
    NotNow,
}

/// Decides. `running`: a worker runs; `patient`: it waits for locks, as its release and the database have it; `may`: it may be
/// stopped now.
fn company(running: bool, patient: bool, may: bool) -> Company {
    match (running, patient) {
        (_, true) => Company::Beside,
        // None is stopped: it is only kept from starting in the middle.
        (false, false) => Company::Quiesced,
        (true, false) if may => Company::Quiesced,
        (true, false) => Company::NotNow,
    }
}

/// Whether rows may arrive, and who was stopped for it; given back by [`leave`].
enum Arrival {
    /// They may.
    Now(Option<Box<Quiesced>>),
    /// Later.
    Later,
}

/// Writes into the database in the company that is there, in turns that the worker can wait for or while it is stopped.
/// `noted` is what waits to be written; `None`: not now, because of the worker.
///
/// # Errors
/// The worker does not stop; spawn.lock cannot be had; what `work` ends with.
pub(super) async fn write<'a, T>(
    session: &Session,
    rows: &mut Rows<'a>,
    wish: Wish,
    noted: NewsNoted,
    work: impl AsyncFnOnce(&mut Rows<'a>) -> Result<T, RowsError>,
) -> CommandResult<Option<T>> {
    let Arrival::Now(quiesced) = come(session, rows, wish, noted).await? else {
        return Ok(None);
    };
    // While the worker is stopped a signal waits: nobody else would start it again.
    let _critical = quiesced.is_some().then(|| session.bucket.context.critical());
    failpoint::reach("sync.quiesced");
    let written = work(rows).await;
    leave(session, rows, quiesced).await;
    Ok(Some(written?))
}

/// That something has to be written, whatever else there is.
///
/// # Errors
/// The database cannot be opened.
pub(super) fn something(rows: &mut Rows<'_>) -> CommandResult<NewsNoted> {
    let keeps_a_log = rows.keeps_a_log()?;
    Ok(NewsNoted { is_anything: true, waits: false, first: false, never: false, keeps_a_log })
}

/// Comes into the database.
async fn come(
    session: &Session,
    rows: &mut Rows<'_>,
    wish: Wish,
    noted: NewsNoted,
) -> CommandResult<Arrival> {
    rows.come_as(Guest::Beside);
    if session.rehearsal.is_some() || !noted.is_anything && !noted.waits {
        return Ok(Arrival::Now(None));
    }
    let state = worker::probe(&session.config).await;
    let version = worker::local_version(&session.config, &state);
    let patient = noted.keeps_a_log && worker::waits_for_locks(version.as_deref());
    match company(state.running().is_some(), patient, wish.may_stop_the_worker()) {
        Company::Beside => Ok(Arrival::Now(None)),
        // What only waits for something else is tried again with the next rows.
        _ if !noted.is_anything => {
            rows.come_as(Guest::Away);
            Ok(Arrival::Now(None))
        }
        Company::NotNow => {
            tracing::info!(
                ?version,
                "rows of others wait until the session ends: this worker cannot stand a lock"
            );
            Ok(Arrival::Later)
        }
        Company::Quiesced => {
            let quiesced = worker::quiesce(&session.config, &session.bucket.context).await?;
            if quiesced.was_running.is_some() {
                session
                    .ui
                    .line("      the worker is stopped while rows arrive: this release cannot wait for them");
            }
            rows.come_as(Guest::Alone);
            Ok(Arrival::Now(Some(Box::new(quiesced))))
        }
    }
}

/// Leaves the database to its worker, however the arrival ended.
async fn leave(session: &Session, rows: &mut Rows<'_>, quiesced: Option<Box<Quiesced>>) {
    rows.come_as(Guest::Beside);
    let Some(quiesced) = quiesced else { return };
    if let Err(error) = quiesced.resume(!session.config.worker.leave_stopped).await {
        session.ui.warn(format!("{error}: {}", error.hint()));
    }
}

#[cfg(test)]
mod tests {
    use super::{Company, company};

    #[test]
    fn only_a_worker_that_cannot_wait_is_stopped_and_only_when_no_session_needs_it() {
        let table = [
            // running, patient, may be stopped
            ((true, true, true), Company::Beside),
            ((true, true, false), Company::Beside),
            ((false, true, false), Company::Beside),
            ((true, false, true), Company::Quiesced),
            ((true, false, false), Company::NotNow),
            ((false, false, true), Company::Quiesced),
            ((false, false, false), Company::Quiesced),
        ];
        for ((running, patient, may), wanted) in table {
            assert_eq!(company(running, patient, may), wanted, "{running} {patient} {may}");
        }
    }
}
