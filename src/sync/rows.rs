//! Compares the local memory with what was fetched from the bucket, row by row, and says in words what only one side
//! has. In nobody's way: a database without a write-ahead log is read from a copy.

use std::path::Path;

use super::session::Session;
use crate::database::compare::{self, Comparison};
use crate::database::snapshot::Pinned;
use crate::database::{self, files};
use crate::error::CommandResult;
use crate::failpoint;

/// What a person is told before: the fetching may take a while.
pub(super) const WHY: &str =
    "no common history is known: the bucket's database is fetched and compared row by row";

/// Compares the live database with a fetched image.
pub(super) async fn compare(session: &Session, image: &Path) -> CommandResult<Comparison> {
    let (here, there) = (session.database.clone(), image.to_owned());
    let folder = session.config.paths.tmp();
    database::blocking(move || {
        let scratch = files::temporary(&folder, "compare")?;
        let pinned = Pinned::beside_writers(&here, &folder)?;
        failpoint::reach("compare.pinned");
        compare::compare_read(pinned.connection(), &here, &there, &scratch)
    })
    .await
}

/// `; only here: 3 observations; only there: nothing`, where that is known.
pub(super) fn only(comparison: Option<&Comparison>) -> String {
    comparison.map_or(String::new(), |rows| {
        format!(
            "; only here: {}; only there: {}",
            rows.describe(|table| table.only_here),
            rows.describe(|table| table.only_there)
        )
    })
}
