//! The search for the same row: a record arrives whose uid is not known here, and the row may be here all the same, because
//! the shadow was lost, an old file came back, or a whole image was taken in. Only keys can tell then (docs/rows.md). All of
//! it is done before anything is written.

use rusqlite::{OptionalExtension, ToSql, params};

use super::RowsError;
use super::compose::belongs_to;
use super::desk::Desk;
use super::live::Names;
use super::shadow::ShadowError;
use crate::database::content::{Content, Print, Reference, Uid, extended, key};
use crate::database::rows::{for_each, one};
use crate::database::shape::Shape;

/// So many rows of one key and one content are told apart.
const ATTEMPTS: u32 = 4;

/// A record that is looked for.
struct Sought {
    uid: Uid,
    /// Its keys, the likeliest first.
    keys: Vec<Uid>,
    print: Option<Print>,
    of: Option<Vec<u8>>,
    birth: i64,
}

/// What a row belongs to, as it lies in the scratch tables: short, and equal only for what is equal.
pub fn owner(of: &Reference) -> Vec<u8> {
    match of {
        Reference::Uid(uid) => [&[0], &uid.0[..]].concat(),
        Reference::Text(text) => [&[1], text.as_slice()].concat(),
    }
}

/// Finds the rows that the noted records may be, sessions before their children, and places them.
///
/// # Errors
/// See [`RowsError`].
pub fn search(desk: Desk<'_>) -> Result<(), RowsError> {
    let sql = "SELECT 1 FROM temp.incoming WHERE seek LIMIT 1";
    let mut statement = desk.shadow.db.prepare_cached(sql).map_err(ShadowError)?;
    if statement.query_row([], |_| Ok(())).optional().map_err(ShadowError)?.is_none() {
        return Ok(());
    }
    let names = Names::new(desk.shadow);
    for shape in &desk.live.shapes.all {
        if unknown(desk, shape, &names)? == 0 {
            continue;
        }
        let table = shape.name.as_str();
        each(desk, table, false, |record| exact(desk, table, record))?;
        if is_any_left(desk, table)? {
            for dead in [false, true] {
                each(desk, table, dead, |record| once(desk, table, record))?;
            }
            for dead in [false, true] {
                each(desk, table, dead, |record| second(desk, shape, &names, record))?;
            }
            each(desk, table, false, |record| by_key(desk, table, record).map(|_| ()))?;
            each(desk, table, false, |record| alone(desk, table, record, false))?;
            each(desk, table, true, |record| {
                if by_key(desk, table, record)? { Ok(()) } else { alone(desk, table, record, true) }
            })?;
        }
        name(desk, shape, &names)?;
    }
    Ok(())
}

/// Lists the rows of a table that the shadow does not know; returns how many.
fn unknown(desk: Desk<'_>, shape: &Shape, names: &Names<'_>) -> Result<u64, RowsError> {
    let above = if desk.first { i64::MIN } else { desk.shadow.high(&shape.name)? };
    let mut statement = desk
        .shadow
        .db
        .prepare_cached(
            "INSERT INTO temp.unknown(tab, lid, key, print, of, birth) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )
        .map_err(ShadowError)?;
    let resolve = |table: &str, id: i64| names.get(table, id);
    let mut found = 0;
    for_each(&desk.live.db, shape, above, |row| {
        let id = row.id()?;
        if desk.shadow.uid_of(&shape.name, id)?.is_some() {
            return Ok(());
        }
        let content = row.content(&resolve)?;
        let of = belongs_to(shape, &content).as_ref().map(owner);
        let key = key(&shape.name, &content, &shape.key);
        statement
            .execute(params![shape.name, id, key, content.print(false), of, row.birth()?])
            .map_err(ShadowError)?;
        found += 1;
        Ok::<_, RowsError>(())
    })?;
    names.check()?;
    Ok(found)
}

/// Whether any of these rows is nobody's yet.
fn is_any_left(desk: Desk<'_>, table: &str) -> Result<bool, ShadowError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM temp.unknown WHERE tab = ?1 AND uid IS NULL)";
    Ok(desk.shadow.db.prepare_cached(sql)?.query_row([table], |row| row.get(0))?)
}

/// Calls `find` with each record of a table that is looked for and not found yet.
fn each(
    desk: Desk<'_>,
    table: &str,
    dead: bool,
    mut find: impl FnMut(&Sought) -> Result<(), RowsError>,
) -> Result<(), RowsError> {
    let mut after = None;
    loop {
        let page = sought(desk, table, dead, after)?;
        let Some(last) = page.last() else {
            return Ok(());
        };
        after = Some(last.uid);
        for record in &page {
            find(record)?;
        }
    }
}

/// The next some of them.
fn sought(desk: Desk<'_>, table: &str, dead: bool, after: Option<Uid>) -> Result<Vec<Sought>, ShadowError> {
    // By the index on uid, in whose order they are wanted: the one that begins with what is deleted would sort all of them.
    let sql = "SELECT uid, key, print, of, birth FROM temp.incoming AS i WHERE tab = ?1 AND seek AND +dead = ?2 AND uid > ?3 \
               AND NOT EXISTS (SELECT 1 FROM temp.placed AS p WHERE p.uid = i.uid AND p.tab = i.tab) ORDER BY uid LIMIT 500";
    let mut statement = desk.shadow.db.prepare_cached(sql)?;
    let after = after.map_or(Vec::new(), |uid| uid.0.to_vec());
    let rows = statement.query_map(params![table, dead, after], |row| {
        let (uid, key): (Uid, Uid) = (row.get(0)?, row.get(1)?);
        Ok(Sought { uid, keys: vec![key, uid], print: row.get(2)?, of: row.get(3)?, birth: row.get(4)? })
    })?;
    let mut found: Vec<Sought> = rows.collect::<rusqlite::Result<_>>()?;
    for record in &mut found {
        record.keys.extend(desk.shadow.keys_of(table, record.uid)?);
    }
    Ok(found)
}

/// Takes a row that has one of the record's keys, by `sql` (key, table, and what is asked besides), for the record. Whether
/// there is one.
fn by_keys(
    desk: Desk<'_>,
    table: &str,
    record: &Sought,
    sql: &str,
    besides: &[&dyn ToSql],
) -> Result<bool, RowsError> {
    for key in &record.keys {
        let mut values: Vec<&dyn ToSql> = vec![key, &table];
        values.extend(besides);
        let mut statement = desk.shadow.db.prepare_cached(sql).map_err(ShadowError)?;
        let found = statement
            .query_row(&values[..], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()
            .map_err(ShadowError)?;
        if let Some((id, lid)) = found {
            place(desk, table, record.uid, id, lid)?;
            return Ok(true);
        }
    }
    Ok(false)
}

/// The same key and the same content.
fn exact(desk: Desk<'_>, table: &str, record: &Sought) -> Result<(), RowsError> {
    let sql = "SELECT id, lid FROM temp.unknown WHERE key = ?1 AND tab = ?2 AND print = ?3 AND uid IS NULL ORDER BY lid LIMIT 1";
    by_keys(desk, table, record, sql, &[&record.print]).map(|_| ())
}

/// The same key, and a content that the log has of this row from before.
fn once(desk: Desk<'_>, table: &str, record: &Sought) -> Result<(), RowsError> {
    let sql = "SELECT id, lid FROM temp.unknown WHERE key = ?1 AND tab = ?2 AND uid IS NULL \
               AND print IN (SELECT print FROM temp.past WHERE uid = ?3 AND tab = ?2) ORDER BY lid LIMIT 1";
    by_keys(desk, table, record, sql, &[&record.uid]).map(|_| ())
}

/// One that was born beside another row of its key: its uid is that key extended by what it said then (docs/format.md), and
/// the row says it still. A fold keeps no earlier version, and this needs none.
fn second(desk: Desk<'_>, shape: &Shape, names: &Names<'_>, record: &Sought) -> Result<(), RowsError> {
    if record.keys.first() == Some(&record.uid) {
        return Ok(());
    }
    let table = shape.name.as_str();
    let sql = "SELECT id, lid FROM temp.unknown WHERE key = ?1 AND tab = ?2 AND uid IS NULL ORDER BY lid";
    for key in &record.keys {
        let mut statement = desk.shadow.db.prepare_cached(sql).map_err(ShadowError)?;
        let rows: Vec<(i64, i64)> = statement
            .query_map(params![key, table], |row| Ok((row.get(0)?, row.get(1)?)))
            .and_then(Iterator::collect)
            .map_err(ShadowError)?;
        for (id, lid) in rows {
            let resolve = |table: &str, id: i64| names.get(table, id);
            let content = one(&desk.live.db, shape, lid, |row| row.content(&resolve))?;
            let says = |content: &Content, attempt| extended(table, *key, content, attempt) == record.uid;
            if content.is_some_and(|content| (0..ATTEMPTS).any(|attempt| says(&content, attempt))) {
                return place(desk, table, record.uid, id, lid);
            }
        }
    }
    Ok(())
}

/// A key that the row has or that the record has or had.
fn by_key(desk: Desk<'_>, table: &str, record: &Sought) -> Result<bool, RowsError> {
    let sql =
        "SELECT id, lid FROM temp.unknown WHERE key = ?1 AND tab = ?2 AND uid IS NULL ORDER BY lid LIMIT 1";
    by_keys(desk, table, record, sql, &[])
}

/// The only row and the only record left of one session and birth instant.
fn alone(desk: Desk<'_>, table: &str, record: &Sought, dead: bool) -> Result<(), RowsError> {
    let sql = "SELECT count(*) FROM temp.incoming AS i WHERE birth = ?1 AND tab = ?2 AND of IS ?3 AND seek AND NOT dead \
               AND NOT EXISTS (SELECT 1 FROM temp.placed AS p WHERE p.uid = i.uid AND p.tab = i.tab)";
    let mut statement = desk.shadow.db.prepare_cached(sql).map_err(ShadowError)?;
    let others: i64 = statement
        .query_row(params![record.birth, table, record.of], |row| row.get(0))
        .map_err(ShadowError)?;
    if others != i64::from(!dead) || record.of.is_none() {
        return Ok(());
    }
    let sql = "SELECT id, lid FROM temp.unknown AS u WHERE birth = ?1 AND tab = ?2 AND of IS ?3 AND uid IS NULL \
               AND NOT EXISTS (SELECT 1 FROM temp.incoming AS i WHERE i.key = u.key AND i.tab = u.tab AND NOT i.dead) \
               AND NOT EXISTS (SELECT 1 FROM temp.incoming AS i WHERE i.uid = u.key AND i.tab = u.tab) LIMIT 2";
    let mut statement = desk.shadow.db.prepare_cached(sql).map_err(ShadowError)?;
    let found: Vec<(i64, i64)> = statement
        .query_map(params![record.birth, table, record.of], |row| Ok((row.get(0)?, row.get(1)?)))
        .and_then(Iterator::collect)
        .map_err(ShadowError)?;
    match found.as_slice() {
        [(id, lid)] => place(desk, table, record.uid, *id, *lid),
        _ => Ok(()),
    }
}

fn place(desk: Desk<'_>, table: &str, uid: Uid, id: i64, lid: i64) -> Result<(), RowsError> {
    let shadow = &desk.shadow.db;
    let mut statement =
        shadow.prepare_cached("UPDATE temp.unknown SET uid = ?2 WHERE id = ?1").map_err(ShadowError)?;
    statement.execute(params![id, uid]).map_err(ShadowError)?;
    placed(desk, table, uid, lid)?;
    Ok(())
}

/// Notes where a row is, before the shadow knows it.
///
/// # Errors
/// The shadow's.
pub fn placed(desk: Desk<'_>, table: &str, uid: Uid, lid: i64) -> Result<(), ShadowError> {
    let mut statement =
        desk.shadow.db.prepare_cached("INSERT OR REPLACE INTO temp.placed VALUES (?1, ?2, ?3)")?;
    statement.execute(params![table, uid, lid])?;
    Ok(())
}

/// Forgets where a row was going to be.
///
/// # Errors
/// The shadow's.
pub fn displaced(desk: Desk<'_>, table: &str, uid: Uid) -> Result<(), ShadowError> {
    let mut statement =
        desk.shadow.db.prepare_cached("DELETE FROM temp.placed WHERE uid = ?1 AND tab = ?2")?;
    statement.execute(params![uid, table])?;
    Ok(())
}

/// Notes that a row is here again which the log has as deleted: the scan, which tells the log, must not take it for another
/// one of its key.
///
/// # Errors
/// The shadow's.
pub fn returns(desk: Desk<'_>, table: &str, uid: Uid, lid: i64) -> Result<(), ShadowError> {
    let sql = "INSERT OR REPLACE INTO temp.revived VALUES (?1, ?2, ?3)";
    desk.shadow.db.prepare_cached(sql)?.execute(params![table, lid, uid])?;
    Ok(())
}

/// Which row is here again under that id.
///
/// # Errors
/// The shadow's.
pub fn returned_as(desk: Desk<'_>, table: &str, lid: i64) -> Result<Option<Uid>, ShadowError> {
    let sql = "SELECT uid FROM temp.revived WHERE tab = ?1 AND lid = ?2";
    Ok(desk.shadow.db.prepare_cached(sql)?.query_row(params![table, lid], |row| row.get(0)).optional()?)
}

/// Whether that row is here again, under whatever id.
///
/// # Errors
/// The shadow's.
pub fn is_back(desk: Desk<'_>, table: &str, uid: Uid) -> Result<bool, ShadowError> {
    let sql = "SELECT 1 FROM temp.revived WHERE tab = ?1 AND uid = ?2";
    Ok(desk.shadow.db.prepare_cached(sql)?.query_row(params![table, uid], |_| Ok(())).optional()?.is_some())
}

/// Where a row was found.
///
/// # Errors
/// The shadow's.
pub fn place_of(desk: Desk<'_>, table: &str, uid: Uid) -> Result<Option<i64>, ShadowError> {
    let mut statement =
        desk.shadow.db.prepare_cached("SELECT lid FROM temp.placed WHERE uid = ?1 AND tab = ?2")?;
    Ok(statement.query_row(params![uid, table], |row| row.get(0)).optional()?)
}

/// What was found is called so where children point to it; what was not, by its key.
fn name(desk: Desk<'_>, shape: &Shape, names: &Names<'_>) -> Result<(), RowsError> {
    if !shape.is_named {
        return Ok(());
    }
    let sql = "SELECT lid, coalesce(uid, key) FROM temp.unknown WHERE tab = ?1";
    let mut statement = desk.shadow.db.prepare_cached(sql).map_err(ShadowError)?;
    let mut rows = statement.query([&shape.name]).map_err(ShadowError)?;
    while let Some(row) = rows.next().map_err(ShadowError)? {
        names.set(&shape.name, row.get(0)?, row.get(1)?);
    }
    Ok(())
}
