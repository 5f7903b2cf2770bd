//! The story of a sync, in [`story`]: finish what was begun, collect, scan, publish, archive. Everything that moves memory
//! is a [`Wish`] for that one story; each step is one call into the module that owns it.

mod archive;
mod commit;
mod company;
mod exchange;
pub mod first;
mod fresh;
pub mod gate;
mod node;
pub mod outlook;
pub mod record;
pub mod rehearsal;
pub mod renamed;
pub mod restore;
pub mod restore_backup;
pub mod session;
mod shot;
pub mod story;
mod told;
pub mod wish;

pub use session::Session;
pub use story::sync;
pub use wish::Wish;
