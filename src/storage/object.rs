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

/// What is put.
#[derive(Debug, Clone, Copy)]
pub enum Body<'a> {
    /// A small record.
    Bytes(&'a [u8]),
    /// A file of any size, streamed; its digests are known before it is sent, so that the transfer is signed.
    File(&'a Path, &'a Digests),
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
