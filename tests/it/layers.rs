//! The order that src/lib.rs states is the order in which the modules use each other.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::docs::{read, root};

/// The modules as the list in src/lib.rs has them, from the door inwards.
fn order() -> Vec<String> {
    let text = read("src/lib.rs");
    let list = text.lines().filter_map(|line| line.strip_prefix("//! - "));
    list.flat_map(|line| {
        let names = line.split("[`").skip(1);
        names.map(|rest| rest.split('`').next().unwrap().to_owned())
    })
    .collect()
}

/// Every source file below a folder, with the top-level module that it belongs to.
fn sources(folder: &Path, module: Option<&str>, found: &mut Vec<(String, PathBuf)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let own = path.file_stem().unwrap().to_str().unwrap();
        let module = module.unwrap_or(own);
        if path.is_dir() {
            sources(&path, Some(module), found);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            found.push((module.to_owned(), path));
        }
    }
}

/// The modules that a line of code names by their path in the crate.
fn named(line: &str) -> impl Iterator<Item = &str> {
    let code = line.split("//").next().unwrap();
    let paths = code.split("crate::").skip(1);
    paths.map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_lowercase() && c != '_');
        &rest[..end.unwrap_or(rest.len())]
    })
}

#[test]
fn each_module_uses_only_what_stands_below_it() {
    let order = order();
    let place = |name: &str| order.iter().position(|module| module == name);
    let mut found = Vec::new();
    sources(&root().join("src"), None, &mut found);
    let mut wrong = BTreeSet::new();
    let mut uses = 0;
    for (module, path) in found {
        if ["lib", "main"].contains(&module.as_str()) {
            continue;
        }
        let own = place(&module).unwrap_or_else(|| panic!("src/lib.rs does not list {module}"));
        for line in std::fs::read_to_string(&path).unwrap().lines() {
            for name in named(line) {
                uses += 1;
                // A group would hide what it names.
                let Some(theirs) = place(name) else {
                    wrong.insert(format!("{}: names no module: {line}", path.display()));
                    continue;
                };
                if theirs < own {
                    wrong.insert(format!("{} uses {name}, which stands above {module}", path.display()));
                }
            }
        }
    }
    assert!(uses > 300, "the search found only {uses}");
    let wrong: Vec<_> = wrong.into_iter().collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_module_stands_in_the_map_of_contributing() {
    let map = read("CONTRIBUTING.md");
    let (_, map) = map.split_once("## How the house is laid out").unwrap();
    let (map, _) = map.split_once("\nRules that").unwrap();
    for module in order() {
        let named = map.contains(&format!("src/{module}")) || map.contains(&format!("{module}.rs"));
        assert!(named, "CONTRIBUTING.md does not name {module}");
    }
}

#[test]
fn everything_at_the_top_has_its_line_in_contributing() {
    let text = read("CONTRIBUTING.md");
    let (_, table) = text.split_once("What lies at the top").unwrap();
    let (table, _) = table.split_once("\nDirection:").unwrap();
    let cells = table.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    let named: BTreeSet<_> =
        cells.flat_map(|cell| cell.split("`, `")).map(|name| name.trim_matches('`')).collect();
    let there = std::fs::read_dir(root()).unwrap().map(|entry| {
        let entry = entry.unwrap();
        let slash = if entry.file_type().unwrap().is_dir() { "/" } else { "" };
        format!("{}{slash}", entry.file_name().display())
    });
    // What builds leave, and what a person's own tools hide here.
    let left =
        |name: &str| ["target/", "dist/"].contains(&name) || name.starts_with('.') && !named.contains(name);
    let there: Vec<_> = there.filter(|name| !left(name)).collect();
    let there: BTreeSet<_> = there.iter().map(String::as_str).collect();
    assert_eq!(there, named, "the table \"What lies at the top\" of CONTRIBUTING.md");
}

/// The lines of a source file without its tests.
fn production(text: &str) -> Vec<&str> {
    let end = text.find("#[cfg(test)]").unwrap_or(text.len());
    text[..end].lines().collect()
}

/// F60: a database that somebody else may have put there is read under limits only.
#[test]
fn every_connection_is_opened_in_database_and_held_to_its_limits() {
    let mut found = Vec::new();
    sources(&root().join("src"), None, &mut found);
    let mut opened = 0;
    for (module, path) in found {
        if path.to_string_lossy().ends_with("_tests.rs") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let lines = production(&text);
        for (n, line) in lines.iter().enumerate() {
            if !line.contains("Connection::open") {
                continue;
            }
            opened += 1;
            assert_eq!(module, "database", "{}:{}", path.display(), n + 1);
            let follows = lines.iter().skip(n).take(12);
            // The one without a file sets the bound on SQLite's memory.
            let bound = follows.clone().any(|line| line.contains("hard_heap_limit"));
            let held = follows.clone().any(|line| line.contains("limit(&connection)"));
            assert!(bound || held, "{}:{}: no guard::limit", path.display(), n + 1);
        }
    }
    assert!(opened >= 5, "only {opened} were found");
}

/// The part of CONTRIBUTING.md under a heading.
fn part<'a>(text: &'a str, heading: &str) -> &'a str {
    let parts = text.split("\n## ");
    parts.map(str::trim_start).find(|part| part.starts_with(heading)).unwrap()
}

#[test]
fn the_ways_through_the_house_are_told_in_eight_files_each() {
    let text = read("CONTRIBUTING.md");
    let ways: Vec<_> = part(&text, "Three ways").split("\n\n").filter(|way| way.starts_with("**")).collect();
    assert_eq!(ways.len(), 3);
    for way in ways {
        let files: Vec<_> = way.split('`').filter(|word| word.starts_with("src/")).collect();
        assert!((2..=8).contains(&files.len()), "{way}");
        for file in files {
            assert!(root().join(file).is_file(), "{file}");
        }
    }
}

#[test]
fn each_question_that_was_answered_twice_has_its_test() {
    let text = read("CONTRIBUTING.md");
    let rows =
        part(&text, "One question").lines().filter(|line| line.starts_with("| ") && line.contains('?'));
    let tests: Vec<_> = rows.map(|row| row.split('`').rev().nth(1).unwrap()).collect();
    assert_eq!(tests.len(), 6);
    let there = std::fs::read_dir(root().join("tests/it")).unwrap();
    let there = there.map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    let there: String = there.map(|path| std::fs::read_to_string(path).unwrap()).collect();
    for test in tests {
        assert!(there.contains(&format!("fn {test}()")), "{test}");
    }
}
