//! `history`, `restore`, `diff` and `verify` on a history that the library wrote, over both kinds of store.

use std::path::Path;
use std::sync::Arc;

use membridge::context::Context;
use membridge::database::snapshot::Pinned;
use membridge::history::commit::{Author, Commit};
use membridge::history::log::{self, Created};
use membridge::history::pagemap::PageMap;
use membridge::history::spool::spool;
use membridge::storage::{self, Bucket};
use membridge::sum::Sum;
use membridge::ui::Progress;

use crate::stores;
use crate::support::claude_mem::{self, Version};
use crate::support::machine::{Machine, Store};
use crate::support::s3::{Fault, Op, S3Server};

const ROOT: &str = "projects/6fe2e0f6071ac2bb/membridge";

/// Makes the machine's database the next commit.
pub fn commit(machine: &Machine, store: &Store, time: &str) -> Commit {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let folder = machine.path("tmp");
        let bucket = Bucket::new(stores::open(store), "6fe2e0f6071ac2bb", Arc::default(), &folder);
        let map = folder.join("the.map");
        let parent = log::head(&bucket, None).await.unwrap();
        let known = parent.as_ref().and_then(|parent| PageMap::open(&map, parent.sha256));
        let pinned = Pinned::new(&machine.db_path()).unwrap();
        let facts = pinned.facts().unwrap();
        let spooled = spool(&pinned, known, &folder, &Progress::hidden(), bucket.sealing().unwrap()).unwrap();
        log::upload_pack(&bucket, &spooled, &Progress::hidden()).await.unwrap();
        let author = Author {
            host: machine.name.clone(),
            time: time.parse().unwrap(),
            token: Context::default().token().unwrap(),
            ..Author::default()
        };
        let commit = Commit::following(parent.as_ref(), &spooled, &facts, author);
        let created = log::create(&bucket, &commit).await.unwrap();
        assert_eq!(created, Created::Won);
        spooled.map.keep(&map).unwrap();
        commit
    })
}

fn three_commits(machine: &Machine, store: &Store) -> [Commit; 3] {
    let db = machine.create_db(Version::V13_25_3);
    db.add_session("one").add_observations(400).add_prompts(5);
    let first = commit(machine, store, "2026-01-01T10:00:00Z");
    db.add_observations(40).add_prompts(8);
    let second = commit(machine, store, "2026-01-02T10:00:00Z");
    db.execute(
        "DELETE FROM observations WHERE id <= 3; UPDATE observations SET subtitle = 'new' WHERE id = 9;",
    );
    let third = commit(machine, store, "2026-01-03T10:00:00Z");
    [first, second, third]
}

fn look_back(store: &Store) {
    let alpha = Machine::new("alpha", store);
    alpha.cmd("history").run().assert_code(0).stdout_has("no history yet");
    let [first, second, third] = three_commits(&alpha, store);
    assert!(second.pack_size * 3 < first.pack_size);
    alpha
        .cmd("history")
        .run()
        .assert_code(0)
        .stdout_has("alpha                       437       -3")
        .stdout_has("alpha                       440      +40")
        .stdout_has("alpha                       400     +400")
        .stdout_has("delta");
    let json = alpha.cmd("history --json --limit 1").run();
    let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json["commits"].as_array().unwrap().len(), 1);
    assert_eq!(json["commits"][0]["observations_change"], -3);

    alpha
        .cmd("diff 1 2")
        .run()
        .assert_code(0)
        .stdout_has("observations: 40 added, 0 changed, 0 removed")
        .stdout_has("prompts: 8 added, 0 changed, 0 removed");
    alpha
        .cmd("diff 2026-01-02")
        .run()
        .assert_code(0)
        .stdout_has("from commit 2, made ")
        .stdout_has("observations: 0 added, 1 changed, 3 removed");
    alpha.cmd("diff 3 head").run().assert_code(0).stdout_has("the same memories");
    alpha.cmd("verify --all").run().assert_code(0).stdout_has("verified: 3 commits, 3 packs");
    alpha.cmd("verify").run().assert_code(0).stdout_has("verified: 1 commit, 3 packs");

    let file = alpha.path("tmp/second.db");
    alpha.cmd(&format!("restore 2 --to {}", file.display())).run().assert_code(0).stdout_has("restored to");
    let restored = storage::Digests::of_file(&file).unwrap();
    assert_eq!(restored.sha256, second.sha256);
    assert_eq!(claude_mem::counts(&file).observations, 440);
    alpha
        .cmd(&format!("restore 2 --to {}", file.display()))
        .run()
        .assert_code(1)
        .stdout_has("is there already");
    for (words, said) in [
        ("restore 9", "holds nothing for '9'"),
        ("restore 2025-01-01", "holds nothing for"),
        ("restore never", "neither the number of a push nor a time"),
    ] {
        alpha.cmd(words).run().assert_code(1).stdout_has(said);
    }

    // Into the live database, while somebody holds it open.
    let holder = claude_mem::IdleHolder::with_rows(alpha.db_path(), "alpha", 2);
    alpha
        .cmd("restore 2026-01-01T12:00 --yes")
        .run()
        .assert_code(0)
        .stdout_has("RESTORE COMPLETE (commit 1)");
    drop(holder);
    assert_eq!(alpha.db().counts().observations, 400);
    assert_eq!(claude_mem::integrity(alpha.db_path()), "ok");
    assert!(claude_mem::fts_ok(alpha.db_path()));
    let backups = alpha.path(".claude-mem/backups/pull-overwrite");
    let backup = std::fs::read_dir(&backups).unwrap().next().unwrap().unwrap().path();
    assert_eq!(claude_mem::counts(backup.join("claude-mem.db")).observations, 439);

    // On a machine without a database it is simply put there.
    let beta = Machine::new("beta", store);
    beta.cmd("restore head").run().assert_code(0);
    assert_eq!(beta.db().counts().observations, 437);
    assert_eq!(third.counts.observations, 437);
}

#[test]
fn f08_the_past_is_listed_compared_verified_and_restored_over_s3() {
    look_back(&Store::from(&S3Server::start()));
}

#[test]
fn f08_the_past_is_listed_compared_verified_and_restored_over_a_directory() {
    let folder = tempfile::tempdir().unwrap();
    look_back(&Store::from(folder.path()));
}

#[test]
fn f22_verify_names_what_is_damaged_and_goes_on() {
    let server = S3Server::start();
    let store = Store::from(&server);
    let alpha = Machine::new("alpha", &store);
    let [_, second, third] = three_commits(&alpha, &store);
    let key = format!("{ROOT}/packs/{}.zst", third.pack);
    let good = server.get(&key).unwrap();
    let mut bad = good.clone();
    bad[70] ^= 1;
    server.put(&key, &bad);
    alpha.cmd("verify --all").run().assert_code(1).stdout_has(&third.pack.to_string());
    alpha.cmd("restore 3").run().assert_code(1).stdout_has(&third.pack.to_string());
    let file = alpha.path("tmp/second.db");
    alpha.cmd(&format!("restore 2 --to {}", file.display())).run().assert_code(0);
    server.remove(&key);
    alpha.cmd("verify --all").run().assert_code(1).stdout_has("is not there");
    server.put(&key, &good);
    alpha.cmd("verify --all").run().assert_code(0);

    let record = format!("{ROOT}/commits/0000000002.json");
    let text = server.get(&record).unwrap();
    server.put(&record, "{}");
    alpha.cmd("verify --all").run().assert_code(1).stdout_has("0000000002.json is not a commit");
    server.remove(&record);
    alpha.cmd("verify --all").run().assert_code(1).stdout_has("commit 2 is missing between 1 and 3");
    server.put(&record, &text);
    alpha.cmd("verify --all").run().assert_code(0);
    assert_eq!(second.number, 2);
}

#[test]
fn a_download_goes_on_where_the_connection_was_cut() {
    let server = S3Server::start();
    let store = Store::from(&server);
    let alpha = Machine::new("alpha", &store);
    let [first, ..] = three_commits(&alpha, &store);
    server.fault(Fault::CutConnection(first.pack_size / 3).on(Op::GetObject).key("packs/").next(2)).forever();
    let file = alpha.path("tmp/first.db");
    alpha.cmd(&format!("restore 1 --to {}", file.display())).run().assert_code(0);
    assert_eq!(sha256(&file), first.sha256);
    assert!(server.count(Op::GetObject, "packs/") >= 3);
}

fn sha256(path: &Path) -> Sum {
    storage::Digests::of_file(path).unwrap().sha256
}

#[test]
fn an_empty_store_is_not_called_verified() {
    let server = S3Server::start();
    let alpha = Machine::new("alpha", &server);
    alpha.cmd("verify").run().assert_code(0).stdout_has("nothing to verify: the store keeps no push yet");
}
