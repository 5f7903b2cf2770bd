//! Bytes from the bucket as a commit: refused, or a commit that survives being written again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use membridge::history::Commit;

fuzz_target!(|bytes: &[u8]| {
    for number in [1, 42] {
        if let Ok(commit) = Commit::parse(bytes, number) {
            let again = serde_json::to_vec(&commit).expect("a commit can be written");
            assert!(Commit::parse(&again, number).is_ok());
            let _ = (commit.chain_bytes(), commit.at(), commit.author().len());
        }
    }
});
