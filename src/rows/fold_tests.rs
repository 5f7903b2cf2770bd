//! Tables of what is folded, and a year of it.

use super::{Decision, FIRST_BASE, STAY, anew, decide, named, spent};
use crate::rows::header::{Covers, Kind};
use crate::rows::log::ListedSegment;
use crate::rows::node::Fold;

const TURN: u64 = 2_400;
const SESSION: u64 = 31_000;
const MB: u64 = 1 << 20;

fn listed(sizes: impl IntoIterator<Item = (u64, u64)>) -> Vec<ListedSegment> {
    let segment = |(number, size)| ListedSegment { writer: "0".repeat(32), number, size, modified: 0 };
    sizes.into_iter().map(segment).collect()
}

fn fold(kind: Kind, number: u64, parts: u32, first: u64, last: u64) -> Fold {
    Fold { kind, number, parts, covers: Covers { first, last } }
}

fn numbers(range: std::ops::RangeInclusive<u64>, size: u64) -> Vec<(u64, u64)> {
    range.map(|number| (number, size)).collect()
}

#[test]
fn sixteen_of_one_size_become_one_of_the_next() {
    let folded = |numbers: Vec<u64>, first, last| Decision::Fold { numbers, covers: Covers { first, last } };
    let sixteen: Vec<u64> = (1..=16).collect();
    let one = fold(Kind::Fold, 17, 1, 1, 16);
    let two = fold(Kind::Fold, 18, 2, 1, 16);
    let of_folds: Vec<Fold> =
        (1..=16).map(|n| fold(Kind::Fold, n * 17, 1, n * 17 - 16, n * 17 - 1)).collect();
    let of_folds_listed = listed((1..=16).map(|n| (n * 17, 500_000)));
    let table = [
        ("none", listed([]), vec![], Decision::Nothing),
        ("fifteen", listed(numbers(1..=15, SESSION)), vec![], Decision::Nothing),
        ("sixteen", listed(numbers(1..=16, SESSION)), vec![], folded(sixteen.clone(), 1, 16)),
        ("sixteen turns", listed(numbers(1..=16, TURN)), vec![], folded(sixteen.clone(), 1, 16)),
        (
            "of two sizes, mixed",
            listed((1..=40).map(|n| (n, if n % 5 == 0 { SESSION } else { TURN }))),
            vec![],
            Decision::Nothing,
        ),
        ("large ones stay", listed(numbers(1..=40, 8 * MB)), vec![], Decision::Nothing),
        (
            "folded, the old ones still there",
            listed([numbers(1..=16, SESSION), numbers(17..=17, 500_000), numbers(18..=32, SESSION)].concat()),
            vec![one.clone()],
            Decision::Nothing,
        ),
        (
            "the next sixteen",
            listed([numbers(17..=17, 500_000), numbers(18..=33, SESSION)].concat()),
            vec![one],
            folded((18..=33).collect(), 18, 33),
        ),
        (
            "the last part of the fold is not there yet",
            listed([numbers(1..=16, SESSION), numbers(17..=17, 500_000)].concat()),
            vec![two],
            folded(sixteen, 1, 16),
        ),
        ("folds of folds", of_folds_listed, of_folds, folded((1..=16).map(|n| n * 17).collect(), 1, 272)),
    ];
    for (name, own, folds, expected) in table {
        assert_eq!(decide(&own, &folds), expected, "{name}");
    }
}

#[test]
fn a_base_is_made_when_what_came_after_the_last_one_outgrows_half_of_it() {
    let after = |base: u64, since: u64| {
        let own = listed([(10, base / 2), (11, base / 2), (12, since)]);
        matches!(
            decide(&own, &[fold(Kind::Base, 11, 2, 1, 9)]),
            Decision::Base { covers: Covers { first: 1, last: 12 } }
        )
    };
    assert!(!after(40 * MB, 20 * MB));
    assert!(after(40 * MB, 20 * MB + 1));
    assert!(!after(2 * MB, FIRST_BASE), "not for little");
    assert!(after(2 * MB, FIRST_BASE + 1));
    let first = |publish: u64, since: u64| {
        let segments =
            numbers(1..=publish, 8 * MB).into_iter().chain(numbers(publish + 1..=publish + since, MB - 1));
        matches!(decide(&listed(segments), &[]), Decision::Base { covers: Covers { first: 1, .. } })
    };
    assert!(!first(5, 15), "a first publish is as good as a base");
    assert!(first(5, 21));
    assert!(first(0, 9));
    assert!(!first(0, 8));
}

#[test]
fn what_was_folded_goes_a_day_after_the_last_part_of_what_stands_for_it() {
    let mut own =
        listed([numbers(1..=16, SESSION), numbers(17..=18, MB), numbers(19..=20, SESSION)].concat());
    let folds = [fold(Kind::Fold, 18, 2, 1, 16)];
    for segment in &mut own {
        segment.modified = 1_000_000;
    }
    assert_eq!(spent(&own, &folds, 1_000_000 + STAY), [0_u64; 0]);
    assert_eq!(spent(&own, &folds, 1_000_000 + STAY + 1), (1..=16).collect::<Vec<u64>>());
    own.retain(|segment| segment.number != 18);
    assert_eq!(spent(&own, &folds, i64::MAX), [0_u64; 0], "its last part is not there");
}

#[test]
fn a_node_record_names_the_folds_that_nothing_stands_for() {
    let old = [fold(Kind::Fold, 17, 1, 1, 16), fold(Kind::Fold, 34, 1, 18, 33)];
    let new = fold(Kind::Fold, 51, 1, 35, 50);
    assert_eq!(named(&old, new.clone()), [old[0].clone(), old[1].clone(), new]);
    let base = fold(Kind::Base, 52, 1, 1, 51);
    assert_eq!(named(&old, base.clone()), [base]);
    let many: Vec<Fold> = (1..=64).map(|n| fold(Kind::Fold, n * 17, 1, n * 17 - 16, n * 17 - 1)).collect();
    let new = fold(Kind::Fold, 65 * 17, 1, 65 * 17 - 16, 65 * 17 - 1);
    let named = named(&many, new.clone());
    assert_eq!((named.len(), named.first(), named.last()), (64, Some(&many[1]), Some(&new)));
}

/// One machine, 40 sessions a day for a year: what is sent and what lies there, whenever the folding is caught up.
#[test]
fn a_year_of_sessions_stays_small() {
    let (mut own, mut folds, mut sent, mut next) = (Vec::new(), Vec::new(), 0_u64, 1_u64);
    let mut most = 0;
    for session in 0..40 * 365_i64 {
        let now = session * 86_400 / 40;
        let mut put = |own: &mut Vec<ListedSegment>, size: u64| {
            sent += size;
            own.push(ListedSegment { modified: now, ..listed([(next, size)]).remove(0) });
            next += 1;
            next - 1
        };
        put(&mut own, SESSION);
        let size = |own: &[ListedSegment], wanted: &dyn Fn(u64) -> bool| -> u64 {
            own.iter().filter(|segment| wanted(segment.number)).map(|segment| segment.size).sum()
        };
        match decide(&own, &folds) {
            Decision::Nothing => {}
            Decision::Fold { numbers, covers } => {
                let size = size(&own, &|number| numbers.contains(&number));
                let number = put(&mut own, size);
                folds = named(&folds, fold(Kind::Fold, number, 1, covers.first, covers.last));
            }
            Decision::Base { covers } => {
                // Packed harder than sessions are.
                let number = put(&mut own, SESSION * 6 / 10 * session.unsigned_abs());
                folds = named(&folds, fold(Kind::Base, number, 1, covers.first, covers.last));
            }
        }
        let gone = spent(&own, &folds, now);
        own.retain(|segment| !gone.contains(&segment.number));
        most = most.max(own.len());
    }
    let (raw, left) = (SESSION * 40 * 365, own.iter().map(|segment| segment.size).sum::<u64>());
    assert!(sent < raw * 5, "{sent} of {raw}");
    assert!(left < raw * 2 && most < 200, "{left} {most}");
}

#[test]
fn what_is_older_than_the_key_is_sealed_anew_until_something_stands_for_it() {
    let own = listed(numbers(1..=3, SESSION));
    let older = |number: u64| number <= 2;
    assert_eq!(anew(&own, &[], older), Some(Covers { first: 1, last: 3 }));
    assert_eq!(anew(&own, &[], |_| false), None);
    assert_eq!(anew(&[], &[], older), None);
    // Its base is there; the old ones stay for a day.
    let own = listed(numbers(1..=4, SESSION));
    assert_eq!(anew(&own, &[fold(Kind::Base, 4, 1, 1, 3)], older), None);
}
