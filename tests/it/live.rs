//! The same promises asked of a live bucket: MEMBRIDGE_TEST_S3_ENDPOINT, _BUCKET, _ACCESS_KEY, _SECRET_KEY. Without
//! them these tests do nothing, unless MEMBRIDGE_TEST_S3_REQUIRED=1 makes that a failure. `make test-servers` starts
//! real servers, runs this file against each and reads the lines that start with PROPERTY.

use membridge::context::Context;
use membridge::storage::keys::Keys;
use membridge::storage::probe;

use crate::at_once;
use crate::fencing_races;
use crate::lock_race;
use crate::store_contract;
use crate::stores::{Subject, unique};
use crate::support::claude_mem::{self, Version};
use crate::support::machine::Machine;

fn property(name: &str, value: &str) {
    println!("PROPERTY {name}={value}");
}

/// Rounds of the race: few in `cargo test`, twenty in `make test-servers`.
fn rounds() -> usize {
    number("MEMBRIDGE_TEST_ROUNDS")
}

fn number(variable: &str) -> usize {
    std::env::var(variable).map_or(3, |text| text.parse().expect("a number"))
}

async fn verdict(subject: &Subject) -> probe::Verdict {
    let (store, keys) = (subject.open(), Keys::new(&unique("probe")));
    let verdict = probe::probe(&store, &keys, &Context::default()).await.unwrap();
    assert_eq!(store.list(&keys.root()).await.unwrap(), [], "the probe tidies up");
    verdict
}

#[tokio::test]
async fn live_contract() {
    let Some(mut subject) = Subject::live() else {
        return;
    };
    let verdict = verdict(&subject).await;
    let word = |works: bool| if works { "yes" } else { "no" };
    property("create", word(verdict.create));
    property("replace", word(verdict.replace));
    property("lock by", if verdict.atomic() { "conditions" } else { "claims" });
    // What the probe believes has to stand the longer test.
    subject.atomic = Some(verdict.atomic());
    store_contract::all(&subject).await;
    property("contract", "kept");
}

#[test]
fn live_f18_24_processes_at_once() {
    let Some(subject) = Subject::live() else { return };
    let held = lock_race::race_over(&subject, rounds());
    property(&format!("race 24x{}", rounds()), &format!("no overlap in {held}"));
}

#[test]
fn live_push_and_pull() {
    let Some(subject) = Subject::live() else { return };
    let project = unique("project");
    let machine = |name: &str| {
        let mut machine = Machine::new(name, &subject.store);
        machine.set("CLAUDE_PROJECT_ID", &project);
        machine
    };
    let alpha = machine("alpha");
    alpha.create_db(Version::V13_25_3).add_session("one").add_observations(500);
    alpha.cmd("push_sqlite").run().assert_code(0).stdout_has("PUSH COMPLETE");
    let beta = machine("beta");
    beta.cmd("pull_sqlite").run().assert_code(0);
    assert_eq!(claude_mem::titles(alpha.db_path()), claude_mem::titles(beta.db_path()));
    alpha.db().add_observations(1);
    alpha.cmd("push_sqlite").run().assert_code(0);
    alpha.cmd("promote beta").run().assert_code(0).stdout_has("primary: beta (was: alpha)");
    beta.cmd("pull_sqlite").env("ALLOW_PRIMARY_PULL_OVERRIDE", "1").run().assert_code(0);
    beta.db().add_session("b").add_observations(1);
    beta.cmd("push_sqlite").run().assert_code(0);
    property("push and pull", "ok");
}

#[test]
fn live_sixteen_machines_pushing_at_once() {
    let Some(subject) = Subject::live() else { return };
    let project = unique("sixteen");
    let machines: Vec<Machine> = (0..16)
        .map(|number| {
            let mut machine = Machine::new(&format!("node-{number}"), &subject.store);
            machine.set("CLAUDE_PROJECT_ID", &project).set("LEADERSHIP_ENABLED", "0");
            machine.create_db(Version::V13_25_3).add_session("one").add_observations(5 + number);
            machine
        })
        .collect();
    let ends = fencing_races::push_all(&machines);
    let won = ends.iter().filter(|end| end.code == 0).count();
    // Each commit is one machine's; whoever archived, the rows are everybody's.
    for machine in &machines {
        machine.cmd("sync --for turn").run().assert_code(0);
    }
    let mut reader = Machine::new("reader", &subject.store);
    reader.set("CLAUDE_PROJECT_ID", &project).set("LEADERSHIP_ENABLED", "0");
    reader.cmd("pull_sqlite").run().assert_code(0);
    let wanted: i64 = (0..16).map(|number| 5 + number).sum();
    assert_eq!(claude_mem::counts(reader.db_path()).observations, wanted);
    property("16 pushes", &format!("{won} got in"));
}

#[test]
fn live_24_machines_sync_at_once() {
    let Some(subject) = Subject::live() else { return };
    let syncs = number("MEMBRIDGE_TEST_SYNCS");
    at_once::converge(&unique("at-once"), &subject.store, (24, syncs));
    property(&format!("24 machines sync x {syncs}"), "converge");
}
