use super::{Commit, Kind, Link};
use crate::database::Counts;
use crate::sum::Sum;

/// A sound commit at the end of a chain of `deltas` deltas.
pub(crate) fn sample(number: u64, deltas: u64) -> Commit {
    let sum = |prefix: u64, number: u64| Sum::of(format!("{prefix} {number}"));
    let first = number - deltas;
    let chain: Vec<Link> = (first..=number)
        .map(|number| Link { number, pack: sum(1, number), size: 1000, image: sum(2, number) })
        .collect();
    Commit {
        schema: 1,
        number,
        parent: (number > 1).then(|| number - 1),
        kind: if deltas == 0 { Kind::Full } else { Kind::Delta },
        pack: sum(1, number),
        pack_size: 1000,
        page_size: 4096,
        page_count: 10,
        sha256: sum(2, number),
        chain,
        content_digest: sum(3, number),
        counts: Counts::default(),
        schema_version: Some(30),
        claude_mem_version: None,
        node_id: "n".to_owned(),
        host: "h".to_owned(),
        epoch: Some(3),
        time: "2026-01-02T03:04:05+00:00".to_owned(),
        membridge_version: "0".to_owned(),
        mirror_sha256: None,
        adopted_from: None,
        legacy_seen: None,
        seen: [("ab".repeat(16), 3)].into(),
        prev: None,
        stored: None,
        token: "t".to_owned(),
        other: serde_json::Map::new(),
    }
}

fn parse(commit: &Commit, number: u64) -> Result<Commit, String> {
    Commit::parse(&serde_json::to_vec(commit).unwrap(), number)
}

#[test]
fn a_commit_survives_with_what_it_does_not_know() {
    let mut commit = sample(7, 3);
    commit.other.insert("future".to_owned(), 5.into());
    assert_eq!(parse(&commit, 7), Ok(commit.clone()));
    assert_eq!(commit.at().unwrap().as_second(), 1_767_323_045);
    assert_eq!(commit.chain_bytes(), 4000);
}

#[test]
fn a_commit_that_a_restore_cannot_rest_on_is_refused() {
    type Change = fn(&mut Commit);
    let table: [(&str, Change); 21] = [
        ("schema", |c| c.schema = 2),
        ("number", |c| c.number = 8),
        ("number zero", |c| c.number = 0),
        ("no parent", |c| c.parent = None),
        ("another parent", |c| c.parent = Some(3)),
        ("a parent at the end of numbers", |c| c.parent = Some(u64::MAX)),
        ("more writers than there can be", |c| c.seen = (0..10_001).map(|n| (n.to_string(), 1)).collect()),
        ("a writer that is none", |c| c.seen = [("x".repeat(65), 1)].into()),
        ("kind", |c| c.kind = Kind::Full),
        ("pack size", |c| c.pack_size = 5),
        ("page size not a power", |c| c.page_size = 4095),
        ("page size too small", |c| c.page_size = 256),
        ("page size too large", |c| c.page_size = 1 << 17),
        ("page count", |c| c.page_count = 0),
        ("page count beyond SQLite's", |c| c.page_count = u32::MAX),
        ("empty chain", |c| c.chain.clear()),
        ("chain with a gap", |c| {
            c.chain.remove(1);
        }),
        ("chain in another order", |c| c.chain.swap(0, 1)),
        ("chain ends elsewhere", |c| {
            c.chain.pop();
        }),
        ("a link with another image", |c| c.chain[3].image = c.chain[0].image),
        ("chain too long", |c| {
            let link = c.chain[0].clone();
            c.chain.splice(0..0, std::iter::repeat_n(link, 2000));
        }),
    ];
    for (name, change) in table {
        let mut commit = sample(7, 3);
        change(&mut commit);
        assert!(parse(&commit, 7).is_err(), "{name}");
    }
    for (place, text) in [
        ("/pack", "../../etc/passwd"),
        ("/pack", &"A0".repeat(32)),
        ("/sha256", &"0".repeat(63)),
        ("/content_digest", ""),
        ("/chain/0/pack", &"x".repeat(64)),
        ("/chain/0/image", &"0".repeat(65)),
    ] {
        let mut commit = serde_json::to_value(sample(7, 3)).unwrap();
        *commit.pointer_mut(place).unwrap() = text.into();
        let refused = Commit::parse(commit.to_string().as_bytes(), 7).unwrap_err();
        assert!(refused.contains("64 lower-case hex digits"), "{place}: {refused}");
    }
    for text in ["", "{", "[]", "null", "{\"schema\": 1}", "{\"schema\": \"1\"}"] {
        assert!(Commit::parse(text.as_bytes(), 7).is_err(), "{text}");
    }
}

#[test]
fn the_links_behind_an_image_lead_from_there_to_here() {
    let commit = sample(9, 4);
    let at = |number: u64| sample(number, 0).sha256;
    let numbers = |image: Sum| {
        commit.links_after(image).map(|links| links.iter().map(|link| link.number).collect::<Vec<_>>())
    };
    let table = [(5, Some(vec![6, 7, 8, 9])), (8, Some(vec![9])), (9, Some(vec![])), (4, None)];
    for (number, expected) in table {
        assert_eq!(numbers(at(number)), expected, "{number}");
    }
}

#[test]
fn a_commit_is_followed_only_by_who_has_collected_what_it_holds() {
    let commit = Commit { seen: [("a".to_owned(), 3), ("b".to_owned(), 1)].into(), ..sample(7, 0) };
    let at = |a: u64, b: u64| [("a".to_owned(), a), ("b".to_owned(), b), ("c".to_owned(), 9)].into();
    for (ours, within) in [(at(3, 1), true), (at(4, 7), true), (at(2, 1), false), (at(3, 0), false)] {
        assert_eq!(commit.is_within(&ours), within, "{ours:?}");
    }
    assert!(!commit.is_within(&[("a".to_owned(), 3)].into()));
    assert!(Commit { seen: [].into(), ..sample(7, 0) }.is_within(&[].into()));
}
