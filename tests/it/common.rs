//! Words that several subjects share: machines with memory, all memory of a machine, leftovers, failpoints.

use std::path::Path;

use crate::support::claude_mem::{self, Version};
use crate::support::machine::Machine;
use crate::support::process::Outcome;
use crate::support::python_node::{self, PythonNode, Stop};
use crate::support::s3::{Handle, S3Server};

/// Where the commits of the project `mem` are.
pub const COMMITS: &str = "projects/6fe2e0f6071ac2bb/membridge/commits/";

/// This machine's time, in seconds.
pub fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// A little of everything: five observations, a summary, two prompts, a session.
pub fn with_memory(machine: &Machine) -> &Machine {
    machine
        .create_db(Version::V13_25_3)
        .add_session("one")
        .add_observations(5)
        .add_summaries(1)
        .add_prompts(2);
    machine
}

/// Alpha with this many observations, pushed.
pub fn pushed(server: &S3Server, observations: usize) -> Machine {
    let alpha = Machine::new("alpha", server);
    alpha.create_db(Version::V13_25_3).add_session("one").add_observations(observations).add_prompts(2);
    alpha.cmd("push_sqlite").run().assert_code(0);
    alpha
}

/// Rows of the four core tables, as text, in an order of their own.
pub fn rows(database: &Path) -> Vec<String> {
    let mut all = Vec::new();
    for (table, order) in [
        ("sdk_sessions", "content_session_id"),
        ("observations", "title, created_at_epoch"),
        ("session_summaries", "memory_session_id, prompt_number, created_at_epoch"),
        ("user_prompts", "content_session_id, prompt_number"),
    ] {
        all.extend(claude_mem::dump(database, &format!("SELECT * FROM {table} ORDER BY {order}")));
    }
    all
}

/// The same without what differs from machine to machine: ids and what the worker counts.
pub fn memory(database: &Path) -> Vec<String> {
    let mut all = Vec::new();
    for sql in [
        "SELECT 'session', content_session_id, project, user_prompt, started_at_epoch FROM sdk_sessions",
        "SELECT 'observation', type, title, narrative, facts, created_at_epoch FROM observations",
        "SELECT 'summary', request, learned, completed, created_at_epoch FROM session_summaries",
        "SELECT 'prompt', content_session_id, prompt_number, prompt_text FROM user_prompts",
    ] {
        all.extend(claude_mem::dump(database, sql));
    }
    all.sort();
    all
}

/// The database is whole, and so are its search indexes.
#[track_caller]
pub fn assert_whole(database: &Path) {
    assert_eq!(claude_mem::integrity(database), "ok", "{}", database.display());
    assert!(claude_mem::fts_ok(database), "the search index of {}", database.display());
}

/// Titles in the database and in every backup of it.
pub fn titles_anywhere(machine: &Machine) -> Vec<String> {
    let mut all = claude_mem::titles(machine.db_path());
    for backup in backups(machine) {
        all.extend(claude_mem::titles(machine.path(&backup)));
    }
    all
}

/// The databases in the safety backups, relative to the home.
pub fn backups(machine: &Machine) -> Vec<String> {
    let root = ".claude-mem/backups/pull-overwrite/";
    machine
        .files()
        .into_iter()
        .filter(|file| file.starts_with(root) && file.ends_with("/claude-mem.db"))
        .collect()
}

/// No temporary file of ours is left on the machine.
#[track_caller]
pub fn assert_no_leftovers(machine: &Machine) {
    let left: Vec<_> = machine
        .files()
        .into_iter()
        .filter(|file| file.contains(".membridge-") || file.contains(".tmp"))
        .collect();
    assert!(left.is_empty(), "left behind on {}: {left:?}", machine.name);
}

/// The names of the failpoints that a command passes, in order, each once.
pub fn failpoints(machine: &Machine, command: &str) -> Vec<String> {
    let log = machine.path("failpoints.log");
    let _ = std::fs::remove_file(&log);
    machine.cmd(command).env("MEMBRIDGE_FAILPOINT_LOG", &log).run().assert_code(0);
    let mut names = Vec::new();
    for name in std::fs::read_to_string(log).unwrap().lines() {
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
}

/// A machine without roles: nothing but the rows decides.
pub fn bare(name: &str, server: &S3Server) -> Machine {
    let mut machine = Machine::new(name, server);
    machine.set("LEADERSHIP_ENABLED", "0");
    machine
}

/// The same with a memory of its own.
pub fn machine(name: &str, server: &S3Server, observations: usize) -> Machine {
    let machine = bare(name, server);
    machine.create_db(Version::V13_25_3).add_session(name).add_observations(observations);
    machine
}

pub fn push(machine: &Machine) -> Outcome {
    let outcome = machine.cmd("push_sqlite").run();
    outcome.assert_code(0);
    outcome
}

/// Until there is nothing more to say: the files are known to be as they were.
pub fn settle(machine: &Machine) {
    for _ in 0..2 {
        push(machine).stdout_has("already up to date");
    }
}

/// The observations of a kept commit.
pub fn restored(machine: &Machine, number: u64) -> Vec<String> {
    let file = machine.path(&format!("commit-{number}.db"));
    machine.cmd(&format!("restore {number} --to")).arg(&file).run().assert_code(0);
    claude_mem::titles(&file)
}

/// A Python node's three objects, without its lock: it began before ours was taken by force.
pub fn python_writes(server: &Handle, database: &std::path::Path, stop: Stop) {
    let lock = server.get(&python_node::key("mem", "locks/active.lock"));
    PythonNode::new(server, "mem", "beta").write(database, now(), stop);
    match lock {
        Some(lock) => server.put(&python_node::key("mem", "locks/active.lock"), lock),
        None => drop(server.remove(&python_node::key("mem", "locks/active.lock"))),
    }
}
