//! Objects that were there when the project was sealed, or sealed anew: in the clear, or with an older key. The project's
//! note, which is sealed, names each with its checksum; whatever else is not sealed with the present key is not accepted,
//! so that neither the bucket's owner nor a lost machine's finder can add to them. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::place::Place;
use crate::sum::Sum;

/// Checksums of stored objects.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vouched {
    /// Of commits, by number.
    #[serde(default)]
    pub commits: BTreeMap<u64, Sum>,
    /// Of segments, by writer and number.
    #[serde(default)]
    pub segments: BTreeMap<String, BTreeMap<u64, Sum>>,
}

impl Vouched {
    /// Whether an object that is not sealed with the present key may be used. Packs are named by their checksum in a
    /// commit that has been opened or vouched for, and compared with it.
    pub(super) fn holds(&self, place: Place<'_>, sum: impl FnOnce() -> Sum) -> bool {
        matches!(place, Place::Pack { .. }) || self.known(place).is_some_and(|known| *known == sum())
    }

    /// Whether it names an object at that place.
    pub(super) fn names(&self, place: Place<'_>) -> bool {
        self.known(place).is_some()
    }

    fn known(&self, place: Place<'_>) -> Option<&Sum> {
        match place {
            Place::Commit { number } => self.commits.get(&number),
            Place::Segment { writer, number } => self.segments.get(writer)?.get(&number),
            Place::Pack { .. } | Place::Node { .. } | Place::Project | Place::Record { .. } => None,
        }
    }
}
