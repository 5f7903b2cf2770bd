//! The bodies of the fuzz targets (fuzz/bodies.rs) on real samples and on thousands of mutations of them. With
//! FUZZ_SEEDS=FOLDER the samples are left there for `make fuzz`, which goes on with coverage feedback.

use crate::support::claude_mem::{Random, Version};
use crate::support::machine::Machine;
use crate::support::s3::S3Server;

#[path = "../../fuzz/bodies.rs"]
mod bodies;

/// What two pushes leave: the commits, their packs, the page map.
fn samples() -> [(&'static str, fn(&[u8]) -> bool, Vec<Vec<u8>>); 10] {
    let server = S3Server::start();
    let alpha = Machine::new("alpha", &server);
    alpha.create_db(Version::V13_25_3).add_session("one").add_observations(5);
    alpha.cmd("push_sqlite").run().assert_code(0);
    alpha.db().add_observations(1);
    alpha.cmd("push_sqlite").run().assert_code(0);
    let objects = |folder: &str| -> Vec<Vec<u8>> {
        let prefix = format!("projects/6fe2e0f6071ac2bb/membridge/{folder}/");
        server.keys(&prefix).iter().map(|key| server.get(key).unwrap()).collect()
    };
    let maps = alpha
        .files()
        .iter()
        .filter(|file| file.contains("/pagemaps/"))
        .filter(|file| std::path::Path::new(file).extension() == Some("map".as_ref()))
        .map(|file| std::fs::read(alpha.path(file)).unwrap())
        .collect();
    let mut commits = objects("commits");
    // The targets parse as the commits 1 and 42.
    let second = String::from_utf8(commits.pop().unwrap()).unwrap();
    commits.push(
        second
            .replace("\"number\": 2", "\"number\": 42")
            .replace("\"parent\": 1", "\"parent\": 41")
            .into_bytes(),
    );
    [
        ("commit", bodies::commit, commits),
        ("pack", bodies::pack, objects("packs")),
        ("pagemap", bodies::pagemap, maps),
        ("sealed", bodies::sealed, sealed_samples()),
        ("segment", bodies::segment, segment_samples()),
        ("record", bodies::record, record_samples()),
        ("node", bodies::node, vec![node_sample()]),
        ("envelope", bodies::envelope, envelope_samples()),
        ("signed", bodies::signed, vec![signed_sample()]),
        ("export", bodies::export, export_samples()),
    ]
}

/// An empty one, a small one, one of two chunks.
fn sealed_samples() -> Vec<Vec<u8>> {
    let (key, cid, place) = bodies::sealed_with();
    let lengths = [0, 100, 70_000];
    let sealed =
        lengths.map(|length| membridge::seal::seal_bytes(&vec![b'x'; length], &key, cid, place, [5; 32]));
    sealed.map(Result::unwrap).into()
}

/// A node record's envelope, and one around nothing.
fn envelope_samples() -> Vec<Vec<u8>> {
    let (_, cid, place) = bodies::sealed_with();
    let sealed =
        [node_sample(), Vec::new()].map(|plain| bodies::seal().seal_record(plain, cid, place, [5; 32]));
    sealed.map(|sealed| sealed.unwrap().into_stored()).into()
}

/// A lease with its mac.
fn signed_sample() -> Vec<u8> {
    let lease = serde_json::json!({
        "primary_node_id": "desk", "issued_at": 1_700_000_000, "expires_at": 1_700_003_600, "lease_seconds": 3600,
        "epoch": 3, "policy": "primary_authoritative", "issued_by": "desk", "hostname": "h", "timestamp": 5,
    });
    let record = lease.as_object().unwrap().clone();
    let signed = bodies::seal().sign(record, bodies::SIGNED, bodies::sealed_with().1, [5; 32]).unwrap();
    serde_json::to_vec(&signed).unwrap()
}

/// What claude-mem's export writes; one with lists that are empty or missing.
fn export_samples() -> Vec<Vec<u8>> {
    let whole = serde_json::json!({
        "exportedAt": "2026-01-02T03:04:05Z", "query": "", "totalObservations": 1,
        "observations": [{"id": 1, "memory_session_id": "m", "title": "t", "facts": ["a"], "created_at_epoch": 5}],
        "sessions": [{"id": 1, "content_session_id": "c", "memory_session_id": "m", "project": "p"}],
        "summaries": [{"memory_session_id": "m", "request": null, "created_at_epoch": 5}],
        "prompts": [{"content_session_id": "c", "prompt_number": 1, "prompt_text": "x"}, 7],
        "metadata": {"partial": false},
    });
    vec![serde_json::to_vec(&whole).unwrap(), br#"{"sessions": null, "later": [[{}]]}"#.to_vec()]
}

/// A session, an observation with every kind of value, a deletion.
fn record_samples() -> Vec<Vec<u8>> {
    let uid = "00112233445566778899aabbccddeeff";
    let record = |table: &str, rest: &str| {
        let stamp = format!("[1700000000000, 3, \"{}\"]", bodies::WRITER);
        format!(
            r#"{{"table": "{table}", "uid": "{uid}", "stamp": {stamp}, "key": "{uid}", "born": 5, {rest}}}"#
        )
    };
    let session = r#""home": "python", "content": {"columns": {"content_session_id": "s1"}, "carried": {"memory_session_id": "m"}, "state": {"status": "active"}}"#;
    let row = r#""of": {"uid": "00112233445566778899aabbccddeeff"}, "keys": ["00112233445566778899aabbccddeef0"], "content": {"columns": {"a": 1, "b": "x", "c": {"blob": "AAEC"}, "d": {"real": "0.5"}, "e": {"text": "/w=="}}, "refs": {"session": {"text": "gone"}}}"#;
    let lines = [
        record("sdk_sessions", session),
        record("observations", row),
        record("observations", r#""deleted": true"#),
    ];
    lines.map(String::into_bytes).into()
}

/// An empty one, one of records, one of many lines.
fn segment_samples() -> Vec<Vec<u8>> {
    use membridge::rows::segment::{Effort, SegmentWriter};
    let folder = tempfile::tempdir().unwrap();
    let samples = [Vec::new(), record_samples(), vec![b"{}".to_vec(); 5_000]];
    let segment = |lines: Vec<Vec<u8>>| {
        let mut writer = SegmentWriter::new(folder.path(), Effort::Usual).unwrap();
        for line in lines {
            writer.line(&line).unwrap();
        }
        let header = serde_json::json!({
            "schema": 1, "project": "6fe2e0f6071ac2bb", "writer": bodies::WRITER, "number": 7, "kind": "rows",
            "part": 1, "parts": 1, "rows": {"observations": 1}, "host": "pi",
        });
        let header = serde_json::from_value(header).unwrap();
        let prepared = writer.finish(header, &membridge::seal::Seal::Off, [0; 32]).unwrap();
        std::fs::read(&prepared.path).unwrap()
    };
    samples.map(segment).into()
}

fn node_sample() -> Vec<u8> {
    let record = serde_json::json!({
        "schema": 1, "writer": bodies::WRITER, "last": 18, "seen": {bodies::WRITER: 3}, "node_id": "alpha",
        "folds": [{"kind": "fold", "number": 17, "parts": 1, "covers": {"first": 1, "last": 16}}],
        "time": "2026-01-02T03:04:05+00:00", "counts": {"observations": 12}, "role": "primary",
        "last_sync": {"time": "2026-01-02T03:04:05+00:00", "outcome": "synced"}, "waiting": 2, "held": 0,
    });
    serde_json::to_vec(&record).unwrap()
}

/// One to four changes of the kinds that libFuzzer makes.
fn mutate(sample: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = sample.to_vec();
    for _ in 0..=random.next() % 4 {
        let at = random.next() as usize % (bytes.len() + 1);
        let kind = random.next() % 6;
        match (kind, bytes.get_mut(at)) {
            (0, Some(byte)) => *byte ^= 1 << (random.next() % 8),
            (1, Some(byte)) => *byte = [0, 1, 0x7f, 0x80, 0xff, b'9', b'"'][random.next() as usize % 7],
            (2, _) => bytes.truncate(at),
            (3, _) => bytes.insert(at, random.next() as u8),
            (4, _) => {
                let from = random.next() as usize % (bytes.len() + 1);
                let piece: Vec<u8> = bytes[from..].iter().take(64).copied().collect();
                bytes.splice(at..at, piece);
            }
            _ => {
                let end = (at + 4).min(bytes.len());
                bytes[at..end].fill(0xff);
            }
        }
    }
    bytes
}

#[test]
fn the_decoders_survive_mutated_samples() {
    for (name, body, samples) in samples() {
        assert!(!samples.is_empty(), "{name}");
        if let Some(folder) = std::env::var_os("FUZZ_SEEDS") {
            let folder = std::path::Path::new(&folder).join(name);
            std::fs::create_dir_all(&folder).unwrap();
            for (at, sample) in samples.iter().enumerate() {
                std::fs::write(folder.join(at.to_string()), sample).unwrap();
            }
        }
        let accepted = samples.iter().filter(|sample| body(sample)).count();
        assert!(accepted > 0, "{name}: no sample gets through");
        let mut random = Random::new(name, 1);
        let mut refused = 0;
        for round in 0..2000 {
            let bytes = mutate(&samples[round % samples.len()], &mut random);
            refused += usize::from(!body(&bytes));
        }
        assert!(refused > 0, "{name}: no mutation is refused");
    }
}
