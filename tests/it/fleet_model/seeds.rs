//! The lives of a fleet: how long one is, which rule is broken in the binary.

use super::life::live;
use crate::lives::{Ended, Lives, cores};

/// Steps of a life.
const STEPS: usize = 12;

/// What a store does not answer is waited for: more lives than cores.
fn with<T>(fault: Option<&'static str>, what: impl FnOnce(Lives<'_>) -> T) -> T {
    let live = move |seed: u64, kept: &[usize]| -> Ended { live(seed, fault, kept) };
    what(Lives { name: "FLEET", steps: STEPS, threads: 2 * cores(), live: &live })
}

/// See [`Lives::all_go_well`].
pub fn all_go_well(cases: usize) {
    with(crate::lives::variable::<String>("FLEET_FAULT").map(|fault| &*fault.leak()), |lives| {
        lives.all_go_well(cases);
    });
}

/// A life, of the first `cases`, in which a planted fault shows; see [`Lives::finds`].
pub fn finds(fault: &'static str, known: u64, cases: usize) -> Option<u64> {
    with(Some(fault), |lives| lives.finds(known, cases))
}

/// Whether a life ends well; with a fault, or with all rules in force.
pub fn goes_well(seed: u64, fault: Option<&'static str>) -> bool {
    with(fault, |lives| lives.goes_well(seed))
}
