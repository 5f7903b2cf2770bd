//! docs/cli.md and docs/json.md are what the binary does: the first is its help, the second names every field that it
//! prints, and none that it does not.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::claude_mem::Version;
use crate::support::machine::Machine;
use crate::support::s3::{Fault, S3Server};

fn document(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name)
}

/// The command reference, from the help of the binary.
fn reference(machine: &Machine) -> String {
    let help = |words: &str| {
        let outcome = machine.cmd(&format!("{words} --help")).run();
        outcome.assert_code(0);
        let lines: Vec<_> = outcome.stdout.lines().map(str::trim_end).collect();
        lines.join("\n").trim().to_owned()
    };
    let top = help("");
    let mut text = format!(
        "# Commands\n\nGenerated from the binary's help by tests/it/output_docs.rs; to write it anew: \
         `MEMBRIDGE_WRITE_DOCS=1 cargo test --test it output_docs`.\n\n```text\n{top}\n```\n"
    );
    let listed = |help: &str| -> Vec<String> {
        let commands = help.split("Commands:\n").nth(1).unwrap_or_default();
        let lines = commands.lines().take_while(|line| !line.trim().is_empty());
        let names = lines.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
        names
            .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
            .collect()
    };
    for command in listed(&top) {
        let own = help(&command);
        text += &section("##", &command, &own);
        for inner in listed(&own) {
            let help = help(&format!("{command} {inner}"));
            text += &section("###", &format!("{command} {inner}"), &help);
        }
    }
    text
}

fn section(mark: &str, command: &str, help: &str) -> String {
    format!(
        "\n{mark} membridge {command}\n\n```text\n{}\n```\n",
        without_globals(help)
    )
}

/// Settings and global flags stand once, at the top.
fn without_globals(help: &str) -> String {
    let own = help.split("\nSettings (flag").next().unwrap_or_default();
    let blocks: Vec<_> = own
        .split("\n\n")
        .filter(|block| {
            let flag = block.trim_start();
            let global = [
                "--config <",
                "--json",
                "-q, --quiet",
                "-v, --verbose",
                "--color <",
                "--log-format <",
                "-h, --help",
            ];
            let flag = flag.strip_prefix("Options:\n").map_or(flag, str::trim_start);
            !global.iter().any(|start| flag.starts_with(start))
        })
        .collect();
    blocks.join("\n\n").trim().to_owned()
}

#[test]
fn the_command_reference_is_the_help_of_the_binary() {
    let server = S3Server::start();
    let text = reference(&Machine::new("alpha", &server));
    let path = document("cli.md");
    if std::env::var_os("MEMBRIDGE_WRITE_DOCS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == text,
        "docs/cli.md is not what the binary says: MEMBRIDGE_WRITE_DOCS=1 cargo test --test it output_docs"
    );
}

/// The fields that docs/json.md names: section → names.
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let text = std::fs::read_to_string(document("json.md")).unwrap();
    let mut sections: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut section = String::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("## ") {
            name.trim_matches('`').clone_into(&mut section);
        } else if let Some(rest) = line.strip_prefix("| `") {
            let name = rest.split('`').next().unwrap();
            sections
                .entry(section.clone())
                .or_default()
                .insert(name.to_owned());
        }
    }
    sections
}

/// Collects what was printed, by section.
#[derive(Default)]
struct Printed(BTreeMap<String, BTreeSet<String>>);

impl Printed {
    fn take(&mut self, machine: &Machine, command: &str) -> Value {
        let outcome = machine.cmd(&format!("{command} --json")).run();
        let object = outcome.json();
        assert_eq!(object["schema"], 1, "{outcome:?}");
        assert_eq!(object["exit_code"], outcome.code, "{outcome:?}");
        assert!(object["outcome"].is_string(), "{outcome:?}");
        let command = object["command"].as_str().unwrap();
        let section = if object["outcome"] == "error" {
            "errors"
        } else {
            command
        };
        let names = object.as_object().unwrap().keys().cloned();
        self.0.entry(section.to_owned()).or_default().extend(names);
        object
    }
}

#[test]
fn json_has_the_documented_fields_and_no_others() {
    let server = S3Server::start();
    let alpha = Machine::new("alpha", &server);
    alpha
        .create_db(Version::V13_25_3)
        .add_session("one")
        .add_observations(5);
    let beta = Machine::new("beta", &server);
    let mut printed = Printed::default();
    printed.take(&beta, "pull_sqlite");
    for command in ["doctor", "status", "config", "print_project", "leadership_info"] {
        printed.take(&alpha, command);
    }
    for command in [
        "push_sqlite",
        "push_sqlite",
        "status",
        "leadership_info",
        "doctor",
    ] {
        printed.take(&alpha, command);
    }
    for command in ["sync", "pull_sqlite", "status"] {
        printed.take(&beta, command);
    }
    alpha.db().add_observations(1);
    for dry in ["push_sqlite --dry-run", "pull_sqlite --dry-run", "sync --dry-run"] {
        printed.take(&alpha, dry);
    }
    printed.take(&alpha, "sync");
    printed.take(&beta, "pull_sqlite");
    let listed = printed.take(&beta, "restore-backup");
    let name = listed["backups"][0]["name"].as_str().unwrap().to_owned();
    printed.take(&beta, &format!("restore-backup {name}"));
    for command in [
        "completions bash",
        "man",
        "hooks install",
        "hooks status",
        "hooks uninstall",
    ] {
        printed.take(&alpha, command);
    }
    printed.take(&alpha, "mirror status");
    printed.take(&alpha, "mirror off");
    printed.take(&alpha, "promote beta");
    printed.take(&beta, "demote");
    let gamma = Machine::new("gamma", &server);
    printed.take(&gamma, "config init");
    server.fault(Fault::Status(403, "AccessDenied")).forever();
    printed.take(&alpha, "status");
    printed.take(&alpha, "push_sqlite");
    std::fs::write(alpha.db_path(), "no database").unwrap();
    printed.take(&alpha, "status");

    let documented = documented();
    let common = &documented["every object"];
    let mut wrong = Vec::new();
    for (section, names) in &printed.0 {
        let known = documented.get(section).cloned().unwrap_or_default();
        for name in names
            .iter()
            .filter(|name| !known.contains(*name) && !common.contains(*name))
        {
            wrong.push(format!("{section}: `{name}` is printed and not documented"));
        }
        for name in known.iter().filter(|name| !names.contains(*name)) {
            wrong.push(format!("{section}: `{name}` is documented and never printed"));
        }
    }
    // tests/it/history_commands.rs has a history to show.
    let elsewhere = ["every object", "checks", "history", "restore", "diff", "verify"];
    let all: BTreeSet<_> = documented
        .keys()
        .filter(|name| !elsewhere.contains(&name.as_str()))
        .collect();
    let seen: BTreeSet<_> = printed.0.keys().collect();
    assert_eq!(all, seen, "sections of docs/json.md and commands that were run");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_checks_of_doctor_are_those_of_the_document() {
    let server = S3Server::start();
    let alpha = Machine::new("alpha", &server);
    let said = alpha.cmd("doctor --json").run().json();
    let names: BTreeSet<_> = said["checks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|check| check["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(names, documented()["checks"]);
}

#[test]
fn the_ukrainian_readme_has_what_the_readme_has() {
    let read =
        |name: &str| std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap();
    let (english, ukrainian) = (read("README.md"), read("README.uk.md"));
    // Headings, first columns of tables and commands: what a change of one must bring into the other.
    let skeleton = |text: &str| {
        let rows = |line: &str| Some(line.strip_prefix("| ")?.split(" |").next()?.to_owned());
        // In a command's line two spaces stand before the comment.
        let commands = |line: &str| {
            let rest = line.strip_prefix("membridge ")?.split("  ").next()?;
            rest.is_ascii()
                .then(|| rest.to_owned())
                .filter(|rest| !rest.contains('['))
        };
        let told = |line: &str| line.is_ascii().then(|| line.to_owned());
        let kept = text
            .lines()
            .filter_map(|line| rows(line).or_else(|| commands(line)));
        let headings = text.lines().filter(|line| line.starts_with("## ")).count();
        (
            headings,
            kept.filter_map(|line| told(&line)).collect::<BTreeSet<_>>(),
        )
    };
    let (headings, lines) = skeleton(&english);
    let (theirs, translated) = skeleton(&ukrainian);
    assert_eq!(headings, theirs, "headings");
    let words = [
        "variable",
        "command",
        "exit code",
        "here since the last sync",
        "same",
        "changed",
    ];
    let missing: Vec<_> = lines
        .difference(&translated)
        .filter(|line| !words.contains(&line.as_str()))
        .collect();
    assert!(missing.is_empty(), "README.uk.md lacks {missing:?}");
}
