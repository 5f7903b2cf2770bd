//! membridge keeps claude-mem's database the same on all of a person's machines, through a bucket they own,
//! and never loses a row.
//!
//! The map of the house, from the door inwards. Each module uses what stands below it, never what stands above;
//! tests/it/layers.rs compares the `use` lines with this list:
//!
//! - [`commands`] one file per command, the only place (with `ui`) that prints a report;
//! - [`logging`] logs, [`cli`] what can be typed;
//! - [`doctor`] the checks, [`setup`] what the installer of the daemons writes and finds;
//! - [`server`] the fleet on one page, and the place from which its agents are asked;
//! - [`agent`] what a node says and does for its fleet over HTTP;
//! - [`hook`] what Claude Code's hooks call, [`watch`] for machines without them;
//! - [`sync`] the story of a sync, from top to bottom: rows, then the archive; restoring; what is told of it;
//! - [`python`] everything that only nodes with the Python script need, [`install`] the one door for whole images;
//! - [`ui`] the person at the other end;
//! - [`fleet`] what the server knows of a fleet;
//! - [`leadership`] one primary per project, [`lock`] one holder per project;
//! - [`rows`] the row log: how memory travels between machines;
//! - [`history`] every push of the past: commits, packs of pages, what is kept of them;
//! - [`database`] SQLite: snapshots, replacement, digests, counts;
//! - [`worker`] the claude-mem worker;
//! - [`http`] what agent and server share of HTTP;
//! - [`join`] whether this machine may take part in a sealed project;
//! - [`storage`] objects in a bucket or a directory, and the JSON records that lie there;
//! - [`seal`] what keeps others from reading or forging what lies there;
//! - [`jobs`] work that runs by itself, one process each: the queue, the journal, how it ends;
//! - [`config`], [`identity`], [`error`] the settings, the names, the end of a command;
//! - [`sum`] a SHA-256; [`context`], [`exit`], [`failpoint`], [`platform`], [`private_files`], [`progress`], [`version`] the ground;
//! - [`amount`], [`outcome`], [`visible`], [`word`] how much, and how things ended, in words; words made fit to be shown.

pub mod agent;
pub mod amount;
pub mod cli;
pub mod commands;
pub mod config;
pub mod context;
pub mod database;
pub mod doctor;
pub mod error;
pub mod exit;
pub mod failpoint;
pub mod fleet;
pub mod history;
pub mod hook;
pub mod http;
pub mod identity;
pub mod install;
pub mod jobs;
pub mod join;
pub mod leadership;
pub mod lock;
pub mod logging;
pub mod outcome;
pub mod platform;
pub mod private_files;
pub mod progress;
pub mod python;
pub mod rows;
pub mod seal;
pub mod server;
pub mod setup;
pub mod storage;
pub mod sum;
pub mod sync;
pub mod ui;
pub mod version;
pub mod visible;
pub mod watch;
pub mod word;
pub mod worker;
