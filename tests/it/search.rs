//! `search`, and the titles in `diff` and `history -v`: observations found by their words, here and in the past.

use crate::common::with_memory;
use crate::support::claude_mem::Version;
use crate::support::machine::{Machine, Store};
use crate::support::s3::{Op, S3Server};

/// Names an observation.
fn name(machine: &Machine, id: u32, title: &str, narrative: &str, project: &str) {
    machine.db().execute(&format!(
        "UPDATE observations SET title = '{title}', narrative = '{narrative}', project = '{project}', type = 'bugfix' WHERE id = {id}"
    ));
}

#[test]
fn observations_are_found_by_their_words() {
    let server = S3Server::start();
    let alpha = Machine::new("alpha", &server);
    with_memory(&alpha);
    name(&alpha, 1, "Stale lock after a power cut", "the lease of the quokka had run out", "shed");
    name(&alpha, 2, "Сад: полив за розкладом", "насос і датчик", "garden");
    name(&alpha, 3, "Quokkas in the queue", "the quokka lease", "garden");
    let files = alpha.files();

    let found = alpha.cmd("search quokka lease").run();
    found.assert_code(0).stdout_has("#1 ").stdout_has("bugfix  Stale lock after a power cut");
    found.stdout_has("#3 ").stdout_has("shed  ");
    assert!(found.stdout.lines().all(|line| line.chars().count() <= 80), "{found:?}");
    let ids = |command: &str| -> Vec<u64> {
        let json = alpha.cmd(&format!("search {command} --json")).run().json();
        let hits = json["observations"].as_array().unwrap();
        let mut ids: Vec<_> = hits.iter().map(|hit| hit["id"].as_u64().unwrap()).collect();
        ids.sort_unstable();
        ids
    };
    assert_eq!(ids("quokka*"), [1, 3]);
    assert_eq!(ids("quokka"), [1, 3]);
    assert_eq!(ids("quokkas"), [3]);
    assert_eq!(ids("quokka --only garden"), [3]);
    assert_eq!(ids("полив розкладом"), [2]);
    assert_eq!(ids("quokka --limit 1").len(), 1);
    let phrase = alpha.cmd("search").arg("quokka lease").run();
    phrase.assert_code(0).stdout_has("#3 ");
    assert!(!phrase.stdout.contains("#1 "), "{phrase:?}");
    // Words of the search language are words like any other.
    let odd = alpha.cmd("search NEAR(quokka OR \" title:x").run();
    odd.assert_code(0).stdout_has("no observation here matches");
    let nothing = alpha.cmd("search wombat --json").run();
    nothing.assert_code(0);
    assert_eq!(nothing.json()["outcome"], "empty");
    alpha.cmd("search --").run().assert_code(1);
    alpha.cmd("search -- - *").run().assert_code(1).stdout_has("holds no word to look for");
    assert_eq!(server.requests().len(), 0, "the store is not asked");
    assert_eq!(alpha.files(), files, "nothing is left behind");

    // Beside a writer, and without claude-mem's index.
    let holder = crate::support::claude_mem::IdleHolder::with_rows(alpha.db_path(), "alpha", 1);
    assert_eq!(ids("quokkas"), [3]);
    drop(holder);
    alpha.db().execute("DROP TABLE observations_fts");
    alpha.cmd("search quokka").run().assert_code(1).stdout_has("start claude-mem once");
    Machine::new("beta", &server).cmd("search quokka").run().assert_code(1).stdout_has("no database");
}

fn what_is_gone(store: &Store) {
    let alpha = Machine::new("alpha", store);
    alpha.create_db(Version::V13_25_3).add_session("one").add_observations(20);
    name(&alpha, 1, "The quokka stays", "x", "shed");
    name(&alpha, 2, "The quokka goes", "x", "shed");
    name(&alpha, 3, "The quokka goes at once", "x", "shed");
    alpha.cmd("push_sqlite").run().assert_code(0);
    alpha.db().add_observations(2).execute("DELETE FROM observations WHERE id = 3");
    name(&alpha, 21, "A new quokka", "x", "shed");
    alpha.cmd("push_sqlite").run().assert_code(0);
    alpha.db().execute("DELETE FROM observations WHERE id = 2");
    alpha.cmd("push_sqlite").run().assert_code(0);
    let files = alpha.files();

    let all = alpha.cmd("search quokka --history").run();
    all.assert_code(0)
        .stdout_has("The quokka stays")
        .stdout_has("A new quokka")
        .stdout_has("no longer here, but in the 3 pushes that are kept:")
        .stdout_has("pushes 1 to 2: membridge restore 2 --to FILE")
        .stdout_has("push 1: membridge restore 1 --to FILE");
    let json = alpha.cmd("search quokka --history --json").run().json();
    let past: Vec<_> =
        json["past"].as_array().unwrap().iter().map(|hit| hit["title"].as_str().unwrap()).collect();
    assert_eq!(past, ["The quokka goes at once", "The quokka goes"], "the newest first");
    assert_eq!(json["commits"], 3);
    alpha.cmd("search wombat --history").run().assert_code(0).stdout_has("nothing more");

    let diff = alpha.cmd("diff 1 3").run();
    diff.assert_code(0).stdout_has("    + A new quokka").stdout_has("    - The quokka goes at once");
    diff.stdout_has("observations: 2 added, 0 changed, 2 removed");
    let json = alpha.cmd("diff 2 3 --json").run().json();
    assert_eq!(json["tables"][0]["removed_titles"][0], "The quokka goes", "{json}");

    let history = alpha.cmd("history -v").run();
    history.assert_code(0).stdout_has("+ A new quokka").stdout_has("- The quokka goes at once");
    let at = |text: &str| history.stdout.find(text).unwrap_or_else(|| panic!("{text}: {history:?}"));
    assert!(at("- The quokka goes\n") < at("+ A new quokka"), "under the push that brought it: {history:?}");
    let json = alpha.cmd("history -v --limit 1 --json").run().json();
    assert_eq!(json["commits"][0]["titles"]["removed_titles"][0], "The quokka goes", "{json}");
    assert_eq!(alpha.files(), files, "nothing is left behind");

    // A machine that has no memory yet finds the past too.
    let beta = Machine::new("beta", store);
    beta.cmd("search goes --history").run().assert_code(0).stdout_has("pushes 1 to 2");
}

#[test]
fn what_is_gone_is_found_in_earlier_pushes_over_s3() {
    let server = S3Server::start();
    what_is_gone(&Store::from(&server));
    let alpha = Machine::new("gamma", &server);
    server.reset_log();
    alpha.cmd("search goes --history").run().assert_code(0);
    assert_eq!(server.count(Op::GetObject, "/packs/"), 3, "each pack once: {:?}", server.requests());
}

#[test]
fn what_is_gone_is_found_in_earlier_pushes_over_a_directory() {
    let folder = tempfile::tempdir().unwrap();
    what_is_gone(&Store::from(folder.path()));
}
