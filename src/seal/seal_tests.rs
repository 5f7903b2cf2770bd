use std::io::{Read, Write};

use super::{HEADER, KeyId, Keyring, MasterKey, Place, Seal, SealError, Sealed, Sealer, fingerprint};
use crate::context::hex;

const CID: &str = "6fe2e0f6071ac2bb";
const COMMIT: Place<'_> = Place::Commit { number: 7 };
const CHUNK: usize = 64 * 1024;

fn key(byte: u8) -> MasterKey {
    MasterKey::new([byte; 32])
}

fn on(byte: u8) -> Seal {
    Seal::On(Keyring::new(key(byte)))
}

fn sealed(plain: &[u8], place: Place<'_>) -> Vec<u8> {
    on(1).seal(plain.to_vec(), CID, place, [5; 32]).unwrap().into_stored()
}

fn open(stored: &[u8], place: Place<'_>) -> Result<Vec<u8>, SealError> {
    on(1).open(Sealed::from_bucket(stored.to_vec()), CID, place).map(super::Opened::into_inner)
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
    let mut reader = on(1).open_reader(Sealed::from_bucket(slow), CID, COMMIT).unwrap().into_inner();
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
        Place::Pack { parent: Some([0; 32]) },
        Place::Pack { parent: Some([1; 32]) },
        Place::Node { writer },
        Place::Project,
    ];
    for made in places {
        let stored = sealed(b"a memory", made);
        for place in places {
            assert_eq!(open(&stored, place).is_ok(), made == place, "{made:?} at {place:?}");
        }
        let elsewhere = on(1).open(Sealed::from_bucket(stored), "another project", made);
        assert!(matches!(elsewhere, Err(SealError::NotAuthentic)));
    }
}

#[test]
fn keys_and_sealing_do_not_mix_up() {
    let stored = sealed(b"a memory", COMMIT);
    let id = key(1).id();
    let of = |seal: &Seal, stored: &[u8]| seal.open(Sealed::from_bucket(stored.to_vec()), CID, COMMIT);
    assert!(matches!(of(&Seal::Off, &stored), Err(SealError::NoKey(found)) if found == id));
    assert!(matches!(of(&on(2), &stored), Err(SealError::OtherKey(found)) if found == id));
    assert!(matches!(of(&on(1), b"{}"), Err(SealError::NotSealed)));
    assert!(matches!(of(&on(1), &[b'x'; 200]), Err(SealError::NotSealed)));
    assert_eq!(of(&Seal::Off, b"{}").unwrap().into_inner(), b"{}");
    let mut newer = stored.clone();
    newer[8] = 2;
    assert!(matches!(of(&on(1), &newer), Err(SealError::Version(2))));
    // After a rotation the old key opens, and the new one seals.
    let rotated = Seal::On(Keyring::new(key(1)).led_by(key(2)));
    assert_eq!(of(&rotated, &stored).unwrap().into_inner(), b"a memory");
    let new = rotated.seal(Vec::new(), CID, COMMIT, [5; 32]).unwrap().into_stored();
    assert!(matches!(of(&on(1), &new), Err(SealError::OtherKey(found)) if found == key(2).id()));
}

#[test]
fn a_reader_without_a_key_refuses_what_is_sealed_and_reads_the_rest() {
    let stored = sealed(b"a memory", COMMIT);
    let refused = Seal::Off.open_reader(Sealed::from_bucket(&stored[..]), CID, COMMIT);
    assert!(matches!(refused, Err(SealError::NoKey(_))));
    let mut read = Vec::new();
    let clear = Seal::Off.open_reader(Sealed::from_bucket(&b"in the clear"[..]), CID, COMMIT).unwrap();
    clear.into_inner().read_to_end(&mut read).unwrap();
    assert_eq!(read, b"in the clear");
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
    let seal = Seal::On(Keyring::new(key.clone()));
    let stored = seal.seal(b"a memory".to_vec(), CID, COMMIT, salt).unwrap().into_stored();
    let mut record = serde_json::json!({"epoch": 3, "primary_node_id": "desk"});
    super::sign(&key, "projects/6fe2e0f6071ac2bb/leadership/lease.json", record.as_object_mut().unwrap());
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
