//! A random life: which step comes next, and the verdict at its end.

use std::collections::{BTreeMap, BTreeSet};

use super::dice::Dice;
use super::machine::Sync;
use super::troubles::Troubles;
use super::world::{VERSIONS, World};
use crate::lives::Ended;
use crate::support::claude_mem::Version;

const DAY: i64 = 86_400_000;
const YEAR: i64 = 365 * DAY;
/// Failpoints of one sync; a crash is planned at one of them.
const POINTS: usize = 24;

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
    Turn,
    Crash,
    LoseShadow,
    KeepFile,
    OldFile,
    Clone,
    Jump,
    Year,
    Fold,
    Upgrade,
    Mirror,
    PythonRow,
    PythonEdit,
    PythonPush,
}

/// How often each step comes.
fn weights(troubles: &Troubles) -> Vec<(Step, usize)> {
    let when = |on: bool, weight: usize| if on { weight } else { 0 };
    vec![
        (Step::Session, 60),
        (Step::Observations, 60),
        (Step::Edit, 60),
        (Step::Touch, 20),
        (Step::Manual, 10),
        (Step::Sync, 90),
        (Step::Turn, when(troubles.turns, 30)),
        (Step::Delete, when(troubles.deletions, 15)),
        (Step::Purge, when(troubles.purges, 2)),
        (Step::Vanish, when(troubles.vanishing, 4)),
        (Step::Crash, when(troubles.crashes, 30)),
        (Step::LoseShadow, when(troubles.shadows, 5)),
        (Step::KeepFile, when(troubles.old_files, 15)),
        (Step::OldFile, when(troubles.old_files, 8)),
        (Step::Clone, when(troubles.clones, 3)),
        (Step::Jump, when(troubles.jumps, 4)),
        (Step::Year, when(troubles.years, 3)),
        (Step::Fold, when(troubles.folding, 20)),
        (Step::Upgrade, when(troubles.upgrades, 8)),
        (Step::Mirror, when(troubles.python, 7)),
        (Step::PythonRow, when(troubles.python, 14)),
        (Step::PythonEdit, when(troubles.python, 7)),
        (Step::PythonPush, when(troubles.python, 10)),
    ]
}

fn step(world: &mut World, dice: &mut Dice) {
    let at = dice.below(world.machines.len());
    let what = dice.weighted(&weights(&world.troubles()));
    world.tick(i64::from(dice.between(1, 100_000) as u32));
    world.log.push(format!("{what:?} {at} ({:?})", world.machines[at].version()));
    let settled = world.machines[at].settled;
    match what {
        Step::Session => world.deed(at, dice, |deed| deed.session()),
        Step::Observations => world.deed(at, dice, |deed| deed.observations()),
        Step::Edit => world.deed(at, dice, |deed| deed.edit()),
        Step::Touch => world.deed(at, dice, |deed| deed.touch()),
        Step::Manual => world.deed(at, dice, |deed| deed.manual_session()),
        Step::Sync => world.sync(at, Sync::WHOLE, dice),
        Step::Turn => world.sync(at, Sync::TURN, dice),
        Step::Crash => {
            let crash = Some(dice.below(POINTS) as u64);
            world.sync(at, Sync { crash, ..Sync::WHOLE }, dice);
            if world.machines[at].crashed && dice.percent(60) {
                // While one machine is down, life goes on elsewhere.
                let other = dice.below(world.machines.len());
                if other != at {
                    world.log.push(format!("   meanwhile {other} edits and syncs"));
                    world.deed(other, dice, |deed| deed.edit());
                    world.sync(other, Sync::WHOLE, dice);
                }
            }
        }
        Step::Fold => world.sync(at, Sync { base: true, ..Sync::WHOLE }, dice),
        Step::Delete if settled => {
            if let Some(sql) = world.deed(at, dice, |deed| deed.delete()) {
                world.delete(at, &sql);
            }
        }
        Step::Purge if settled => {
            let sql = world.deed(at, dice, |deed| deed.purge());
            world.delete(at, &sql);
            world.machines[at].accepts = true;
        }
        Step::Vanish if settled => vanish(world, at, dice),
        Step::LoseShadow => {
            world.sync(at, Sync::WHOLE, dice);
            let writer_too = dice.percent(50);
            world.lose_shadow(at, writer_too);
        }
        Step::KeepFile => world.keep_old_file(at),
        Step::OldFile => {
            world.sync(at, Sync::WHOLE, dice);
            world.put_old_file_back(at);
        }
        Step::Clone if world.machines.len() < 5 => {
            world.sync(at, Sync::WHOLE, dice);
            world.clone_machine(at);
        }
        Step::Jump => world.jump(dice),
        // Everybody else has synced, or has been away as well.
        Step::Year => world.tick(if dice.percent(70) { 2 * DAY } else { YEAR }),
        Step::Upgrade => {
            world.sync(at, Sync::WHOLE, dice);
            upgrade(world, at, dice);
            // People bring their machines up to date on the same evening.
            let other = dice.below(world.machines.len());
            if other != at && dice.percent(50) {
                world.log.push(format!("   and {other}"));
                world.sync(other, Sync::WHOLE, dice);
                upgrade(world, other, dice);
            }
        }
        Step::Mirror => {
            world.sync(at, Sync::WHOLE, dice);
            world.mirror(at);
        }
        Step::PythonRow => {
            world.python_deed(dice, |deed| deed.session());
            if dice.percent(50) {
                world.python_deed(dice, |deed| deed.observations());
            }
        }
        Step::PythonEdit => world.python_deed(dice, |deed| deed.edit()),
        Step::PythonPush => world.python_push(),
        Step::Delete | Step::Purge | Step::Vanish | Step::Clone => {}
    }
}

/// A table is emptied by nobody's will; a person who is asked says that the rows are to be put back.
fn vanish(world: &mut World, at: usize, dice: &mut Dice) {
    // What others have deleted meanwhile would make them too few to tell.
    world.sync(at, Sync::QUIET, dice);
    let machine = &world.machines[at];
    let count = "SELECT count(*) FROM observations";
    let count: i64 = machine.memory().db.query_row(count, [], |row| row.get(0)).expect("a count");
    // A crash may have come before the rows that are new here were published: they would be gone for good.
    if count > 10 && machine.settled && !machine.crashed {
        machine.memory().db.execute_batch("DELETE FROM observations").expect("empty a table");
        world.log.push(format!("   {count} observations vanish"));
        world.machines[at].asked = false;
        world.sync(at, Sync::WHOLE, dice);
        world.machines[at].puts_back = true;
        world.sync(at, Sync::WHOLE, dice);
        world.machines[at].asked = true;
    }
}

fn upgrade(world: &mut World, at: usize, dice: &mut Dice) {
    let from = world.machines[at].version();
    let newer: Vec<Version> =
        VERSIONS.into_iter().filter(|to| *to > from && *to >= Version::V13_15_3).collect();
    if !newer.is_empty() {
        let to = *dice.pick(&newer);
        let merge = from < Version::V12_4_9;
        let lowered = dice.percent(30);
        world.log.push(format!("   to {to:?}"));
        world.upgrade(at, to, lowered, merge);
    }
}

/// Lives the steps of a seed that `kept` names, and judges.
pub fn live(seed: u64, troubles: Troubles, kept: &[usize]) -> Ended {
    let mut world = World::new(seed, troubles);
    world.populate();
    for number in kept {
        let mut dice = world.begin_step(*number);
        world.log.push(format!("step {number}"));
        step(&mut world, &mut dice);
    }
    world.quiet();
    let wrong = judge(&mut world);
    Ended { wrong, log: world.log }
}

/// What is wrong after a quiet round; nothing, if all is well.
pub fn judge(world: &mut World) -> Vec<String> {
    let mut wrong = std::mem::take(&mut world.failures);
    let mut aside = BTreeSet::new();
    for machine in &world.machines {
        if let Some(unsound) = machine.memory().unsound() {
            wrong.push(format!("{}: {unsound}", machine.at));
        }
        aside.extend(machine.waiting());
    }
    let same = |one: usize, other: usize, columns: Version| {
        let of = |at: usize| {
            let mut shared: BTreeMap<String, usize> = world.machines[at].memory().shared(columns);
            shared.retain(|row, _| !aside.iter().any(|token| row.contains(&format!("'{token}|"))));
            shared
        };
        let (a, b) = (of(one), of(other));
        let only = |a: &BTreeMap<String, usize>, b: &BTreeMap<String, usize>| {
            let only = a.iter().filter(|(row, count)| b.get(*row) != Some(count));
            only.map(|(row, count)| format!("{count}x {row}")).take(2).collect::<Vec<_>>()
        };
        (a != b).then(|| {
            format!(
                "{one} and {other} differ in {columns:?}: {:#?} against {:#?}",
                only(&a, &b),
                only(&b, &a)
            )
        })
    };
    for at in 1..world.machines.len() {
        wrong.extend(same(0, at, Version::V9_1_1));
        let version = world.machines[at].version();
        if let Some(like) = (0..at).find(|other| world.machines[*other].version() == version) {
            wrong.extend(same(like, at, version));
        }
    }
    for machine in &world.machines {
        let found = world.ledger.judge(&machine.memory().tokens(), &aside);
        wrong.extend(found.into_iter().map(|what| format!("{}: {what}", machine.at)));
    }
    wrong.extend(states(world, &aside));
    wrong.extend(names(world, &aside));
    wrong.extend(idle(world));
    wrong
}

/// A session that got a title somewhere has one everywhere.
fn names(world: &World, aside: &BTreeSet<String>) -> Vec<String> {
    let owed = world.ledger.must_be_named();
    let mut wrong = Vec::new();
    for machine in
        world.machines.iter().filter(|machine| machine.memory().has("sdk_sessions", "custom_title"))
    {
        let nameless = machine.memory().rows("sdk_sessions", "custom_title IS NULL").into_iter();
        let lost = nameless.filter(|row| owed.contains(&row.token) && !aside.contains(&row.token));
        wrong.extend(lost.map(|row| format!("{}: the title of {} is lost", machine.at, row.token)));
    }
    wrong
}

/// What the worker says of a session is what it says where the session was born.
fn states(world: &World, aside: &BTreeSet<String>) -> Vec<String> {
    let states: Vec<_> = world.machines.iter().map(|machine| machine.memory().states()).collect();
    let steady = |at: usize| world.machines.get(at).is_some_and(|machine| machine.steady);
    let mut wrong = Vec::new();
    for (at, here) in states.iter().enumerate().filter(|(at, _)| steady(*at)) {
        for (token, state) in here.iter().filter(|(token, _)| world.ledger.untouched(at, token)) {
            let Some(home) = world.ledger.home(token).filter(|home| steady(*home)) else { continue };
            if let Some(there) = states[home].get(token)
                && there != state
                && !aside.contains(token)
            {
                wrong.push(format!("{at}: the state of {token} is {state}, at home in {home} {there}"));
            }
        }
    }
    wrong
}

/// One more sync of each publishes nothing.
fn idle(world: &mut World) -> Vec<String> {
    let mut dice = Dice::of_step(0, 0);
    let mut wrong = Vec::new();
    for at in 0..world.machines.len() {
        let before = world.segments();
        world.tick(1000);
        world.sync(at, Sync::QUIET, &mut dice);
        let after = world.segments();
        if after != before {
            wrong.push(format!(
                "{at} publishes although nothing has changed: {:?}",
                after.difference(&before)
            ));
        }
    }
    wrong
}
