//! Bytes from the bucket as a pack: refused or applied, never a panic, never more than the pack announces.
#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use membridge::history::pack::{PackReader, apply};

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut pack) = PackReader::open(Cursor::new(bytes)) else {
        return;
    };
    let limit = u64::from(pack.header.page_count) * u64::from(pack.header.page_size);
    let image = tempfile::tempfile().expect("a temporary file");
    if apply(&mut pack, &image, |_| {}).is_ok() {
        assert_eq!(image.metadata().expect("its size").len(), limit);
    }
});
