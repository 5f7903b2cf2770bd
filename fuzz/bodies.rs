//! What each fuzz target does with its bytes. The targets in fuzz_targets/ hand them libFuzzer's; tests/it/fuzz.rs
//! hands them mutated samples, so that `cargo test` compiles and runs the same functions.

use std::collections::BTreeSet;
use std::io::Cursor;

use membridge::history::Commit;
use membridge::history::pack::{PackReader, apply};
use membridge::history::pagemap::PageMap;
use membridge::seal::{Keyring, MasterKey, Place, open_bytes, seal_bytes};

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
    let applied = apply(&mut pack, &image, &mut BTreeSet::new()).is_ok();
    let length = image.metadata().expect("its size").len();
    assert!(length <= limit, "{length} bytes written of {limit}");
    assert!(!applied || length == limit);
    applied
}

/// Bytes on the disk as a page map: no map, or one that holds as many hashes as it says.
pub fn pagemap(bytes: &[u8]) -> bool {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), bytes).expect("write it");
    let Some(mut map) = PageMap::open_any(file.path()) else {
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
