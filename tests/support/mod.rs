//! The test ground: an S3 server, claude-mem databases, machines to run membridge on.
//! Independent of membridge's sources. Tests include it through tests/it/main.rs, the
//! demo through `#[path]`, and each uses a part of it.
#![allow(dead_code, unused_imports)]

pub mod claude_mem;
pub mod s3;
