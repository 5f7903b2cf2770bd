//! Everything that only nodes with the Python script need: the objects that they read and write, and the setting that
//! keeps them up. Knows the objects; not when a push or a pull is due. When the last Python node is gone, this room goes
//! with it, and the head is a commit.

pub mod announcements;
pub mod error;
pub mod head;
pub mod manifest;
pub mod mirror;
pub mod object;
pub mod setting;

pub use error::ReadError;
pub use head::{Head, Known};
pub use mirror::{Mirror, MirrorNote};
