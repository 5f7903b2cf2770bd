//! What the server knows of a fleet: beats, what machines wrote into the bucket, entries made by hand, jobs. The bucket
//! is the truth where it knows a thing; all else is this server's alone; and where the agent of this machine can be
//! asked. Knows no HTTP.

pub mod beats;
pub mod book;
pub mod jobs;
pub mod nodes;
pub mod presence;
pub mod survey;
