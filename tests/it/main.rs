//! The one integration crate: support and a file per subject.

#[path = "../support/mod.rs"]
mod support;

mod support_smoke;
