//! Node records as we write them, and as somebody could have put them there.

use std::collections::BTreeMap;

use serde_json::json;

use super::{Fold, LastSync, NodeRecord, SCHEMA};
use crate::rows::header::{Covers, Kind};

const WRITER: &str = "0123456789abcdef0123456789abcdef";

fn record() -> NodeRecord {
    NodeRecord {
        schema: SCHEMA,
        writer: WRITER.to_owned(),
        last: 18,
        folds: vec![Fold { kind: Kind::Fold, number: 17, parts: 1, covers: Covers { first: 1, last: 16 } }],
        seen: BTreeMap::from([("f".repeat(32), 3)]),
        time: "2026-01-02T03:04:05+00:00".to_owned(),
        node_id: "alpha".to_owned(),
        host: "pi".to_owned(),
        counts: BTreeMap::from([("observations".to_owned(), 12)]),
        role: "primary".to_owned(),
        last_sync: Some(LastSync {
            time: "2026-01-02T03:04:05+00:00".to_owned(),
            outcome: "synced".to_owned(),
        }),
        waiting: 2,
        ..NodeRecord::default()
    }
}

fn with(field: &str, value: serde_json::Value) -> Result<NodeRecord, String> {
    let mut json = serde_json::to_value(record()).unwrap();
    json[field] = value;
    NodeRecord::parse(&serde_json::to_vec(&json).unwrap(), WRITER)
}

#[test]
fn a_record_is_read_as_it_was_written() {
    assert_eq!(NodeRecord::parse(&record().to_bytes().unwrap(), WRITER).unwrap(), record());
    let least = format!(r#"{{"schema": 1, "writer": "{WRITER}", "last": 0}}"#);
    let least = NodeRecord::parse(least.as_bytes(), WRITER).unwrap();
    assert_eq!((least.last, least.name(), least.at()), (0, "unnamed", None));
    assert_eq!((record().name(), record().at()), ("alpha", Some(1_767_323_045)));
}

#[test]
fn what_decisions_rest_on_is_not_guessed() {
    for (field, value) in [
        ("schema", json!(2)),
        ("schema", json!("1")),
        ("writer", json!("f".repeat(32))),
        ("writer", json!(null)),
        ("last", json!(-1)),
        ("last", json!("18")),
        ("last", json!(1.5)),
        ("seen", json!((0..4097).map(|n| (format!("{n:032x}"), 1)).collect::<BTreeMap<_, _>>())),
        ("node_id", json!("x".repeat(300_000))),
    ] {
        assert!(with(field, value.clone()).is_err(), "{field} {}", value.to_string().len());
    }
    for text in ["", "{}", "[]", "null", "{\"schema\": 1"] {
        assert!(NodeRecord::parse(text.as_bytes(), WRITER).is_err(), "{text}");
    }
}

#[test]
fn what_people_read_is_cut_and_what_makes_no_sense_is_left_out() {
    assert_eq!(with("host", json!("ж".repeat(5000))).unwrap().host.chars().count(), 256);
    for field in
        ["node_id", "claude_mem_version", "counts", "seen", "last_sync", "waiting", "folds", "commit"]
    {
        for value in [json!(true), json!([[1]]), json!({"x": {}}), json!(null)] {
            assert!(with(field, value.clone()).is_ok(), "{field} {value}");
        }
    }
    assert_eq!(with("a field of the future", json!(1)).unwrap(), record());
    let seen = json!({"f".repeat(32): 4, "../x": 5});
    assert_eq!(with("seen", seen).unwrap().seen, BTreeMap::from([("f".repeat(32), 4)]));
    let fold = |number: u64, parts: u32, first: u64, last: u64| {
        let fold = json!([{"kind": "base", "number": number, "parts": parts, "covers": {"first": first, "last": last}}]);
        with("folds", fold).unwrap().folds.len()
    };
    assert_eq!(fold(17, 1, 1, 16), 1);
    assert_eq!(fold(18, 2, 1, 16), 1);
    assert_eq!(fold(18, 2, 1, 17), 0, "it would stand for its own first part");
    assert_eq!(fold(19, 1, 1, 16), 0, "behind the newest segment");
    assert_eq!(fold(17, 0, 1, 16), 0);
    assert_eq!(fold(3, 4, 1, 0), 0);
    assert_eq!(fold(17, 1, 9, 7), 0);
    assert_eq!(fold(17, 1, 0, 16), 0);
}
