//! Bytes on the disk as a page map: no map, or one that holds as many hashes as it says.
#![no_main]

use libfuzzer_sys::fuzz_target;
use membridge::history::pagemap::PageMap;

fuzz_target!(|bytes: &[u8]| {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), bytes).expect("write it");
    if let Some(mut map) = PageMap::open_any(file.path()) {
        let mut hashes = 0;
        while map.next_hash().expect("a checked map").is_some() {
            hashes += 1;
        }
        assert_eq!(hashes, map.shape.page_count);
    }
});
