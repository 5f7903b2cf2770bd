//! The two stories, push and pull, the plan that decides them, and the record of the last one. They call the
//! modules below, one step at a time; what a step is made of is the business of its module.

mod commit;
mod decide;
pub mod fetch;
mod fresh;
pub mod gate;
pub mod lineage;
pub mod plan;
pub mod preview;
pub mod pull;
pub mod push;
pub mod record;
mod replace;
pub mod restore;
pub mod restore_backup;
mod rows;
pub mod session;
mod shot;
pub mod state;
mod unchanged;
mod words;

pub use session::Session;
