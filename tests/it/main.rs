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

mod capability;
mod fencing;
mod first_sync;
mod lease;
mod live;
mod lock_race;
mod store_contract;
mod stores;
mod support_smoke;
