//! The machines of a project, as their node records tell: who is behind, and who holds what is recorded here. Pure.

use std::collections::BTreeMap;

use super::node::NodeRecord;

/// One machine. A machine whose writer id changed has several records; the newest speaks for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Machine {
    /// What it said last.
    pub record: NodeRecord,
    /// Segments of others that it has not collected.
    pub behind: u64,
    /// Whether it is this one.
    pub here: bool,
}

/// How many machines hold what was recorded on one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spread {
    /// Machines that hold everything, itself among them.
    pub hold: usize,
    /// All machines.
    pub of: usize,
}

/// The machines, by name; `here` is our node id.
pub fn machines(records: &[NodeRecord], here: &str) -> Vec<Machine> {
    let mut newest: BTreeMap<&str, &NodeRecord> = BTreeMap::new();
    for record in records {
        let stands = newest.entry(identity(record)).or_insert(record);
        if (record.at(), record.last) > (stands.at(), stands.last) {
            *stands = record;
        }
    }
    let mut machines: Vec<Machine> = newest
        .into_values()
        .map(|record| Machine {
            behind: behind(record, records.iter().filter(|other| identity(other) != identity(record))),
            here: record.node_id == here,
            record: record.clone(),
        })
        .collect();
    machines.sort_by(|a, b| a.record.name().cmp(b.record.name()));
    machines
}

/// Who holds everything that the machine `node_id` has published; `None` while nobody knows of it.
pub fn spread(records: &[NodeRecord], node_id: &str) -> Option<Spread> {
    let machines = machines(records, node_id);
    let own: Vec<&NodeRecord> = records.iter().filter(|record| record.node_id == node_id).collect();
    machines.iter().find(|machine| machine.here)?;
    let holds = |machine: &&Machine| machine.here || behind(&machine.record, own.iter().copied()) == 0;
    Some(Spread { hold: machines.iter().filter(holds).count(), of: machines.len() })
}

/// Segments of these that it has not collected. What was folded is counted as it was written.
pub fn behind<'a>(record: &NodeRecord, of: impl Iterator<Item = &'a NodeRecord>) -> u64 {
    of.map(|other| {
        let seen = record.seen.get(&other.writer).copied().unwrap_or(0);
        // A fold of what was seen brings nothing new.
        let mut last = other.last;
        while let Some(fold) =
            other.folds.iter().find(|fold| fold.number == last && fold.covers.last <= seen && last > seen)
        {
            last = fold.first_part().saturating_sub(1);
        }
        last.saturating_sub(seen)
    })
    .fold(0, u64::saturating_add)
}

/// What makes two records one machine's.
fn identity(record: &NodeRecord) -> &str {
    if record.node_id.is_empty() { &record.writer } else { &record.node_id }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Spread, machines, spread};
    use crate::rows::header::{Covers, Kind};
    use crate::rows::node::{Fold, NodeRecord};

    fn record(writer: &str, node: &str, last: u64, seen: &[(&str, u64)]) -> NodeRecord {
        NodeRecord {
            schema: 1,
            writer: writer.to_owned(),
            node_id: node.to_owned(),
            last,
            seen: seen
                .iter()
                .map(|(writer, number)| ((*writer).to_owned(), *number))
                .collect::<BTreeMap<_, _>>(),
            time: format!("2026-01-02T03:04:{last:02}+00:00"),
            ..NodeRecord::default()
        }
    }

    #[test]
    fn a_machine_is_behind_by_the_segments_that_it_has_not_collected() {
        let alpha = record("a", "alpha", 5, &[("b", 3)]);
        let beta = record("b", "beta", 3, &[("a", 2)]);
        let gamma = record("c", "gamma", 0, &[("a", 9)]);
        let listed = machines(&[beta, alpha, gamma], "beta");
        let told: Vec<_> =
            listed.iter().map(|machine| (machine.record.name(), machine.behind, machine.here)).collect();
        assert_eq!(told, [("alpha", 0, false), ("beta", 3, true), ("gamma", 3, false)]);
        assert_eq!(machines(&[], "beta"), []);
    }

    #[test]
    fn a_fold_of_what_was_seen_is_nothing_new() {
        let mut alpha = record("a", "alpha", 18, &[]);
        alpha.folds =
            vec![Fold { kind: Kind::Fold, number: 18, parts: 2, covers: Covers { first: 1, last: 16 } }];
        for (seen, behind) in [(16, 0), (15, 3), (18, 0), (0, 18)] {
            let beta = record("b", "beta", 0, &[("a", seen)]);
            assert_eq!(machines(&[alpha.clone(), beta], "alpha")[1].behind, behind, "{seen}");
        }
    }

    #[test]
    fn a_machine_with_a_new_writer_id_is_one_machine() {
        let old = record("a", "alpha", 5, &[]);
        let new = record("a2", "alpha", 7, &[("b", 3)]);
        let beta = record("b", "beta", 3, &[("a2", 7)]);
        let listed = machines(&[old.clone(), new.clone(), beta.clone()], "alpha");
        let told: Vec<_> =
            listed.iter().map(|machine| (machine.record.writer.as_str(), machine.behind)).collect();
        assert_eq!(told, [("a2", 0), ("b", 5)], "what the old id wrote counts");
        assert_eq!(spread(&[old, new, beta], "alpha"), Some(Spread { hold: 1, of: 2 }));
    }

    #[test]
    fn what_is_recorded_here_is_where_it_was_collected() {
        let alpha = record("a", "alpha", 5, &[]);
        let beta = record("b", "beta", 0, &[("a", 5)]);
        let gamma = record("c", "gamma", 9, &[("a", 4)]);
        let all = [alpha, beta, gamma];
        assert_eq!(spread(&all, "alpha"), Some(Spread { hold: 2, of: 3 }));
        assert_eq!(spread(&all, "beta"), Some(Spread { hold: 3, of: 3 }), "it recorded nothing");
        assert_eq!(spread(&all, "delta"), None);
    }
}
