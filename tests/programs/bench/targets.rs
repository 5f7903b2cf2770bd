//! What has to hold, as ratios within one run.

use super::cases::*;
use super::samples::{Measure, OURS, Samples};
use super::{floor, peers};

/// Ours over theirs, at most.
struct Target {
    case: &'static str,
    what: Measure,
    /// Whose case of which name.
    than: (&'static str, &'static str),
    ratio: f64,
    /// Only from this size on (MB).
    from: u64,
}

const fn target(case: &'static str, what: Measure, whose: &'static str, ratio: f64, from: u64) -> Target {
    Target { case, what, than: (whose, case), ratio, from }
}

/// The smallest size at which the largest part of a run is not its start.
const LARGE: u64 = 100;

const TARGETS: [Target; 15] = [
    target(NOTHING, Measure::Wall, peers::PYTHON, 1.0 / 50.0, LARGE),
    target(NOTHING, Measure::Memory, peers::PYTHON, 1.0 / 6.0, LARGE),
    target(SESSION_UP, Measure::Wire, peers::PYTHON, 1.0 / 1000.0, LARGE),
    target(SESSION_UP, Measure::Disk, peers::PYTHON, 1.0 / 100.0, LARGE),
    target(SESSION_DOWN, Measure::Wire, peers::PYTHON, 1.0 / 1000.0, LARGE),
    target(SESSION_DOWN, Measure::Disk, peers::PYTHON, 1.0 / 100.0, LARGE),
    target(FIRST_PUSH, Measure::Cpu, peers::PYTHON, 1.0, LARGE),
    target(FIRST_PUSH, Measure::Disk, peers::PYTHON, 1.0, LARGE),
    target(FIRST_PUSH_ALONE, Measure::Cpu, floor::NAME, 1.3, LARGE),
    target(ARCHIVE, Measure::Cpu, peers::PYTHON, 1.0, LARGE),
    target(ARCHIVE, Measure::Disk, peers::PYTHON, 1.0, LARGE),
    target(FIRST_PULL, Measure::Cpu, peers::PYTHON, 1.0, LARGE),
    target(FIRST_PULL, Measure::Disk, peers::PYTHON, 1.0, LARGE),
    target(FIRST_PULL, Measure::Cpu, floor::NAME, 1.3, LARGE),
    target(SESSION_UP, Measure::Wire, peers::RESTIC, 1.0, 0),
];

/// MB that nothing of ours may need.
const MEMORY: f64 = 24.0;

/// The targets that were missed, in words; those without a peer to compare with cannot be.
pub fn missed(samples: &Samples, sizes: &[u64]) -> Vec<String> {
    let mut missed = Vec::new();
    for size in sizes {
        for Target { case, what, than: (whose, named), ratio, from } in &TARGETS {
            // The floor is measured once, with the first push.
            let named = if *whose == floor::NAME && *named == FIRST_PUSH_ALONE { FIRST_PUSH } else { named };
            let (Some(ours), Some(theirs)) =
                (samples.median(*size, case, OURS, *what), samples.median(*size, named, whose, *what))
            else {
                continue;
            };
            if size >= from && ours > theirs * ratio {
                missed.push(format!(
                    "{size} MB, {case}: {what:?} {:.4} of {whose}'s, at most {ratio:.4}",
                    ours / theirs
                ));
            }
        }
        for case in samples.cases(*size) {
            let memory = samples.median(*size, case, OURS, Measure::Memory);
            if let Some(memory) = memory.filter(|memory| *memory > MEMORY) {
                missed.push(format!("{size} MB, {case}: {memory:.1} MB resident, at most {MEMORY}"));
            }
        }
    }
    missed
}
