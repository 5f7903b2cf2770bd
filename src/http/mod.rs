//! What agent and server share of HTTP: the door (request ids, keys, limits, the access log), the contract's errors,
//! bodies read field by field, live events, and a small client. Knows no route of either.

pub mod access;
pub mod answer;
pub mod client;
pub mod door;
pub mod events;
pub mod fields;
pub mod given;
pub mod limit;
pub mod log;
pub mod openapi;
pub mod serve;
