//! `make demo`: two machines whose memory becomes one, through a directory and again through an S3 server that runs in this
//! process: a first push and pull, rows of both sides, the past, and a mistake that a restore mends. Ends with the row counts
//! side by side, non-zero when they differ. Drives the built binary (MEMBRIDGE_BIN) as a person would; knows nothing of its
//! insides.

// A program for developers: panicking is how it reports that something is not as it should be.
#![allow(
    clippy::cast_precision_loss,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::single_match_else,
    clippy::unwrap_used,
    clippy::wildcard_imports
)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use support::claude_mem::{self, Counts, Version};
use support::machine::{Machine, Store};
use support::s3::S3Server;

fn main() -> ExitCode {
    let Some(binary) = std::env::var_os("MEMBRIDGE_BIN").map(PathBuf::from) else {
        eprintln!("MEMBRIDGE_BIN is not set; start this with: make demo");
        return ExitCode::FAILURE;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let server = S3Server::start();
    let stores = [
        ("a directory, as on a NAS or a USB disk", Store::from(folder.path())),
        ("an S3 server", Store::from(&server)),
    ];
    let mut same = true;
    for (what, store) in stores {
        println!("\n=== Through {what} ===");
        same &= tell(&binary, &store);
    }
    if same {
        println!("\nBoth machines hold the same memory.");
        ExitCode::SUCCESS
    } else {
        println!("\nThe machines DIFFER.");
        ExitCode::FAILURE
    }
}

/// One story: desk has worked on, board is behind. True when both end up the same, and with what was deleted by mistake.
fn tell(binary: &Path, store: &Store) -> bool {
    let desk = Machine::with_binary(binary.to_owned(), "desk", store);
    let board = Machine::with_binary(binary.to_owned(), "board", store);
    // The same label makes the same rows: board holds what desk held some time ago.
    for (machine, observations, prompts) in [(&desk, 3_000, 400), (&board, 2_000, 250)] {
        claude_mem::MemDb::create_as(machine.db_path(), Version::V13_25_3, "memory")
            .add_session("one")
            .add_observations(observations)
            .add_summaries(observations / 50)
            .add_prompts(prompts);
    }
    show("at first", &desk, &board);
    run(&desk, "push_sqlite");
    run(&board, "pull_sqlite");

    say("A session on each of them: desk pushes again and gets the rows of board on the way.");
    desk.db().add_session("on desk").add_observations(25).add_prompts(5);
    board.db().add_session("on board").add_observations(40).add_summaries(1).add_prompts(8);
    run(&board, "sync");
    run(&desk, "push_sqlite");
    run(&board, "pull_sqlite");
    let mut same = show("of both", &desk, &board);
    run(&desk, "history");
    run(&desk, "diff 1 2");

    say("A mistake on desk: a hundred observations are deleted, and with the next sync everywhere.");
    let whole = claude_mem::counts(desk.db_path());
    desk.db().execute("DELETE FROM observations WHERE id <= 100");
    run(&desk, "sync");
    run(&board, "sync");
    say("The push before that has them. What came since stays.");
    run(&desk, "restore 2 --add-only");
    run(&desk, "sync");
    run(&board, "sync");
    run(&board, "status");
    same &= show("in the end", &desk, &board) && claude_mem::counts(desk.db_path()) == whole;
    same && [&desk, &board].into_iter().all(|machine| {
        let sound = claude_mem::integrity(machine.db_path()) == "ok" && claude_mem::fts_ok(machine.db_path());
        println!("{}: integrity and full-text search {}", machine.name, if sound { "ok" } else { "BROKEN" });
        sound
    })
}

fn say(text: &str) {
    println!("\n{text}");
}

fn run(machine: &Machine, command: &str) {
    println!("\n{}$ membridge {command}", machine.name);
    let outcome = machine.cmd(command).run();
    for line in outcome.stdout.lines() {
        println!("  {line}");
    }
    outcome.assert_code(0);
}

/// The row counts side by side; true when they are the same.
fn show(when: &str, left: &Machine, right: &Machine) -> bool {
    let (a, b) = (claude_mem::counts(left.db_path()), claude_mem::counts(right.db_path()));
    println!("\n{:<20}{:>10}{:>10}", format!("rows {when}"), left.name, right.name);
    for (name, count) in TABLES {
        println!("{name:<20}{:>10}{:>10}", count(&a), count(&b));
    }
    TABLES.iter().all(|(_, count)| count(&a) == count(&b))
}

type Column = (&'static str, fn(&Counts) -> i64);

const TABLES: [Column; 4] = [
    ("observations", |counts| counts.observations),
    ("session_summaries", |counts| counts.session_summaries),
    ("user_prompts", |counts| counts.user_prompts),
    ("sdk_sessions", |counts| counts.sdk_sessions),
];
