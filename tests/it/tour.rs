//! docs/tour.md is what the binary prints on a fleet of three machines, at 80 columns.

use std::fmt::Write;

use crate::common::with_memory;
use crate::output_docs::document;
use crate::support::machine::Machine;
use crate::support::s3::S3Server;

/// Seconds.
const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;

/// Three machines and a bucket, whose clocks are moved together.
struct Fleet {
    server: S3Server,
    machines: [Machine; 3],
    moved: i64,
    page: String,
}

impl Fleet {
    fn new() -> Fleet {
        let server = S3Server::start();
        let machines = ["desk", "laptop", "board"].map(|name| Machine::new(name, &server));
        Fleet { server, machines, moved: 0, page: String::new() }
    }

    fn machine(&self, name: &str) -> &Machine {
        self.machines.iter().find(|machine| machine.name == name).unwrap()
    }

    /// All clocks stand this far from now.
    fn at(&mut self, moved: i64) {
        self.moved = moved;
        self.server.set_clock_offset(moved);
    }

    fn run(&self, name: &str, command: &str) -> String {
        let run = self.machine(name).cmd(command).env("MEMBRIDGE_TEST_CLOCK_OFFSET", self.moved.to_string());
        let outcome = run.run();
        outcome.assert_code(0);
        assert_eq!(outcome.stderr, "", "{command}");
        outcome.stdout
    }

    /// A paragraph, and what a person sees at that machine.
    fn show(&mut self, text: &str, name: &str, command: &str) {
        let said = like_at_home(&self.run(name, command), self.machine(name), &self.server.endpoint());
        for line in said.lines().filter(|_| TABLES.contains(&command)) {
            assert!(line.chars().count() <= 80, "{command}: {line}");
        }
        write!(self.page, "\n{text}\n\n```text\n{name}$ membridge {command}\n{said}```\n").unwrap();
    }
}

/// Whose lines fit a terminal, whatever stands in them.
const TABLES: [&str; 6] = ["status", "status --oneline", "history", "nodes", "log", "log -v"];

/// Places, times of day and numbers that differ from run to run, as they could be anywhere.
fn like_at_home(text: &str, machine: &Machine, endpoint: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let line = line.replace(endpoint, "https://nas.home:9000");
        let line = line.replace(&machine.home().display().to_string(), "/home/ann");
        writeln!(out, "{}", sizes(&time_of_day(&line))).unwrap();
    }
    out
}

/// `2 days ago (22 Nov 03:04)` at the same hour on every day.
fn time_of_day(line: &str) -> String {
    let Some((before, rest)) = line.split_once(" ago (") else {
        return line.to_owned();
    };
    let (_, behind) = rest.split_once(')').unwrap();
    let day = if before.contains("day") { "23 Nov " } else { "" };
    format!("{before} ago ({day}14:03){}", time_of_day(behind))
}

/// Sizes and short hashes, each as wide as it was.
fn sizes(line: &str) -> String {
    let mut words = Vec::new();
    let mut parts = line.split(' ').peekable();
    while let Some(word) = parts.next() {
        let unit = parts.peek().copied().unwrap_or_default().trim_end_matches([',', ')', ';']);
        let number = word.trim_start_matches('(');
        let is_size = ["kB", "MB", "GB"].contains(&unit) && number.parse::<f64>().is_ok();
        let is_hash = word.len() == 12 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_size {
            let digits: String = number
                .chars()
                .enumerate()
                .map(|(at, c)| if c == '.' { c } else { ['1', '9', '6', '4'][at % 4] })
                .collect();
            words.push(word.replace(number, &digits));
        } else if is_hash {
            words.push("3fd21c8a90be".to_owned());
        } else {
            words.push(word.to_owned());
        }
    }
    words.join(" ")
}

/// What happens in the tour.
fn tour() -> String {
    let mut fleet = Fleet::new();
    "# What you see

Three machines and a bucket: a desk, a laptop and a board. Written by tests/it/tour.rs from what the binary prints; to write it anew:
`MEMBRIDGE_WRITE_DOCS=1 cargo test --test it tour`.
"
    .clone_into(&mut fleet.page);
    fleet.at(-3 * DAY);
    with_memory(fleet.machine("desk"));
    fleet.show("The desk has a memory already. Its first push makes the archive:", "desk", "push");
    fleet.show("A machine without one gets it with its first pull:", "laptop", "pull");
    fleet.at(-2 * DAY);
    fleet.machine("laptop").db().add_session("on the train").add_observations(3).add_prompts(2);
    fleet.run("laptop", "sync");
    fleet.run("board", "sync");
    fleet.run("desk", "sync");
    fleet.at(-5 * HOUR);
    fleet.machine("desk").db().add_session("at the desk").add_observations(2).add_summaries(1);
    fleet.show(
        "Two days later the desk has recorded more. One command moves memory both ways:",
        "desk",
        "sync",
    );
    fleet.run("laptop", "sync");
    fleet.at(-2 * HOUR);
    fleet.machine("laptop").db().add_observations(1);
    fleet.at(0);
    fleet.show("Is my memory safe, and everywhere? Here something waits:", "laptop", "status");
    fleet.run("laptop", "sync");
    fleet.show("After the next sync it is in the store, and the line says who has it:", "laptop", "status");
    fleet.show("For a prompt, or Claude Code's status line; asks no store:", "laptop", "status --oneline");
    fleet.show("Who takes part, and who is behind:", "desk", "nodes");
    fleet.show("What travelled, newest first; with -v the titles too:", "desk", "log");
    fleet.show(
        "What the archive keeps of the past; `membridge restore N` brings it back:",
        "desk",
        "history",
    );
    fleet.show(
        "What is wrong, first; then what was looked at. What is fine has one line for each group (`-v`: one for each check):",
        "board",
        "doctor",
    );
    fleet.page
}

#[test]
fn the_tour_is_what_the_binary_prints() {
    let (text, path) = (tour(), document("tour.md"));
    if std::env::var_os("MEMBRIDGE_WRITE_DOCS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == text,
        "docs/tour.md is not what the binary prints: MEMBRIDGE_WRITE_DOCS=1 cargo test --test it tour\n{text}"
    );
}
