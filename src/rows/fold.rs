//! When segments become one, and which may go. Many small objects cost a new machine many requests; folding at a fixed
//! number would send a year's rows over the line again and again. So sixteen of one size become one of the next, and
//! everything of a writer becomes a base only when what came after the last one outgrows half of it. Pure.

use super::header::{Covers, Kind};
use super::log::ListedSegment;
use super::node::{Fold, MAX_FOLDS};
use crate::failpoint;

/// So many of one size become one of the next.
const TOGETHER: usize = 16;
/// So many where a test sets the time: lives are short.
const TOGETHER_WHERE_TIME_IS_SET: usize = 3;
/// Below each of these (bytes) a segment is of that size; above the last it is not folded again.
const SIZES: [u64; 3] = [4 << 10, 64 << 10, 1 << 20];
/// Below this (bytes) a first base is not worth its upload.
const FIRST_BASE: u64 = 8 << 20;
/// How long segments stay beside what stands for them (seconds): a machine may be reading them.
pub const STAY: i64 = 24 * 60 * 60;

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Nothing.
    Nothing,
    /// These segments become one, which stands for them.
    Fold {
        /// The segments that hold everything, in order.
        numbers: Vec<u64>,
        /// What it stands for.
        covers: Covers,
    },
    /// A base is made, which stands for everything so far.
    Base {
        /// What it stands for.
        covers: Covers,
    },
}

/// A segment that nothing stands for, or a fold with all its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Unit {
    numbers: Vec<u64>,
    covers: Covers,
    size: u64,
    is_base: bool,
}

impl Unit {
    /// Which of [`SIZES`]; `None`: it is large enough.
    fn class(&self) -> Option<usize> {
        SIZES.iter().position(|limit| self.size < *limit).filter(|_| !self.is_base)
    }
}

/// How many segments of one size become one of the next.
pub fn together() -> usize {
    if failpoint::set_time().is_some() { TOGETHER_WHERE_TIME_IS_SET } else { TOGETHER }
}

/// Decides from our own segments as they are listed, and from the folds that our node record names.
pub fn decide(own: &[ListedSegment], folds: &[Fold]) -> Decision {
    let units = units(own, folds);
    let (Some(oldest), Some(newest)) = (units.first(), units.last()) else {
        return Decision::Nothing;
    };
    let base = units.iter().rposition(|unit| unit.is_base).map(|at| at + 1);
    // A first publish is all that its writer has, in as large segments as there are: as good as a base.
    let first = || units.iter().take_while(|unit| unit.class().is_none()).count();
    let (bases, after) = units.split_at_checked(base.unwrap_or_else(first)).unwrap_or_default();
    let base: u64 = bases.iter().map(|unit| unit.size).sum();
    let since: u64 = after.iter().map(|unit| unit.size).sum();
    if since > (base / 2).max(FIRST_BASE) {
        let covers = Covers { first: oldest.covers.first, last: newest.covers.last };
        return Decision::Base { covers };
    }
    for class in 0..SIZES.len() {
        let run = after.windows(together()).find(|run| run.iter().all(|unit| unit.class() == Some(class)));
        if let Some([first, .., last]) = run {
            let numbers = run.into_iter().flatten().flat_map(|unit| unit.numbers.clone()).collect();
            return Decision::Fold {
                numbers,
                covers: Covers { first: first.covers.first, last: last.covers.last },
            };
        }
    }
    Decision::Nothing
}

/// What a base has to stand for, where anything of ours that nothing stands for yet is older than the project's key: in
/// the clear, or sealed with a key that others may have. `older`: whether the segment of that number is.
pub fn anew(own: &[ListedSegment], folds: &[Fold], older: impl Fn(u64) -> bool) -> Option<Covers> {
    let units = units(own, folds);
    let (first, last) = (units.first()?.covers.first, units.last()?.covers.last);
    let any = units.iter().flat_map(|unit| &unit.numbers).any(|number| older(*number));
    any.then_some(Covers { first, last })
}

/// What of ours nothing else stands for, oldest first.
fn units(own: &[ListedSegment], folds: &[Fold]) -> Vec<Unit> {
    let whole = |fold: &&Fold| own.iter().any(|segment| segment.number == fold.number);
    let folds: Vec<&Fold> = folds.iter().filter(whole).collect();
    let covered =
        |number: u64| folds.iter().any(|fold| fold.covers.first <= number && number <= fold.covers.last);
    let mut units: Vec<Unit> = Vec::new();
    for segment in own.iter().filter(|segment| !covered(segment.number)) {
        let number = segment.number;
        let fold = folds.iter().find(|fold| fold.first_part() <= number && number <= fold.number);
        match (fold, units.last_mut()) {
            (Some(fold), Some(unit)) if unit.covers == reach(fold) => {
                unit.numbers.push(number);
                unit.size = unit.size.saturating_add(segment.size);
            }
            _ => units.push(Unit {
                numbers: vec![number],
                covers: fold.map_or(Covers { first: number, last: number }, |fold| reach(fold)),
                size: segment.size,
                is_base: fold.is_some_and(|fold| fold.kind == Kind::Base),
            }),
        }
    }
    units
}

/// What a fold of this fold stands for: what it stood for, and itself.
fn reach(fold: &Fold) -> Covers {
    Covers { first: fold.covers.first.min(fold.first_part()), last: fold.number }
}

/// Which of our segments may go: those that a fold has stood for since more than a day. `now`: seconds since 1970 by the
/// store's clock, as the times of the listing are.
pub fn spent(own: &[ListedSegment], folds: &[Fold], now: i64) -> Vec<u64> {
    let settled = |fold: &&Fold| {
        let last = own.iter().find(|segment| segment.number == fold.number);
        last.is_some_and(|last| now.saturating_sub(last.modified) > STAY)
    };
    let folds: Vec<&Fold> = folds.iter().filter(settled).collect();
    let covered =
        |number: u64| folds.iter().any(|fold| fold.covers.first <= number && number <= fold.covers.last);
    own.iter().map(|segment| segment.number).filter(|number| covered(*number)).collect()
}

/// The folds that a node record names from now on: with the new one, and without those that it stands for.
pub fn named(folds: &[Fold], new: Fold) -> Vec<Fold> {
    let covers = new.covers;
    let other = folds.iter().filter(|fold| fold.number < covers.first || fold.number > covers.last);
    let mut named: Vec<Fold> = other.cloned().collect();
    named.push(new);
    let surplus = named.len().saturating_sub(MAX_FOLDS);
    named.drain(..surplus);
    named
}

#[cfg(test)]
#[path = "fold_tests.rs"]
mod tests;
