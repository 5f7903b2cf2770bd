//! What goes wrong while a command runs: it is killed, stopped or overtaken, the store misbehaves, the disk is full.

use std::time::Instant;

use super::bucket::{Bucket, files};
use super::life::WISHES;
use super::node::Ran;
use super::world::{How, World};
use crate::rows_model::dice::Dice;
use crate::support::process::Running;
use crate::support::s3::{Fault, Op};

/// Failpoints that a run reaches; one that is not reached leaves the run alone.
const POINTS: usize = 26;
/// Where a push stands under the lock and has not looked at it again.
const BEFORE_THE_CHECK: [&str; 3] = ["push.locked", "push.before-upload", "history.pack-sent"];
/// The lock's life, and the grace that others give it.
const LOCK_LIVES: i64 = 7200 + 60 + 30;

fn words(world: &mut World, at: usize, dice: &mut Dice) -> String {
    if dice.percent(50) { world.words_of_sync(at) } else { dice.weighted(&WISHES).to_owned() }
}

pub fn kill(world: &mut World, at: usize, dice: &mut Dice) {
    let words = words(world, at, dice);
    let point = dice.between(1, POINTS).to_string();
    world.run(at, &words, &How::at(point));
    if world.nodes[at].crashed && dice.percent(50) {
        meanwhile(world, at, dice);
    }
    if dice.percent(30) {
        // Who died is known to be dead.
        world.run(at, "sync --take-lock", &How::WELL);
    }
}

/// Life goes on elsewhere.
fn meanwhile(world: &mut World, at: usize, dice: &mut Dice) {
    let other = dice.below(world.nodes.len());
    if other != at {
        world.deed(other, dice, |deed| deed.edit());
        let words = words(world, other, dice);
        world.run(other, &words, &How { troubled: true, ..How::WELL });
    }
}

/// Requests that fail, answers that get lost.
pub fn faulty(world: &mut World, at: usize, dice: &mut Dice) {
    let Some(server) = world.shop.server() else { return };
    let mut guards = Vec::new();
    for _ in 0..dice.between(1, 2) {
        let fault = match dice.below(7) {
            0 => Fault::LostReply,
            1 => Fault::LostConnection,
            2 => Fault::SlowDown,
            3 => Fault::Status(429, "TooManyRequests"),
            4 => Fault::Disconnect,
            5 => Fault::CutConnection(dice.below(3000) as u64),
            _ => Fault::Status(500, "InternalError"),
        };
        // Few are bridged, many end the command: somewhere, or where rows go up.
        let count = if dice.percent(70) { 1 } else { 5 };
        let rule = if dice.percent(30) {
            fault.key("/membridge/rows/").on(Op::PutObject).next(5)
        } else {
            fault.next(count).after(dice.below(20))
        };
        guards.push(server.fault(rule));
    }
    let words = words(world, at, dice);
    world.run(at, &words, &How { troubled: true, ..How::WELL });
    drop(guards);
}

/// The disk of the store is not mounted: where it was lies an empty folder. Who has synced with it writes nothing there.
pub fn unmounted(world: &mut World, at: usize, dice: &mut Dice) {
    let Bucket::Dir(folder) = &world.shop.bucket else { return };
    let (folder, elsewhere) = (folder.clone(), folder.with_extension("elsewhere"));
    if !world.nodes[at].settled {
        return;
    }
    std::fs::rename(&folder, &elsewhere).expect("unmount it");
    std::fs::create_dir(&folder).expect("a mount point");
    let words = words(world, at, dice);
    world.note("   the store is not mounted");
    world.run(at, &words, &How { troubled: true, ..How::WELL });
    let found = files(&folder);
    if !found.is_empty() {
        world.fail(format!("{at}: {words} writes into an empty folder: {found:?}"));
    }
    std::fs::remove_dir_all(&folder).expect("remove the mount point");
    std::fs::rename(&elsewhere, &folder).expect("mount it");
}

/// No file may grow beyond a size: what a full disk is to whoever writes.
pub fn disk_full(world: &mut World, at: usize, dice: &mut Dice) {
    let words = words(world, at, dice);
    let before = world.before(at);
    let blocks = *dice.pick(&[1, 8, 64, 200, 400, 800]);
    let binary = env!("CARGO_BIN_EXE_membridge");
    let script = format!("ulimit -f {blocks}; exec {binary} {words} --json");
    let outcome = world.nodes[at].machine.program("/bin/sh").arg("-c").arg(script).run();
    world.note(format!("   no file may have more than {blocks} blocks"));
    world.ran(at, &words, &How { troubled: true, ..How::WELL }, &before, &Ran::of(outcome));
}

/// Waits until a process stops or ends; whether it stopped.
fn stops(running: &Running) -> bool {
    let stat = format!("/proc/{}/stat", running.pid());
    let limit = Instant::now() + std::time::Duration::from_secs(50);
    loop {
        let text = std::fs::read_to_string(&stat).unwrap_or_default();
        match text.rsplit_once(") ").and_then(|(_, after_name)| after_name.chars().next()) {
            Some('T') => return true,
            None | Some('Z') => return false,
            Some(_) => assert!(Instant::now() < limit, "it neither stopped nor ended"),
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

/// A process that stands still for a while, as on a machine that sleeps.
pub fn stopped(world: &mut World, at: usize, dice: &mut Dice) {
    let words = words(world, at, dice);
    let how = How::at(format!("{}=stop", dice.between(1, POINTS)));
    let before = world.before(at);
    let running = world.prepare(at, &words, &how).spawn();
    if stops(&running) {
        world.note(format!("   {at}: {words} stands still"));
        for _ in 0..dice.between(1, 2) {
            meanwhile(world, at, dice);
        }
    }
    let ran = Ran::of(running.let_go());
    world.ran(at, &words, &how, &before, &ran);
}

/// A push stands still until its lock has run out; another one takes over, and stands still in its turn.
pub fn overtake(world: &mut World, at: usize, dice: &mut Dice) {
    let other = (at + 1) % world.nodes.len();
    if world.shop.server().is_none() || !world.nodes[at].has_database() || !world.nodes[other].has_database()
    {
        return;
    }
    for node in [at, other] {
        world.deed(node, dice, |deed| deed.session());
    }
    let first_how = How::at(format!("{}=stop", dice.pick(&BEFORE_THE_CHECK)));
    let first_before = world.before(at);
    let first = world.prepare(at, "push_sqlite", &first_how).spawn();
    if stops(&first) {
        world.let_pass(LOCK_LIVES);
        let second_how = How::at(format!("{}=stop", dice.pick(&BEFORE_THE_CHECK)));
        let second_before = world.before(other);
        let second = world.prepare(other, "push_sqlite", &second_how).spawn();
        let both = stops(&second);
        world.note(format!("   {at} stands still in a push; {other} too: {both}"));
        let ran = Ran::of(first.let_go());
        world.ran(at, "push_sqlite", &first_how, &first_before, &ran);
        let ran = Ran::of(second.let_go());
        world.ran(other, "push_sqlite", &second_how, &second_before, &ran);
    } else {
        let ran = Ran::of(first.let_go());
        world.ran(at, "push_sqlite", &first_how, &first_before, &ran);
    }
    world.let_pass(0);
}
