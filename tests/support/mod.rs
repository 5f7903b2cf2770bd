//! The test ground: an S3 server, claude-mem databases, machines to run membridge on, the
//! Python script's side of the bucket, a claude-mem worker. Independent of membridge's
//! sources. Tests include it through tests/it/main.rs, the demo through `#[path]`; each
//! uses a part of it, hence the allowance.
#![allow(dead_code, unused_imports)]

pub mod claude_mem;
pub mod fake_worker;
pub mod machine;
pub mod normalise;
pub mod process;
pub mod python_node;
pub mod s3;
