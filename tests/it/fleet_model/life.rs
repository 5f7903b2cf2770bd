//! A random life: which step comes next.

use super::judge;
use super::keys;
use super::node::VERSIONS;
use super::restores;
use super::troubles;
use super::world::{How, PYTHON, World};
use crate::lives::Ended;
use crate::rows_model::dice::Dice;
use crate::rows_model::ledger::Ledger;
use crate::rows_model::memory::{Edit, Memory};
use crate::rows_model::upgrade::{MERGE_TWINS, upgraded};
use crate::support::claude_mem::Version;
use crate::support::python_node::{Lock, PythonNode, Stop};

const DAY: i64 = 86_400;

#[derive(Clone, Copy, Debug)]
enum Step {
    Session,
    Observations,
    Edit,
    Touch,
    Manual,
    Delete,
    Purge,
    Vanish,
    Sync,
    Wish,
    Hook,
    Kill,
    Faulty,
    Stopped,
    Overtake,
    DiskFull,
    LoseState,
    KeepFile,
    OldFile,
    Upgrade,
    Vacuum,
    Jump,
    Mirror,
    Role,
    Restore,
    RestoreBackup,
    PythonPull,
    PythonDeed,
    PythonPush,
}

const WEIGHTS: [(Step, usize); 29] = [
    (Step::Session, 10),
    (Step::Observations, 10),
    (Step::Edit, 14),
    (Step::Touch, 3),
    (Step::Manual, 2),
    (Step::Delete, 5),
    (Step::Purge, 1),
    (Step::Vanish, 4),
    (Step::Sync, 14),
    (Step::Wish, 16),
    (Step::Hook, 2),
    (Step::Kill, 12),
    (Step::Faulty, 6),
    (Step::Stopped, 3),
    (Step::Overtake, 4),
    (Step::DiskFull, 3),
    (Step::LoseState, 3),
    (Step::KeepFile, 5),
    (Step::OldFile, 3),
    (Step::Upgrade, 2),
    (Step::Vacuum, 2),
    (Step::Jump, 2),
    (Step::Mirror, 2),
    (Step::Role, 3),
    (Step::Restore, 4),
    (Step::RestoreBackup, 5),
    (Step::PythonPull, 3),
    (Step::PythonDeed, 4),
    (Step::PythonPush, 4),
];

/// What people, hooks and claude-mem ask for besides a plain sync.
pub const WISHES: [(&str, usize); 5] = [
    ("push_sqlite", 30),
    ("pull_sqlite", 25),
    ("sync --for turn", 20),
    ("sync --for end", 10),
    ("sync --for start", 10),
];

/// Lives the steps of a seed that `kept` names, and judges.
pub fn live(seed: u64, fault: Option<&'static str>, kept: &[usize]) -> Ended {
    let mut world = World::new(seed, fault);
    for number in kept {
        let mut dice = world.dice(*number);
        step(&mut world, *number, &mut dice);
        judge::step(&mut world);
        if !world.wrong.is_empty() {
            break;
        }
    }
    if world.wrong.is_empty() {
        judge::end(&mut world);
    }
    Ended { wrong: std::mem::take(&mut world.wrong), log: std::mem::take(&mut world.log) }
}

fn step(world: &mut World, number: usize, dice: &mut Dice) {
    let at = dice.below(world.nodes.len());
    let what = dice.weighted(&WEIGHTS);
    world.note(format!("step {number}: {what:?} {at}"));
    let settled = world.nodes[at].settled && world.nodes[at].has_database();
    match what {
        Step::Session => world.deed(at, dice, |deed| deed.session()),
        Step::Observations => world.deed(at, dice, |deed| deed.observations()),
        Step::Edit => world.deed(at, dice, |deed| deed.edit()),
        Step::Touch => world.deed(at, dice, |deed| deed.touch()),
        Step::Manual => world.deed(at, dice, |deed| deed.manual_session()),
        Step::Delete if settled => {
            if let Some(sql) = world.deed(at, dice, |deed| deed.delete()) {
                world.delete(at, &sql);
            }
        }
        Step::Purge if settled => {
            let sql = world.deed(at, dice, |deed| deed.purge());
            world.delete(at, &sql);
            world.nodes[at].accepts = true;
        }
        Step::Vanish if settled => vanish(world, at, dice),
        Step::Sync => drop(world.sync(at, &How::WELL)),
        Step::Wish => drop(world.run(at, dice.weighted(&WISHES), &How::WELL)),
        Step::Hook => {
            let event = *dice.pick(&["stop", "session-end", "session-start"]);
            world.run(at, &format!("hook-work {event}"), &How::WELL);
        }
        Step::Kill => troubles::kill(world, at, dice),
        Step::Faulty if world.shop.server().is_none() => troubles::unmounted(world, at, dice),
        Step::Faulty => troubles::faulty(world, at, dice),
        Step::Stopped => troubles::stopped(world, at, dice),
        Step::Overtake => troubles::overtake(world, at, dice),
        Step::DiskFull => troubles::disk_full(world, at, dice),
        Step::LoseState if settled && world.share(at) => {
            let node = &mut world.nodes[at];
            let (writer_too, all) = (dice.percent(50), dice.percent(40));
            node.lose_state(writer_too, all);
            node.settled = false;
        }
        Step::KeepFile if settled => {
            let node = &mut world.nodes[at];
            node.old = Some((node.memory().image(), node.version()));
        }
        Step::OldFile if world.nodes[at].old.is_some() && world.share(at) => put_old_file_back(world, at),
        Step::Upgrade if settled && world.share(at) => upgrade(world, at, dice),
        Step::Vacuum if settled => world.nodes[at].memory().db.execute_batch("VACUUM").expect("vacuum"),
        Step::Jump => jump(world, at, dice),
        // What Python nodes get in another life.
        Step::Mirror | Step::PythonPull | Step::PythonDeed | Step::PythonPush if world.keeper.is_some() => {
            keys::change(world, at, dice);
        }
        Step::Mirror => mirror(world, at, dice),
        Step::Role => {
            let words = *dice.pick(&["promote", "promote machine-0", "demote", "demote machine-1"]);
            world.run(at, words, &How::WELL);
        }
        Step::Restore => restores::restore(world, at, dice),
        Step::RestoreBackup => restores::restore_backups(world, at, dice),
        Step::PythonPull | Step::PythonDeed | Step::PythonPush => python(world, what, dice),
        _ => {}
    }
}

/// A clock is wrong from now on: this machine's, and perhaps the store's.
fn jump(world: &mut World, at: usize, dice: &mut Dice) {
    let offsets = [0, 3600, -3600, 3 * DAY, -3 * DAY];
    let offset = *dice.pick(&offsets);
    world.nodes[at].machine.set("MEMBRIDGE_TEST_CLOCK_OFFSET", offset.to_string());
    if dice.percent(40) {
        world.set_store_clock(*dice.pick(&offsets));
    }
}

/// A table is emptied by nobody's will; a person who is asked says that the rows are to be put back, and is cut off perhaps.
fn vanish(world: &mut World, at: usize, dice: &mut Dice) {
    let few = "SELECT count(*) FROM observations";
    let count = |world: &World| -> i64 {
        world.nodes[at].memory().db.query_row(few, [], |row| row.get(0)).expect("a count")
    };
    for _ in 0..8 {
        if count(world) <= 12 {
            world.deed(at, dice, |deed| deed.session());
            world.deed(at, dice, |deed| deed.observations());
        }
    }
    if !world.share(at) || count(world) <= 10 {
        return;
    }
    world.nodes[at].memory().db.execute_batch("DELETE FROM observations").expect("empty a table");
    world.nodes[at].asked = false;
    world.run(at, "sync", &How::WELL);
    if dice.percent(70) {
        let point = dice.between(1, 14).to_string();
        world.run(at, "sync --put-back", &How::at(point));
    }
    if !world.run(at, "sync --put-back", &How::WELL).exchanged() {
        world.run(at, "sync --put-back --take-lock", &How::WELL);
    }
    world.nodes[at].asked = true;
}

/// A file from before is put back; what was only here and never acknowledged is gone by the person's hand.
fn put_old_file_back(world: &mut World, at: usize) {
    let Some((image, _)) = world.nodes[at].old.clone() else { return };
    let before = world.nodes[at].tokens();
    world.nodes[at].replace(&image);
    world.nodes[at].settled = false;
    let after = world.nodes[at].tokens();
    for (token, edits) in &before {
        world.ledger.throw_away(edits);
        if let (Some(back), Some(was)) = (after.get(token).and_then(|edits| edits.first()), edits.first()) {
            let undone = world.ledger.own_edits(*back, *was, at);
            world.nodes[at].undone.extend(undone);
        }
    }
}

fn upgrade(world: &mut World, at: usize, dice: &mut Dice) {
    let from = world.nodes[at].version();
    let newer: Vec<Version> =
        VERSIONS.into_iter().filter(|to| *to > from && *to >= Version::V13_15_3).collect();
    if newer.is_empty() {
        return;
    }
    let to = *dice.pick(&newer);
    let before = world.nodes[at].tokens();
    drop(world.nodes[at].memory().image());
    let image = upgraded(&world.nodes[at].machine.db_path(), world.folder.path(), to, dice.percent(30));
    world.nodes[at].replace(&image);
    if from < Version::V12_4_9 {
        world.nodes[at].memory().db.execute_batch(MERGE_TWINS).expect("merge twins");
    }
    let after = world.nodes[at].tokens();
    before.keys().filter(|token| !after.contains_key(*token)).for_each(|token| world.ledger.merge(token));
}

fn mirror(world: &mut World, at: usize, dice: &mut Dice) {
    let on = dice.percent(60);
    let words = if on { "mirror on" } else { "mirror off" };
    // While a Python node is about it is not switched off.
    let how = How { troubled: !on, ..How::WELL };
    if world.run(at, words, &how).code() == 0 {
        world.mirrored = on;
    }
}

/// A Python node takes what is in the bucket, adds to it, and overwrites what is there.
fn python(world: &mut World, what: Step, dice: &mut Dice) {
    let Some(server) = world.shop.server() else { return };
    let node = PythonNode::new(server, "mem", "python");
    let path = world.folder.path().join("python.db");
    let now = jiff::Timestamp::now().as_second();
    match what {
        Step::PythonPull if node.pull(&path).is_ok() => world.python = Some(path),
        Step::PythonDeed if world.python.is_some() => {
            let memory = Memory::open(&path, super::node::version_of(&path));
            world.deed_in(&memory, PYTHON, dice, |deed| deed.session());
            if dice.percent(50) {
                world.deed_in(&memory, PYTHON, dice, |deed| deed.edit());
            }
        }
        Step::PythonPush if world.python.is_some() && !matches!(node.lock(now), Lock::Held(_)) => {
            // Its lock, which it never gives back, has run out.
            node.write(&path, now - 8000, Stop::Never);
            let here = Memory::open(&path, super::node::version_of(&path)).tokens();
            let there = world.tokens_everywhere();
            let births = here.into_iter().filter(|(token, _)| !there.contains(token));
            let births: Vec<Edit> = births.flat_map(|(_, edits)| edits).collect();
            world.note(format!("   a Python node pushes {births:?}"));
            world.python_owed = births.into_iter().filter(|edit| is_birth(&world.ledger, *edit)).collect();
        }
        _ => {}
    }
}

/// Whether nothing was there before it.
fn is_birth(ledger: &Ledger, edit: Edit) -> bool {
    ledger.ancestry(edit).len() == 1
}
