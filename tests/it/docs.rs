//! The files that people copy and read say what the program does: config.env.example names every setting with its
//! default, and the README's table of exit codes is the one in the help text.

use std::path::{Path, PathBuf};

use membridge::config::env_file;
use membridge::config::settings::SETTINGS;
use membridge::exit::ExitCode;

use super::documents::blocks;

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

pub fn read(name: &str) -> String {
    let path = root().join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The real Python interpreter, past any shim. Without one, tests of Python's side are skipped, but never in CI.
pub fn python() -> Option<PathBuf> {
    let asked =
        std::process::Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output();
    match asked {
        Ok(output) if output.status.success() => {
            Some(String::from_utf8(output.stdout).unwrap().trim().into())
        }
        _ => {
            assert!(std::env::var_os("CI").is_none(), "python3 is not installed");
            eprintln!("skipped: python3 is not installed");
            None
        }
    }
}

fn home(name: &str) -> Option<String> {
    (name == "HOME").then(|| "/home/ann".to_owned())
}

/// The example with its `#NAME=value` lines switched on.
fn everything_switched_on() -> String {
    let setting = |line: &str| {
        let name = line.strip_prefix('#')?.split_once('=')?.0;
        let is_name = name.starts_with(|c: char| c.is_ascii_uppercase())
            && name.chars().all(|c| c.is_ascii_uppercase() || c == '_');
        is_name.then(|| line[1..].to_owned())
    };
    read("config.env.example")
        .lines()
        .map(|line| setting(line).unwrap_or_else(|| line.to_owned()))
        .collect::<Vec<_>>()
        .join("\n")
}

const REQUIRED: [&str; 6] = [
    "MINIO_ENDPOINT",
    "MINIO_ACCESS_KEY",
    "MINIO_SECRET_KEY",
    "MINIO_BUCKET",
    "CLAUDE_PROJECT_ID",
    "CLAUDE_MEM_DB",
];

#[test]
fn config_env_example_sets_the_six_required_variables_and_nothing_else() {
    let values = env_file::parse(read("config.env.example"), home).unwrap();
    let mut names: Vec<_> = values.keys().map(String::as_str).collect();
    let mut required = REQUIRED;
    names.sort_unstable();
    required.sort_unstable();
    assert_eq!(names, required);
    assert!(values.values().all(|value| !value.is_empty()));
    assert_eq!(values["CLAUDE_MEM_DB"], "/home/ann/.claude-mem/claude-mem.db");
}

#[test]
fn config_env_example_names_every_setting_with_its_default() {
    let values = env_file::parse(everything_switched_on(), home).unwrap();
    for setting in SETTINGS {
        let value =
            values.get(setting.name).unwrap_or_else(|| panic!("config.env.example lacks {}", setting.name));
        if !REQUIRED.contains(&setting.name) {
            assert_eq!(value, setting.default.unwrap_or_default(), "{}", setting.name);
        }
    }
    for name in values.keys() {
        let known = SETTINGS.iter().any(|setting| setting.name == name);
        assert!(known, "config.env.example has {name}, which is no setting");
    }
}

#[test]
fn the_readme_lists_the_exit_codes_the_required_variables_and_the_test_command() {
    let readme = read("README.md");
    for code in [ExitCode::Ok, ExitCode::Error, ExitCode::PrimaryRefusesPull, ExitCode::SecondaryRefusesPush]
    {
        let row = format!("| {} |", code.code());
        assert!(readme.contains(&row), "the README's table lacks exit code {row}");
    }
    for name in REQUIRED {
        assert!(readme.contains(name), "the README lacks {name}");
    }
    for command in ["make demo", "make test"] {
        assert!(readme.contains(command), "the README lacks {command}");
    }
}

/// Recipes that people and CI run exist in the Makefile, so that no document can name one that is gone.
#[test]
fn every_make_target_that_a_document_names_exists() {
    let makefile = read("Makefile");
    let mut named = 0;
    for document in ["README.md", "CONTRIBUTING.md", "DEPLOYMENT.md", "SECURITY.md", ".ci/run"] {
        for (at, _) in read(document).match_indices("make ") {
            let text = &read(document)[at + 5..];
            let target: String = text.chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect();
            let quoted = read(document)[..at].ends_with(['`', '\n']);
            if target.is_empty() || !quoted {
                continue;
            }
            named += 1;
            assert!(
                makefile.contains(&format!("\n{target}:")),
                "{document} names 'make {target}', which the Makefile lacks"
            );
        }
    }
    assert!(named > 12, "the search for targets found only {named}");
}

/// The names in the first column of CONTRIBUTING.md's table are the crate's direct dependencies.
#[test]
fn every_direct_dependency_has_its_reason() {
    let manifest = read("Cargo.toml");
    let (_, rest) = manifest.split_once("\n[dependencies]\n").unwrap();
    let section = rest.split("\n[").next().unwrap();
    let mut wanted: Vec<&str> = section
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(" = ").map(|(name, _)| name))
        .collect();
    wanted.sort_unstable();
    let contributing = read("CONTRIBUTING.md");
    let (_, table) = contributing.split_once("| crate | why |\n|---|---|\n").unwrap();
    let mut named: Vec<&str> = table
        .lines()
        .take_while(|line| line.starts_with('|'))
        .flat_map(|line| line.split('|').nth(1).unwrap().trim().split(", "))
        .collect();
    named.sort_unstable();
    assert_eq!(named, wanted);
}

#[test]
fn the_hooks_of_the_readme_are_those_that_doctor_looks_for() {
    let json: Vec<_> = blocks("README.md").into_iter().filter(|block| block.language == "json").collect();
    assert_eq!(json.len(), 1);
    let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    let value = parse(&json[0].text);
    assert_eq!(value, parse(&read("hooks/settings.example.json")));
    for (event, script) in [("SessionStart", "hook-pull"), ("Stop", "hook-push")] {
        let command = value["hooks"][event][0]["hooks"][0]["command"].as_str().unwrap();
        let name = Path::new(command).file_name().unwrap();
        assert!(command.contains(script));
        assert!(root().join("hooks").join(name).is_file(), "{command} is not shipped");
    }
}

#[test]
fn scripts_keep_their_line_ends_wherever_they_are_cloned() {
    // With core.autocrlf, as Git for Windows sets it.
    assert!(read(".gitattributes").lines().any(|line| line == "* text=auto eol=lf"));
}

/// Every source file below these folders, as one text.
fn all_code() -> String {
    let (mut all, mut folders) = (String::new(), vec![root().join("src"), root().join("tests")]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|kind| kind == "rs") {
                all += &std::fs::read_to_string(path).unwrap();
            }
        }
    }
    all
}

#[test]
fn every_test_that_a_document_names_exists() {
    let code = all_code();
    let mut named = 0;
    for document in ["docs/failures.md", "docs/fleet.md"] {
        let text = read(document);
        let words = text.split('`').skip(1).step_by(2).filter_map(|word| word.split_once("::"));
        for (_, name) in words.filter(|(_, name)| !name.ends_with('…')) {
            named += 1;
            assert!(code.contains(&format!("fn {name}(")), "{document} names {name}, which is no test");
        }
    }
    assert!(named > 60, "the search found only {named}");
}
