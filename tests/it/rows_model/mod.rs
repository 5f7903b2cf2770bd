//! The judge of the row log: random lives of several machines with everything that goes wrong, against what a person would
//! swear to (rows.md 11.1), and the short histories that killed earlier rules.

// `Deed` has a lifetime of its own: its methods are no functions of any one.
#![allow(clippy::redundant_closure_for_method_calls)]

pub mod deeds;
pub mod dice;
mod faults;
mod histories;
mod histories_files;
pub mod ledger;
mod life;
pub mod machine;
pub mod memory;
mod seeds;
mod shelf;
mod soak;
mod story;
mod troubles;
pub mod upgrade;
mod world;

use self::troubles::Troubles;

/// A folder for one life, in memory where that can be had.
fn folder() -> tempfile::TempDir {
    let memory = std::path::Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("a folder")
}

#[test]
fn random_lives_end_well() {
    seeds::all_go_well(1000, Troubles::ALL);
}
