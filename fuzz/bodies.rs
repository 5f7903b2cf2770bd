//! What each fuzz target does with its bytes. The targets in fuzz_targets/ hand them libFuzzer's; tests/it/fuzz.rs
//! hands them mutated samples, so that `cargo test` compiles and runs the same functions.

use std::io::{Cursor, Write};

use membridge::database::exported::{self, List};
use membridge::history::Commit;
use membridge::history::pack::{PackReader, apply};
use membridge::history::pagemap::PageMap;
use membridge::leadership::LeaseRecord;
use membridge::lock::LockRecord;
use membridge::progress::Progress;
use membridge::python::manifest::Manifest;
use membridge::rows::Record;
use membridge::rows::node::NodeRecord;
use membridge::rows::segment::{BODY_LIMIT, LINES_LIMIT, SegmentReader};
use membridge::seal::{Keyring, Mac, MasterKey, Place, Seal, Sealed, Vouched, Watch, open_bytes, seal_bytes};
use membridge::sum::Sum;

/// Bytes from the bucket as a commit: refused, or a commit that survives being written again. Whether it was one.
pub fn commit(bytes: &[u8]) -> bool {
    let mut any = false;
    for number in [1, 42] {
        if let Ok(commit) = Commit::parse(bytes, number) {
            let again = serde_json::to_vec(&commit).expect("a commit can be written");
            assert!(Commit::parse(&again, number).is_ok());
            let _ = (commit.chain_bytes(), commit.at(), commit.author().len());
            any = true;
        }
    }
    any
}

/// Bytes from the bucket as a pack: refused or applied, never a panic, never more than the pack announces.
pub fn pack(bytes: &[u8]) -> bool {
    let Ok(mut pack) = PackReader::open(Cursor::new(bytes)) else {
        return false;
    };
    let limit = u64::from(pack.header.page_count) * u64::from(pack.header.page_size);
    let image = tempfile::tempfile().expect("a temporary file");
    // Pages that a delta may refer to.
    image.set_len(limit.min(1 << 24)).expect("room");
    let applied = apply(&mut pack, &image).is_ok();
    let length = image.metadata().expect("its size").len();
    assert!(length <= limit, "{length} bytes written of {limit}");
    assert!(!applied || length == limit);
    applied
}

/// Bytes on the disk as a page map: no map, or one that holds as many hashes as it says.
pub fn pagemap(bytes: &[u8]) -> bool {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), bytes).expect("write it");
    let Ok(mut map) = PageMap::read(file.path()) else {
        return false;
    };
    let mut hashes = 0;
    while map.next_hash().expect("a checked map").is_some() {
        hashes += 1;
    }
    assert_eq!(hashes, map.shape.page_count);
    true
}

/// The key and the place that the samples of [`sealed`] are made for.
pub fn sealed_with() -> (MasterKey, &'static str, Place<'static>) {
    (MasterKey::new([1; 32]), "6fe2e0f6071ac2bb", Place::Commit { number: 7 })
}

/// Bytes from the bucket as a sealed object: what opens is exactly what seals to them again.
pub fn sealed(bytes: &[u8]) -> bool {
    let (key, cid, place) = sealed_with();
    let Ok(plain) = open_bytes(bytes, &Keyring::new(key.clone()), cid, place) else {
        return false;
    };
    let salt = bytes[28..60].try_into().expect("a header has a salt");
    let again = seal_bytes(&plain, &key, cid, place, salt).expect("what was open can be sealed");
    assert!(again == bytes);
    true
}

/// Whose segments and node records the targets read.
pub const WRITER: &str = "0123456789abcdef0123456789abcdef";

/// Bytes from the bucket as a segment: refused before the first line is given out, or lines as many and as long as a
/// segment may have, of which each is a record or refused as well.
pub fn segment(bytes: &[u8]) -> bool {
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(bytes).expect("write it");
    let (stored, place) = (Sealed::from_bucket(file), Place::Segment { writer: WRITER, number: 7 });
    let Ok(opened) =
        Seal::Off.open_file(stored, Sum::of(bytes), "6fe2e0f6071ac2bb", place, tempfile::tempfile)
    else {
        return false;
    };
    let Ok(mut reader) = SegmentReader::proved(opened) else {
        return false;
    };
    let (mut lines, mut length, mut line) = (0, 0, Vec::new());
    while reader.next_line(&mut line).expect("a proved line") {
        assert!(!line.is_empty() && !line.contains(&b'\n'));
        lines += 1;
        length += line.len() as u64 + 1;
        record(&line);
    }
    assert!(lines <= LINES_LIMIT && length <= BODY_LIMIT);
    true
}

/// A line of a segment as a record: refused, or a record that survives being written again.
pub fn record(bytes: &[u8]) -> bool {
    let Ok(record) = Record::read(bytes) else {
        return false;
    };
    let again = record.line().expect("a record can be written");
    // What is no number is equal to nothing, not even to itself.
    let read = Record::read(&again).expect("a record that was written");
    assert_eq!(read.line().expect("the same"), again);
    let _ = record.title();
    true
}

/// Bytes from the bucket as a node record: refused, or a record that survives being written again.
pub fn node(bytes: &[u8]) -> bool {
    let Ok(record) = NodeRecord::parse(bytes, WRITER) else {
        return false;
    };
    let again = record.to_bytes().expect("a node record can be written");
    assert_eq!(NodeRecord::parse(&again, WRITER).expect("one that was written"), record);
    let _ = (record.at(), record.name().len());
    true
}

/// A project that is sealed with the key of [`sealed_with`].
pub fn seal() -> Seal {
    Seal::on(Keyring::new(sealed_with().0), Vouched::default(), Watch::default())
}

/// Bytes from the bucket as a sealed commit or node record, JSON around sealed bytes: what opens was sealed for this place,
/// and nothing in the clear is taken.
pub fn envelope(bytes: &[u8]) -> bool {
    let (_, cid, place) = sealed_with();
    let stored = Sealed::from_bucket(bytes.to_vec());
    let Ok(opened) = seal().open_record(stored, cid, place) else {
        return false;
    };
    let plain = opened.into_inner();
    let again = seal().seal_record(plain.clone(), cid, place, [7; 32]).expect("what was open can be sealed");
    assert_eq!(seal().open_record(again, cid, place).expect("its own").into_inner(), plain);
    true
}

/// For which object the samples of [`signed`] are signed.
pub const SIGNED: &str = "projects/6fe2e0f6071ac2bb/leadership/lease.json";

/// Bytes from the bucket as a lock, a lease or a manifest, which everybody can read: whether it has a mac that fits. Each
/// reader refuses it, or takes it as it would take what it writes itself.
pub fn signed(bytes: &[u8]) -> bool {
    if let Ok(lock) = serde_json::from_slice::<LockRecord>(bytes) {
        assert!(serde_json::from_value::<LockRecord>(serde_json::json!(lock)).is_ok());
    }
    if let Ok(lease) = serde_json::from_slice::<LeaseRecord>(bytes) {
        let lease = lease.in_time(i64::MAX, Some(i64::MIN)).in_time(i64::MIN, Some(i64::MAX));
        assert!(serde_json::from_value::<LeaseRecord>(serde_json::json!(lease)).is_ok());
    }
    if let Ok(manifest) = serde_json::from_slice::<Manifest>(bytes) {
        assert!(serde_json::from_value::<Manifest>(serde_json::json!(manifest)).is_ok());
    }
    let Ok(shown) = serde_json::from_slice(bytes) else {
        return false;
    };
    let (_, cid, _) = sealed_with();
    let (record, mac) = seal().verify(shown, SIGNED, cid);
    if mac != Mac::Valid {
        return false;
    }
    let again = seal().sign(record.clone(), SIGNED, cid, [7; 32]).expect("a record can be signed");
    assert_eq!(seal().verify(again, SIGNED, cid), (record, Mac::Valid));
    true
}

/// Bytes of a file as an export of claude-mem's: refused, or rows that are objects of the lists that were asked for.
pub fn export(bytes: &[u8]) -> bool {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), bytes).expect("write it");
    let all = [List::Sessions, List::Observations, List::Summaries, List::Prompts];
    let mut rows = 0;
    let read = exported::read(file.path(), &all, &Progress::hidden(), &mut |list, row| {
        assert!(all.contains(&list) && !list.table().is_empty());
        rows += usize::from(row.is_some());
        Ok(())
    });
    // What can be read as a whole can be read list by list, as an import does it.
    if read.is_ok() {
        let mut apart = 0;
        for list in all {
            let one = exported::read(file.path(), &[list], &Progress::hidden(), &mut |_, row| {
                apart += usize::from(row.is_some());
                Ok(())
            });
            assert!(one.is_ok());
        }
        assert_eq!(apart, rows);
    }
    read.is_ok()
}
