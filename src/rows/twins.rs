//! claude-mem merges observations of one session, title and narrative, once, and keeps the lowest local id: another one on
//! each machine. So that not all of them go everywhere, the smallest uid survives: it takes over the row that stayed.

use super::desk::Desk;
use super::shadow::ShadowError;
use crate::database::content::Uid;

/// One union of twins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The uid that survives, of a row that vanished.
    pub uid: Uid,
    /// The local id of the row that stayed.
    pub lid: i64,
    /// The uid that the row had, and that goes.
    pub other: Uid,
}

/// Finds, among the observations that are gone, those whose uid has to survive in a twin that stayed. The others are plain
/// deletions.
///
/// # Errors
/// The shadow's.
pub fn find(desk: Desk<'_>) -> Result<Vec<Step>, ShadowError> {
    let mut statement = desk.shadow.db.prepare(
        "SELECT g.uid, min(r.lid), r.uid FROM (SELECT min(uid) AS uid, twin FROM temp.gone \
           WHERE tab = 'observations' AND twin IS NOT NULL GROUP BY twin) AS g \
         JOIN rows AS r ON r.tab = 'observations' AND r.twin = g.twin AND r.lid IS NOT NULL AND NOT r.dead \
           AND NOT EXISTS (SELECT 1 FROM temp.gone AS o WHERE o.uid = r.uid AND o.tab = r.tab) \
         GROUP BY g.twin ORDER BY 2",
    )?;
    let rows =
        statement.query_map([], |row| Ok(Step { uid: row.get(0)?, lid: row.get(1)?, other: row.get(2)? }))?;
    let steps: Vec<Step> = rows.collect::<rusqlite::Result<_>>()?;
    Ok(steps.into_iter().filter(|step| step.uid < step.other).collect())
}
