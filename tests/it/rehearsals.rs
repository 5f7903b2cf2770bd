//! What `--dry-run` says is what happens: in each state that a machine and a bucket may be in, each command is rehearsed, and
//! then run. Nothing is changed by the rehearsal.

use serde_json::{Value, json};

use crate::common::{memory, now, pushed};
use crate::support::claude_mem::Version;
use crate::support::machine::Machine;
use crate::support::python_node::{PythonNode, Stop, key};
use crate::support::s3::S3Server;

/// The state, and with which settings the commands are run.
type State = (&'static str, fn(&S3Server, &Machine, &Machine), &'static [(&'static str, &'static str)]);

const COMMANDS: [&str; 3] = ["push_sqlite", "pull_sqlite", "sync"];
const FORCE: &[(&str, &str)] = &[("FORCE_PUSH", "1")];

/// What may happen to alpha, the primary, and beta, which were in step.
const STATES: &[State] = &[
    ("nothing is new", |_, _, _| {}, &[]),
    ("rows here", |_, alpha, _| more(alpha, "here"), &[]),
    (
        "rows there",
        |_, _, beta| {
            more(beta, "there");
            beta.cmd("sync").run().assert_code(0);
        },
        &[],
    ),
    (
        "rows on both sides, and another primary",
        |_, alpha, beta| {
            more(beta, "there");
            beta.cmd("sync").run().assert_code(0);
            beta.cmd("promote").run().assert_code(0);
            more(alpha, "here");
        },
        &[],
    ),
    (
        "a lock of somebody else",
        |server, alpha, _| {
            more(alpha, "here");
            let lock = json!({"hostname": "far", "timestamp": now()});
            server.put(&key("mem", "locks/active.lock"), lock.to_string());
        },
        &[],
    ),
    (
        "a push of a Python node",
        |server, alpha, _| {
            more(alpha, "here");
            let python = Machine::new("python", server);
            python.create_db(Version::V13_25_3).add_session("python").add_observations(3);
            PythonNode::new(server, "mem", "python").write(&python.db_path(), now() - 9000, Stop::Never);
        },
        &[],
    ),
    ("announcements that nobody can read", |server, _, _| garbage(server), &[]),
    ("announcements that nobody can read, forced", |server, _, _| garbage(server), FORCE),
    (
        "most rows are gone",
        |_, alpha, _| {
            alpha.db().execute("DELETE FROM observations WHERE id > 4");
        },
        &[],
    ),
    ("another store", |server, _, _| server.clear(), &[]),
];

fn more(machine: &Machine, session: &str) {
    machine.db().add_session(session).add_observations(2);
}

fn garbage(server: &S3Server) {
    server.put(&key("mem", "sqlite/manifest.json"), "garbage");
}

/// What lies on the machine, but for what SQLite keeps beside a database while it is read.
fn files(machine: &Machine) -> Vec<String> {
    let mut files: Vec<String> = machine.files().into_iter().collect();
    files.retain(|file| !file.ends_with("-wal") && !file.ends_with("-shm"));
    files
}

/// What a command says of itself, but for what only exists once it is done.
fn said(machine: &Machine, command: &str, settings: &[(&str, &str)]) -> Value {
    let words = format!("{command} --json");
    let run = settings.iter().fold(machine.cmd(&words), |run, (name, value)| run.env(name, *value)).run();
    let said: Value = serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {run:?}"));
    let names =
        ["exit_code", "outcome", "code", "received", "changed", "deleted", "sent", "taken_in", "moved"];
    names.iter().map(|name| ((*name).to_owned(), said[*name].clone())).collect()
}

#[test]
fn what_a_rehearsal_says_is_what_happens_in_every_state_and_it_changes_nothing() {
    for (state, bring_about, settings) in STATES {
        for command in COMMANDS {
            let server = S3Server::start();
            let (alpha, beta) = (pushed(&server, 12), Machine::new("beta", &server));
            beta.cmd("pull_sqlite").run().assert_code(0);
            bring_about(&server, &alpha, &beta);
            let before = (server.keys(""), files(&alpha), memory(&alpha.db_path()));
            let rehearsed = said(&alpha, &format!("{command} --dry-run"), settings);
            let after = (server.keys(""), files(&alpha), memory(&alpha.db_path()));
            assert_eq!(after, before, "{state}: {command}");
            assert_eq!(said(&alpha, command, settings), rehearsed, "{state}: {command}");
        }
    }
}
