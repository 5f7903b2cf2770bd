//! The README's first chapter, typed at a terminal on two new accounts.

use membridge::config::settings::SETTINGS;

use super::docs::read;
use super::documents::{blocks, make, memory};
use crate::common::rows;
use crate::support::claude_mem;
use crate::support::machine::Machine;
use crate::support::python_node;
use crate::support::s3::S3Server;
use crate::support::terminal::Shown;

/// The commands that the README's first chapter names for each machine, until both are set up.
fn first_steps() -> Vec<(String, String)> {
    let readme = read("README.md");
    let line_of = |heading: &str| readme.lines().position(|line| line == heading).unwrap();
    let chapter = line_of("## From nothing to two machines")..line_of("## Settings");
    blocks("README.md")
        .iter()
        .filter(|block| chapter.contains(&block.line))
        .take(2)
        .flat_map(|block| {
            let machine = block.directives.get("on").map_or("desk", String::as_str);
            block.text.lines().map(move |line| {
                let command = line.split("  #").next().unwrap().trim();
                (machine.to_owned(), command.to_owned())
            })
        })
        .collect()
}

/// The commands with which the README's chapter "Sealed" seals a new fleet, on the first machine.
fn seal() -> Vec<(String, String)> {
    let blocks = blocks("README.md");
    let block = blocks.iter().find(|block| block.directives.get("on").is_some_and(|on| on == "a new fleet"));
    let commands = block.unwrap().text.lines().map(|line| line.split("  #").next().unwrap().trim());
    commands.map(|command| ("desk".to_owned(), command.to_owned())).collect()
}

#[test]
fn six_commands_lead_from_nothing_to_two_machines() {
    let steps = first_steps();
    assert_eq!(steps.len(), 6, "{steps:?}");
    play(&steps);
}

#[test]
fn two_more_commands_seal_what_two_machines_share() {
    let (mut steps, seal) = (first_steps(), seal());
    assert!((1..=2).contains(&seal.len()), "{seal:?}");
    let after =
        steps.iter().position(|step| *step == ("desk".to_owned(), "membridge config init".to_owned()));
    let rest = steps.split_off(after.unwrap() + 1);
    steps.extend(seal.into_iter().chain(rest));
    let server = play(&steps);
    assert!(server.get(&python_node::key("garden", "membridge/key.json")).is_some());
    for key in server.keys("") {
        let bytes = server.get(&key).unwrap();
        for word in ["desk", "board", "observation"] {
            assert!(!crate::sealed::holds(&bytes, word), "{key} holds {word}");
        }
    }
}

/// Types the steps on two new accounts; the store afterwards.
fn play(steps: &[(String, String)]) -> S3Server {
    let server = S3Server::start();
    // A person's new accounts: no settings, no membridge, and claude-mem's memory on one of them.
    let new = |name: &str| {
        let mut machine = Machine::new(name, &server);
        for setting in SETTINGS {
            if !["PATH", "MEMBRIDGE_HOSTNAME", "MEMBRIDGE_NODE_ID", "CLAUDE_MEM_WORKER_PORT"]
                .contains(&setting.name)
            {
                machine.unset(setting.name);
            }
        }
        machine.write_program("tools/make", make());
        let home = machine.home().display().to_string();
        machine.set("PATH", format!("{home}/.local/bin:{home}/tools:/usr/bin:/bin"));
        machine
    };
    let (desk, board) = (new("desk"), new("board"));
    memory(&desk, 30);
    let mut key = String::new();
    for (name, command) in steps {
        let machine = if name == "desk" { &desk } else { &board };
        let run = machine.program("/bin/sh").arg("-c").arg(command.as_str());
        let mut terminal = run.at_terminal(100, Shown::Both);
        if command == "membridge config init" {
            for (question, answer) in [
                ("Where is the memory kept?", server.endpoint()),
                ("Access key: ", server.access_key.clone()),
                ("Secret key (not shown): ", server.secret_key.clone()),
                ("Bucket: ", server.bucket.clone()),
                ("Project name", "garden".to_owned()),
                ("claude-mem's database [", String::new()),
            ] {
                terminal.wait_for(question).type_keys(&format!("{answer}\n"));
            }
            // The first machine of a project is asked for all of them.
            if name == "desk" {
                terminal.wait_for("still run the Python script?").type_keys("\n");
            }
            if !key.is_empty() {
                terminal.wait_for("The fleet's key (mbkey1-…, not shown)").type_keys(&format!("{key}\n"));
            }
        }
        let left = terminal.wait();
        assert_eq!(left.code, 0, "{name}: {command}: {left:?}");
        // Each names the next.
        let next = match (command.as_str(), name.as_str()) {
            ("make install", _) => "next: membridge config init",
            ("membridge config init", "desk") => "next: membridge push_sqlite",
            ("membridge config init", _) => "next: membridge pull_sqlite",
            ("membridge key init", _) => "membridge key show",
            ("membridge key show", _) => "mbkey1-",
            _ => "COMPLETE",
        };
        assert!(left.screen.contains(next), "{name}: {command}: {left:?}");
        if command == "membridge key show" {
            let line = left.screen.lines().find(|line| line.starts_with("mbkey1-"));
            line.unwrap().trim().clone_into(&mut key);
        }
    }
    assert_eq!(rows(&desk.db_path()), rows(&board.db_path()));
    assert_eq!(claude_mem::counts(board.db_path()).observations, 30);
    // What was asked for can be copied from one account to the other.
    let answers = |machine: &Machine| {
        let text = std::fs::read_to_string(machine.path(".claude-mem-minio/config.env")).unwrap();
        let asked: Vec<_> = text
            .lines()
            .filter(|line| {
                ["MINIO_", "CLAUDE_PROJECT_ID", "CLAUDE_MEM_DB"].iter().any(|name| line.starts_with(name))
            })
            .map(str::to_owned)
            .collect();
        asked
    };
    assert_eq!(answers(&desk).len(), 6);
    assert_eq!(answers(&desk), answers(&board));
    server
}
