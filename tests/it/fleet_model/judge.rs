//! What is wrong after a step, and at the end of a life.

use std::collections::{BTreeMap, BTreeSet};

use super::bucket::Held;
use super::keys;
use super::node::{Node, version_of};
use super::world::{How, World};
use crate::rows_model::memory::{Edit, Memory, Token};
use crate::support::claude_mem::{self, Version};

/// After each step: nothing that was acknowledged or replaced is gone, and every database is whole.
pub fn step(world: &mut World) {
    let mut wrong = Vec::new();
    for node in world.nodes.iter().filter(|node| node.has_database()) {
        wrong.extend(unsound(node));
    }
    let mut held = Held::new();
    world.shop.log(&mut held);
    world.nodes.iter().for_each(|node| node.hold(&mut held));
    let owed = world.ledger.owed().into_iter();
    let replaced = world.nodes.iter().flat_map(|node| node.replaced.iter().copied());
    let owed: Vec<Edit> = owed.chain(replaced).collect();
    if !world.ledger.nowhere(owed.iter().copied(), &held).is_empty() {
        commits(world, &mut held);
    }
    let lost = world.ledger.nowhere(owed, &held);
    wrong.extend(lost.into_iter().map(|what| format!("{what} is nowhere any more")));
    if world.conditional {
        wrong.extend(world.shop.unlocked());
    }
    world.wrong.extend(wrong);
}

fn unsound(node: &Node) -> Option<String> {
    let path = node.machine.db_path();
    let integrity = claude_mem::integrity(&path);
    let found = if integrity == "ok" { node.memory().unsound() } else { Some(integrity) };
    found.map(|found| format!("{}: {found}", node.machine.name))
}

/// Adds what the commits hold: each is restored into a file.
fn commits(world: &World, held: &mut Held) {
    for number in world.shop.commits() {
        let file = world.folder.path().join(format!("commit-{number}.db"));
        let _ = std::fs::remove_file(&file);
        let machine = &world.nodes[world.keeper.unwrap_or(0)].machine;
        machine.cmd(&format!("restore {number} --to")).arg(&file).run();
        if file.exists() {
            for (token, edits) in Memory::open(&file, version_of(&file)).tokens() {
                held.entry(token).or_default().extend(edits);
            }
        }
    }
}

/// Everybody syncs until nothing is left to say, and one more machine comes that has the bucket alone.
pub fn end(world: &mut World) {
    quiet(world);
    step(world);
    let segments = world.shop.segments();
    for at in 0..world.nodes.len() {
        let ran = world.sync(at, &How::WELL);
        if ran.json["outcome"] != "up_to_date" {
            world.fail(format!("{at} has something to do although nothing has changed: {:?}", ran.outcome));
        }
    }
    let after = world.shop.segments();
    let fresh: Vec<_> = after.difference(&segments).collect();
    if !fresh.is_empty() {
        world.wrong.push(format!("published although nothing has changed: {fresh:?}"));
    }
    let newcomer = world.add_machine("newcomer");
    keys::bring(world, newcomer);
    world.run(newcomer, "pull_sqlite", &How::WELL);
    equal(world);
}

fn quiet(world: &mut World) {
    let mut dice = world.dice(usize::MAX);
    let clocks = dice.percent(50);
    if clocks {
        world.set_store_clock(0);
    }
    for node in &mut world.nodes {
        if clocks {
            node.machine.unset("MEMBRIDGE_TEST_CLOCK_OFFSET");
        }
        node.asked = true;
    }
    world.note("quiet");
    let lacking = |at: &usize| world.nodes[*at].lacks_key;
    let lacking: Vec<usize> = (0..world.nodes.len()).filter(lacking).collect();
    for at in lacking {
        keys::bring(world, at);
    }
    for round in 0..2 {
        for at in 0..world.nodes.len() {
            let mut words = world.words_of_sync(at);
            if round == 0 {
                words += " --take-lock";
            }
            let ran = world.run(at, &words, &How::WELL);
            if ran.said().contains("more than half are missing") {
                // As the hint says.
                world.nodes[at].machine.set("FORCE_PUSH", "1");
                world.run(at, "push_sqlite", &How::WELL);
                world.nodes[at].machine.unset("FORCE_PUSH");
            } else if ran.code() != 0 {
                world.fail(format!("{at} cannot sync: {:?}", ran.outcome));
            }
        }
    }
}

fn equal(world: &mut World) {
    let mut wrong = Vec::new();
    let nodes: Vec<&Node> = world.nodes.iter().filter(|node| node.has_database()).collect();
    let aside: BTreeSet<Token> = nodes.iter().flat_map(|node| node.waiting()).collect();
    let shared = |node: &Node, columns: Version| {
        let mut shared: BTreeMap<String, usize> = node.memory().shared(columns);
        shared.retain(|row, _| !aside.iter().any(|token| row.contains(&format!("'{token}|"))));
        shared
    };
    for (at, node) in nodes.iter().enumerate() {
        let version = node.version();
        let like = nodes[..at].iter().find(|other| other.version() == version);
        let others = [(nodes[0], Version::V9_1_1)].into_iter().chain(like.map(|other| (*other, version)));
        for (other, columns) in others {
            let (a, b) = (shared(other, columns), shared(node, columns));
            if a != b {
                let only = |a: &BTreeMap<String, usize>, b: &BTreeMap<String, usize>| {
                    let only = a.iter().filter(|(row, count)| b.get(*row) != Some(count));
                    only.map(|(row, count)| format!("{count}x {row}")).take(2).collect::<Vec<_>>()
                };
                wrong.push(format!(
                    "{} and {} differ in {columns:?}: {:#?} against {:#?}",
                    other.machine.name,
                    node.machine.name,
                    only(&a, &b),
                    only(&b, &a)
                ));
            }
        }
        let found = world.ledger.judge(&node.tokens(), &aside);
        wrong.extend(found.into_iter().map(|what| format!("{}: {what}", node.machine.name)));
        wrong.extend(unsound(node));
    }
    if nodes.len() < world.nodes.len() {
        wrong.push("a machine has no database in the end".to_owned());
    }
    world.wrong.extend(wrong);
}
