//! What is said of an object in a store, and how it is put. Values only.

use std::path::Path;

use super::sink::Digests;

/// The largest JSON record that we read (bytes). Ours are under 4 KiB; anything near this is not ours.
pub const RECORD_LIMIT: u64 = 1 << 20;

/// The version of an object's content, exactly as the store wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Etag(pub String);

/// What the store says about an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// Version of the content. Empty where a server sends none.
    pub etag: Etag,
    /// Bytes.
    pub size: u64,
}

/// One line of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The whole key.
    pub key: String,
    /// Bytes.
    pub size: u64,
    /// Last change, seconds since 1970 by the store's clock (0 where unknown).
    pub modified: i64,
    /// Version of the content, where a listing says it; a directory does not, because it would have to read the files.
    pub etag: Option<Etag>,
}

/// What the entries of one listing may take in memory (bytes), some 100,000 of them: a project has some thousands, and
/// whoever answers may make up any number.
const LISTING_LIMIT: usize = 24 << 20;

/// A listing while it grows.
#[derive(Debug, Default)]
pub(super) struct Listing {
    entries: Vec<Entry>,
    taken: usize,
}

impl Listing {
    /// Takes an entry in.
    ///
    /// # Errors
    /// There are more than any project has.
    pub(super) fn add(&mut self, entry: Entry) -> Result<(), &'static str> {
        let etag = entry.etag.as_ref().map_or(0, |etag| etag.0.capacity());
        self.taken += size_of::<Entry>() + entry.key.capacity() + etag;
        self.entries.push(entry);
        if self.taken > LISTING_LIMIT { Err("it has more entries than any project has") } else { Ok(()) }
    }

    /// All of it.
    pub(super) fn entries(self) -> Vec<Entry> {
        self.entries
    }
}

/// What is put.
#[derive(Debug, Clone, Copy)]
pub enum Body<'a> {
    /// A small record.
    Bytes(&'a [u8]),
    /// A file of any size, streamed; its digests are known before it is sent, so that the transfer is signed.
    File(&'a Path, &'a Digests),
}

/// A piece of a file that goes up as a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    /// From 1.
    pub(super) number: i32,
    /// Where it begins in the file.
    pub(super) offset: u64,
    /// Bytes.
    pub(super) length: u64,
}

/// What a store says about an upload in parts that is under way.
#[derive(Debug)]
pub(super) enum Known<T> {
    /// It has it, and did what it was asked for.
    Done(T),
    /// It knows nothing of such an upload, or not of all of its parts.
    Nothing,
}

/// The condition of a put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition<'a> {
    /// Overwrite whatever is there.
    None,
    /// Only when there is no such object.
    IfAbsent,
    /// Only when the object still has this etag.
    IfMatch(&'a Etag),
}

/// The answer to a single conditional put.
#[derive(Debug)]
pub enum PutAnswer {
    /// The store says that it wrote.
    Written(Meta),
    /// The store says that the condition did not hold.
    Refused,
}

#[cfg(test)]
mod tests {
    use super::{Entry, LISTING_LIMIT, Listing};

    #[test]
    fn f61_a_listing_ends_before_it_fills_the_memory() {
        let mut listing = Listing::default();
        let entry = |n: usize| Entry { key: format!("projects/{n}"), size: 1, modified: 0, etag: None };
        let taken = (0..LISTING_LIMIT).take_while(|n| listing.add(entry(*n)).is_ok()).count();
        assert!((50_000..LISTING_LIMIT / size_of::<Entry>()).contains(&taken), "{taken}");
        assert_eq!(listing.entries().len(), taken + 1);
    }
}
