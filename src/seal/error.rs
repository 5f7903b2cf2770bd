//! What is wrong with a sealed object, in words.

use super::key::KeyId;

/// What is wrong with a sealed object, or with one that should be sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// Changed, cut off, or made for another place, project or key.
    #[error("it is not authentic: it was changed, cut off, or belongs elsewhere")]
    NotAuthentic,
    /// In the clear, where the project is sealed.
    #[error("it is not sealed, and this project is")]
    NotSealed,
    /// Sealed, where this machine has no key at all.
    #[error("it is sealed with key {0}, and this machine has no key")]
    NoKey(KeyId),
    /// Sealed with a key that is not in the key file.
    #[error("it is sealed with key {0}, which this machine does not have")]
    OtherKey(KeyId),
    /// A newer membridge wrote it.
    #[error("it is sealed in a way (version {0}) that is not known to this membridge")]
    Version(u16),
    /// Another object was seen at its place, or before it.
    #[error("another one was seen here before: the bucket was put back or changed")]
    PutBack,
    /// The cipher did not take its input: more bytes than one object may have.
    #[error("it is too large to be sealed")]
    TooLarge,
    /// The disk, or whatever the bytes come from.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

impl SealError {
    /// Whether the trouble lies in this one object, and not in what this machine has.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::NotAuthentic | Self::NotSealed | Self::PutBack)
    }
}
