use std::io::{Read, Seek, Write};

use super::{
    HEADER, KeyId, Keyring, MasterKey, Opened, Opener, Place, Seal, SealError, Sealed, Sealer, Vouched,
    Watch, fingerprint, open_bytes, seal_bytes,
};
use crate::context::hex;
use crate::sum::Sum;

const CID: &str = "6fe2e0f6071ac2bb";
const COMMIT: Place<'_> = Place::Commit { number: 7 };
const CHUNK: usize = 64 * 1024;

fn key(byte: u8) -> MasterKey {
    MasterKey::new([byte; 32])
}

fn ring(byte: u8) -> Keyring {
    Keyring::new(key(byte))
}

fn on(byte: u8) -> Seal {
    Seal::on(ring(byte), Vouched::default(), Watch::default())
}

fn sealed(plain: &[u8], place: Place<'_>) -> Vec<u8> {
    seal_bytes(plain, &key(1), CID, place, [5; 32]).unwrap()
}

fn open(stored: &[u8], place: Place<'_>) -> Result<Vec<u8>, SealError> {
    open_bytes(stored, &ring(1), CID, place)
}

/// Bytes that do not repeat at any chunk's length.
fn plain(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

#[test]
fn what_was_sealed_opens_at_every_length_around_a_chunk() {
    for length in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 1] {
        let stored = sealed(&plain(length), COMMIT);
        let chunks = length.div_ceil(CHUNK).max(1);
        assert_eq!(stored.len(), HEADER + length + 16 * chunks, "{length}");
        assert_eq!(open(&stored, COMMIT).unwrap(), plain(length), "{length}");
    }
}

#[test]
fn a_stream_opens_in_pieces_and_seals_in_pieces() {
    let content = plain(3 * CHUNK + 17);
    let mut writer = on(1).writer(Vec::new(), CID, COMMIT, [5; 32]).unwrap();
    for piece in content.chunks(1000) {
        writer.write_all(piece).unwrap();
    }
    let stored = writer.finish().unwrap();
    assert_eq!(stored, sealed(&content, COMMIT));
    let slow = std::io::BufReader::with_capacity(7, &stored[..]);
    let mut reader = Opener::new(slow, &ring(1), CID, COMMIT).unwrap();
    let mut read = Vec::new();
    let mut piece = [0; 777];
    loop {
        match reader.read(&mut piece).unwrap() {
            0 => break,
            count => read.extend_from_slice(&piece[..count]),
        }
    }
    assert_eq!(read, content);
}

#[test]
fn any_changed_byte_is_told() {
    let stored = sealed(b"a memory", COMMIT);
    for at in 0..stored.len() {
        for bit in 0..8 {
            let mut changed = stored.clone();
            changed[at] ^= 1 << bit;
            assert!(open(&changed, COMMIT).is_err(), "byte {at}, bit {bit}");
        }
    }
}

#[test]
fn what_was_cut_off_or_grew_or_was_put_together_is_told() {
    let stored = sealed(&plain(3 * CHUNK), COMMIT);
    let sealed_chunk = CHUNK + 16;
    let (first, second) = (HEADER, HEADER + sealed_chunk);
    let cut = |length: usize| stored[..length].to_vec();
    let mut swapped = stored.clone();
    swapped[first..first + sealed_chunk].copy_from_slice(&stored[second..second + sealed_chunk]);
    swapped[second..second + sealed_chunk].copy_from_slice(&stored[first..first + sealed_chunk]);
    let mut grown = stored.clone();
    grown.push(0);
    let mut twice = stored.clone();
    twice.extend_from_slice(&stored[HEADER..]);
    let without_the_first: Vec<u8> = [&stored[..first], &stored[second..]].concat();
    // The empty last chunk that a writer could add, but none does.
    let mut hostile = Vec::new();
    let mut sealer = Sealer::new(&mut hostile, &key(1), CID, COMMIT, [5; 32]).unwrap();
    sealer.write_all(&plain(CHUNK)).unwrap();
    sealer.put(false).unwrap();
    sealer.finish().unwrap();
    let table = [
        ("nothing", Vec::new()),
        ("a part of the header", cut(HEADER - 1)),
        ("the header alone", cut(HEADER)),
        ("one chunk", cut(second)),
        ("two chunks", cut(second + sealed_chunk)),
        ("a part of a chunk", cut(stored.len() - 1)),
        ("swapped chunks", swapped),
        ("a byte more", grown),
        ("its chunks twice", twice),
        ("without the first chunk", without_the_first),
        ("an empty last chunk", hostile),
    ];
    for (what, stored) in table {
        let wrong = open(&stored, COMMIT).unwrap_err();
        let expected = if what == "nothing" { "NotSealed" } else { "NotAuthentic" };
        assert_eq!(format!("{wrong:?}"), expected, "{what}");
    }
}

#[test]
fn an_object_opens_in_its_own_place_only() {
    let writer = "0123456789abcdef0123456789abcdef";
    let places = [
        COMMIT,
        Place::Commit { number: 8 },
        Place::Segment { writer, number: 7 },
        Place::Segment { writer, number: 8 },
        Place::Segment { writer: "f123456789abcdef0123456789abcdef", number: 7 },
        Place::Pack { parent: None },
        Place::Pack { parent: Some([0; 32].into()) },
        Place::Pack { parent: Some([1; 32].into()) },
        Place::Node { writer },
        Place::Project,
    ];
    for made in places {
        let stored = sealed(b"a memory", made);
        for place in places {
            assert_eq!(open(&stored, place).is_ok(), made == place, "{made:?} at {place:?}");
        }
        let elsewhere = open_bytes(&stored, &ring(1), "another project", made);
        assert!(matches!(elsewhere, Err(SealError::NotAuthentic)));
    }
}

/// What became of a record: its content, or the name of the error.
fn record(seal: &Seal, stored: &[u8]) -> String {
    match seal.open_record(Sealed::from_bucket(stored.to_vec()), CID, COMMIT) {
        Ok(opened) => String::from_utf8(opened.into_inner()).unwrap(),
        Err(SealError::NoKey(id)) => format!("no key {id}"),
        Err(SealError::OtherKey(id)) => format!("other key {id}"),
        Err(error) => format!("{error:?}"),
    }
}

fn file(seal: &Seal, stored: &[u8], place: Place<'_>) -> String {
    let mut lying = tempfile::tempfile().unwrap();
    lying.write_all(stored).unwrap();
    let opened = seal.open_file(Sealed::from_bucket(lying), Sum::of(stored), CID, place, tempfile::tempfile);
    match opened.map(Opened::into_inner) {
        Ok(mut opened) => {
            assert_eq!(opened.stream_position().unwrap(), 0);
            let mut content = String::new();
            opened.read_to_string(&mut content).unwrap();
            content
        }
        Err(SealError::NoKey(id)) => format!("no key {id}"),
        Err(SealError::OtherKey(id)) => format!("other key {id}"),
        Err(error) => format!("{error:?}"),
    }
}

#[test]
fn keys_and_sealing_do_not_mix_up() {
    let id = key(1).id();
    let (no_key, other_key) = (format!("no key {id}"), format!("other key {id}"));
    let clear = b"{\"schema\": 1}";
    let stored = on(1).seal_record(clear.to_vec(), CID, COMMIT, [5; 32]).unwrap().into_stored();
    let packed = sealed(b"a pack", Place::Pack { parent: None });
    let segment = Place::Segment { writer: "w", number: 1 };
    let rows = sealed(b"rows", segment);
    // After a rotation the old key opens what is vouched for, and nothing else.
    let rotated = |vouched| Seal::on(ring(1).led_by(key(2)), vouched, Watch::default());
    let mut vouched = Vouched::default();
    vouched.commits.insert(7, Sum::of(&stored));
    vouched.segments.insert("w".to_owned(), [(1, Sum::of(&rows)), (2, Sum::of(b"clear rows"))].into());
    let mut vouched_clear = Vouched::default();
    vouched_clear.commits.insert(7, Sum::of(clear));
    let (nothing, old) = (Vouched::default(), vouched.clone());
    let records = [
        (Seal::Off, &stored[..], no_key.as_str()),
        (Seal::Off, clear, "{\"schema\": 1}"),
        (on(1), &stored, "{\"schema\": 1}"),
        (on(1), clear, "NotSealed"),
        (Seal::on(ring(1), vouched_clear.clone(), Watch::default()), clear, "{\"schema\": 1}"),
        (Seal::on(ring(1), vouched_clear, Watch::default()), b"{\"schema\": 1 }", "NotSealed"),
        (on(2), &stored, &other_key),
        (rotated(nothing.clone()), &stored, "NotAuthentic"),
        (rotated(old.clone()), &stored, "{\"schema\": 1}"),
    ];
    for (at, (seal, stored, expected)) in records.into_iter().enumerate() {
        assert_eq!(record(&seal, stored), expected, "record {at}");
    }
    let pack = Place::Pack { parent: None };
    let files = [
        (Seal::Off, &packed[..], pack, no_key.as_str()),
        (Seal::Off, b"clear", pack, "clear"),
        (on(1), &packed, pack, "a pack"),
        (on(1), &packed, Place::Pack { parent: Some([0; 32].into()) }, "NotAuthentic"),
        (on(2), &packed, pack, &other_key),
        (rotated(nothing.clone()), &packed, pack, "a pack"),
        (on(1), b"clear", pack, "clear"),
        (on(1), &rows, segment, "rows"),
        (on(1), b"clear rows", segment, "NotSealed"),
        (rotated(nothing), &rows, segment, "NotAuthentic"),
        (rotated(old.clone()), &rows, segment, "rows"),
        (rotated(old.clone()), b"clear rows", Place::Segment { writer: "w", number: 2 }, "clear rows"),
        (rotated(old.clone()), b"other rows", Place::Segment { writer: "w", number: 2 }, "NotSealed"),
        (rotated(old), b"clear rows", Place::Segment { writer: "v", number: 2 }, "NotSealed"),
    ];
    for (at, (seal, stored, place, expected)) in files.into_iter().enumerate() {
        assert_eq!(file(&seal, stored, place), expected, "file {at}");
    }
}

#[test]
fn what_is_written_is_sealed_with_the_present_key() {
    let seal = Seal::on(ring(1).led_by(key(2)), Vouched::default(), Watch::default());
    let stored = seal.seal_record(b"{}".to_vec(), CID, COMMIT, [5; 32]).unwrap().into_stored();
    let shown = String::from_utf8(stored.clone()).unwrap();
    assert!(
        shown.starts_with(&format!("{{\"schema\":2,\"number\":7,\"key_id\":\"{}\"", key(2).id())),
        "{shown}"
    );
    assert_eq!(record(&on(2), &stored), "{}");
    assert_eq!(seal.key(), Some(&key(2)));
    let mut clear = Seal::Off.writer(Vec::new(), CID, COMMIT, [5; 32]).unwrap();
    clear.write_all(b"as it is").unwrap();
    assert_eq!(clear.finish().unwrap(), b"as it is");
    let same = Seal::Off.seal_record(b"{}".to_vec(), CID, COMMIT, [5; 32]).unwrap();
    assert_eq!(same.stored(), b"{}");
}

#[test]
fn a_newer_way_of_sealing_is_named() {
    let mut newer = sealed(b"a memory", COMMIT);
    newer[8] = 2;
    assert!(matches!(open(&newer, COMMIT), Err(SealError::Version(2))));
    assert_eq!(file(&Seal::Off, &newer, COMMIT), "Version(2)");
    assert!(matches!(open(b"{}", COMMIT), Err(SealError::NotSealed)));
    assert!(matches!(open(&[b'x'; 200], COMMIT), Err(SealError::NotSealed)));
}

/// The numbers in docs/format.md: whoever changes one of them changes what other readers can open.
#[test]
fn the_vectors_of_the_documentation_hold() {
    let mut bytes = [0; 32];
    let mut salt = [0; 32];
    for (at, (key, salt)) in (0_u8..).zip(bytes.iter_mut().zip(&mut salt)) {
        (*key, *salt) = (at, at + 32);
    }
    let key = MasterKey::new(bytes);
    let stored = seal_bytes(b"a memory", &key, CID, COMMIT, salt).unwrap();
    let mut record = serde_json::json!({"epoch": 3, "primary_node_id": "desk"});
    super::mac::sign(
        &key,
        "projects/6fe2e0f6071ac2bb/leadership/lease.json",
        record.as_object_mut().unwrap(),
    );
    let wrapped = super::Wrapped::wrap(&key, "correct horse battery staple", salt);
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/format.md")).unwrap();
    let vectors = [
        ("key", key.reveal()),
        ("key id", key.id().to_string()),
        ("sealed", hex(&stored)),
        ("mac", record["mac"].as_str().unwrap().to_owned()),
        ("wrapped", wrapped.wrapped.clone()),
        ("words", fingerprint(&key, CID, None).join(" ")),
    ];
    let rows = vectors.map(|(name, value)| format!("| {name} | `{value}` |"));
    for row in &rows {
        assert!(text.contains(row), "docs/format.md lacks a row; all of them:\n{}", rows.join("\n"));
    }
    assert_eq!(wrapped.unwrap("correct horse battery staple"), Some(key.clone()));
    assert_eq!(KeyId::parse(&key.id().to_string()), Some(key.id()));
}
