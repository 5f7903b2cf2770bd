//! The lives of the row log: which troubles they have, which rule is broken.

use membridge::failpoint::script;

use super::life::live;
use super::troubles::Troubles;
use crate::lives::{Ended, Lives, cores, variable};

/// What a life set for its thread ends with it, also where it panics.
struct Scripted;

impl Drop for Scripted {
    fn drop(&mut self) {
        script::plant(None);
        script::set_time(None);
        script::set_chance(None);
        script::crash_after(None);
    }
}

fn with<T>(troubles: Troubles, fault: Option<&'static str>, what: impl FnOnce(Lives<'_>) -> T) -> T {
    let live = move |seed: u64, kept: &[usize]| -> Ended {
        let _scripted = Scripted;
        script::plant(fault);
        live(seed, troubles, kept)
    };
    what(Lives { name: "ROWS", steps: troubles.steps, threads: cores(), live: &live })
}

/// See [`Lives::all_go_well`]; `ROWS_TROUBLES` chooses classes of trouble (`all-python`, `crashes,late`).
pub fn all_go_well(cases: usize, troubles: Troubles) {
    let troubles = variable::<String>("ROWS_TROUBLES").map_or(troubles, |text| Troubles::named(&text));
    with(troubles, None, |lives| lives.all_go_well(cases));
}

/// A life, of the first `cases`, in which a planted fault shows; see [`Lives::finds`].
pub fn finds(fault: &'static str, known: u64, cases: usize, troubles: Troubles) -> Option<u64> {
    with(troubles, Some(fault), |lives| lives.finds(known, cases))
}

/// Whether a life ends well with all rules in force.
pub fn goes_well(seed: u64, troubles: Troubles) -> bool {
    with(troubles, None, |lives| lives.goes_well(seed))
}
