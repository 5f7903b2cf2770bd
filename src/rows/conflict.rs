//! Versions of rows that did not win: kept as files, one a version, so that nothing that somebody wrote is gone.

use super::RowsError;
use super::compose;
use super::desk::Desk;
use super::record::Record;
use super::report::{Collected, Conflict, Kept};
use super::shadow::Known;
use super::stamp::Stamp;
use crate::database::content::Content;
use crate::database::shape::Shape;
use crate::private_files::write_private;

/// Keeps the version that did not win, and reports it.
///
/// # Errors
/// The folder cannot be written.
pub fn keep(
    desk: Desk<'_>,
    shape: &Shape,
    theirs: &Record,
    known: Option<&Known>,
    here: Option<&Content>,
    kept: Kept,
    report: &mut Collected,
) -> Result<(), RowsError> {
    let ours = || {
        let stamp = known.map_or(Stamp::NONE, |known| known.entry.stamp);
        let content = here.cloned().unwrap_or_default();
        compose::record(shape, theirs.uid, stamp, theirs.born, content, known, Vec::new(), desk.me)
    };
    let lost = if kept == Kept::Theirs { ours() } else { theirs.clone() };
    let Stamp(ms, counter, writer) = lost.stamp;
    let who = writer.to_string();
    let name = format!("{}-{}-{ms}-{counter}-{}.json", shape.name, lost.uid, who.get(..8).unwrap_or(&who));
    let file = desk.conflicts.join(name.replace('/', "_"));
    let fail = |error| RowsError::Io { doing: "keep a version in", path: file.clone(), error };
    let json = serde_json::to_vec_pretty(&lost).map_err(|error| fail(error.into()))?;
    write_private(&file, &json).map_err(fail)?;
    let title = lost.title().or_else(|| theirs.title());
    report.conflicts.push(Conflict { table: shape.name.clone(), title, kept, file: Some(file.clone()) });
    Ok(())
}
