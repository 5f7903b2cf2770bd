use std::path::{Path, PathBuf};

use rusqlite::Connection;
use sha2::{Digest as _, Sha256};

use super::{Spooled, spool};
use crate::context::hex;
use crate::database::files;
use crate::database::snapshot::Pinned;
use crate::history::Kind;
use crate::history::pack::{PackReader, apply};
use crate::history::pagemap::PageMap;
use crate::progress::Progress;
use crate::seal::{Seal, Sealing};
use crate::storage::Digests;
use crate::sum::Sum;

/// A database with some hundred pages: text that does not compress well and is the same in each run, because how many pages
/// of the index a change touches depends on it.
pub(in crate::history) fn database(folder: &Path) -> PathBuf {
    let path = folder.join("x.db");
    sql(
        &path,
        "PRAGMA journal_mode=WAL; CREATE TABLE t(id INTEGER PRIMARY KEY, x TEXT); CREATE INDEX i ON t(x);",
    );
    let mut connection = Connection::open(&path).unwrap();
    let all = connection.transaction().unwrap();
    for id in 1..=4000 {
        let text: String = (0..3).map(|part| hex(&Sha256::digest(format!("{id} {part}")))).collect();
        all.execute("INSERT INTO t VALUES (?1, ?2)", (id, &text[..160])).unwrap();
    }
    all.commit().unwrap();
    path
}

pub(in crate::history) fn sql(path: &Path, text: &str) {
    Connection::open(path).unwrap().execute_batch(text).unwrap();
}

fn image(path: &Path, folder: &Path) -> Vec<u8> {
    let copy = files::temporary(folder, "image").unwrap();
    let pinned = Pinned::new(path).unwrap();
    pinned.copy_to(&copy, &Progress::hidden()).unwrap();
    std::fs::read(&copy).unwrap()
}

struct Ground {
    folder: tempfile::TempDir,
    path: PathBuf,
    /// The image as the packs make it.
    remote: std::fs::File,
    remote_path: PathBuf,
}

impl Ground {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = database(folder.path());
        let remote_path = folder.path().join("remote");
        let remote =
            std::fs::OpenOptions::new().read(true).write(true).create_new(true).open(&remote_path).unwrap();
        Self { folder, path, remote, remote_path }
    }

    fn map(&self) -> PathBuf {
        self.folder.path().join("the.map")
    }

    /// Spools, applies, compares with a copy of the database.
    fn push(&self, parent: Option<Sum>) -> (Spooled, Sum) {
        let map = parent.and_then(|sha256| PageMap::open(&self.map(), sha256));
        let pinned = Pinned::new(&self.path).unwrap();
        let spooled = spool(
            &pinned,
            map,
            self.folder.path(),
            &Progress::hidden(),
            Sealing::new(Seal::Off, "cid", [0; 32]),
        )
        .unwrap();
        assert_eq!(Digests::of_file(&spooled.path).unwrap(), spooled.digests);
        let mut pack = PackReader::open(std::fs::File::open(&spooled.path).unwrap()).unwrap();
        assert_eq!(pack.image, spooled.sha256);
        apply(&mut pack, &self.remote).unwrap();
        let there = std::fs::read(&self.remote_path).unwrap();
        assert!(there == image(&self.path, self.folder.path()));
        assert_eq!(Digests::of_file(&self.remote_path).unwrap().sha256, spooled.sha256);
        let sha256 = spooled.sha256;
        (spooled, sha256)
    }

    fn keep(&self, spooled: Spooled) {
        spooled.map.keep(&self.map()).unwrap();
    }
}

#[test]
fn a_delta_holds_the_pages_that_changed_and_nothing_else() {
    let ground = Ground::new();
    let (full, sha256) = ground.push(None);
    assert_eq!((full.kind, full.pages), (Kind::Full, full.shape.page_count));
    ground.keep(full);

    let (same, _) = ground.push(Some(sha256));
    assert_eq!((same.kind, same.pages), (Kind::Delta, 0));
    assert_eq!(same.sha256, sha256);

    sql(&ground.path, "UPDATE t SET x = 'changed' WHERE id = 2000;");
    let (one, _) = ground.push(Some(sha256));
    assert!((1..=6).contains(&one.pages), "{} pages", one.pages);
    assert!(one.digests.size < 20_000, "{} bytes", one.digests.size);
    ground.keep(one);
}

#[test]
fn a_delta_is_smaller_where_index_pages_are_known_and_the_same_where_they_are_not() {
    let ground = Ground::new();
    let (full, sha256) = ground.push(None);
    ground.keep(full);
    let pages = ground.map().with_extension("pages");
    let kept = std::fs::read(&pages).unwrap();
    let whole = std::fs::read(&ground.remote_path).unwrap();
    sql(&ground.path, "INSERT INTO t(x) SELECT hex(randomblob(20)) FROM t LIMIT 40;");
    let mut sizes = Vec::new();
    for there in [Some(kept), Some(vec![7; whole.len()]), None] {
        let _ = std::fs::remove_file(&pages);
        if let Some(bytes) = there {
            std::fs::write(&pages, bytes).unwrap();
        }
        std::fs::write(&ground.remote_path, &whole).unwrap();
        let (delta, _) = ground.push(Some(sha256));
        assert_eq!(delta.kind, Kind::Delta);
        sizes.push(delta.digests.size);
    }
    let [known, garbage, none] = sizes[..] else {
        panic!("{sizes:?}");
    };
    assert!(known * 2 < none, "{sizes:?}");
    assert_eq!(garbage, none);
}

#[test]
fn every_change_of_a_database_survives_a_chain_of_deltas() {
    let ground = Ground::new();
    let (full, mut sha256) = ground.push(None);
    ground.keep(full);
    let steps = [
        ("more rows", "INSERT INTO t(x) SELECT hex(randomblob(50)) FROM t LIMIT 700;"),
        ("a new table", "CREATE TABLE u AS SELECT * FROM t LIMIT 300;"),
        ("rows go", "DELETE FROM t WHERE id % 3 = 0 AND id < 900;"),
        ("a table goes", "DROP TABLE u;"),
        ("it shrinks", "DELETE FROM t WHERE id > 3000; VACUUM;"),
        ("it grows again", "INSERT INTO t(x) SELECT hex(randomblob(90)) FROM t LIMIT 900;"),
        ("another journal mode", "PRAGMA journal_mode=DELETE; UPDATE t SET x='y' WHERE id=5;"),
        ("and back", "PRAGMA journal_mode=WAL; UPDATE t SET x='z' WHERE id=5;"),
    ];
    for (name, text) in steps {
        sql(&ground.path, text);
        let (spooled, now) = ground.push(Some(sha256));
        eprintln!("{name}: {:?}, {} pages", spooled.kind, spooled.pages);
        assert_ne!(now, sha256, "{name}");
        ground.keep(spooled);
        sha256 = now;
    }
}

#[test]
fn a_full_pack_is_made_where_a_delta_makes_no_sense() {
    let ground = Ground::new();
    let (full, sha256) = ground.push(None);
    ground.keep(full);
    let (stale, _) = ground.push(Some(Sum::of("another")));
    assert_eq!(stale.kind, Kind::Full, "a map of another image");
    sql(&ground.path, "UPDATE t SET x = hex(randomblob(80));");
    let (most, _) = ground.push(Some(sha256));
    assert_eq!(most.kind, Kind::Full, "nearly every page changed");
    sql(&ground.path, "PRAGMA journal_mode=DELETE; PRAGMA page_size=8192; VACUUM; PRAGMA journal_mode=WAL;");
    let (sized, _) = ground.push(Some(sha256));
    assert_eq!((sized.kind, sized.shape.page_size), (Kind::Full, 8192));
    std::fs::write(ground.map(), "garbage").unwrap();
    let (damaged, _) = ground.push(Some(sha256));
    assert_eq!(damaged.kind, Kind::Full);
}
