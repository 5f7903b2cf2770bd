//! claude-mem databases: the schemas are those of the data file, the rows are sound.

use std::time::Instant;

use crate::support::claude_mem::{self, Counts, IdleHolder, MemDb, Version, Writer};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

/// Columns and indexes of a database in the order and words of SQLite's pragmas.
fn described(path: &std::path::Path, table: &str) -> (Vec<String>, Vec<String>) {
    let columns = format!(
        "SELECT name, type, \"notnull\", dflt_value, pk FROM pragma_table_info('{table}') ORDER BY cid"
    );
    let indexes = format!(
        "SELECT name, \"unique\", partial,
                (SELECT group_concat(name, ',') FROM pragma_index_info(list.name))
         FROM pragma_index_list('{table}') list ORDER BY name"
    );
    (claude_mem::dump(path, &columns), claude_mem::dump(path, &indexes))
}

#[test]
fn nine_releases_have_their_schemas_and_work() {
    let folder = folder();
    let file: serde_json::Value =
        serde_json::from_str(include_str!("../../data/claude-mem-schemas.json")).expect("the data file");
    for version in Version::ALL {
        let path = folder.path().join(version.number());
        let db = MemDb::create(&path, version);
        let key = file["versions"].as_object().expect("versions").keys();
        let key = key.into_iter().find(|key| key.rsplit('_').next() == Some(version.number()));
        let wanted = &file["versions"][key.expect("the release")];
        let tables = wanted["tables"].as_object().expect("tables");
        for (name, table) in tables.iter().filter(|(_, table)| table["virtual"] == false) {
            let text = |value: &serde_json::Value| value.as_str().unwrap_or("NULL").to_owned();
            let bit = |value: &serde_json::Value| i64::from(value.as_bool().expect("a bool"));
            let columns = table["columns"].as_array().expect("columns").iter().map(|column| {
                let default = text(&column["default"]);
                format!(
                    "{} | {} | {} | {default} | {}",
                    text(&column["name"]),
                    text(&column["type"]),
                    bit(&column["notnull"]),
                    column["pk"]
                )
            });
            let mut indexes: Vec<String> = table["indexes"]
                .as_array()
                .expect("indexes")
                .iter()
                .map(|index| {
                    let columns: Vec<String> =
                        index["columns"].as_array().expect("columns").iter().map(text).collect();
                    format!(
                        "{} | {} | {} | {}",
                        text(&index["name"]),
                        bit(&index["unique"]),
                        bit(&index["partial"]),
                        columns.join(",")
                    )
                })
                .collect();
            indexes.sort();
            assert_eq!(described(&path, name), (columns.collect(), indexes), "{version:?} {name}");
        }
        assert_eq!(claude_mem::journal_mode(&path), wanted["meta"]["journal_mode"].as_str().expect("a mode"));
        let versions = claude_mem::dump(&path, "SELECT max(version) FROM schema_versions");
        assert_eq!(versions, [version.highest_schema().to_string()]);

        db.add_session("first").add_observations(5).add_summaries(2).add_prompts(3).add_pending(1);
        let wanted = Counts { observations: 5, session_summaries: 2, user_prompts: 3, sdk_sessions: 1 };
        assert_eq!(db.counts(), wanted, "{version:?}");
        assert_eq!((db.integrity().as_str(), claude_mem::fts_ok(&path)), ("ok", true), "{version:?}");
        assert_eq!(db.fts_search("\"local observation 4\""), [4]);
        db.execute("DELETE FROM observations WHERE id=4; UPDATE observations SET title='zebra' WHERE id=5");
        assert_eq!((db.fts_search("\"local observation 4\""), db.fts_search("zebra")), (vec![], vec![5]));
        assert!(claude_mem::fts_ok(&path), "{version:?}");
    }
}

#[test]
fn the_full_text_check_can_fail() {
    let folder = folder();
    let db = MemDb::create(folder.path().join("db"), Version::V13_25_3);
    db.add_observations(3).execute("DROP TRIGGER observations_ad; DELETE FROM observations WHERE id=2");
    assert!(!claude_mem::fts_ok(db.path()));
}

#[test]
fn rows_are_reproducible_and_differ_between_machines() {
    let folder = folder();
    let make = |name: &str, label: &str| {
        let db = MemDb::create_as(folder.path().join(name), Version::V13_25_3, label);
        db.add_observations(20).add_tool_uses(2);
        db
    };
    let (one, same, other) = (make("1", "alpha"), make("2", "alpha"), make("3", "beta"));
    let all = "SELECT * FROM observations ORDER BY id";
    let rows = claude_mem::dump(one.path(), all);
    assert_eq!(rows, claude_mem::dump(same.path(), all));
    assert_eq!(one.observation_titles()[6], claude_mem::title("alpha", 7));
    assert!(one.observation_titles().iter().all(|title| !other.observation_titles().contains(title)));
    let average = rows.iter().map(String::len).sum::<usize>() / rows.len();
    assert!((1000..2500).contains(&average), "{average} bytes per observation");
    MemDb::open(one.path(), "beta").add_observations(1);
    assert_eq!(one.observation_titles().last(), Some(&claude_mem::title("beta", 21)));
    assert_eq!(one.counts().sdk_sessions, 2);
}

#[test]
fn fills_to_a_size() {
    let folder = folder();
    let db = MemDb::create(folder.path().join("db"), Version::V13_25_3);
    let megabytes =
        std::env::var("SUPPORT_FILL_MB").ok().and_then(|text| text.parse().ok()).unwrap_or(20_u64);
    let target = megabytes << 20;
    let started = Instant::now();
    db.fill_to_bytes(target);
    let size = std::fs::metadata(db.path()).expect("the file").len();
    println!("{size} bytes in {:?}", started.elapsed());
    assert!(size >= target && size < target + target / 10, "{size}");
    assert_eq!((db.integrity().as_str(), claude_mem::fts_ok(db.path())), ("ok", true));
    assert_eq!(claude_mem::journal_mode(db.path()), "wal");
}

#[test]
fn a_writer_keeps_what_it_acknowledged() {
    let folder = folder();
    let db = MemDb::create(folder.path().join("db"), Version::V13_25_3);
    let writer = Writer::start(db.path(), "busy");
    writer.wait_for(50);
    db.add_observations(1);
    let acknowledged = writer.stop();
    assert!(acknowledged.len() >= 50);
    let titles = db.observation_titles();
    assert!(acknowledged.iter().all(|title| titles.contains(title)));
    assert_eq!(titles.len(), acknowledged.len() + 1);
    assert_eq!(db.integrity(), "ok");
}

#[test]
fn a_holder_keeps_rows_in_the_wal_only() {
    let folder = folder();
    let db = MemDb::create(folder.path().join("db"), Version::V10_3_3);
    db.add_observations(3);
    let holder = IdleHolder::with_rows(db.path(), "held", 4);
    assert_eq!(db.counts().observations, 7);
    let copy = folder.path().join("copy");
    std::fs::copy(db.path(), &copy).expect("copy the main file");
    assert_eq!(claude_mem::counts(&copy).observations, 3);
    drop(holder);
}
