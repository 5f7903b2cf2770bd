//! The judge of the whole binary: random lives of some machines with everything that they have, commands, hooks, a bucket,
//! a Python node and all that goes wrong, against what a person would swear to. What a row is, what was acknowledged and
//! what was deleted is told by rows_model, whose machines live in the test's own process.

// `Deed` has a lifetime of its own: its methods are no functions of any one.
#![allow(clippy::redundant_closure_for_method_calls)]

mod bucket;
mod faults;
mod hints;
mod judge;
mod keys;
mod life;
mod node;
mod restores;
mod seeds;
mod soak;
mod troubles;
mod world;

/// As many as half a minute of two cores bears; `make soak` lives more.
#[test]
fn random_lives_of_a_fleet_end_well() {
    seeds::all_go_well(40);
}
