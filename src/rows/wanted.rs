//! Which segments of a writer are still to be read, and how far one has come with those that were. Pure: numbers in,
//! numbers out. A fold stands for what it covers, so that nothing is read twice that need not be.

use std::collections::BTreeSet;

use super::header::Covers;
use super::node::Fold;

/// The numbers to be read of a writer whose segments up to `collected` were read and whose newest is `last`, lowest
/// first. What a fold stands for is read in the fold; a fold of nothing new is left out.
pub fn wanted(collected: u64, last: u64, folds: &[Fold]) -> Vec<u64> {
    let mut wanted = Vec::new();
    let mut number = collected.saturating_add(1);
    while number <= last {
        // The widest fold that spares reading this number: of a base over folds, the base.
        let stands = folds.iter().filter(|fold| fold.covers.first <= number && number <= fold.covers.last);
        let old = |fold: &&Fold| {
            fold.first_part() <= number && number <= fold.number && fold.covers.last <= collected
        };
        number = if let Some(fold) = stands.max_by_key(|fold| fold.covers.last) {
            fold.covers.last.saturating_add(1)
        } else if let Some(fold) = folds.iter().find(old) {
            fold.number.saturating_add(1)
        } else {
            wanted.push(number);
            number.saturating_add(1)
        };
    }
    wanted
}

/// How far one has come by folds alone that follow and stand for nothing new: they are as good as read.
pub fn past(collected: u64, last: u64, folds: &[Fold]) -> u64 {
    let mut past = collected;
    let follows = |fold: &&Fold, past: u64| {
        fold.covers.last <= collected
            && fold.first_part() <= past.saturating_add(1)
            && past < fold.number.min(last)
    };
    while let Some(fold) = folds.iter().find(|fold| follows(fold, past)) {
        past = fold.number.min(last);
    }
    past
}

/// How far one has come: the highest number below which nothing is missing, where `collected` was that number before and
/// `read` are the segments read since, each with what it stands for where its last part has been read.
pub fn reached(collected: u64, read: &[(u64, Option<Covers>)]) -> u64 {
    let numbers: BTreeSet<u64> = read.iter().map(|(number, _)| *number).collect();
    let mut reached = collected;
    loop {
        let next = reached.saturating_add(1);
        let covers = read.iter().filter_map(|(_, covers)| *covers);
        let further =
            covers.filter(|covers| covers.first <= next && next <= covers.last).map(|covers| covers.last);
        reached = match further.max() {
            Some(last) => last,
            None if numbers.contains(&next) => next,
            None => return reached,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::{past, reached, wanted};
    use crate::rows::header::{Covers, Kind};
    use crate::rows::node::Fold;

    fn fold(number: u64, parts: u32, first: u64, last: u64) -> Fold {
        Fold { kind: Kind::Fold, number, parts, covers: Covers { first, last } }
    }

    #[test]
    fn what_is_new_is_read_and_folds_instead_of_what_they_stand_for() {
        let table: [(u64, u64, Vec<Fold>, &[u64]); 10] = [
            (0, 0, vec![], &[]),
            (3, 3, vec![], &[]),
            (5, 3, vec![], &[]),
            (3, 6, vec![], &[4, 5, 6]),
            (0, 18, vec![fold(17, 1, 1, 16)], &[17, 18]),
            (10, 18, vec![fold(17, 1, 1, 16)], &[17, 18]),
            (16, 18, vec![fold(17, 1, 1, 16)], &[18]),
            (16, 19, vec![fold(18, 2, 1, 16)], &[19]),
            (17, 19, vec![fold(18, 2, 1, 16)], &[19]),
            (0, 20, vec![fold(17, 1, 1, 16), fold(19, 1, 1, 18)], &[19, 20]),
        ];
        for (collected, last, folds, expected) in table {
            assert_eq!(wanted(collected, last, &folds), expected, "{collected} {last} {folds:?}");
        }
    }

    #[test]
    fn a_fold_of_nothing_new_is_as_good_as_read() {
        let table: [(u64, u64, Vec<Fold>, u64); 6] = [
            (16, 17, vec![fold(17, 1, 1, 16)], 17),
            (16, 19, vec![fold(18, 2, 1, 16)], 18),
            (17, 18, vec![fold(18, 2, 1, 16)], 18),
            (10, 17, vec![fold(17, 1, 1, 16)], 10),
            (16, 18, vec![fold(18, 1, 1, 16)], 16),
            (17, 17, vec![fold(17, 1, 1, 16)], 17),
        ];
        for (collected, last, folds, expected) in table {
            assert_eq!(past(collected, last, &folds), expected, "{collected} {last} {folds:?}");
        }
    }

    #[test]
    fn a_number_counts_as_reached_when_nothing_below_it_is_missing() {
        let covers = |first, last| Some(Covers { first, last });
        let table: [(u64, &[(u64, Option<Covers>)], u64); 8] = [
            (3, &[], 3),
            (3, &[(4, None), (5, None)], 5),
            (3, &[(5, None)], 3),
            (3, &[(5, None), (4, None)], 5),
            (0, &[(17, covers(1, 16)), (18, None)], 18),
            (0, &[(17, None), (18, covers(1, 16))], 18),
            (0, &[(18, covers(1, 16))], 16),
            (20, &[(17, covers(1, 16))], 20),
        ];
        for (collected, read, expected) in table {
            assert_eq!(reached(collected, read), expected, "{collected} {read:?}");
        }
    }
}
