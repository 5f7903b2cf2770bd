//! The one integration crate: support and a file per subject.

// A future that holds a bucket is many types deep.
#![recursion_limit = "256"]
// Clippy's allowances for tests end at the bodies of `#[test]` functions; helpers panic too.
#![allow(
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

#[path = "../support/mod.rs"]
mod support;

mod acknowledged;
mod arrivals;
mod at_once;
mod capability;
mod common;
mod contract;
mod contract_settings;
mod convergence;
mod crash;
mod cuts;
mod daily_life;
mod database_states;
mod dist;
mod docs;
mod doctor;
mod doctor_clock;
mod doctor_states;
mod documents;
mod documents_first_steps;
mod edges;
mod encrypted_buckets;
mod errors;
mod errors_memory;
mod excluded;
mod fencing;
mod fencing_races;
mod files;
mod first_sync;
mod fleet_agent;
mod fleet_install;
mod fleet_load;
mod fleet_model;
mod fleet_page;
mod fleet_requests;
mod fleet_server;
mod forced;
mod fresh;
mod fuzz;
mod glance;
mod history_commands;
mod history_flow;
mod holes;
mod hooks;
mod hostile_images;
mod hostile_servers;
mod layers;
mod lease;
mod limits;
mod live;
mod lives;
mod lock_race;
mod losing_rows;
mod losing_rows_files;
mod odd_folders;
mod odd_servers;
mod output;
mod output_docs;
mod output_docs_json;
mod output_setup;
mod pasted;
mod portable;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod power_cuts;
mod real_worker;
mod rehearsals;
mod remote_text;
mod renamed;
mod rows_commands;
mod rows_log;
mod rows_model;
mod safety_copies;
mod sealed;
mod sealed_bucket;
mod sealed_format;
mod sealed_machines;
mod sealed_secrets;
mod search;
mod session_context;
mod session_start;
mod soak;
mod stand_ins;
mod store_contract;
mod stores;
mod support_smoke;
mod terminal;
mod tour;
mod untrue;
mod uploads;
mod vectors;
mod watch;
mod way_back;
mod worker;
mod writers;
