//! docs/json.md is what the binary prints: it names every field and every outcome, and none that is never printed.

use std::collections::{BTreeMap, BTreeSet};

use membridge::error::Code;
use serde_json::Value;

use super::hooks::until;
use super::output_docs::document;
use crate::rows_commands::leave_rows;
use crate::rows_log::{CID, WRITER};
use crate::support::claude_mem::{MemDb, Version};
use crate::support::machine::Machine;
use crate::support::process::Outcome;
use crate::support::python_node;
use crate::support::s3::{Fault, Op, S3Server};

/// A row of docs/json.md: the path of a field, and the types that it may have.
struct Field {
    path: String,
    types: BTreeSet<String>,
    printed: bool,
}

impl Field {
    /// Whether it is this path; `*` stands for any one name.
    fn names(&self, path: &str) -> bool {
        let (ours, theirs) = (self.path.split('.'), path.split('.'));
        ours.clone().count() == theirs.clone().count()
            && ours.zip(theirs).all(|(ours, theirs)| ours == "*" || ours == theirs)
    }
}

/// The fields that docs/json.md names, by section.
fn documented() -> BTreeMap<String, Vec<Field>> {
    let text = std::fs::read_to_string(document("json.md")).unwrap();
    let mut sections: BTreeMap<String, Vec<Field>> = BTreeMap::new();
    let mut section = String::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("## ") {
            name.trim_matches('`').clone_into(&mut section);
        } else if let Some(rest) = line.strip_prefix("| `") {
            let mut cells = rest.split(" | ");
            let path = cells.next().unwrap().trim_end_matches('`').to_owned();
            let types = cells.next().unwrap().split(" or ").map(str::to_owned).collect();
            let field = Field { path, types, printed: false };
            sections.entry(section.clone()).or_default().push(field);
        }
    }
    sections
}

/// The outcomes that docs/json.md names, by section: the words of its `outcome` line, up to a semicolon.
fn documented_outcomes() -> BTreeSet<(String, String)> {
    let text = std::fs::read_to_string(document("json.md")).unwrap();
    let mut outcomes = BTreeSet::new();
    let mut section = "";
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("## ") {
            section = name;
        } else if let Some(words) = line.strip_prefix("`outcome`: ") {
            let words = words.split(';').next().unwrap().split('`').skip(1).step_by(2);
            outcomes.extend(words.map(|word| (section.to_owned(), word.to_owned())));
        }
    }
    outcomes
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_i64() || number.is_u64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Holds what commands print against the document.
struct Comparison {
    sections: BTreeMap<String, Vec<Field>>,
    /// Command and outcome, as printed.
    outcomes: BTreeSet<(String, String)>,
    wrong: BTreeSet<String>,
}

impl Comparison {
    fn new() -> Comparison {
        Comparison { sections: documented(), outcomes: BTreeSet::new(), wrong: BTreeSet::new() }
    }

    fn take(&mut self, machine: &Machine, command: &str) -> Value {
        self.hear(&machine.cmd(&format!("{command} --json")).run())
    }

    fn hear(&mut self, outcome: &Outcome) -> Value {
        let object = outcome.json();
        assert_eq!(object["schema"], 1, "{outcome:?}");
        assert_eq!(object["exit_code"], outcome.code, "{outcome:?}");
        let section = if object["outcome"] == "error" {
            "errors".to_owned()
        } else {
            let word = |name: &str| object[name].as_str().unwrap().to_owned();
            self.outcomes.insert((word("command"), word("outcome")));
            word("command")
        };
        self.look(&section, "", &object);
        object
    }

    fn look(&mut self, section: &str, path: &str, value: &Value) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    let path = format!("{path}{}{name}", if path.is_empty() { "" } else { "." });
                    if self.check(section, &path, value) {
                        self.look(section, &path, value);
                    }
                }
            }
            Value::Array(values) => {
                let path = format!("{path}[]");
                for value in values {
                    if value.is_object() || self.check(section, &path, value) {
                        self.look(section, &path, value);
                    }
                }
            }
            _ => {}
        }
    }

    /// Whether there is more to look at inside.
    fn check(&mut self, section: &str, path: &str, value: &Value) -> bool {
        let kind = kind(value);
        let of_sync = ["push_sqlite", "pull_sqlite", "sync"].contains(&section);
        let every = ["every object", if of_sync { "every sync" } else { section }];
        for place in [section].into_iter().chain(every) {
            let fields = self.sections.get_mut(place).into_iter().flatten();
            for field in fields {
                if !field.names(path) {
                    continue;
                }
                field.printed = true;
                if field.types.contains("any") {
                    return false;
                }
                if !field.types.contains(kind) {
                    self.wrong.insert(format!("{section}: `{path}` is {kind}, which is not documented"));
                }
                return true;
            }
        }
        self.wrong.insert(format!("{section}: `{path}` ({kind}) is printed and not documented"));
        true
    }

    #[track_caller]
    fn finish(mut self) {
        for (section, fields) in &self.sections {
            if ["checks", "codes"].contains(&section.as_str()) {
                continue;
            }
            for field in fields.iter().filter(|field| !field.printed) {
                self.wrong.insert(format!("{section}: `{}` is documented and never printed", field.path));
            }
        }
        let known = documented_outcomes();
        for (command, outcome) in known.symmetric_difference(&self.outcomes) {
            let what = if known.contains(&(command.clone(), outcome.clone())) {
                "documented and never printed"
            } else {
                "printed and not documented"
            };
            self.wrong.insert(format!("{command}: outcome `{outcome}` is {what}"));
        }
        let wrong: Vec<_> = self.wrong.into_iter().collect();
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}

#[test]
fn json_has_the_documented_fields_with_their_types_and_no_others() {
    let server = S3Server::start();
    let alpha = Machine::new("alpha", &server);
    alpha.create_db(Version::V13_25_3).add_session("one").add_observations(5);
    let beta = Machine::new("beta", &server);
    let mut said = Comparison::new();
    said.take(&beta, "pull_sqlite");
    rows(&mut said);
    for command in [
        "doctor",
        "status",
        "status --oneline",
        "config",
        "print_project",
        "leadership_info",
        "history",
        "push_sqlite",
        "push_sqlite",
        "status",
        "leadership_info",
        "doctor",
        "mirror status",
        "verify",
    ] {
        said.take(&alpha, command);
    }
    for command in ["sync", "pull_sqlite", "status", "history"] {
        said.take(&beta, command);
    }
    alpha.db().add_observations(1);
    for dry in ["push_sqlite --dry-run", "pull_sqlite --dry-run", "sync --dry-run"] {
        said.take(&alpha, dry);
    }
    said.take(&alpha, "sync");
    said.take(&beta, "pull_sqlite --dry-run");
    said.take(&beta, "sync --dry-run");
    said.take(&beta, "pull_sqlite");
    // Rows of its own on a secondary, changed and deleted rows.
    for command in ["pull_sqlite", "sync"] {
        beta.db().add_session(command).add_observations(1);
        alpha.db().add_observations(1).execute("UPDATE observations SET narrative = 'anew' WHERE id = 1");
        alpha.cmd("push_sqlite").run().assert_code(0);
        said.take(&beta, command);
    }
    for command in ["push_sqlite", "sync"] {
        alpha.db().execute("DELETE FROM observations WHERE id = (SELECT max(id) FROM observations)");
        said.take(&alpha, command);
        said.take(&beta, "sync");
    }
    // Everything vanishes at once: it is held.
    beta.db().add_session("many").add_observations(60);
    said.take(&beta, "sync");
    beta.db().execute("DELETE FROM observations");
    said.take(&beta, "sync");
    said.take(&beta, "status");
    said.take(&beta, "status --oneline");
    said.take(&beta, "sync --put-back");
    said.take(&beta, "restore 1 --yes");
    let listed = said.take(&beta, "restore-backup");
    let name = listed["backups"][0]["name"].as_str().unwrap().to_owned();
    said.take(&beta, &format!("restore-backup {name} --dry-run"));
    said.take(&beta, &format!("restore-backup {name} --yes"));
    said.take(&beta, &format!("restore-backup --forget {name} --dry-run"));
    said.take(&beta, &format!("restore-backup --forget {name} --yes"));
    for command in [
        "history",
        "history --limit 1",
        "history -v",
        "search the --history",
        "search wombat",
        "export memory.json",
        "import memory.json --dry-run",
        "import memory.json",
        "diff 1 2",
        "diff 2 2",
        "verify --all",
        "restore 1 --dry-run",
        "restore 1 --to earlier.db",
        "restore 1 --yes",
        "restore 99",
        "completions bash",
        "man",
        "hooks install --dry-run",
        "hooks install",
        "hooks status",
        "hooks uninstall",
        "config",
        "mirror off",
        "mirror status",
        "promote beta",
    ] {
        said.take(&alpha, command);
    }
    said.take(&beta, "demote");
    alpha.db().execute("DELETE FROM observations WHERE id = 3");
    alpha.write("odd.json", "{\"prompts\": [7]}");
    for command in ["import memory.json", "import odd.json"] {
        said.take(&alpha, command);
    }
    let other = S3Server::start();
    let mut eta = Machine::new("eta", &other);
    eta.create_db(Version::V13_25_3).add_session("e").add_observations(1);
    said.take(&eta, "config init");
    eta.unset("CLAUDE_PROJECT_ID");
    for command in ["rename-project new --dry-run", "rename-project new", "doctor"] {
        said.take(&eta, command);
    }
    let mut gamma = Machine::new("gamma", &server);
    said.take(&gamma, "config init");
    gamma.write(".claude/settings.json", "{\"disableAllHooks\": true}");
    said.take(&gamma, "hooks status");
    said.take(&gamma, "config");
    gamma.set("LOCK_TTL_SECONDS", "soon");
    said.take(&gamma, "config");
    // Somebody else's push, under way.
    let lock = serde_json::json!({"hostname": "pi", "timestamp": jiff::Timestamp::now().as_second(),
        "project": "mem", "canonical_id": "6fe2e0f6071ac2bb"});
    server.put("projects/6fe2e0f6071ac2bb/locks/active.lock", lock.to_string());
    said.take(&alpha, "status");
    server.remove("projects/6fe2e0f6071ac2bb/locks/active.lock");
    // Two machines without roles; one of them is behind.
    let [delta, zeta] = ["delta", "zeta"].map(|name| {
        let mut machine = Machine::new(name, &server);
        machine.set("LEADERSHIP_ENABLED", "0");
        said.take(&machine, "pull_sqlite");
        machine
    });
    zeta.db().add_session("z").add_observations(1);
    said.take(&zeta, "push_sqlite");
    said.take(&delta, "push_sqlite");
    // A Python node takes part, in a store of its own.
    let other = S3Server::start();
    let theta = Machine::new("theta", &other);
    theta.create_db(Version::V13_25_3).add_session("t").add_observations(2);
    theta.cmd("push_sqlite").run().assert_code(0);
    let python = theta.path("python.db");
    std::fs::write(&python, python_node::snapshot(&theta.db_path())).unwrap();
    MemDb::open(&python, "python").add_session("python").add_observations(2);
    python_node::push(&other, "mem", "python", &python, jiff::Timestamp::now().as_second());
    other.remove("projects/6fe2e0f6071ac2bb/locks/active.lock");
    said.take(&theta, "sync");
    said.take(&Machine::new("epsilon", &S3Server::start()), "sync");
    server.reset_log();
    let watching = delta.cmd("watch --json").spawn();
    until("its first look", || server.count(Op::GetObject, "") > 0);
    watching.sigterm();
    said.hear(&watching.wait());
    let agent = delta.cmd("agent --json --no-watch --listen 127.0.0.1:0").spawn();
    until("the agent to listen", || agent.stderr().contains("listening on"));
    agent.sigterm();
    said.hear(&agent.wait());
    let serving = delta.cmd("server --json --listen 127.0.0.1:0").spawn();
    until("the server to listen", || serving.stderr().contains("listening on"));
    serving.sigterm();
    said.hear(&serving.wait());
    for command in [
        "install all --dry-run",
        "install migrate --dry-run",
        "install cleanup --dry-run",
        "validate-install",
    ] {
        said.take(&delta, command);
    }
    sealed(&mut said);
    server.fault(Fault::Status(403, "AccessDenied")).forever();
    for command in ["status", "doctor", "push_sqlite"] {
        said.take(&alpha, command);
    }
    std::fs::write(alpha.db_path(), "no database").unwrap();
    for command in ["status", "doctor"] {
        said.take(&alpha, command);
    }
    said.finish();
}

/// A project that becomes a sealed one, on a server of its own.
fn sealed(said: &mut Comparison) {
    let server = S3Server::start();
    let alpha = Machine::new("alpha", &server);
    alpha.create_db(Version::V13_25_3).add_session("s").add_observations(2);
    said.take(&alpha, "key status");
    said.take(&alpha, "push_sqlite");
    said.take(&alpha, "key init");
    said.take(&alpha, "key init --force");
    said.take(&alpha, "key init --purge");
    alpha.db().add_observations(1);
    for command in
        ["push_sqlite", "key status", "key init --purge", "key init --purge --yes", "key rotate", "key show"]
    {
        said.take(&alpha, command);
    }
    said.hear(&alpha.cmd("key passphrase --json").stdin("correct horse battery staple\n").run());
    let beta = Machine::new("beta", &server);
    said.take(&beta, "status");
    said.hear(&beta.cmd("key import --json").stdin("correct horse battery staple\n").run());
    said.take(&beta, "sync");
}

/// What the row log has to say, on a server of its own.
fn rows(said: &mut Comparison) {
    let server = S3Server::start();
    let alpha = Machine::new("alpha", &server);
    said.take(&alpha, "log");
    said.take(&alpha, "nodes");
    leave_rows(&server);
    let folder = format!("projects/{CID}/membridge");
    server.put(&format!("{folder}/rows/{WRITER}/0000000009.seg"), "no segment");
    server.put(&format!("{folder}/nodes/{}.json", "0".repeat(32)), "no record");
    said.take(&alpha, "log -v");
    said.take(&alpha, "nodes");
}

/// A new command gets its section.
#[test]
fn every_command_has_its_section_in_the_json_document() {
    let server = S3Server::start();
    let machine = Machine::new("alpha", &server);
    let help = machine.cmd("--help").run().stdout;
    let (_, commands) = help.split_once("Commands:\n").unwrap();
    let text = std::fs::read_to_string(document("json.md")).unwrap();
    let mut named = 0;
    for line in commands.lines().take_while(|line| !line.trim().is_empty()) {
        if line.starts_with("   ") {
            continue;
        }
        let name = line.split_whitespace().next().unwrap();
        // Those that print for nobody, or forever.
        let exempt = text.contains(&format!("`{name}` prints no object"));
        assert!(exempt || text.contains(&format!("\n## {name}\n")), "docs/json.md lacks {name}");
        named += 1;
    }
    assert!(named > 15, "{help}");
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
    let known: BTreeSet<_> = documented()["checks"].iter().map(|field| field.path.clone()).collect();
    assert_eq!(names, known);
}

#[test]
fn the_codes_of_failures_are_those_of_the_document() {
    let known: Vec<_> = documented()["codes"].iter().map(|field| field.path.clone()).collect();
    let codes: Vec<_> = Code::ALL.iter().map(|code| code.word()).collect();
    assert_eq!(codes, known);
}

#[test]
fn a_program_can_tell_troubles_apart() {
    let server = S3Server::start();
    let mut machine = Machine::new("alpha", &server);
    let code = |machine: &Machine, command: &str, exit: i32| {
        let outcome = machine.cmd(&format!("{command} --json")).run();
        outcome.assert_code(exit);
        outcome.json()["code"].as_str().unwrap().to_owned()
    };
    assert_eq!(code(&machine, "push_sqlite", 1), "database_missing");
    assert_eq!(code(&machine, "pull_sqlite", 1), "nothing_there");
    assert_eq!(code(&machine, "push_sqlite --colour", 1), "usage");
    machine.create_db(Version::V13_25_3);
    assert_eq!(code(&machine, "restore 7", 1), "not_found");
    machine.set("MINIO_SECRET_KEY", "wrong");
    assert_eq!(code(&machine, "push_sqlite", 1), "store_credentials");
    machine.set("MINIO_ENDPOINT", "http://127.0.0.1:1");
    assert_eq!(code(&machine, "push_sqlite", 1), "store_unreachable");
    machine.set("MINIO_ENDPOINT", "");
    assert_eq!(code(&machine, "push_sqlite", 1), "not_configured");
    machine.set("LOCK_TTL_SECONDS", "soon");
    assert_eq!(code(&machine, "status", 1), "not_configured");
    machine.set("MINIO_ENDPOINT", server.endpoint());
    assert_eq!(code(&machine, "status", 1), "bad_setting");
}
