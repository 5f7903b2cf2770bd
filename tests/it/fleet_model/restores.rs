//! A person puts earlier states in place: what that means for what is owed.

use super::node::Tokens;
use super::world::{How, World};
use crate::rows_model::dice::Dice;
use crate::support::s3::Fault;

/// What a person means by putting an earlier state in place.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Means {
    Exactly,
    /// Rows come back, and none goes.
    AddOnly,
}

impl Means {
    fn pick(dice: &mut Dice) -> Means {
        if dice.percent(30) { Means::AddOnly } else { Means::Exactly }
    }

    fn flag(self) -> &'static str {
        if self == Means::AddOnly { "--add-only" } else { "--yes" }
    }
}

/// Compares what was here with what is here: what went is kept in a backup, and the person wanted it so. `certain`: the
/// command said that it was done.
fn replaced(world: &mut World, at: usize, before: &Tokens, means: Means, certain: bool) {
    let after = world.nodes[at].tokens();
    for (token, edits) in before {
        let now = after.get(token);
        if now == Some(edits) {
            continue;
        }
        world.nodes[at].replaced.extend(edits.iter().copied());
        match now.and_then(|edits| edits.first()) {
            Some(edit) => world.ledger.set_back(token, *edit),
            None if means == Means::AddOnly => edits.iter().for_each(|edit| world.ledger.acknowledge(*edit)),
            None if certain => world.ledger.delete(token, edits, false),
            None => world.ledger.perhaps_deleted(token, edits),
        }
    }
    for (token, edits) in after.iter().filter(|(token, _)| !before.contains_key(*token)) {
        let Some(edit) = edits.first() else { continue };
        if certain {
            world.ledger.revive(token, *edit);
        } else {
            world.ledger.perhaps_deleted(token, edits);
            world.ledger.set_back(token, *edit);
        }
    }
}

fn put_in_place(world: &mut World, at: usize, what: &str, means: Means, dice: &mut Dice) {
    let words = format!("{what} {}", means.flag());
    let before = world.nodes[at].tokens();
    let point = dice.percent(20).then(|| dice.between(1, 30).to_string());
    let how = How { point, troubled: true };
    let ran = world.run(at, &words, &how);
    replaced(world, at, &before, means, ran.code() == 0);
    if ran.code() != 0 {
        world.nodes[at].crashed = true;
    }
}

/// `restore N`, of what is shared.
pub fn restore(world: &mut World, at: usize, dice: &mut Dice) {
    let commits = world.shop.commits();
    if commits.is_empty() || !world.nodes[at].has_database() || !world.share(at) {
        return;
    }
    let number = *dice.pick(&commits);
    let means = Means::pick(dice);
    put_in_place(world, at, &format!("restore {number}"), means, dice);
}

/// One backup after the other is put back, with something new in between that nobody has shared.
pub fn restore_backups(world: &mut World, at: usize, dice: &mut Dice) {
    if world.nodes[at].backups().is_empty() {
        restore(world, at, dice);
    }
    for _ in 0..dice.between(2, 3) {
        let backups = world.nodes[at].backups();
        // That much is gone is no reason for a person to stop, who wanted it so.
        let shared = world.share(at) || world.sync(at, &How::WELL).trouble() == "refused";
        if backups.is_empty() || !shared {
            return;
        }
        if dice.percent(70) {
            world.deed(at, dice, |deed| deed.session());
        }
        let name = dice.pick(&backups).clone();
        // Without the store what is new here cannot be sent first: a copy is all that is left of it.
        let cut = world.shop.server().filter(|_| dice.percent(50));
        let guard = cut.map(|server| server.fault(Fault::Disconnect));
        if guard.is_some() {
            world.log.push(format!("   {at} has no store"));
        }
        let means = if guard.is_some() { Means::Exactly } else { Means::pick(dice) };
        put_in_place(world, at, &format!("restore-backup {name}"), means, dice);
    }
}
