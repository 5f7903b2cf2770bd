//! The one integration crate: support and a file per subject.

// Clippy's allowances for tests end at the bodies of `#[test]` functions; helpers panic too.
#![allow(
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

#[path = "../support/mod.rs"]
mod support;

mod common;
mod crash;
mod decisions;
mod dist;
mod docs;
mod documents;
mod dry_run;
mod first_sync;
mod losing_rows;
mod stand_ins;
mod support_smoke;
mod writers;
