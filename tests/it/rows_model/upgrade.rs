//! What claude-mem's migrations do to the rows of an older release: columns filled in, texts rewritten, twins merged.

use std::path::Path;

use rusqlite::Connection;

use super::memory::{Memory, TABLES};
use crate::support::claude_mem::Version;

/// Columns of a table that both databases have.
fn common(db: &Connection, table: &str) -> String {
    let sql = "SELECT group_concat(a.name) FROM pragma_table_info(?1, 'main') a
               JOIN pragma_table_info(?1, 'old') b ON a.name=b.name";
    db.query_row(sql, [table], |row| row.get(0)).expect("columns")
}

/// The database at `old`, written anew in the release `to`. `lowered`: the tables but observations lose the memory of ids
/// that were given, as some migrations have it.
pub fn upgraded(old: &Path, folder: &Path, to: Version, lowered: bool) -> Vec<u8> {
    let path = folder.join("upgraded.db");
    let new = Memory::create(&path, to);
    let db = &new.db;
    db.execute_batch("PRAGMA foreign_keys=OFF").expect("no foreign keys");
    db.execute("ATTACH ? AS old", [old.to_str().expect("a path")]).expect("attach");
    db.execute_batch("BEGIN").expect("begin");
    for (table, _) in TABLES {
        let names = common(db, table);
        db.execute_batch(&format!("INSERT INTO main.{table}({names}) SELECT {names} FROM old.{table}"))
            .expect("rows of the older release");
    }
    if new.has("user_prompts", "session_db_id") {
        db.execute_batch(
            "UPDATE user_prompts SET session_db_id=(SELECT s.id FROM main.sdk_sessions s
                 WHERE s.content_session_id=user_prompts.content_session_id) WHERE session_db_id IS NULL;
             UPDATE observations SET content_hash='mig'||id WHERE content_hash IS NULL;
             UPDATE observations SET concepts=nullif(replace(concepts, '\u{1f534}:', ''), '');",
        )
        .expect("what a migration fills in");
    }
    let kept = if lowered { "name='observations'" } else { "1" };
    db.execute_batch(&format!(
        "UPDATE main.sqlite_sequence SET seq=(SELECT o.seq FROM old.sqlite_sequence o WHERE o.name=sqlite_sequence.name)
             WHERE name IN (SELECT name FROM old.sqlite_sequence WHERE {kept});
         INSERT INTO main.sqlite_sequence(name, seq) SELECT name, seq FROM old.sqlite_sequence
             WHERE {kept} AND name NOT IN (SELECT name FROM main.sqlite_sequence);"
    ))
    .expect("the ids that were given");
    db.execute_batch("COMMIT").expect("commit");
    let version: i64 =
        db.query_row("PRAGMA old.schema_version", [], |row| row.get(0)).expect("the schema's version");
    db.execute_batch("DETACH old").expect("detach");
    // A migration in place raises it with every statement.
    db.execute_batch(&format!("PRAGMA schema_version={}", version + 20)).expect("the schema's version");
    let image = new.image();
    drop(new);
    std::fs::remove_file(path).expect("remove the copy");
    image
}

/// Of observations of one session, title and narrative the one with the lowest local id stays.
pub const MERGE_TWINS: &str = "DELETE FROM observations WHERE EXISTS (SELECT 1 FROM observations o
    WHERE o.memory_session_id=observations.memory_session_id AND o.title=observations.title
    AND o.narrative=observations.narrative AND o.id<observations.id)";
