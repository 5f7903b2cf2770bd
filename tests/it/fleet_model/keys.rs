//! A sealed fleet: its key is made, changed, and brought to the machines that lack it.

use membridge::seal::Keyring;

use super::node::Ran;
use super::world::{How, World};
use crate::rows_model::dice::Dice;
use crate::sealed::key_of;
use crate::support::s3::Fault;

/// Where the only failpoint of a new key is: the project is sealed with it, and the machine has not noted that yet.
const SEALED: &str = "key.sealed";

/// The project is sealed before anybody has synced.
pub fn seal(world: &mut World) {
    world.mirrored = false;
    world.keeper = Some(0);
    world.run(0, "key init", &How::WELL);
    learn(world, 0);
    (1..world.nodes.len()).for_each(|at| bring(world, at));
}

/// Somebody makes a new key, or gets the one that was made elsewhere.
pub fn change(world: &mut World, at: usize, dice: &mut Dice) {
    if world.nodes[at].lacks_key {
        bring(world, at);
        return;
    }
    let how = match dice.below(4) {
        0 => How::at(SEALED),
        1 => How { troubled: true, ..How::WELL },
        _ => How::WELL,
    };
    let cut = how.troubled && how.point.is_none();
    let after = dice.below(30);
    let guard = world
        .shop
        .server()
        .filter(|_| cut)
        .map(|server| server.fault(Fault::Disconnect.next(9).after(after)));
    let mut ran = world.run(at, "key rotate", &how);
    drop(guard);
    if ran.code() != 0 && ran.trouble() != "lock_held" {
        // As the hint says.
        ran = world.run(at, "key rotate", &How::WELL);
    }
    if ran.trouble() == "lock_held" {
        return;
    }
    if ran.code() != 0 {
        world.fail(format!("a new key that cannot be made: {:?}", ran.outcome));
        return;
    }
    world.keeper = Some(at);
    learn(world, at);
    for other in (0..world.nodes.len()).filter(|other| *other != at) {
        world.nodes[other].lacks_key = true;
        if dice.percent(50) {
            bring(world, other);
        }
    }
}

/// Brings the fleet's key to a machine.
pub fn bring(world: &mut World, at: usize) {
    let Some(keeper) = world.keeper else { return };
    let key = key_of(&world.nodes[keeper].machine);
    let before = world.before(at);
    let run = world.prepare(at, "key import", &How::WELL).stdin(format!("{key}\n"));
    let ran = Ran::of(run.run());
    world.ran(at, "key import", &How::WELL, &before, &ran);
    world.nodes[at].lacks_key = false;
}

/// What the judge needs to read the log.
fn learn(world: &mut World, at: usize) {
    let file = world.nodes[at].machine.path(".claude-mem-minio/fleet.key");
    let ring = Keyring::read(&file).expect("a key file").expect("a key");
    let known = world.shop.ring.take();
    world.shop.ring = Some(ring.over(known.iter().flat_map(Keyring::all).cloned()));
}
