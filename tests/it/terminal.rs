//! At a real terminal: progress bars, colours, widths, Control-C and the hidden prompt. What a pipe gets is in
//! output.rs and output_setup.rs.

use std::sync::mpsc::channel;

use crate::common::{assert_no_leftovers, assert_whole};
use crate::support::claude_mem::Version;
use crate::support::machine::Machine;
use crate::support::python_node::key;
use crate::support::s3::{Op, S3Server};
use crate::support::terminal::{CTRL_C, Left, Shown, Terminal};

/// A machine with some megabytes of memory, at a terminal that can draw.
fn furnished(name: &str, server: &S3Server) -> Machine {
    let mut machine = Machine::new(name, server);
    machine.set("TERM", "xterm");
    machine
}

fn with_memory(machine: Machine) -> Machine {
    machine.create_db(Version::V13_25_3).add_session("one").fill_to_bytes(3_000_000);
    machine
}

/// What a signal gets to hear from a command that holds something.
const STOPPING: &str = "stopping after this step";

const ESCAPE: char = '\u{1b}';

/// What stands on a terminal of so many columns after all these bytes: one line per row, without empty ones at the end.
/// Knows what indicatif sends: carriage return, line feed, cursor up and down, to a column, erase line, erase below.
fn picture(bytes: &str, columns: usize) -> Vec<String> {
    let (mut rows, mut row, mut column) = (vec![Vec::new()], 0_usize, 0_usize);
    let mut rest = bytes.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\r' => column = 0,
            '\n' => row += 1,
            ESCAPE => {
                assert_eq!(rest.next(), Some('['), "an escape sequence of another kind: {bytes:?}");
                let mut number = String::new();
                while rest.peek().is_some_and(|c| c.is_ascii_digit() || *c == ';') {
                    number.extend(rest.next());
                }
                let count = number.parse().unwrap_or(1_usize);
                match rest.next() {
                    Some('A') => row = row.saturating_sub(count),
                    Some('B') => row += count,
                    Some('G') => column = count - 1,
                    Some('K') => rows[row].clear(),
                    Some('J') => rows.truncate(row + 1),
                    Some('m') => {}
                    other => panic!("unknown sequence {number}{other:?} in {bytes:?}"),
                }
            }
            c => {
                if column == columns {
                    (row, column) = (row + 1, 0);
                }
                rows.resize(rows.len().max(row + 1), Vec::new());
                let line: &mut Vec<char> = &mut rows[row];
                line.resize(line.len().max(column + 1), ' ');
                line[column] = c;
                column += 1;
            }
        }
        rows.resize(rows.len().max(row + 1), Vec::new());
    }
    let text = |line: &Vec<char>| line.iter().collect::<String>().trim_end().to_owned();
    let mut lines: Vec<_> = rows.iter().map(text).collect();
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    lines
}

fn at(machine: &Machine, command: &str, shown: Shown) -> Left {
    let left = machine.cmd(command).at_terminal(100, shown).wait();
    assert_eq!(left.code, 0, "{left:?}");
    left
}

#[test]
fn bars_of_snapshot_upload_download_and_replace_come_and_go() {
    let server = S3Server::start();
    let alpha = with_memory(furnished("alpha", &server));
    let beta = furnished("beta", &server);
    let push = at(&alpha, "push_sqlite", Shown::Both);
    let first = at(&beta, "pull_sqlite", Shown::Both);
    alpha.db().add_observations(3);
    at(&alpha, "push_sqlite", Shown::Both);
    let second = at(&beta, "restore 1 --yes", Shown::Both);
    for (left, bars) in [
        (&push, ["  snapshot [", "    upload ["]),
        (&first, ["  download [", "  download ["]),
        (&second, ["  download [", "   replace ["]),
    ] {
        let last = picture(&left.screen, 100);
        assert!(left.screen.contains("% ") && left.screen.contains(" left"), "no percent, no time: {left:?}");
        for bar in bars {
            assert!(left.screen.contains(bar), "no bar {bar:?}: {left:?}");
            assert!(!last.iter().any(|line| line.contains(bar)), "{bar:?} stays: {last:#?}");
        }
        assert!(last[0].starts_with('['), "{last:#?}");
        assert!(last.iter().any(|line| line.contains("COMPLETE")), "{last:#?}");
    }
    assert_whole(&beta.db_path());
}

#[test]
fn bars_are_drawn_on_stderr_alone_and_only_where_it_is_a_terminal() {
    let server = S3Server::start();
    let alpha = with_memory(furnished("alpha", &server));
    let pushes = |shown: Shown, flags: &str| {
        alpha.db().add_observations(1);
        at(&alpha, &format!("push_sqlite {flags}"), shown)
    };
    // `membridge push > file`: the report into the file, the bars before the eyes.
    let left = pushes(Shown::Stderr, "");
    assert!(left.screen.contains("upload ["), "{left:?}");
    assert!(left.aside.contains("PUSH COMPLETE") && !left.aside.contains("upload ["), "{left:?}");
    assert!(!left.aside.contains(ESCAPE), "{left:?}");
    // `membridge push 2> file`.
    let left = pushes(Shown::Stdout, "");
    assert!(left.screen.contains("PUSH COMPLETE") && !left.screen.contains("upload ["), "{left:?}");
    assert_eq!(left.aside, "");
    // Both into pipes.
    alpha.db().add_observations(1);
    let outcome = alpha.cmd("push_sqlite").run();
    outcome.assert_code(0).stdout_has("PUSH COMPLETE");
    assert_eq!(outcome.stderr, "");
    assert!(!outcome.stdout.contains(ESCAPE), "{outcome:?}");

    assert_eq!(pushes(Shown::Both, "--quiet").screen, "");
    let left = pushes(Shown::Both, "--json");
    let said: serde_json::Value = serde_json::from_str(&left.screen).unwrap();
    assert_eq!(said["outcome"], "pushed");

    // A terminal that cannot move its cursor.
    alpha.db().add_observations(1);
    let run = alpha.cmd("push_sqlite").env("TERM", "dumb");
    let left = run.at_terminal(100, Shown::Both).wait();
    assert_eq!(left.code, 0);
    assert!(!left.screen.contains(ESCAPE) && !left.screen.contains("upload ["), "{left:?}");
}

#[test]
fn colours_obey_the_terminal_the_flag_and_no_color() {
    let server = S3Server::start();
    let alpha = furnished("alpha", &server);
    let coloured = |flags: &str, variables: &[(&str, &str)], shown: Shown| {
        let mut run = alpha.cmd(&format!("doctor {flags}"));
        for (name, value) in variables {
            run = run.env(name, *value);
        }
        let left = run.at_terminal(100, shown).wait();
        let report = if shown == Shown::Stderr { left.aside } else { left.screen };
        assert!(report.contains("STATUS: "), "{report}");
        report.contains(ESCAPE)
    };
    for (flags, variables, shown, wanted) in [
        ("", &[][..], Shown::Both, true),
        ("", &[], Shown::Stdout, true),
        ("", &[], Shown::Stderr, false),
        ("--color never", &[], Shown::Both, false),
        ("--color always", &[], Shown::Stderr, true),
        ("", &[("NO_COLOR", "1")], Shown::Both, false),
        ("", &[("NO_COLOR", "")], Shown::Both, true),
        ("--color always", &[("NO_COLOR", "1")], Shown::Both, true),
        ("", &[("TERM", "dumb")], Shown::Both, false),
    ] {
        assert_eq!(coloured(flags, variables, shown), wanted, "doctor {flags} with {variables:?}, {shown:?}");
    }
}

#[test]
fn narrow_terminals_and_those_of_unknown_width_stay_clean() {
    let server = S3Server::start();
    let alpha = with_memory(furnished("alpha", &server));
    for (columns, seen_as) in [(40, 40), (20, 20), (0, 80)] {
        alpha.db().add_observations(1);
        // The report goes elsewhere: what is left of the bars alone must be nothing.
        let left = alpha.cmd("push_sqlite").at_terminal(columns, Shown::Stderr).wait();
        assert_eq!(left.code, 0, "{left:?}");
        assert!(left.screen.contains("upload ["), "at {columns}: {left:?}");
        assert_eq!(picture(&left.screen, seen_as), Vec::<String>::new(), "at {columns}: {left:?}");
    }
    for command in ["doctor", "status", "--help"] {
        let left = alpha.cmd(command).at_terminal(40, Shown::Both).wait();
        assert_eq!(left.code, 0, "{left:?}");
    }
}

#[test]
fn control_c_in_an_upload_ends_with_130_and_gives_the_lock_back() {
    let server = S3Server::start();
    let alpha = with_memory(furnished("alpha", &server));
    let (go_on, wait) = channel::<()>();
    server.before_next(Op::PutObject, "/packs/", move || {
        let _ = wait.recv();
    });
    let mut terminal = alpha.cmd("push_sqlite").at_terminal(100, Shown::Both);
    terminal.wait_for("upload [").type_keys(CTRL_C);
    let left = terminal.wait();
    drop(go_on);
    assert_eq!(left.code, 130, "{left:?}");
    assert!(left.echo, "the terminal no longer shows what is typed");
    let last = picture(&left.screen, 100);
    // On a line of its own, wherever the terminal's ^C has pushed the bar.
    let said = last.last().unwrap();
    assert!(said.starts_with("ERROR: stopped by Control-C"), "{last:#?}");
    assert!(last.iter().any(|line| line == STOPPING), "{last:#?}");
    if let Some(lock) = server.get(&key("mem", "locks/active.lock")) {
        let lock: serde_json::Value = serde_json::from_slice(&lock).unwrap();
        assert_eq!((&lock["timestamp"], &lock["state"]), (&0.into(), &"released".into()));
    }
    assert!(server.get(&key("mem", "sqlite/manifest.json")).is_none());
    assert_no_leftovers(&alpha);
    // Another machine's push finds nothing in its way.
    let beta = with_memory(furnished("beta", &server));
    beta.cmd("push_sqlite").env("ALLOW_SECONDARY_PUSH", "1").run().assert_code(0).stdout_has("PUSH COMPLETE");
}

#[test]
fn control_c_in_the_replacement_leaves_a_whole_database() {
    let server = S3Server::start();
    let alpha = with_memory(furnished("alpha", &server));
    alpha.cmd("push_sqlite").run().assert_code(0);
    let beta = furnished("beta", &server);
    beta.cmd("pull_sqlite").run().assert_code(0);
    alpha.db().add_observations(3);
    alpha.cmd("push_sqlite").run().assert_code(0);
    let gate = beta.write("gate", "");
    let run = beta
        .cmd("restore 1 --yes")
        .env("MEMBRIDGE_FAILPOINT", "install.half=wait")
        .env("MEMBRIDGE_FAILPOINT_FILE", &gate);
    let mut terminal = run.at_terminal(100, Shown::Both);
    terminal.wait_for("replace [").type_keys(CTRL_C).wait_for(STOPPING);
    std::fs::remove_file(gate).unwrap();
    // What cannot be left half done is done: that is the end that the exit code and the last line tell.
    let left = terminal.wait();
    assert_eq!(left.code, 0, "{left:?}");
    assert!(left.screen.contains("RESTORE COMPLETE"), "{left:?}");
    assert!(left.echo);
    assert_whole(&beta.db_path());
    assert_no_leftovers(&beta);
    assert_eq!(alpha.db().counts().observations, beta.db().counts().observations + 3);
}

/// A machine that nobody has configured, asked for its settings at a terminal.
fn asked(server: &S3Server) -> (Machine, Terminal) {
    let mut machine = furnished("alpha", server);
    for name in [
        "MINIO_ENDPOINT",
        "MINIO_ACCESS_KEY",
        "MINIO_SECRET_KEY",
        "MINIO_BUCKET",
        "CLAUDE_PROJECT_ID",
        "CLAUDE_MEM_DB",
    ] {
        machine.unset(name);
    }
    let terminal = machine.cmd("config init").at_terminal(100, Shown::Both);
    (machine, terminal)
}

/// The question about nodes that still run the Python script.
const PYTHON: &str = "Does one of your machines still run the Python script? [no]: ";

/// Answers everything up to the question for the secret.
fn up_to_the_secret(terminal: &mut Terminal, server: &S3Server) {
    terminal.wait_for("Where is the memory kept?").type_keys(&format!("{}\n", server.endpoint()));
    assert!(terminal.echo());
    terminal.wait_for("Access key: ").type_keys(&format!("{}\n", server.access_key));
    terminal.wait_for("Secret key (not shown): ");
    assert!(!terminal.echo(), "the secret would be shown");
}

#[test]
fn config_init_asks_for_the_secret_without_showing_it() {
    let server = S3Server::start();
    let (machine, mut terminal) = asked(&server);
    up_to_the_secret(&mut terminal, &server);
    terminal.type_keys(&format!("{}\n", server.secret_key)).wait_for("Bucket: ");
    assert!(terminal.echo());
    terminal
        .type_keys(&format!("{}\n", server.bucket))
        .wait_for("Project name, the same on all of your machines: ")
        .type_keys("mem\n")
        .wait_for("claude-mem's database [")
        .type_keys("\n")
        .wait_for(PYTHON)
        .type_keys("\n");
    let left = terminal.wait();
    assert_eq!(left.code, 0, "{left:?}");
    assert!(left.echo);
    assert!(!left.screen.contains(server.secret_key.as_str()), "{left:?}");
    let written = std::fs::read_to_string(machine.path(".claude-mem-minio/config.env")).unwrap();
    assert!(written.contains(server.secret_key.as_str()), "{written}");
    assert!(left.screen.contains("next: membridge push_sqlite"), "{left:?}");
}

#[test]
fn leaving_the_hidden_prompt_brings_the_echo_back() {
    let server = S3Server::start();
    for (keys, code, word) in
        [(CTRL_C, 130, "ERROR: stopped by Control-C"), ("\u{4}", 1, "stopped: nothing was written")]
    {
        let (machine, mut terminal) = asked(&server);
        up_to_the_secret(&mut terminal, &server);
        if keys == CTRL_C {
            terminal.type_keys("half of the sec");
        }
        let left = {
            terminal.type_keys(keys);
            terminal.wait()
        };
        assert_eq!(left.code, code, "{left:?}");
        assert!(left.echo, "the terminal no longer shows what is typed");
        assert!(!left.screen.contains("half"), "{left:?}");
        let last = picture(&left.screen, 100);
        assert!(last.iter().any(|line| line.starts_with(word)), "{last:#?}");
        assert!(!machine.path(".claude-mem-minio/config.env").exists());
    }
}

#[test]
fn sigterm_at_the_hidden_prompt_brings_the_echo_back() {
    let server = S3Server::start();
    let (_machine, mut terminal) = asked(&server);
    up_to_the_secret(&mut terminal, &server);
    terminal.terminate();
    let left = terminal.wait();
    assert_eq!(left.code, 143, "{left:?}");
    assert!(left.echo);
}

#[test]
fn each_answer_is_checked_when_it_is_given_and_the_store_before_the_next_question() {
    let server = S3Server::start();
    let (machine, mut terminal) = asked(&server);
    let question = "Where is the memory kept?";
    terminal.wait_for(question).type_keys("nas.home:9000\n").wait_for("is neither a server nor a folder");
    terminal.type_keys("/nowhere/at/all\n").wait_for("there is no folder /nowhere/at/all");
    terminal.type_keys(&format!("{}\n", server.endpoint()));
    terminal.wait_for("Access key: ").type_keys(&format!("{}\n", server.access_key));
    terminal.wait_for("Secret key (not shown): ").type_keys("wrong\n");
    terminal.wait_for("Bucket: ").type_keys("a/b\n").wait_for("is not the name of a bucket");
    terminal.type_keys(&format!("{}\n", server.bucket)).wait_for("SignatureDoesNotMatch");
    // Asked again with what was said; the secret is not shown even so.
    terminal.wait_for(&format!("[{}]: ", server.endpoint())).type_keys("\n");
    terminal.wait_for(&format!("[{}]: ", server.access_key)).type_keys("\n");
    terminal.wait_for("(not shown) [as it is]: ").type_keys(&format!("{}\n", server.secret_key));
    terminal.wait_for(&format!("[{}]: ", server.bucket)).type_keys("\n");
    terminal.wait_for("Project name").type_keys("mem\n").wait_for("claude-mem's database [").type_keys("\n");
    terminal.wait_for(PYTHON).type_keys("perhaps\n").wait_for("yes or no?").type_keys("yes\n");
    let left = terminal.wait();
    assert_eq!(left.code, 0, "{left:?}");
    assert!(left.screen.contains("copy for Python nodes: sent with each push"), "{left:?}");
    assert!(!left.screen.contains("wrong") && !left.screen.contains(server.secret_key.as_str()), "{left:?}");
    // The finished file is gone through again by whoever says yes.
    let mut again = machine.cmd("config init").at_terminal(100, Shown::Both);
    again.wait_for("Go through its answers again? [y/N] ").type_keys("y\n");
    for _ in 0..4 {
        again.wait_for("]: ").type_keys("\n");
    }
    again.wait_for("Project name, the same on all of your machines [mem]: ").type_keys("garden\n");
    again.wait_for("claude-mem's database [").type_keys("\n").wait_for(PYTHON).type_keys("\n");
    let left = again.wait();
    assert_eq!(left.code, 0, "{left:?}");
    assert!(left.screen.contains("changed: CLAUDE_PROJECT_ID in "), "{left:?}");
}

#[test]
fn config_init_asks_about_python_nodes_once_and_ends_politely() {
    let server = S3Server::start();
    let settings = "projects/6fe2e0f6071ac2bb/membridge/settings.json";
    let up_to_python = |terminal: &mut Terminal| {
        up_to_the_secret(terminal, &server);
        terminal.type_keys(&format!("{}\n", server.secret_key));
        terminal.wait_for("Bucket: ").type_keys(&format!("{}\n", server.bucket));
        terminal.wait_for("Project name").type_keys("mem\n");
        terminal.wait_for("claude-mem's database [").type_keys("\n");
    };
    let (machine, mut terminal) = asked(&server);
    up_to_python(&mut terminal);
    terminal.wait_for(PYTHON).type_keys("\u{4}");
    let left = terminal.wait();
    assert_eq!(left.code, 1, "{left:?}");
    assert!(left.screen.contains("stopped: nothing was written"), "{left:?}");
    assert!(!machine.path(".claude-mem-minio/config.env").exists());
    assert_eq!(server.get(settings), None);

    let (_first, mut terminal) = asked(&server);
    up_to_python(&mut terminal);
    terminal.wait_for(PYTHON).type_keys("\n");
    let left = terminal.wait();
    assert_eq!(left.code, 0, "{left:?}");
    assert!(left.screen.contains("copy for Python nodes: none; should one come: membridge mirror on"));
    assert!(server.text(settings).contains("\"mirror\": \"off\""));

    // It is said for the whole fleet: the next machine is not asked.
    let (_second, mut terminal) = asked(&server);
    up_to_python(&mut terminal);
    let left = terminal.wait();
    assert_eq!(left.code, 0, "{left:?}");
    assert!(!left.screen.contains("Python"), "{left:?}");
}

#[test]
fn config_init_asks_again_for_a_key_that_is_not_the_projects() {
    let server = S3Server::start();
    let alpha = furnished("alpha", &server);
    alpha.create_db(Version::V13_25_3).add_session("one").add_observations(1);
    alpha.cmd("key init").run().assert_code(0);
    alpha.cmd("sync").run().assert_code(0);
    let key = crate::sealed::key_of(&alpha);
    let up_to_the_key = |terminal: &mut Terminal| {
        up_to_the_secret(terminal, &server);
        terminal.type_keys(&format!("{}\n", server.secret_key));
        terminal.wait_for("Bucket: ").type_keys(&format!("{}\n", server.bucket));
        terminal.wait_for("Project name").type_keys("mem\n");
        terminal.wait_for("claude-mem's database [").type_keys("\n");
        terminal.wait_for("The fleet's key (mbkey1-…, not shown): ");
        assert!(!terminal.echo(), "the key would be shown");
    };
    let (machine, mut terminal) = asked(&server);
    up_to_the_key(&mut terminal);
    terminal.type_keys("\u{4}");
    let left = terminal.wait();
    assert_eq!(left.code, 1, "{left:?}");
    assert!(left.echo && left.screen.contains("stopped: nothing was written"), "{left:?}");
    assert!(!machine.path(".claude-mem-minio/config.env").exists());

    let (machine, mut terminal) = asked(&server);
    up_to_the_key(&mut terminal);
    terminal.type_keys("my dog\n").wait_for("→ on a machine that syncs: membridge key show");
    terminal.wait_for_times("not shown): ", 3).type_keys(&format!("{key}\n"));
    let left = terminal.wait();
    assert_eq!(left.code, 0, "{left:?}");
    assert!(!left.screen.contains(&key) && !left.screen.contains("my dog"), "{left:?}");
    assert_eq!(crate::sealed::key_of(&machine), key);
}

#[test]
fn the_rows_of_a_long_memory_have_bars_while_they_are_read_and_taken_in() {
    let server = S3Server::start();
    let alpha = furnished("alpha", &server);
    alpha.create_db(Version::V13_25_3).add_session("one").add_observations(1500);
    let left = at(&alpha, "sync", Shown::Both);
    assert!(left.screen.contains("   reading ["), "{left:?}");
    let beta = furnished("beta", &server);
    beta.create_db(Version::V13_25_3).add_session("two").add_observations(1);
    let left = at(&beta, "sync", Shown::Both);
    assert!(left.screen.contains(" taking in ["), "{left:?}");
    assert!(left.screen.contains("rows, ") && left.screen.contains(" left"), "{left:?}");
    // What is announced stands there before the bytes have gone, and no bar stays.
    let last = picture(&left.screen, 100);
    assert!(last.iter().any(|line| line.contains("sending: 1 observation")), "{last:#?}");
    assert!(!last.iter().any(|line| line.contains(" [===") || line.contains("rows, ")), "{last:#?}");
}
