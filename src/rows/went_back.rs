//! Is this an older file than the one that we knew? Then the log knows better than it, and nothing that it lacks was deleted.

use std::collections::BTreeMap;

use rusqlite::params;

use super::RowsError;
use super::live::{Excluded, Live};
use super::report::WentBack;
use super::shadow::{Shadow, ShadowError};
use crate::database::content::{Value, birth};
use crate::database::shape::Shape;
use crate::database::tables::quote;
use crate::failpoint;

/// How many of the highest known ids are looked at after a turn.
const TOP: i64 = 64;

/// What is known without looking at rows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Signs {
    /// The schema is lower than at the last scan, or columns are gone.
    pub schema_lower: bool,
    /// The schema was raised since.
    pub migrated: bool,
    /// The highest ids given: by table, what was seen and what is there.
    pub sequences: BTreeMap<String, (i64, i64)>,
}

/// Decides from the signs alone.
pub fn judge(signs: &Signs) -> Option<WentBack> {
    if failpoint::planted("went back") {
        return None;
    }
    if signs.schema_lower {
        return Some(WentBack::Schema);
    }
    // Migrations build tables anew and lower their sequences, but never that of observations.
    let counts = |table: &str| !signs.migrated || table == "observations";
    let lower = signs.sequences.iter().find(|(table, (seen, there))| there < seen && counts(table));
    lower.map(|(table, _)| WentBack::Sequence(table.clone()))
}

/// Looks at the rows: all of them, or where `top_only` those with the highest known ids.
///
/// # Errors
/// See [`RowsError`].
pub fn look(
    live: &Live,
    shadow: &Shadow,
    excluded: &Excluded,
    top_only: bool,
) -> Result<Option<WentBack>, RowsError> {
    if failpoint::planted("went back") {
        return Ok(None);
    }
    for shape in &live.shapes.all {
        let high = shadow.high(&shape.name)?;
        let above = if top_only { top(shadow, &shape.name)? } else { i64::MIN };
        let birth_of = shape.birth.map_or_else(|| "NULL".to_owned(), quote);
        let table = quote(&shape.name);
        let sql = format!("SELECT rowid, {birth_of} FROM main.{table} WHERE rowid > ?1 AND rowid <= ?2");
        let mut statement = live.db.prepare_cached(&sql)?;
        let until = if high == 0 { i64::MAX } else { high };
        let mut rows = statement.query(params![above, until])?;
        while let Some(row) = rows.next()? {
            let (id, born) = (row.get(0)?, birth(Value::of(row.get_ref(1)?).as_ref()));
            match born_as(shadow, &shape.name, id)? {
                Some(known) if known != born => return Ok(Some(WentBack::OtherRow(shape.name.clone()))),
                None if high > 0 && !stays_here(live, excluded, shape, id)? => {
                    return Ok(Some(WentBack::UnknownRow(shape.name.clone())));
                }
                _ => {}
            }
        }
    }
    Ok(None)
}

/// The id below which the highest known ones begin.
fn top(shadow: &Shadow, table: &str) -> Result<i64, ShadowError> {
    let sql = "SELECT coalesce(min(lid), 0) - 1 FROM (SELECT lid FROM rows WHERE tab = ?1 AND lid IS NOT NULL ORDER BY lid DESC LIMIT ?2)";
    Ok(shadow.db.prepare_cached(sql)?.query_row(params![table, TOP], |row| row.get(0))?)
}

fn born_as(shadow: &Shadow, table: &str, lid: i64) -> Result<Option<i64>, ShadowError> {
    use rusqlite::OptionalExtension;
    let sql = "SELECT birth FROM rows WHERE tab = ?1 AND lid = ?2";
    Ok(shadow.db.prepare_cached(sql)?.query_row(params![table, lid], |row| row.get(0)).optional()?)
}

/// Whether a row is one that never travels: its session's project stays here, or its own.
///
/// # Errors
/// SQLite's.
pub fn stays_here(live: &Live, excluded: &Excluded, shape: &Shape, id: i64) -> rusqlite::Result<bool> {
    let stays = crate::database::rows::one(&live.db, shape, id, |row| {
        let session = if shape.is_sessions() { Some(id) } else { row.session()? };
        let project = session.map_or(Ok(None), |session| live.project_of(session))?;
        let of_session = project.is_some_and(|project| excluded.holds(&project));
        Ok(of_session || excluded.holds_value(row.value("project")?.as_ref()))
    })?;
    Ok(stays.unwrap_or(false))
}

/// Forgets all but which local id is which uid, where the birth instant agrees: the run becomes a first sync.
///
/// # Errors
/// See [`RowsError`].
pub fn forget(live: &Live, shadow: &Shadow) -> Result<(), RowsError> {
    let mut stale: Vec<i64> = Vec::new();
    {
        let mut statement = shadow
            .db
            .prepare("SELECT id, tab, lid, birth FROM rows WHERE lid IS NOT NULL ORDER BY tab, lid")
            .map_err(ShadowError)?;
        let mut rows = statement.query([]).map_err(ShadowError)?;
        while let Some(row) = rows.next().map_err(ShadowError)? {
            let get = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?));
            let (id, table, lid, born): (i64, String, i64, i64) = get(row).map_err(ShadowError)?;
            let shape = live.shapes.get(&table);
            let here = shape.map(|shape| crate::database::rows::one(&live.db, shape, lid, |row| row.birth()));
            if here.transpose()?.flatten() != Some(born) {
                stale.push(id);
            }
        }
    }
    shadow.transaction(|| {
        let mut delete = shadow.db.prepare_cached("DELETE FROM rows WHERE id = ?1")?;
        for id in &stale {
            delete.execute([id])?;
        }
        shadow.db.execute_batch(
            "DELETE FROM rows WHERE dead OR lid IS NULL;
             UPDATE rows SET ms = -1, counter = 0, seen = x'', held = 0, mark = 0;
             DELETE FROM writers; DELETE FROM waiting; DELETE FROM highs; DELETE FROM keys;",
        )?;
        shadow.set("went_back", &true)?;
        shadow.set("synced", &false)?;
        shadow.unset("turn_print")?;
        shadow.unset("whole_print")?;
        Ok::<_, ShadowError>(())
    })?;
    crate::failpoint::reach("rows.went-back");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Signs, WentBack, judge};

    #[test]
    fn a_lower_sequence_is_an_older_file_unless_a_migration_lowers_it() {
        let signs = |table: &str, seen, there, migrated| Signs {
            migrated,
            sequences: [(table.to_owned(), (seen, there))].into(),
            ..Signs::default()
        };
        let back = |table: &str| Some(WentBack::Sequence(table.to_owned()));
        assert_eq!(judge(&signs("observations", 5, 5, false)), None);
        assert_eq!(judge(&signs("observations", 5, 9, false)), None);
        assert_eq!(judge(&signs("observations", 5, 4, false)), back("observations"));
        assert_eq!(judge(&signs("observations", 5, 4, true)), back("observations"));
        assert_eq!(judge(&signs("user_prompts", 5, 4, false)), back("user_prompts"));
        assert_eq!(judge(&signs("user_prompts", 5, 4, true)), None);
        let lower = Signs { schema_lower: true, ..Signs::default() };
        assert_eq!(judge(&lower), Some(WentBack::Schema));
    }
}
