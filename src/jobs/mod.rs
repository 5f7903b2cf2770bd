//! Work that runs by itself, whoever calls for it: a hook, `watch`, an agent. One job is one process of this binary, so
//! memory stays flat for months and secrets stay in one child. [`queue`] says when it may run, [`command`] runs it,
//! [`journal`] remembers how it went, [`matters`] what a person has to be told, [`detached`] is all of that in a process that outlives its caller ([`background`]).

pub mod background;
pub mod command;
pub mod detached;
pub mod event;
pub mod journal;
pub mod matters;
pub mod queue;

pub use command::{End, Job, redact};
pub use detached::Detached;
pub use event::Event;
pub use journal::{Entry, Journal};
