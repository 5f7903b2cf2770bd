//! The test ground tested: a support module that lies makes every other test worthless.

mod databases;
mod faults;
mod machines;
mod others;
mod server;
