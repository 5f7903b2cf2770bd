//! What somebody does to the bucket of a sealed project who has all of it, and everything but the key: each time the machine
//! says so, and its memory stays as it is.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::common::{COMMITS, memory, now, with_memory};
use crate::sealed::{ROOT, everything, joined, key_of, rows_of, seal_it};
use crate::support::fleet::Daemon;
use crate::support::machine::Machine;
use crate::support::s3::S3Server;

type Objects = BTreeMap<String, Vec<u8>>;

fn objects(server: &S3Server) -> Objects {
    everything(server).into_iter().collect()
}

/// Puts the bucket into another state.
fn put_back(server: &S3Server, objects: &Objects) {
    for key in server.keys("") {
        if !objects.contains_key(&key) {
            server.remove(&key);
        }
    }
    for (key, bytes) in objects {
        if server.get(key).as_ref() != Some(bytes) {
            server.put(key, bytes);
        }
    }
}

/// Alpha and its sealed project with three pushes of three sessions.
fn three_pushes(server: &S3Server) -> Machine {
    let alpha = Machine::new("alpha", server);
    with_memory(&alpha);
    seal_it(&alpha);
    alpha.cmd("push_sqlite").run().assert_code(0);
    for session in ["two", "three"] {
        alpha.db().add_session(session).add_observations(2);
        alpha.cmd("push_sqlite").run().assert_code(0);
    }
    alpha
}

fn commit(number: u64) -> String {
    format!("{COMMITS}{number:010}.json")
}

/// What a forger does, what the machine says of it; the objects are those of three pushes.
type Forgery = (&'static str, fn(&mut Objects, &str));

fn flip(bytes: &mut [u8]) {
    let at = bytes.len() - 20;
    bytes[at] ^= 1;
}

fn segments(objects: &Objects) -> Vec<String> {
    objects.keys().filter(|key| key.starts_with(&format!("{ROOT}membridge/rows/"))).cloned().collect()
}

fn swap(objects: &mut Objects, a: &str, b: &str) {
    let [x, y] = [a, b].map(|key| objects[key].clone());
    objects.insert(a.to_owned(), y);
    objects.insert(b.to_owned(), x);
}

/// The machines' records.
fn records(objects: &Objects) -> Vec<String> {
    let folder = format!("{ROOT}membridge/nodes/");
    let all = objects.keys().filter(|key| key.starts_with(&folder));
    // Beside them lies the mark of the key.
    all.filter(|key| objects[*key].starts_with(b"{")).cloned().collect()
}

const FORGERIES: [Forgery; 12] = [
    ("a segment with another bit", |objects, _| {
        for key in segments(objects) {
            flip(objects.get_mut(&key).unwrap());
        }
    }),
    ("segments that end early", |objects, _| {
        for key in segments(objects) {
            let bytes = objects.get_mut(&key).unwrap();
            bytes.truncate(bytes.len() - 16);
        }
    }),
    ("segments in each other's place", |objects, _| {
        let all = segments(objects);
        swap(objects, &all[0], &all[1]);
        swap(objects, &all[0], &all[2]);
    }),
    ("segments in the clear", |objects, plain| {
        for key in segments(objects) {
            objects.insert(key, plain.as_bytes().to_vec());
        }
    }),
    ("segments of a later membridge", |objects, _| {
        for key in segments(objects) {
            objects.get_mut(&key).unwrap()[8] = 2;
        }
    }),
    ("a machine's record with another bit", |objects, _| {
        for key in records(objects) {
            let mut record: Value = serde_json::from_slice(&objects[&key]).unwrap();
            let sealed = record["sealed"].as_str().unwrap().to_owned();
            record["sealed"] = format!("{}AAAA{}", &sealed[..120], &sealed[124..]).into();
            objects.insert(key, record.to_string().into_bytes());
        }
    }),
    ("a machine's record in the clear", |objects, _| {
        for key in records(objects) {
            let writer = key.rsplit('/').next().unwrap().trim_end_matches(".json");
            let record = json!({
                "schema": 1, "writer": writer, "last": 99, "seen": {}, "node_id": "evil", "folds": [],
                "time": "2026-01-02T03:04:05+00:00", "counts": {"observations": 12}, "role": "primary",
                "last_sync": {"time": "2026-01-02T03:04:05+00:00", "outcome": "synced"}, "waiting": 2, "held": 0,
            });
            objects.insert(key, record.to_string().into_bytes());
        }
    }),
    ("commits in each other's place", |objects, _| swap(objects, &commit(2), &commit(3))),
    ("a commit in the clear on top", |objects, _| {
        objects.insert(commit(4), b"{\"schema\": 1, \"number\": 4}".to_vec());
    }),
    ("a commit under a key of the forger's", |objects, _| {
        let mut forged: Value = serde_json::from_slice(&objects[&commit(3)]).unwrap();
        forged["key_id"] = "00".repeat(16).into();
        forged["number"] = 4.into();
        objects.insert(commit(4), forged.to_string().into_bytes());
    }),
    ("packs in each other's place", |objects, _| {
        let packs: Vec<String> = objects.keys().filter(|key| key.contains("/packs/")).cloned().collect();
        swap(objects, &packs[0], &packs[1]);
        swap(objects, &packs[0], &packs[2]);
    }),
    ("another project's note", |objects, _| {
        let note = objects.get_mut(&format!("{ROOT}membridge/key.json")).unwrap();
        let mut forged: Value = serde_json::from_slice(note).unwrap();
        let sealed = forged["sealed"].as_str().unwrap().to_owned();
        forged["sealed"] = format!("{}AAAA{}", &sealed[..100], &sealed[104..]).into();
        *note = forged.to_string().into_bytes();
    }),
];

#[test]
fn whoever_has_the_bucket_and_not_the_key_makes_nothing_that_a_machine_takes() {
    let server = S3Server::start();
    let alpha = three_pushes(&server);
    let sound = objects(&server);
    let (key, theirs) = (key_of(&alpha), memory(&alpha.db_path()));
    for (what, forge) in FORGERIES {
        // One that was here before, and has all.
        let member = joined(&server, "member", &key);
        member.cmd("sync").run().assert_code(0);
        let all = memory(&member.db_path());
        let before = objects(&server);
        let mut forged = before.clone();
        forge(&mut forged, "MBROWS");
        assert_ne!(forged, before, "{what}");
        put_back(&server, &forged);
        for command in ["sync", "pull_sqlite", "push_sqlite"] {
            member.cmd(command).run();
        }
        assert_eq!(memory(&member.db_path()), all, "{what}");
        put_back(&server, &forged);
        // A machine with memory of its own that has the key and has never been here.
        let newcomer = Machine::new("newcomer", &server);
        newcomer
            .create_db(crate::support::claude_mem::Version::V13_25_3)
            .add_session("own")
            .add_observations(1);
        newcomer.write(".claude-mem-minio/fleet.key", format!("{key}\n"));
        crate::sealed::private(&newcomer.path(".claude-mem-minio/fleet.key"));
        let before = memory(&newcomer.db_path());
        let mut said = String::new();
        for command in ["sync", "pull_sqlite", "verify --all", "doctor"] {
            said += &newcomer.cmd(command).run().stdout;
        }
        let named = [
            "authentic",
            "were announced",
            "not sealed",
            "put back or changed",
            "does not have",
            "sha256",
            "not known to this membridge",
        ];
        assert!(named.iter().any(|word| said.contains(word)), "{what}: {said}");
        let after = memory(&newcomer.db_path());
        assert!(before.iter().all(|row| after.contains(row)), "{what}: nothing of its own is lost");
        let known = |row: &String| before.contains(row) || theirs.contains(row);
        assert!(after.iter().all(known), "{what}: nobody else's row came");
        put_back(&server, &sound);
    }
}

#[test]
fn a_bucket_that_was_put_back_is_named_and_costs_nothing() {
    let server = S3Server::start();
    let alpha = Machine::new("alpha", &server);
    with_memory(&alpha);
    seal_it(&alpha);
    alpha.cmd("push_sqlite").run().assert_code(0);
    let old = objects(&server);
    alpha.db().add_session("two").add_observations(2);
    alpha.cmd("push_sqlite").run().assert_code(0);
    let before = memory(&alpha.db_path());
    put_back(&server, &old);
    for command in ["pull_sqlite", "push_sqlite", "key status", "history"] {
        let said = alpha.cmd(command).run().assert_code(1).stdout.clone();
        assert!(said.contains("put back or changed"), "{command}: {said}");
        assert!(said.contains("membridge key import"), "{command}: {said}");
    }
    let doctor = alpha.cmd("doctor").run().stdout.clone();
    assert!(doctor.contains("put back or changed"), "{doctor}");
    assert_eq!(memory(&alpha.db_path()), before);
    // It was the person: what was seen is forgotten, and the rows go up again.
    alpha.cmd("key import").stdin(format!("{}\n", key_of(&alpha))).run().assert_code(0);
    alpha.cmd("push_sqlite").run().assert_code(0);
    let beta = joined(&server, "beta", &key_of(&alpha));
    beta.cmd("sync").run().assert_code(0);
    assert_eq!(memory(&beta.db_path()), before);
}

#[test]
fn the_note_of_another_key_is_taken_by_nobody_who_has_this_one() {
    let server = S3Server::start();
    let alpha = three_pushes(&server);
    let elsewhere = S3Server::start();
    let evil = Machine::new("evil", &elsewhere);
    with_memory(&evil);
    seal_it(&evil);
    evil.cmd("push_sqlite").run().assert_code(0);
    let note = format!("{ROOT}membridge/key.json");
    server.put(&note, elsewhere.get(&note).unwrap());
    let newcomer = Machine::new("newcomer", &server);
    newcomer.write(".claude-mem-minio/fleet.key", format!("{}\n", key_of(&alpha)));
    crate::sealed::private(&newcomer.path(".claude-mem-minio/fleet.key"));
    let (before, theirs) = (objects(&server), memory(&alpha.db_path()));
    for command in ["sync", "pull_sqlite", "push_sqlite", "history", "promote"] {
        let said = newcomer.cmd(command).run().assert_code(1).stdout.clone();
        assert!(said.contains("is sealed with key") && said.contains("this machine has key"), "{said}");
    }
    assert!(!newcomer.db_path().exists());
    // Whoever was here knows the key, and goes on with it.
    for command in ["key status", "doctor --strict"] {
        let refused = alpha.cmd(command).run();
        assert!(refused.code != 0, "{refused:?}");
        refused.says("is sealed with key").says("this machine has key");
    }
    assert_eq!(objects(&server), before);
    alpha.db().add_session("after").add_observations(1);
    alpha.cmd("sync").run();
    let now = objects(&server);
    let new = now.iter().filter(|(key, bytes)| key.contains("/rows/") && before.get(*key) != Some(*bytes));
    assert!(new.into_iter().all(|(_, bytes)| bytes.starts_with(b"MBSEAL")));
    assert!(theirs.iter().all(|row| memory(&alpha.db_path()).contains(row)));
}

#[test]
fn a_lease_or_a_setting_without_the_key_decides_nothing_and_a_lock_without_it_blocks() {
    let server = S3Server::start();
    let alpha = three_pushes(&server);
    let lease = format!("{ROOT}leadership/lease.json");
    let mut edited: Value = serde_json::from_slice(&server.get(&lease).unwrap()).unwrap();
    edited["epoch"] = json!(1_i64 << 40);
    let far = now() + 9999;
    let own = json!({
        "primary_node_id": "evil", "issued_at": now(), "expires_at": far, "lease_seconds": 9999, "epoch": 99,
    });
    let setting = json!({"mirror": "on", "changed_by": "evil", "renamed_to": "evil"});
    let settings = format!("{ROOT}membridge/settings.json");
    let wrong = "is not authentic: its mac does not fit";
    let none = "has no mac, and this project is sealed";
    let forgeries = [(&lease, own, none), (&lease, edited, wrong), (&settings, setting, none)];
    for (at, (key, forged, named)) in forgeries.into_iter().enumerate() {
        server.put(key, forged.to_string());
        if *key == lease {
            alpha.cmd("status").run().says(named);
            alpha.cmd("doctor").run().says(named);
        }
        alpha.db().add_session(&format!("forged {at}")).add_observations(1);
        let pushed = alpha.cmd("push_sqlite").run();
        pushed.assert_code(0).says(named).says("PUSH COMPLETE");
        assert!(server.keys(&format!("{ROOT}sqlite/")).is_empty());
    }
    // A lock holds up a push and no more: rows travel.
    server.put(
        &format!("{ROOT}locks/active.lock"),
        json!({"hostname": "evil", "timestamp": now(), "project": "mem"}).to_string(),
    );
    alpha.db().add_session("four").add_observations(1);
    alpha.cmd("push_sqlite").run().says("evil");
    let beta = joined(&server, "beta", &key_of(&alpha));
    beta.cmd("sync").run().assert_code(0);
    assert_eq!(memory(&beta.db_path()), memory(&alpha.db_path()));
}

#[test]
fn another_push_under_a_known_number_is_named() {
    let server = S3Server::start();
    let alpha = Machine::new("alpha", &server);
    with_memory(&alpha);
    seal_it(&alpha);
    alpha.cmd("push_sqlite").run().assert_code(0);
    let beta = joined(&server, "beta", &key_of(&alpha));
    beta.cmd("sync").run().assert_code(0);
    let first = objects(&server);
    // Two futures, both by the key's owner; the machine has seen the one and is shown the other.
    beta.db().add_session("beta").add_observations(1);
    beta.cmd("promote beta").run().assert_code(0);
    beta.cmd("push_sqlite").run().assert_code(0);
    put_back(&server, &first);
    alpha.db().add_session("alpha two").add_observations(1);
    alpha.cmd("push_sqlite").run().assert_code(0);
    let said = beta.cmd("history").run().assert_code(1).stdout.clone();
    assert!(said.contains("put back or changed"), "{said}");
}

#[test]
fn what_an_owner_of_the_bucket_vouched_for_is_not_taken_over_by_a_rotation() {
    let server = S3Server::start();
    let alpha = three_pushes(&server);
    // In the clear, and in a place where the next key's note would name it.
    let writer = segments(&objects(&server))[0].rsplit_once('/').unwrap().0.to_owned();
    let place = format!("{writer}/0000000099.seg");
    server.put(&place, "MBROWS of somebody else");
    alpha.cmd("key rotate").run().assert_code(0).says("not taken over").says(&place);
    alpha.cmd("sync").run().assert_code(0);
}

#[test]
fn agent_and_server_of_a_sealed_project_open_it_with_the_machines_key() {
    let server = S3Server::start();
    let alpha = Machine::new("alpha", &server);
    with_memory(&alpha);
    seal_it(&alpha);
    alpha.cmd("push_sqlite").run().assert_code(0);
    let cid = "6fe2e0f6071ac2bb";
    let page = Daemon::server(&alpha, "");
    let nodes = page.get(&format!("/projects/{cid}/nodes")).expect(200);
    assert_eq!(nodes[0]["node_id"], "alpha", "{nodes}");
    let leadership = page.get(&format!("/projects/{cid}/leadership")).expect(200);
    assert_eq!((&leadership["primary_node_id"], &leadership["store_error"]), (&json!("alpha"), &Value::Null));
    // A choice is a lease that the machines accept.
    page.post(&format!("/projects/{cid}/leadership/select"), &json!({"primary_node_id": "beta"})).expect(200);
    let info = alpha.cmd("leadership_info").run().assert_code(0).stdout.clone();
    assert!(info.contains("beta"), "{info}");
    page.stop();
    let agent = Daemon::agent(&alpha, "--no-watch");
    let pushed = agent.post("/sync/push", &json!({"project": "mem"})).expect(200);
    assert_eq!(rows_of(&alpha, "observations"), 5);
    assert!(pushed.to_string().contains("completed") || pushed["returncode"] == 3, "{pushed}");
    agent.stop();
    // Without the key both say so, and write nothing.
    let stranger = Machine::new("stranger", &server);
    with_memory(&stranger);
    let before = everything(&server);
    let page = Daemon::server(&stranger, "");
    let leadership = page.get(&format!("/projects/{cid}/leadership")).expect(200);
    assert!(leadership["store_error"].as_str().unwrap().contains("is sealed with key"), "{leadership}");
    page.post(&format!("/projects/{cid}/leadership/select"), &json!({"primary_node_id": "stranger"}))
        .expect(502);
    page.stop();
    let agent = Daemon::agent(&stranger, "--no-watch");
    let refused = agent.post("/sync/push", &json!({"project": "mem"})).expect(200);
    assert!(refused.to_string().contains("is sealed with key"), "{refused}");
    agent.stop();
    assert_eq!(everything(&server), before);
}
