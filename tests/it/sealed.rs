//! Sealed projects on the real binary: two machines, everything in the bucket searched, whoever lacks the key refused.

use std::collections::BTreeSet;
use std::path::Path;

use super::common::{memory, now, rows, with_memory};
use super::sealed_format::with_cryptography;
use crate::support::claude_mem::Version;
use crate::support::machine::Machine;
use crate::support::s3::{Op, S3Server};

pub const ROOT: &str = "projects/6fe2e0f6071ac2bb/";

/// The key that a machine has.
pub fn key_of(machine: &Machine) -> String {
    let key = std::fs::read_to_string(machine.path(".claude-mem-minio/fleet.key")).unwrap();
    key.lines().next().unwrap().to_owned()
}

/// Alpha with memory, sealed from the start and synced.
fn sealed(server: &S3Server) -> Machine {
    let alpha = Machine::new("alpha", server);
    with_memory(&alpha);
    alpha.cmd("key init").run().assert_code(0);
    alpha.cmd("sync").run().assert_code(0);
    alpha
}

/// Seals the project of a machine: nobody reads a copy for Python nodes.
pub fn seal_it(machine: &Machine) {
    machine.cmd("key init").run().assert_code(0);
}

/// Rows of a table.
pub fn rows_of(machine: &Machine, table: &str) -> usize {
    crate::support::claude_mem::dump(machine.db_path(), &format!("SELECT id FROM {table}")).len()
}

pub fn joined(server: &S3Server, name: &str, key: &str) -> Machine {
    let machine = Machine::new(name, server);
    machine.cmd("key import").stdin(format!("{key}\n")).run().assert_code(0);
    machine
}

/// Every object with its bytes.
pub fn everything(server: &S3Server) -> Vec<(String, Vec<u8>)> {
    server.keys("").into_iter().map(|key| (key.clone(), server.get(&key).unwrap())).collect()
}

pub fn holds(bytes: &[u8], word: &str) -> bool {
    bytes.windows(word.len()).any(|window| window.eq_ignore_ascii_case(word.as_bytes()))
}

#[test]
fn two_machines_share_a_sealed_memory_and_the_bucket_shows_no_word_of_it() {
    let server = S3Server::start();
    let alpha = sealed(&server);
    let beta = joined(&server, "beta", &key_of(&alpha));
    beta.cmd("sync").run().assert_code(0);
    assert_eq!(rows(&beta.db_path()).len(), rows(&alpha.db_path()).len());
    beta.db().add_session("two").add_observations(3);
    beta.cmd("sync").run().assert_code(0);
    alpha.cmd("sync").run().assert_code(0);
    assert_eq!(rows(&beta.db_path()).len(), rows(&alpha.db_path()).len());
    alpha.cmd("push_sqlite").run().assert_code(0);
    alpha.cmd("verify --all").run().assert_code(0);
    alpha.cmd("doctor").run();

    let mut words: Vec<String> =
        ["alpha", "beta", "observation", "sdk_session", "SQLite format", "memory_session"]
            .map(str::to_owned)
            .into();
    words.extend(titles(&alpha.db_path()));
    assert!(words.len() > 10);
    for (key, bytes) in everything(&server) {
        for word in &words {
            assert!(!holds(&bytes, word), "{key} holds {word}");
            assert!(!holds(key.as_bytes(), word), "{key}");
        }
    }
}

#[test]
fn a_machine_that_begins_with_the_key_sends_its_memory_once() {
    let server = S3Server::start();
    let alpha = sealed(&server);
    let beta = joined(&server, "beta", &key_of(&alpha));
    beta.create_db(Version::V13_25_3).add_session("beta").add_observations(2);
    for machine in [&beta, &alpha, &beta] {
        machine.cmd("sync").run().assert_code(0);
    }
    assert_eq!(rows_of(&alpha, "observations"), 7);
    // One segment of each.
    assert_eq!(server.keys(&format!("{ROOT}membridge/rows/")).len(), 2);
}

#[test]
fn no_object_that_a_sealed_project_ever_has_shows_a_word_of_it() {
    let server = S3Server::start();
    let mut alpha = Machine::new("desk-of-ann", &server);
    alpha.set("MEMBRIDGE_HOSTNAME", "host-of-ann").set("CLAUDE_PROJECT_ID", "ann's garden");
    with_memory(&alpha);
    // Words that nobody else has.
    for (table, column) in [
        ("sdk_sessions", "user_prompt"),
        ("observations", "title"),
        ("observations", "narrative"),
        ("session_summaries", "learned"),
        ("user_prompts", "prompt_text"),
    ] {
        let sql = format!("UPDATE {table} SET {column} = 'qz' || replace({column}, ' ', ' qz')");
        alpha.db().execute(&sql);
    }
    let (handle, shown) = (server.handle(), std::sync::Arc::<std::sync::Mutex<BTreeSet<String>>>::default());
    let mut words = words_of(&alpha.db_path());
    words.extend(["desk-of-ann", "host-of-ann", "ann's", "garden"].map(str::to_owned));
    assert!(words.len() > 30, "{words:?}");
    alpha.cmd("key init").run().assert_code(0);
    // All of it before each request: also what lies there for a moment only, as a lock does.
    let into = std::sync::Arc::clone(&shown);
    server.on_request(move |_, _| {
        for key in handle.keys("") {
            let bytes = handle.get(&key).unwrap_or_default();
            let found = words.iter().find(|word| holds(&bytes, word) || holds(key.as_bytes(), word));
            into.lock().unwrap().extend(found.map(|word| format!("{key} shows {word}")));
        }
    });
    for command in ["push_sqlite", "promote", "sync", "promote board-of-ann", "promote desk-of-ann"] {
        alpha.cmd(command).run().assert_code(0);
    }
    alpha.cmd("key passphrase").stdin("correct horse battery staple\n").run().assert_code(0);
    alpha.cmd("key rotate").run().assert_code(0);
    alpha.cmd("push_sqlite").run().assert_code(0);
    alpha.cmd("doctor --probe").run();
    assert_eq!(*shown.lock().unwrap(), BTreeSet::new());
    assert!(server.count(Op::PutObject, "locks/") > 0 && server.count(Op::PutObject, "leadership/") > 0);
}

/// The words of all texts of a memory that begin as no word does.
fn words_of(database: &Path) -> Vec<String> {
    let mut words = BTreeSet::new();
    for row in memory(database) {
        let all = row.split(|c: char| !c.is_alphanumeric()).map(str::to_lowercase);
        words.extend(all.filter(|word| word.starts_with("qz") && word.len() > 5));
    }
    words.into_iter().collect()
}

fn titles(database: &Path) -> Vec<String> {
    crate::support::claude_mem::dump(database, "SELECT title FROM observations")
        .into_iter()
        .map(|title| title.trim_matches(|c: char| !c.is_alphanumeric()).to_owned())
        .filter(|title| title.len() > 5)
        .collect()
}

#[test]
fn whoever_lacks_the_key_is_refused_before_anything_is_written() {
    let server = S3Server::start();
    let alpha = sealed(&server);
    let stranger = Machine::new("stranger", &server);
    with_memory(&stranger);
    let other = Machine::new("other", &server);
    other.write(".claude-mem-minio/fleet.key", format!("{OTHER}\n"));
    private(&other.path(".claude-mem-minio/fleet.key"));
    let before = everything(&server);
    for machine in [&stranger, &other] {
        for command in
            ["sync", "push_sqlite", "pull_sqlite", "promote", "history", "status", "mirror off", "verify"]
        {
            let said = machine.cmd(command).run().assert_code(1).stdout.clone();
            assert!(said.contains("is sealed with key"), "{command}: {said}");
            assert!(
                said.contains("membridge key import") && said.contains("membridge config init"),
                "{said}"
            );
        }
    }
    let wrong = stranger.cmd("key import").stdin(format!("{OTHER}\n")).run().assert_code(1).stdout.clone();
    assert!(wrong.contains("this project is sealed with key"), "{wrong}");
    assert!(!stranger.path(".claude-mem-minio/fleet.key").exists());
    assert_eq!(everything(&server), before);

    // The key is lost, or moved away: this machine knows that the project is sealed.
    std::fs::remove_file(alpha.path(".claude-mem-minio/fleet.key")).unwrap();
    alpha.cmd("sync").run().assert_code(1);
    assert_eq!(everything(&server), before);
}

/// A key of another fleet: 32 bytes 0x02.
const OTHER: &str = "mbkey1-aibaeaqcaibaeaqcaibaeaqcaibaeaqcaibaeaqcaibaeaqcaibiugoz";

pub fn private(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn a_bucket_that_says_it_is_not_sealed_any_more_is_not_believed() {
    let server = S3Server::start();
    let alpha = sealed(&server);
    let key = format!("{ROOT}membridge/key.json");
    let note = server.get(&key).unwrap();
    server.remove(&key);
    // A machine that was there knows better; a new one with the key writes nothing in the clear; one without it meets
    // what is sealed.
    let status = alpha.cmd("key status").run().assert_code(1).stdout.clone();
    assert!(status.contains("put back or changed"), "{status}");
    let beta = Machine::new("beta", &server);
    beta.write(".claude-mem-minio/fleet.key", format!("{}\n", key_of(&alpha)));
    private(&beta.path(".claude-mem-minio/fleet.key"));
    let stranger = Machine::new("stranger", &server);
    with_memory(&stranger);
    let before = everything(&server);
    for machine in [&beta, &stranger] {
        machine.cmd("sync").run().assert_code(1);
    }
    assert_eq!(everything(&server).len(), before.len());
    server.put(&key, String::from_utf8(note).unwrap().replace("\"sealed\": \"T", "\"sealed\": \"U"));
    let forged = beta.cmd("sync").run().assert_code(1).stdout.clone();
    assert!(forged.contains("is not authentic"), "{forged}");
}

#[test]
fn what_lies_there_for_python_nodes_is_nobodys_memory_in_a_sealed_project() {
    let server = S3Server::start();
    let alpha = sealed(&server);
    let before = rows(&alpha.db_path());
    // A forger writes as a Python node would.
    let evil = Machine::new("evil", &server);
    with_memory(&evil);
    evil.db().add_session("evil").add_observations(9);
    let image = std::fs::read(evil.db_path()).unwrap();
    server.put(&format!("{ROOT}sqlite/claude-mem.db"), image);
    server
        .put(&format!("{ROOT}sqlite/claude-mem.db.sha256"), format!("{}  claude-mem.db\n", "ab".repeat(32)));
    server.put(&format!("{ROOT}sqlite/manifest.json"), "{\"sha256\": \"x\"}");
    server.put(
        &format!("{ROOT}leadership/lease.json"),
        format!(
            "{{\"primary_node_id\": \"evil\", \"issued_at\": {0}, \"expires_at\": {1}, \"lease_seconds\": 9999, \"epoch\": 99}}",
            now(),
            now() + 9999
        ),
    );
    alpha.cmd("pull_sqlite").run();
    alpha.cmd("sync").run().assert_code(0);
    alpha.cmd("push_sqlite").run().assert_code(0);
    assert_eq!(rows(&alpha.db_path()), before);
}

#[test]
fn an_existing_fleet_is_sealed_and_its_past_is_purged_once_it_is_proved() {
    let server = S3Server::start();
    let alpha = Machine::new("alpha", &server);
    with_memory(&alpha);
    alpha.cmd("push_sqlite").run().assert_code(0);
    let refused = alpha.cmd("key init").run().assert_code(1).stdout.clone();
    assert!(refused.contains("Python nodes"), "{refused}");
    alpha.cmd("mirror off").run().assert_code(0);
    alpha.cmd("key init").run().assert_code(0);
    let early = alpha.cmd("key init --purge --yes").run().assert_code(1).stdout.clone();
    assert!(early.contains("nothing was deleted"), "{early}");
    alpha.cmd("push_sqlite").run().assert_code(0);
    // What was there before can still be read by whoever has the key.
    alpha.cmd("restore 1 --to old.db").current_dir(alpha.home()).run().assert_code(0);
    let listed = alpha.cmd("key init --purge").run().assert_code(0).stdout.clone();
    assert!(listed.contains("would go:") && listed.contains("sqlite/claude-mem.db"), "{listed}");
    alpha.cmd("key init --purge --yes").run().assert_code(0);
    assert!(server.keys(&format!("{ROOT}sqlite/")).is_empty());
    alpha.cmd("verify --all").run().assert_code(0);
    let beta = joined(&server, "beta", &key_of(&alpha));
    beta.cmd("sync").run().assert_code(0);
    assert_eq!(rows(&beta.db_path()).len(), rows(&alpha.db_path()).len());
}

#[test]
fn after_a_rotation_the_old_key_reads_and_writes_nothing_new() {
    let server = S3Server::start();
    let alpha = sealed(&server);
    let lost = joined(&server, "lost", &key_of(&alpha));
    lost.cmd("sync").run().assert_code(0);
    let old = key_of(&alpha);
    alpha.cmd("key rotate").run().assert_code(0);
    assert_ne!(key_of(&alpha), old);
    alpha.db().add_session("after").add_observations(2);
    alpha.cmd("push_sqlite").run().assert_code(0);
    let beta = joined(&server, "beta", &key_of(&alpha));
    beta.cmd("sync").run().assert_code(0);
    assert_eq!(rows(&beta.db_path()).len(), rows(&alpha.db_path()).len());
    let before = rows(&lost.db_path());
    lost.cmd("sync").run().assert_code(1);
    assert_eq!(rows(&lost.db_path()), before);
}

#[test]
fn a_passphrase_brings_the_key() {
    let server = S3Server::start();
    let alpha = sealed(&server);
    alpha.cmd("key passphrase").stdin("too short\n").run().assert_code(1);
    alpha.cmd("key passphrase").stdin("correct horse battery staple\n").run().assert_code(0);
    let beta = Machine::new("beta", &server);
    beta.cmd("key import").stdin("correct horse battery stapler\n").run().assert_code(1);
    assert!(!beta.path(".claude-mem-minio/fleet.key").exists());
    beta.cmd("key import").stdin("correct horse battery staple\n").run().assert_code(0);
    assert_eq!(key_of(&beta), key_of(&alpha));
    let words = |machine: &Machine| {
        let shown = machine.cmd("key status").run().assert_code(0).stdout.clone();
        shown.lines().last().unwrap().to_owned()
    };
    assert_eq!(words(&alpha), words(&beta));
}

#[test]
fn the_key_is_printed_by_key_show_and_by_nothing_else() {
    let server = S3Server::start();
    let alpha = sealed(&server);
    let key = key_of(&alpha);
    assert_eq!(alpha.cmd("key show").run().assert_code(0).stdout.clone().trim(), key);
    alpha.cmd("key show --json").run().assert_code(1);
    let secret = &key[7..];
    for command in [
        "sync -vv",
        "doctor",
        "doctor --json",
        "config",
        "config --json",
        "status --json",
        "key status --json",
    ] {
        let end = alpha.cmd(command).env("MEMBRIDGE_LOG", "trace").run();
        let said = format!("{}{}", end.stdout.clone(), end.stderr);
        assert!(!said.contains(secret), "{command}");
    }
    for file in alpha.files().iter().filter(|file| !file.ends_with("fleet.key")) {
        assert!(!holds(&std::fs::read(alpha.path(file)).unwrap_or_default(), secret), "{file}");
    }
    for (object, bytes) in everything(&server) {
        assert!(!holds(&bytes, secret), "{object}");
    }
}

#[test]
fn a_second_reader_opens_what_the_binary_sealed() {
    let Some(python) = with_cryptography() else { return };
    let server = S3Server::start();
    let alpha = sealed(&server);
    let reader = super::docs::root().join("tests/support/read_sealed.py");
    let open = |object: &str, place: &[&str]| {
        let sealed = alpha.write("sealed", server.get(object).unwrap());
        let output = std::process::Command::new(&python)
            .arg(&reader)
            .args(["open", alpha.path(".claude-mem-minio/fleet.key").to_str().unwrap(), "6fe2e0f6071ac2bb"])
            .args(place)
            .stdin(std::fs::File::open(sealed).unwrap())
            .output()
            .unwrap();
        assert!(output.status.success(), "{object}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let segments = server.keys(&format!("{ROOT}membridge/rows/"));
    let (writer, _) =
        segments[0].strip_prefix(&format!("{ROOT}membridge/rows/")).unwrap().split_once('/').unwrap();
    assert!(open(&segments[0], &["segment", writer, "1"]).starts_with(b"MBROWS"));
    let node = open(&format!("{ROOT}membridge/nodes/{writer}.json"), &["node", writer]);
    assert!(holds(&node, "alpha"));
    let commit = open(&format!("{ROOT}membridge/commits/0000000001.json"), &["commit", "1"]);
    let commit: serde_json::Value = serde_json::from_slice(&commit).unwrap();
    let pack = format!("{ROOT}membridge/packs/{}.zst", commit["pack"].as_str().unwrap());
    assert!(open(&pack, &["pack", "full"]).starts_with(b"MBPACK"));
}

#[test]
fn without_a_key_nothing_is_sealed() {
    let server = S3Server::start();
    let alpha = Machine::new("alpha", &server);
    alpha.create_db(Version::V13_25_3).add_session("one").add_observations(2);
    alpha.cmd("push_sqlite").run().assert_code(0);
    let status = alpha.cmd("key status").run().assert_code(0).stdout.clone();
    assert!(status.contains("is not sealed"), "{status}");
    assert!(everything(&server).iter().all(|(_, bytes)| !bytes.starts_with(b"MBSEAL")));
    assert!(server.get(&format!("{ROOT}membridge/key.json")).is_none());
}
