//! docs/cli.md is the help of the binary, and the Ukrainian README has what the English one has.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::support::machine::Machine;
use crate::support::s3::S3Server;

pub fn document(name: &str) -> PathBuf {
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
        names.filter_map(|line| line.split_whitespace().next().map(str::to_owned)).collect()
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
    format!("\n{mark} membridge {command}\n\n```text\n{}\n```\n", without_globals(help))
}

/// Settings and global flags stand once, at the top.
fn without_globals(help: &str) -> String {
    let own = help.split("\nSettings (flag").next().unwrap_or_default();
    // What follows a flag in a block of its own (its values, its default) goes where the flag goes.
    let mut global = false;
    let blocks: Vec<_> = own
        .split("\n\n")
        .filter(|block| {
            let flag = block.trim_start();
            let flag = flag.strip_prefix("Options:\n").map_or(flag, str::trim_start);
            if flag.starts_with('-') {
                global = [
                    "--config <",
                    "--json",
                    "-q, --quiet",
                    "-v, --verbose",
                    "--color <",
                    "--log-format <",
                    "-h, --help",
                ]
                .iter()
                .any(|start| flag.starts_with(start));
            } else if !block.starts_with(' ') {
                global = false;
            }
            !global
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

#[test]
fn the_ukrainian_readme_has_what_the_readme_has() {
    let read =
        |name: &str| std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap();
    let (english, ukrainian) = (read("README.md"), read("README.uk.md"));
    // Headings, first columns of tables and commands: what a change of one must bring into the other.
    let json = |text: &str| {
        let (_, rest) = text.split_once("```json\n").unwrap();
        rest.split("```").next().unwrap().to_owned()
    };
    assert_eq!(json(&ukrainian), json(&english));
    let skeleton = |text: &str| {
        let rows = |line: &str| Some(line.strip_prefix("| ")?.split(" |").next()?.to_owned());
        // In a command's line two spaces stand before the comment.
        let commands = |line: &str| {
            let rest = line.strip_prefix("membridge ")?.split("  ").next()?;
            rest.is_ascii().then(|| rest.to_owned()).filter(|rest| !rest.contains('['))
        };
        let told = |line: &str| line.is_ascii().then(|| line.to_owned());
        let kept = text.lines().filter_map(|line| rows(line).or_else(|| commands(line)));
        let headings = text.lines().filter(|line| line.starts_with("## ")).count();
        (headings, kept.filter_map(|line| told(&line)).collect::<BTreeSet<_>>())
    };
    let (headings, lines) = skeleton(&english);
    let (theirs, translated) = skeleton(&ukrainian);
    assert_eq!(headings, theirs, "headings");
    let words = ["variable", "command", "exit code", "here since the last sync", "same", "changed"];
    let missing: Vec<_> =
        lines.difference(&translated).filter(|line| !words.contains(&line.as_str())).collect();
    assert!(missing.is_empty(), "README.uk.md lacks {missing:?}");
}
