//! The test ground: an S3 server, claude-mem databases, machines to run membridge on, the
//! Python script's side of the bucket, a claude-mem worker. Independent of membridge's
//! sources. Tests include it through tests/it/main.rs, the demo through `#[path]`; each
//! uses a part of it, hence the allowance.
//!
//! Panicking is how support reports a broken test, and its numbers are small, hence the
//! second list: clippy's allowances for tests end at the bodies of `#[test]` functions.
#![allow(dead_code, unused_imports)]
#![allow(
    missing_docs,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::expect_used,
    clippy::format_collect,
    clippy::format_push_string,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::panic,
    clippy::unwrap_used
)]

pub mod claude_mem;
pub mod fake_worker;
pub mod fleet;
pub mod hostile;
pub mod link;
pub mod machine;
pub mod normalise;
pub mod process;
pub mod python_node;
pub mod s3;
pub mod terminal;
pub mod usage;
