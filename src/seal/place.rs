//! Where a sealed object belongs. It is no part of the object and has to be known to open it: an object that is put into
//! another's place is not authentic there. Pure.

use crate::sum::Sum;

/// The place of one object of a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place<'a> {
    /// A segment of the row log.
    Segment {
        /// The writer's id, 32 hex digits.
        writer: &'a str,
        /// Its number.
        number: u64,
    },
    /// A pack.
    Pack {
        /// SHA-256 of the image that a delta goes on from; `None` for a full pack.
        parent: Option<Sum>,
    },
    /// A commit.
    Commit {
        /// Its number.
        number: u64,
    },
    /// A node record.
    Node {
        /// The writer's id.
        writer: &'a str,
    },
    /// The note that says with which key the project is sealed.
    Project,
    /// A record that stays readable: the part of it that does not.
    Record {
        /// The object's whole key.
        object: &'a str,
    },
}

impl Place<'_> {
    /// The byte for it in a sealed object's header.
    pub(super) fn kind(self) -> u8 {
        match self {
            Self::Segment { .. } => 1,
            Self::Pack { .. } => 2,
            Self::Commit { .. } => 3,
            Self::Node { .. } => 4,
            Self::Project => 5,
            Self::Record { .. } => 6,
        }
    }

    /// The label of the subkey that seals it.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Segment { .. } => "segment",
            Self::Pack { .. } => "pack",
            Self::Commit { .. } => "commit",
            Self::Node { .. } => "node",
            Self::Project => "project",
            Self::Record { .. } => "record",
        }
    }

    /// What stands beside a sealed record in the clear.
    pub(super) fn number(self) -> Option<u64> {
        match self {
            Self::Commit { number } => Some(number),
            _ => None,
        }
    }

    /// What every chunk's tag covers besides the header: the project, the label, and what tells the place from others
    /// of its kind, each with its length before it (4 bytes, little-endian).
    pub(super) fn context(self, cid: &str) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(128);
        let mut field = |field: &[u8]| {
            // No field is near 4 GB.
            bytes.extend_from_slice(&u32::try_from(field.len()).unwrap_or(u32::MAX).to_le_bytes());
            bytes.extend_from_slice(field);
        };
        field(cid.as_bytes());
        field(self.label().as_bytes());
        match self {
            Self::Segment { writer, number } => {
                field(writer.as_bytes());
                field(&number.to_le_bytes());
            }
            Self::Pack { parent: None } => field(b"full"),
            Self::Pack { parent: Some(parent) } => {
                field(b"delta");
                field(parent.bytes());
            }
            Self::Commit { number } => field(&number.to_le_bytes()),
            Self::Node { writer } => field(writer.as_bytes()),
            Self::Record { object } => field(object.as_bytes()),
            Self::Project => {}
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::Place;
    use std::collections::BTreeSet;

    #[test]
    fn no_two_places_are_the_same() {
        let places = [
            Place::Segment { writer: "a1", number: 1 },
            Place::Segment { writer: "a", number: 1 },
            Place::Segment { writer: "a1", number: 256 },
            Place::Pack { parent: None },
            Place::Pack { parent: Some([0; 32].into()) },
            Place::Pack { parent: Some([1; 32].into()) },
            Place::Commit { number: 1 },
            Place::Commit { number: 2 },
            Place::Node { writer: "a1" },
            Place::Project,
            Place::Record { object: "a" },
            Place::Record { object: "b" },
        ];
        let contexts = ["6fe2e0f6071ac2bb", "6fe2e0f6071ac2bc"]
            .iter()
            .flat_map(|cid| places.iter().map(|place| place.context(cid)));
        assert_eq!(contexts.collect::<BTreeSet<_>>().len(), 2 * places.len());
    }
}
