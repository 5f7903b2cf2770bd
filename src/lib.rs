//! membridge keeps claude-mem's database the same on all of a person's machines, through a bucket they own,
//! and never loses a row.
//!
//! The map of the house, from the door inwards; each may use what stands below it, never what stands above:
//!
//! - [`cli`] what can be typed; [`commands`] one file per command, the only place (with [`ui`]) that prints;
//! - [`sync`] the two stories, push and pull, the plan that decides them and the record of the last one;
//! - [`hook`] what Claude Code's hooks call, [`watch`] for machines without them;
//! - [`history`] every push of the past: commits, packs of pages, what is kept of them;
//! - [`doctor`] the checks; [`worker`] the claude-mem worker;
//! - [`lock`] one holder per project, [`leadership`] one primary per project;
//! - [`database`] SQLite: snapshots, replacement, digests, counts;
//! - [`storage`] objects in a bucket or a directory, and the JSON records that lie there;
//! - [`background`] work that outlives the process that started it;
//! - [`config`], [`identity`], [`context`], [`error`], [`exit`], [`version`] the ground.

pub mod background;
pub mod cli;
pub mod commands;
pub mod config;
pub mod context;
pub mod database;
pub mod doctor;
pub mod error;
pub mod exit;
pub mod failpoint;
pub mod history;
pub mod hook;
pub mod identity;
pub mod leadership;
pub mod lock;
pub mod logging;
pub mod storage;
pub mod sync;
pub mod ui;
pub mod version;
pub mod watch;
pub mod worker;
