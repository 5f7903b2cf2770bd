//! `membridge log` and `membridge nodes` on segments and node records that several machines left.

use std::collections::BTreeMap;

use membridge::rows::header::{Covers, Header, Kind};
use membridge::rows::log::Published;
use membridge::rows::node::{LastSync, NodeRecord};

use crate::common::with_memory;
use crate::rows_log::{CID, Site, WRITER, header};
use crate::support::machine::{Machine, Store};
use crate::support::s3::{Op, S3Server};

const OTHER: &str = "ffffffffffffffffffffffffffffffff";

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn line(table: &str, uid: u32, content: &str) -> String {
    let uid = format!("{uid:032x}");
    format!(
        r#"{{"table": "{table}", "uid": "{uid}", "stamp": [5, 0, "{WRITER}"], "key": "{uid}", "born": 1, {content}}}"#
    )
}

/// What two machines leave: rows, a fold beside and one instead of what it stands for, node records.
pub fn leave_rows(server: &S3Server) {
    let site = Site::new(&Store::from(server));
    let titled: Vec<String> = (1..=12)
        .map(|n| line("observations", n, &format!(r#""content": {{"columns": {{"title": "Title {n}"}}}}"#)))
        .collect();
    let mut lines: Vec<&str> = titled.iter().map(String::as_str).collect();
    let gone = line("user_prompts", 99, r#""deleted": true"#);
    lines.push(&gone);
    let counts = |table: &str, count| BTreeMap::from([(table.to_owned(), count)]);
    let rows = Header {
        node_id: "alpha".to_owned(),
        host: "pi".to_owned(),
        time: "2026-01-02T03:04:05+00:00".to_owned(),
        rows: counts("observations", 12),
        deleted: counts("user_prompts", 1),
        ..header(1)
    };
    let fold = |number, first, last| Header {
        kind: Kind::Fold,
        covers: Some(Covers { first, last }),
        rows: counts("sdk_sessions", 2),
        deleted: BTreeMap::new(),
        ..Header { number, ..rows.clone() }
    };
    let other = Header {
        writer: OTHER.to_owned(),
        node_id: "beta".to_owned(),
        rows: counts("user_prompts", 3),
        deleted: BTreeMap::new(),
        covers: Some(Covers { first: 1, last: 6 }),
        kind: Kind::Fold,
        ..header(7)
    };
    let record = |writer: &str, node: &str, last, seen: &[(&str, u64)]| NodeRecord {
        schema: 1,
        writer: writer.to_owned(),
        node_id: node.to_owned(),
        host: "pi".to_owned(),
        last,
        seen: seen.iter().map(|(writer, number)| ((*writer).to_owned(), *number)).collect(),
        time: "2026-01-02T03:04:05+00:00".to_owned(),
        role: "secondary".to_owned(),
        counts: counts("observations", 12_345),
        last_sync: Some(LastSync {
            time: "2026-01-02T03:04:05+00:00".to_owned(),
            outcome: "synced".to_owned(),
        }),
        ..NodeRecord::default()
    };
    runtime().block_on(async {
        for segment in [
            site.segment_of(rows.clone(), &lines),
            site.segment_of(fold(2, 1, 1), &lines[..2]),
            site.segment_of(other, &lines[..3]),
        ] {
            assert_eq!(site.publish(&segment).await.unwrap(), Published::Ours);
        }
        site.log().put_node(&record(WRITER, "alpha", 2, &[(OTHER, 7)])).await.unwrap();
        site.log()
            .put_node(&NodeRecord { held: 3, ..record(OTHER, "beta", 7, &[(WRITER, 1)]) })
            .await
            .unwrap();
    });
}

#[test]
fn log_says_who_when_and_what() {
    let server = S3Server::start();
    let alpha = Machine::new("alpha", &server);
    let empty = alpha.cmd("log").run();
    empty.assert_code(0);
    assert!(empty.stdout.contains("no rows have travelled yet"), "{empty:?}");
    leave_rows(&server);

    let plain = alpha.cmd("log").run();
    plain.assert_code(0);
    let lines: Vec<&str> = plain.stdout.lines().collect();
    assert_eq!(lines.len(), 2, "the fold beside what it stands for is left out: {plain:?}");
    assert!(lines.iter().any(|line| line.ends_with("alpha         12 observations, 1 deleted")), "{plain:?}");
    assert!(
        lines.iter().any(|line| line.ends_with("beta          3 prompts (segments 1 to 6 in one)")),
        "{plain:?}"
    );

    let titled = alpha.cmd("log -v").run();
    for expected in ["    Title 1\n", "    Title 10\n", "    … and 2 more\n"] {
        assert!(titled.stdout.contains(expected), "{expected}: {titled:?}");
    }
    assert!(!titled.stdout.contains("Title 11"), "{titled:?}");

    let json = alpha.cmd("log --json --limit 2").run().json();
    assert_eq!(json["segments"].as_array().unwrap().len(), 2);
    let before = server.keys("");
    alpha.cmd("nodes").run().assert_code(0);
    assert_eq!(server.keys(""), before, "nothing was written");
}

#[test]
fn large_segments_are_read_when_asked_for() {
    let server = S3Server::start();
    let alpha = Machine::new("alpha", &server);
    let key = format!("projects/{CID}/membridge/rows/{WRITER}/0000000001.seg");
    server.put(&key, vec![0_u8; (1 << 20) + 1]);
    let plain = alpha.cmd("log").run();
    plain.assert_code(0);
    assert!(plain.stdout.contains("#1, 1.0 MB (read it: membridge log -v)"), "{plain:?}");
    assert_eq!(server.count(Op::GetObject, ".seg"), 0);
    // What it is shows then; the others are told all the same.
    leave_rows_of_beta(&server);
    let all = alpha.cmd("log -v").run();
    all.assert_code(0);
    assert!(all.stdout.contains("WARNING: ") && all.stdout.contains("is not a segment"), "{all:?}");
    assert!(all.stdout.contains("beta          1 prompt"), "{all:?}");
}

fn leave_rows_of_beta(server: &S3Server) {
    let site = Site::new(&Store::from(server));
    let rows = BTreeMap::from([("user_prompts".to_owned(), 1)]);
    let header = Header { writer: OTHER.to_owned(), node_id: "beta".to_owned(), rows, ..header(1) };
    let segment = site.segment_of(header, &[&line("user_prompts", 1, r#""deleted": true"#)]);
    runtime().block_on(site.publish(&segment)).unwrap();
}

#[test]
fn nodes_has_a_row_for_each_machine() {
    let server = S3Server::start();
    let alpha = Machine::new("alpha", &server);
    let empty = alpha.cmd("nodes").run();
    empty.assert_code(0);
    assert!(empty.stdout.contains("no machine has synced its rows yet"), "{empty:?}");
    leave_rows(&server);
    server.put(&format!("projects/{CID}/membridge/nodes/{}.json", "0".repeat(32)), "{}");

    let plain = alpha.cmd("nodes").run();
    plain.assert_code(0);
    assert!(
        plain.stdout.lines().all(|line| line.starts_with("WARNING") || line.chars().count() <= 80),
        "{plain:?}"
    );
    let row = |start: &str| -> Vec<String> {
        let line =
            plain.stdout.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{plain:?}"));
        line.split_whitespace().map(str::to_owned).collect()
    };
    let (alpha_row, beta_row) = (row("* alpha"), row("  beta"));
    assert_eq!(alpha_row[4..], ["12345", "0", "secondary", "0", "0"], "{plain:?}");
    assert_eq!(beta_row[3..], ["12345", "1", "secondary", "0", "3"], "{plain:?}");
    assert!(plain.stdout.contains("everything recorded here is on 1 of 2 machines"), "{plain:?}");
    assert!(plain.stdout.contains("is not a node record that can be used"), "{plain:?}");
}

/// Names and titles of others are shown and can do nothing.
#[test]
fn what_others_wrote_cannot_forge_a_line() {
    let server = S3Server::start();
    let alpha = Machine::new("alpha", &server);
    with_memory(&alpha);
    let evil = "pi\r\nSTATUS: OK\u{1b}[2J\u{202e}";
    let site = Site::new(&Store::from(&server));
    let title = serde_json::to_string(&format!("{evil}{}", "x".repeat(5000))).unwrap();
    let row = line("observations", 1, &format!(r#""content": {{"columns": {{"title": {title}}}}}"#));
    let header =
        Header { node_id: evil.to_owned(), host: evil.to_owned(), time: evil.to_owned(), ..header(1) };
    let segment = site.segment_of(header, &[&row]);
    let record = NodeRecord {
        schema: 1,
        writer: WRITER.to_owned(),
        node_id: evil.to_owned(),
        role: evil.to_owned(),
        time: evil.to_owned(),
        ..NodeRecord::default()
    };
    runtime().block_on(async {
        site.publish(&segment).await.unwrap();
        site.log().put_node(&record).await.unwrap();
    });
    for command in ["log", "log -v", "log --json -v", "nodes", "nodes --json"] {
        let outcome = alpha.cmd(command).run();
        outcome.assert_code(0);
        assert!(!outcome.stdout.chars().any(|c| c.is_control() && c != '\n'), "{outcome:?}");
        assert!(!outcome.stdout.contains('\u{202e}'), "{outcome:?}");
        assert!(!outcome.stdout.lines().any(|line| line.trim_start().starts_with("STATUS")), "{outcome:?}");
    }
}
