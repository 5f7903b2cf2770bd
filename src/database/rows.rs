//! The one stream of rows: what every look at rows goes through, be it a digest, a comparison or a scan. A row is read once, as
//! it lies; nothing is copied that nobody asks for. Knows no uids: who calls says which row has which.

use std::borrow::Cow;
use std::collections::HashMap;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};

use super::content::{
    Columns, Content, Print, Printer, Reference, SESSION, STATE_TAG, Uid, Value, birth, key,
};
use super::shape::{Role, Shape, Shapes};
use crate::sum::Sum;

/// Says the uid of a row by table and local id, where it travels.
pub type Resolve<'a> = &'a dyn Fn(&str, i64) -> Option<Uid>;

/// A row of a table as it lies in the database.
#[derive(Debug, Clone, Copy)]
pub struct Lying<'a, 's> {
    shape: &'a Shape,
    row: &'a Row<'s>,
}

/// Calls `visit` with each row above the id, in the order of ids. One pass, flat memory.
///
/// # Errors
/// SQLite's own; what `visit` returns.
pub fn for_each<E: From<rusqlite::Error>>(
    connection: &Connection,
    shape: &Shape,
    above: i64,
    mut visit: impl FnMut(Lying<'_, '_>) -> Result<(), E>,
) -> Result<(), E> {
    let mut statement = connection.prepare_cached(&shape.list)?;
    let mut rows = statement.query([above])?;
    while let Some(row) = rows.next()? {
        visit(Lying { shape, row })?;
    }
    Ok(())
}

/// A row with what tells it apart.
#[derive(Debug)]
pub struct Told {
    /// Its key: the same on every machine.
    pub key: Uid,
    /// What travels of it.
    pub content: Content,
}

/// Calls `visit` with each row of every table, parents before children. What a row points to is told by its key.
///
/// # Errors
/// SQLite's own; what `visit` returns.
pub fn stream<E: From<rusqlite::Error>>(
    connection: &Connection,
    shapes: &Shapes,
    mut visit: impl FnMut(&Shape, Told) -> Result<(), E>,
) -> Result<(), E> {
    let mut keys: HashMap<&str, HashMap<i64, Uid>> = HashMap::new();
    for shape in &shapes.all {
        let mut own = HashMap::new();
        for_each(connection, shape, i64::MIN, |row| {
            let content = row.content(&|table, id| keys.get(table)?.get(&id).copied())?;
            let key = key(&shape.name, &content, &shape.key);
            if shape.is_named {
                own.insert(row.id()?, key);
            }
            visit(shape, Told { key, content })
        })?;
        keys.insert(&shape.name, own);
    }
    Ok(())
}

/// Calls `visit` with the digest of each row of every table: that of [`Content::digest`], with its state. What a row points to
/// is told by its key, and only rows that others point to are asked for theirs.
///
/// # Errors
/// SQLite's own; what `visit` returns.
pub fn digests<E: From<rusqlite::Error>>(
    connection: &Connection,
    shapes: &Shapes,
    mut visit: impl FnMut(&Shape, Sum) -> Result<(), E>,
) -> Result<(), E> {
    let mut keys: HashMap<&str, HashMap<i64, Uid>> = HashMap::new();
    let mut printer = Printer::default();
    for shape in &shapes.all {
        let mut own = HashMap::new();
        for_each(connection, shape, i64::MIN, |row| {
            let resolve = |table: &str, id: i64| keys.get(table)?.get(&id).copied();
            if shape.is_named {
                own.insert(row.id()?, key(&shape.name, &row.content(&resolve)?, &shape.key));
            }
            row.memory(&resolve, None, &mut printer)?;
            row.state(&mut printer)?;
            visit(shape, printer.sum())
        })?;
        keys.insert(&shape.name, own);
    }
    Ok(())
}

/// Calls `look` with one row; `None` where there is none.
///
/// # Errors
/// SQLite's own.
pub fn one<T>(
    connection: &Connection,
    shape: &Shape,
    id: i64,
    look: impl FnOnce(Lying<'_, '_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Option<T>> {
    let mut statement = connection.prepare_cached(&shape.one)?;
    let mut rows = statement.query([id])?;
    match rows.next()? {
        None => Ok(None),
        Some(row) => look(Lying { shape, row }).map(Some),
    }
}

impl<'a> Lying<'a, '_> {
    /// Its local id.
    ///
    /// # Errors
    /// SQLite's own.
    pub fn id(&self) -> rusqlite::Result<i64> {
        self.row.get(0)
    }

    /// The local id of its session, where it is there.
    ///
    /// # Errors
    /// SQLite's own.
    pub fn session(&self) -> rusqlite::Result<Option<i64>> {
        self.row.get(1)
    }

    /// Each column that is not NULL and does not hold its declared default, by name.
    fn said(&self) -> impl Iterator<Item = rusqlite::Result<(&'a super::shape::Column, ValueRef<'_>)>> {
        self.shape.columns.iter().enumerate().filter_map(|(index, column)| {
            match self.row.get_ref(index + 2) {
                Ok(value) if is_default(value, column.default.as_ref()) => None,
                Ok(value) => Some(Ok((column, value))),
                Err(error) => Some(Err(error)),
            }
        })
    }

    /// A column as it lies, `None` for NULL and for what the table does not have.
    ///
    /// # Errors
    /// SQLite's own.
    pub fn value(&self, name: &str) -> rusqlite::Result<Option<Value>> {
        let at = self.shape.columns.binary_search_by(|column| column.name.as_str().cmp(name));
        at.map_or(Ok(None), |index| Ok(Value::of(self.row.get_ref(index + 2)?)))
    }

    /// Its birth instant.
    ///
    /// # Errors
    /// SQLite's own.
    pub fn birth(&self) -> rusqlite::Result<i64> {
        let value = self.shape.birth.map_or(Ok(None), |name| self.value(name))?;
        Ok(birth(value.as_ref()))
    }

    /// What it points to.
    fn refs(&self, resolve: Resolve<'_>) -> rusqlite::Result<Vec<(&'a str, Reference)>> {
        let mut found = Vec::new();
        for (index, column) in self.shape.columns.iter().enumerate() {
            if let Role::Points(table) = &column.role {
                let reference = match self.row.get_ref(index + 2)? {
                    ValueRef::Null => continue,
                    ValueRef::Integer(id) => match resolve(table, id) {
                        Some(uid) => Reference::Uid(uid),
                        None => Reference::Text(id.to_string().into_bytes()),
                    },
                    other => Reference::Text(other.as_bytes_or_null()?.unwrap_or_default().to_vec()),
                };
                found.push((column.name.as_str(), reference));
            }
        }
        if let Some(name) = self.shape.link.name() {
            let uid = self.session()?.and_then(|id| resolve("sdk_sessions", id));
            let reference = match (uid, self.value(name)?) {
                (Some(uid), _) => Some(Reference::Uid(uid)),
                (None, Some(Value::Text(text) | Value::Blob(text))) => Some(Reference::Text(text)),
                (None, Some(Value::Integer(number))) => {
                    Some(Reference::Text(number.to_string().into_bytes()))
                }
                (None, Some(Value::Real(number))) => Some(Reference::Text(number.to_string().into_bytes())),
                (None, None) => None,
            };
            found.extend(reference.map(|reference| (SESSION, reference)));
        }
        found.sort_by(|a, b| a.0.cmp(b.0));
        Ok(found)
    }

    /// The digests of its memory without and, where `at_home`, with its state: see [`Content::print`].
    ///
    /// # Errors
    /// SQLite's own.
    pub fn prints(
        &self,
        resolve: Resolve<'_>,
        at_home: bool,
        printer: &mut Printer,
    ) -> rusqlite::Result<(Print, Print)> {
        self.memory(resolve, None, printer)?;
        let bare = printer.finish(false);
        if !at_home {
            return Ok((bare, bare));
        }
        self.memory(resolve, None, printer)?;
        self.state(printer)?;
        Ok((bare, printer.finish(true)))
    }

    /// The digest of the memory in some of its columns: those that an older schema had.
    ///
    /// # Errors
    /// SQLite's own.
    pub fn print_of(
        &self,
        columns: &dyn Fn(&str) -> bool,
        resolve: Resolve<'_>,
        printer: &mut Printer,
    ) -> rusqlite::Result<Print> {
        self.memory(resolve, Some(columns), printer)?;
        Ok(printer.finish(false))
    }

    fn memory(
        &self,
        resolve: Resolve<'_>,
        only: Option<&dyn Fn(&str) -> bool>,
        printer: &mut Printer,
    ) -> rusqlite::Result<()> {
        for said in self.said() {
            let (column, value) = said?;
            if column.role == Role::Digested && only.is_none_or(|only| only(&column.name)) {
                printer.value(&column.name, value, 0);
            }
        }
        for (name, reference) in self.refs(resolve)? {
            printer.reference(name, &reference);
        }
        Ok(())
    }

    fn state(&self, printer: &mut Printer) -> rusqlite::Result<()> {
        for said in self.said() {
            let (column, value) = said?;
            if column.role == Role::State {
                printer.value(&column.name, value, STATE_TAG);
            }
        }
        Ok(())
    }

    /// Everything that travels of it.
    ///
    /// # Errors
    /// SQLite's own.
    pub fn content(&self, resolve: Resolve<'_>) -> rusqlite::Result<Content> {
        let mut content = Content::default();
        for said in self.said() {
            let (column, value) = said?;
            let into = match column.role {
                Role::Digested => &mut content.columns,
                Role::Carried => &mut content.carried,
                Role::State => &mut content.state,
                Role::Session | Role::Points(_) | Role::Neither => continue,
            };
            into.extend(Value::of(value).map(|value| (column.name.clone(), value)));
        }
        content.refs = self.refs(resolve)?.into_iter().map(|(name, to)| (name.to_owned(), to)).collect();
        Ok(content)
    }
}

fn is_default(value: ValueRef<'_>, default: Option<&Value>) -> bool {
    match (value, default) {
        (ValueRef::Null, _) => true,
        (ValueRef::Integer(number), Some(Value::Integer(default))) => number == *default,
        (ValueRef::Real(number), Some(Value::Real(default))) => number.to_bits() == default.to_bits(),
        (ValueRef::Text(text), Some(Value::Text(default))) => text == default.as_slice(),
        _ => false,
    }
}

/// A record's content as a table of this shape can hold it: what it has no column for is left out, and so is what is the
/// default here. Mostly that is all of it.
pub fn view<'c>(shape: &Shape, content: &'c Content) -> Cow<'c, Content> {
    let held = |name: &str, value: &Value, role: &Role| {
        shape
            .column(name)
            .is_some_and(|column| column.role == *role && column.default.as_ref() != Some(value))
    };
    let leads = |name: &str| match name {
        SESSION => shape.link.name().is_some(),
        name => shape.column(name).is_some_and(|column| matches!(column.role, Role::Points(_))),
    };
    let all = |columns: &Columns, role: Role| columns.iter().all(|(name, value)| held(name, value, &role));
    if all(&content.columns, Role::Digested)
        && all(&content.carried, Role::Carried)
        && all(&content.state, Role::State)
        && content.refs.keys().all(|name| leads(name))
    {
        return Cow::Borrowed(content);
    }
    let pick = |from: &Columns, role: Role| {
        let kept = from.iter().filter(|(name, value)| held(name, value, &role));
        kept.map(|(name, value)| (name.clone(), value.clone())).collect()
    };
    let refs = content.refs.iter().filter(|(name, _)| leads(name));
    Cow::Owned(Content {
        columns: pick(&content.columns, Role::Digested),
        refs: refs.map(|(name, to)| (name.clone(), to.clone())).collect(),
        carried: pick(&content.carried, Role::Carried),
        state: pick(&content.state, Role::State),
    })
}

#[cfg(test)]
mod tests {
    use super::{Told, digests, for_each, one, stream, view};
    use crate::database::content::{Content, Printer, Reference, SESSION, Uid, Value};
    use crate::database::shape::Shapes;
    use rusqlite::Connection;

    const SQL: &str = "CREATE TABLE sdk_sessions(id INTEGER PRIMARY KEY, content_session_id TEXT, memory_session_id TEXT,
           platform_source TEXT DEFAULT 'claude', status TEXT DEFAULT 'active', started_at_epoch INTEGER);
         CREATE TABLE observations(id INTEGER PRIMARY KEY, memory_session_id TEXT, title TEXT, created_at_epoch INTEGER,
           content_hash TEXT, discovery_tokens INTEGER DEFAULT 0, sync_rev TEXT DEFAULT '1');
         INSERT INTO sdk_sessions VALUES(7, 'c', 'm', 'claude', 'completed', 5);
         INSERT INTO observations VALUES(3, 'm', CAST(x'61eda0bd' AS TEXT), 6, 'h', 0, '9'), (4, 'lost', NULL, 8, NULL, 2, '1');";

    #[test]
    fn a_digest_is_the_same_from_the_row_and_from_its_content() {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(SQL).unwrap();
        let shapes = Shapes::read(&db).unwrap();
        let resolve = |_: &str, id: i64| (id == 7).then_some(Uid([7; 16]));
        let mut seen = Vec::new();
        for shape in &shapes.all {
            for_each(&db, shape, 0, |row| {
                let content = row.content(&resolve)?;
                let home = shape.is_sessions();
                let (bare, full) = row.prints(&resolve, home, &mut Printer::default())?;
                assert_eq!((bare, full), (content.print(false), content.print(home)));
                assert_eq!(view(shape, &content).as_ref(), &content, "it fits its own table");
                seen.push((row.id()?, row.birth()?, content));
                Ok::<_, rusqlite::Error>(())
            })
            .unwrap();
        }
        let births: Vec<_> = seen.iter().map(|(id, birth, _)| (*id, *birth)).collect();
        assert_eq!(births, [(7, 5), (3, 6), (4, 8)]);
        let [(_, _, session), (_, _, first), (_, _, second)] = seen.try_into().unwrap();
        assert!(session.get("platform_source").is_none(), "the default is absent");
        assert_eq!(session.state["status"], Value::text("completed"));
        assert_eq!(first.refs[SESSION], Reference::Uid(Uid([7; 16])));
        assert_eq!(first.columns["title"], Value::Text(vec![0x61, 0xed, 0xa0, 0xbd]));
        assert_eq!(first.carried["content_hash"], Value::text("h"));
        assert_eq!(second.refs[SESSION], Reference::Text(b"lost".to_vec()));
        assert_eq!(second.columns.keys().collect::<Vec<_>>(), ["created_at_epoch", "discovery_tokens"]);
    }

    #[test]
    fn digests_are_those_of_the_contents() {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(SQL).unwrap();
        let shapes = Shapes::read(&db).unwrap();
        let (mut of_rows, mut of_contents) = (Vec::new(), Vec::new());
        digests(&db, &shapes, |shape, digest| {
            of_rows.push((shape.name.clone(), digest));
            Ok::<_, rusqlite::Error>(())
        })
        .unwrap();
        stream(&db, &shapes, |shape, Told { content, .. }| {
            of_contents.push((shape.name.clone(), content.digest(true)));
            Ok::<_, rusqlite::Error>(())
        })
        .unwrap();
        assert_eq!(of_rows.len(), 3);
        assert_eq!(of_rows, of_contents);
    }

    #[test]
    fn a_view_leaves_out_what_the_table_has_no_place_for() {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(SQL).unwrap();
        let shapes = Shapes::read(&db).unwrap();
        let shape = shapes.get("observations").unwrap();
        let mut content = one(&db, shape, 3, |row| row.content(&|_, _| None)).unwrap().unwrap();
        let plain = content.clone();
        content.columns.insert("mood".to_owned(), Value::text("good"));
        content.columns.insert("discovery_tokens".to_owned(), Value::Integer(0));
        content.columns.insert("sync_rev".to_owned(), Value::text("2"));
        assert_eq!(view(shape, &content).as_ref(), &plain);
        assert_ne!(content.print(false), plain.print(false));
        content = plain.clone();
        content.refs.insert("nothing".to_owned(), Reference::Text(b"x".to_vec()));
        assert_eq!(view(shape, &content).as_ref(), &plain);
        assert_eq!(view(shape, &Content::default()).as_ref(), &Content::default());
    }
}
