//! No two files below src/ need each other: whoever reads one has an end in sight. A file needs those whose items it
//! names, wherever these are passed on with `pub use`; tests do not count.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::docs::root;

type Module = Vec<String>;

/// What one file says.
struct File {
    module: Module,
    /// Paths that its code names, from the crate's root.
    named: BTreeSet<Module>,
    /// Names that it passes on, and where they come from.
    passed_on: Vec<(Module, Module)>,
}

/// The modules below a folder and their code.
fn files(folder: &Path, above: &[String], found: &mut Vec<(Module, String)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let mut module = above.to_vec();
        if path.is_dir() {
            module.push(stem);
            files(&path, &module, found);
        } else if path.extension().is_some_and(|kind| kind == "rs") && !stem.ends_with("_tests") {
            if stem != "mod" {
                module.push(stem);
            }
            found.push((module, code(&std::fs::read_to_string(&path).unwrap())));
        }
    }
}

/// The text without comments and without the tests at its end.
fn code(text: &str) -> String {
    let (production, _) = text.split_once("\n#[cfg(test)]\nmod ").unwrap_or((text, ""));
    production.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n")
}

/// `a::{b, c::{d as e}}` as `a::b` and `a::c::d`.
fn spelled_out(tree: &str) -> Vec<String> {
    let tree = tree.trim();
    let Some((head, group)) = tree.split_once('{') else {
        return vec![tree.split(" as ").next().unwrap().trim().to_owned()];
    };
    let group = group.trim_end().strip_suffix('}').expect("a group that ends");
    let (mut depth, mut parts) = (0, vec![String::new()]);
    for c in group.chars() {
        depth += i32::from(c == '{') - i32::from(c == '}');
        if c == ',' && depth == 0 {
            parts.push(String::new());
        } else {
            parts.last_mut().unwrap().push(c);
        }
    }
    let parts = parts.iter().filter(|part| !part.trim().is_empty());
    parts.flat_map(|part| spelled_out(part)).map(|rest| format!("{head}{rest}")).collect()
}

/// A path from the crate's root; `None` for what is not of this crate.
fn from_root(module: &Module, path: &str, modules: &BTreeSet<Module>) -> Option<Module> {
    let mut words: Vec<_> = path.split("::").map(|word| word.trim().to_owned()).collect();
    let mut base = module.clone();
    match words.first()?.as_str() {
        "crate" => base.clear(),
        "self" => {}
        "super" => {
            while words.get(1).is_some_and(|word| word == "super") {
                base.pop();
                words.remove(0);
            }
            base.pop();
        }
        child => {
            base.push(child.to_owned());
            if !modules.contains(&base) {
                return None;
            }
        }
    }
    base.extend(words.drain(1..));
    Some(base)
}

fn read(module: &Module, code: &str, modules: &BTreeSet<Module>) -> File {
    let mut file = File { module: module.clone(), named: BTreeSet::new(), passed_on: Vec::new() };
    let mut body = String::new();
    for statement in code.split_inclusive(';') {
        let line = statement.rfind("use ").filter(|at| {
            let before = statement[..*at].trim_end();
            before.is_empty()
                || before.ends_with("pub")
                || before.ends_with(')')
                || before.ends_with(['}', ']'])
        });
        let Some(at) = line else {
            body.push_str(statement);
            continue;
        };
        body.push_str(&statement[..at]);
        let passes_on =
            statement[..at].trim_end().ends_with("pub") || statement[..at].trim_end().ends_with(')');
        for path in spelled_out(statement[at + 4..].trim_end_matches(';')) {
            let Some(path) = from_root(module, &path, modules) else { continue };
            if passes_on {
                let mut name = module.clone();
                name.extend(path.last().cloned());
                file.passed_on.push((name, path));
            } else {
                file.named.insert(path);
            }
        }
    }
    let in_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let paths = body.split(|c| !in_path(c)).filter(|word| word.contains("::"));
    file.named.extend(paths.filter_map(|path| from_root(module, path.trim_matches(':'), modules)));
    file
}

/// The file that holds an item, through whatever passes it on.
fn home(
    mut path: Module,
    passed_on: &BTreeMap<Module, Module>,
    modules: &BTreeSet<Module>,
) -> Option<Module> {
    for _ in 0..10 {
        let known = (1..=path.len()).rev().find_map(|length| Some((length, passed_on.get(&path[..length])?)));
        let Some((length, origin)) = known else { break };
        path = origin.iter().chain(&path[length..]).cloned().collect();
    }
    (1..=path.len()).rev().map(|length| path[..length].to_vec()).find(|module| modules.contains(module))
}

/// For each file the files that it needs.
fn graph() -> BTreeMap<Module, BTreeSet<Module>> {
    let mut sources = Vec::new();
    files(&root().join("src"), &[], &mut sources);
    sources.retain(|(module, _)| !["lib", "main"].contains(&module.join("::").as_str()));
    let modules: BTreeSet<_> = sources.iter().map(|(module, _)| module.clone()).collect();
    let read: Vec<_> = sources.iter().map(|(module, code)| read(module, code, &modules)).collect();
    let passed_on = read.iter().flat_map(|file| file.passed_on.clone()).collect();
    let needs = |file: &File| {
        let named = file.named.iter().filter_map(|path| home(path.clone(), &passed_on, &modules));
        named.filter(|module| *module != file.module).collect()
    };
    read.iter().map(|file| (file.module.clone(), needs(file))).collect()
}

/// Everything that a file needs, directly or through others.
fn reach(graph: &BTreeMap<Module, BTreeSet<Module>>, from: &Module) -> BTreeSet<Module> {
    let mut seen = BTreeSet::new();
    let mut next: Vec<_> = graph[from].iter().collect();
    while let Some(module) = next.pop() {
        if seen.insert(module.clone()) {
            next.extend(&graph[module]);
        }
    }
    seen
}

#[test]
fn no_two_files_need_each_other() {
    let graph = graph();
    let edges: usize = graph.values().map(BTreeSet::len).sum();
    assert!(graph.len() > 100 && edges > 300, "the search found only {} files, {edges} uses", graph.len());
    let reach: BTreeMap<_, _> = graph.keys().map(|module| (module, reach(&graph, module))).collect();
    let mut circles = BTreeSet::new();
    for (module, reached) in &reach {
        if !reached.contains(*module) {
            continue;
        }
        let others = graph[*module].iter().filter(|next| reach[next].contains(*module));
        for next in others {
            circles.insert(format!(
                "{} needs {}, which leads back to it",
                module.join("::"),
                next.join("::")
            ));
        }
    }
    let circles: Vec<_> = circles.into_iter().collect();
    assert!(circles.is_empty(), "{}", circles.join("\n"));
}

#[test]
fn the_search_sees_what_a_file_names() {
    let graph = graph();
    let of = |path: &str| path.split("::").map(str::to_owned).collect::<Module>();
    let table = [
        // A `use`, a group, an item that a folder passes on, and a path in the middle of the code.
        ("history::commit", "history::pack", true),
        ("history::fetch", "history::pages", true),
        ("doctor::evidence", "jobs::journal", true),
        ("commands::history", "commands::run", true),
        ("lock::decide", "storage::s3", false),
    ];
    for (from, to, expected) in table {
        assert_eq!(graph[&of(from)].contains(&of(to)), expected, "{from} → {to}");
    }
    assert_eq!(spelled_out("a::{b, c::{d as e, f}}"), ["a::b", "a::c::d", "a::c::f"]);
}
