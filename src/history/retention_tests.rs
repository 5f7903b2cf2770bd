use std::collections::BTreeSet;

use super::{GRACE, ListedPack, expired, orphans, rebase_due};
use crate::config::HistoryRetention;
use crate::history::commit::Link;
use crate::history::log::Listed;
use crate::sum::Sum;

const NOW: i64 = 1_800_000_000;
const DAY: i64 = 86_400;

#[test]
fn commits_go_from_the_oldest_end_when_they_are_too_many_and_too_old() {
    let keep = |max_count, max_days| HistoryRetention { max_count, max_days };
    // Days of age, oldest first; their numbers start at 10.
    let table: [(&str, &[i64], HistoryRetention, &[u64]); 11] = [
        ("none", &[], keep(1, 0), &[]),
        ("one", &[900], keep(1, 0), &[]),
        ("few", &[90, 80, 70], keep(3, 0), &[]),
        ("many but young", &[20, 10, 5, 3], keep(2, 30), &[]),
        ("many and old", &[60, 50, 40, 3], keep(2, 30), &[10, 11]),
        ("many, some old", &[60, 20, 10, 3], keep(1, 30), &[10]),
        ("the head stays", &[60, 50], keep(1, 1), &[10]),
        ("no number keeps the head from staying", &[60, 50], keep(-5, 0), &[10]),
        ("a young one protects those behind it", &[60, 2, 50, 40], keep(1, 30), &[10]),
        ("nothing of today goes", &[1, 0, 0], keep(1, 0), &[]),
        ("two days with zero days kept", &[3, 2, 0], keep(1, 0), &[10, 11]),
    ];
    for (name, ages, keep, gone) in table {
        let commits: Vec<Listed> =
            (10..).zip(ages).map(|(number, age)| Listed { number, modified: NOW - age * DAY }).collect();
        assert_eq!(expired(&commits, keep, NOW), gone, "{name}");
    }
    let unknown = [10, 11].map(|number| Listed { number, modified: 0 });
    assert!(expired(&unknown, keep(1, 0), NOW).is_empty(), "an unknown age is young");
}

#[test]
fn packs_go_when_nobody_needs_them_and_the_grace_is_over() {
    let pack = |name: &str, age: i64| ListedPack {
        key: format!("k/{name}"),
        sha256: Sum::of(name),
        modified: if age < 0 { 0 } else { NOW - age },
    };
    let packs =
        [pack("needed", 900 * DAY), pack("orphan", GRACE + 1), pack("young", GRACE), pack("unknown", -1)];
    let needed = BTreeSet::from([Sum::of("needed")]);
    assert_eq!(orphans(&packs, &needed, NOW), ["k/orphan"]);
}

#[test]
fn a_chain_starts_anew_before_it_outgrows_its_limits() {
    let chain = |full: u64, deltas: &[u64]| -> Vec<Link> {
        std::iter::once(&full)
            .chain(deltas)
            .zip(1..)
            .map(|(size, number)| Link { number, pack: Sum::of(""), size: *size, image: Sum::of("") })
            .collect()
    };
    let table = [
        ("no chain", vec![], true),
        ("a full pack alone", chain(100, &[]), false),
        ("a half", chain(100, &[30, 20]), false),
        ("more than a half", chain(100, &[30, 21]), true),
        ("63 deltas", chain(1000, &[1; 63]), false),
        ("64 deltas", chain(1000, &[1; 64]), true),
        ("sizes beyond counting", chain(u64::MAX, &[u64::MAX, 5]), true),
    ];
    for (name, chain, due) in table {
        assert_eq!(rebase_due(&chain), due, "{name}");
    }
}
