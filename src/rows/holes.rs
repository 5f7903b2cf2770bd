//! What of the log could not be read: segments whose bytes are damaged, remembered until they change, and those that were read
//! above a missing one, so that neither is fetched at every sync. Plain values; asks nobody.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::header::Covers;
use super::stamp::Writer;

/// Where it lies in the shadow.
pub const NAME: &str = "holes";

/// A segment that nobody can read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damaged {
    /// Whose it is.
    pub writer: Writer,
    /// Its number.
    pub number: u64,
    /// The version of its content.
    pub etag: String,
    /// What is wrong with it, its name included.
    pub problem: String,
    /// The membridge that could not read it: another one tries again.
    by: String,
}

/// Everything that is missing below what was read.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Holes {
    /// Damaged segments.
    pub damaged: Vec<Damaged>,
    /// For each writer the segments that were read above one that is missing, each with what it stands for.
    above: BTreeMap<Writer, Vec<(u64, Option<Covers>)>>,
}

impl Holes {
    /// What is remembered of a segment; what another membridge says of it does not count.
    pub fn known(&self, writer: Writer, number: u64) -> Option<&Damaged> {
        let found = self.damaged.iter().find(|damaged| damaged.is(writer, number));
        found.filter(|damaged| damaged.by == env!("CARGO_PKG_VERSION"))
    }

    /// Remembers that a segment is damaged in this version of its content.
    pub fn remember(&mut self, writer: Writer, number: u64, etag: String, problem: String) {
        self.forget(writer, number);
        let by = env!("CARGO_PKG_VERSION").to_owned();
        self.damaged.push(Damaged { writer, number, etag, problem, by });
    }

    /// A segment was read, or is gone.
    pub fn forget(&mut self, writer: Writer, number: u64) {
        self.damaged.retain(|damaged| !damaged.is(writer, number));
    }

    /// What was read of a writer above what is missing.
    pub fn above(&self, writer: Writer) -> Vec<(u64, Option<Covers>)> {
        self.above.get(&writer).cloned().unwrap_or_default()
    }

    /// Everything up to `reached` is here; of `read` what lies above it is kept.
    pub fn keep(&mut self, writer: Writer, reached: u64, mut read: Vec<(u64, Option<Covers>)>) {
        self.damaged.retain(|damaged| damaged.writer != writer || damaged.number > reached);
        read.retain(|(number, _)| *number > reached);
        if read.is_empty() {
            self.above.remove(&writer);
        } else {
            self.above.insert(writer, read);
        }
    }
}

impl Damaged {
    fn is(&self, writer: Writer, number: u64) -> bool {
        self.writer == writer && self.number == number
    }
}

#[cfg(test)]
mod tests {
    use super::Holes;
    use crate::rows::header::Covers;
    use crate::rows::stamp::Writer;

    #[test]
    fn a_hole_is_remembered_until_what_was_read_reaches_over_it() {
        let (ours, other) = (Writer::Id([1; 16]), Writer::Id([2; 16]));
        let mut holes = Holes::default();
        holes.remember(ours, 3, "a".to_owned(), "torn".to_owned());
        holes.remember(ours, 3, "b".to_owned(), "torn again".to_owned());
        holes.remember(other, 3, "c".to_owned(), "torn".to_owned());
        assert_eq!(holes.known(ours, 3).map(|damaged| damaged.etag.as_str()), Some("b"));
        assert_eq!(holes.known(ours, 4), None);
        let covers = Some(Covers { first: 1, last: 4 });
        holes.keep(ours, 2, vec![(1, None), (2, None), (4, None), (5, covers)]);
        assert_eq!(holes.above(ours), [(4, None), (5, covers)]);
        assert!(holes.above(other).is_empty());
        let kept: Holes = serde_json::from_str(&serde_json::to_string(&holes).unwrap()).unwrap();
        assert_eq!(kept, holes);
        holes.keep(ours, 5, vec![(5, covers)]);
        assert!(holes.above(ours).is_empty() && holes.known(ours, 3).is_none());
        assert!(holes.known(other, 3).is_some());
        holes.forget(other, 3);
        assert_eq!(holes, Holes::default());
    }

    #[test]
    fn another_membridge_tries_again() {
        let writer = Writer::Id([1; 16]);
        let mut holes = Holes::default();
        holes.remember(writer, 3, "a".to_owned(), "torn".to_owned());
        holes.damaged[0].by = "0.0.1".to_owned();
        assert_eq!(holes.known(writer, 3), None);
    }
}
