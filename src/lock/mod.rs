//! The distributed lock: one pusher per project, beside Python nodes that know only `hostname` and `timestamp`.
//! Knows the store and the clock; not what is done under the lock.

mod asker;
mod contest;
pub mod decide;
mod error;
mod guard;
pub mod local;
mod record;
mod term;
mod verify;

pub use asker::Lock;
pub use error::LockError;
pub use guard::Guard;
pub use record::{LockRecord, Sight};
pub use verify::{Seen, Verifier};
