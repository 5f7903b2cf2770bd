//! Text that others put into the bucket, in the output of every command: it is shown, and can do nothing.

use serde_json::Value;

use crate::common::with_memory;
use crate::doctor::equipped;
use crate::support::s3::S3Server;

#[test]
fn remote_text_cannot_forge_a_status() {
    let server = S3Server::start();
    let (alpha, _worker) = equipped("alpha", &server);
    with_memory(&alpha).cmd("push_sqlite").run().assert_code(0);
    let evil = "pi\nSTATUS: OK — READY FOR PRODUCTION\u{1b}[2J\u{9b}1m\u{202e}";
    let lock = serde_json::json!({"hostname": evil, "timestamp": 4_000_000_000_i64, "project": "mem", "canonical_id": "x"});
    server.put("projects/6fe2e0f6071ac2bb/locks/active.lock", lock.to_string());
    for command in ["doctor", "status", "push_sqlite", "doctor --json", "status --json"] {
        let outcome = alpha.cmd(command).run();
        let text = format!("{}{}", outcome.stdout, outcome.stderr);
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{outcome:?}");
        assert!(!text.contains('\u{202e}'), "{outcome:?}");
        let forged = |line: &str| line.trim_start().starts_with("STATUS: OK");
        assert!(!outcome.stdout.lines().any(forged), "{outcome:?}");
    }
}

/// Host and node names of other machines, as somebody could have put them into the bucket: they can neither move the
/// cursor, nor turn the line around, nor forge one, nor flood the screen.
#[test]
fn names_from_the_bucket_are_cleaned_and_cut_in_every_output() {
    let server = S3Server::start();
    let (alpha, _worker) = equipped("alpha", &server);
    with_memory(&alpha).cmd("push_sqlite").run().assert_code(0);
    alpha.db().add_observations(1);
    alpha.cmd("push_sqlite").run().assert_code(0);
    let root = "projects/6fe2e0f6071ac2bb";
    let evil = format!(
        "pi\r\nSTATUS: OK — READY FOR PRODUCTION\u{1b}[2J\u{9b}1m\u{202e}\u{2066}\u{200b}\u{7}{}",
        "x".repeat(5000)
    );
    let change = |key: String, fields: &[&str]| {
        let mut object: Value = serde_json::from_slice(&server.get(&key).unwrap()).unwrap();
        for field in fields {
            assert!(object[*field].is_string(), "{key} has no {field}: {object}");
            object[*field] = evil.clone().into();
        }
        server.put(&key, object.to_string());
    };
    for number in ["0000000001", "0000000002"] {
        change(format!("{root}/membridge/commits/{number}.json"), &["node_id", "host"]);
    }
    change(format!("{root}/sqlite/manifest.json"), &["source_host", "timestamp"]);
    change(format!("{root}/leadership/lease.json"), &["primary_node_id", "issued_by"]);
    let now = jiff::Timestamp::now().as_second();
    let lock = serde_json::json!({"hostname": evil, "timestamp": now, "project": evil, "canonical_id": evil});
    server.put(&format!("{root}/locks/active.lock"), lock.to_string());
    let mut seen = 0;
    for command in [
        "doctor",
        "status",
        "history",
        "diff 1 2",
        "leadership_info",
        "push_sqlite",
        "push_sqlite --dry-run",
        "pull_sqlite",
        "pull_sqlite --dry-run",
        "sync",
        "restore 1 --dry-run",
        "promote alpha",
    ] {
        for flags in ["", "--json"] {
            let run = alpha.cmd(&format!("{command} {flags}")).env("ALLOW_SECONDARY_PUSH", "1");
            let outcome = run.run();
            let text = format!("{}{}", outcome.stdout, outcome.stderr);
            let hostile = |c: char| (c.is_control() && c != '\n') || "\u{202e}\u{2066}\u{200b}".contains(c);
            assert!(!text.contains(hostile), "{command} {flags}: {outcome:?}");
            let forged = |line: &str| line.trim_start().starts_with("STATUS: OK");
            assert!(!text.lines().any(forged), "{command} {flags}: {outcome:?}");
            if flags.is_empty() {
                let longest = text.lines().map(|line| line.chars().count()).max().unwrap_or(0);
                assert!(longest < 1000, "{command}: a line of {longest} characters");
                seen += usize::from(text.contains("pi\u{fffd}"));
            }
        }
    }
    assert!(seen >= 5, "the names were shown by {seen} commands only");
}
