//! What stands in for a crate gives the published check values.

#[path = "../../stand-ins/crc-fast/src/lib.rs"]
mod crc_fast;

use crc_fast::{CrcAlgorithm, Digest, checksum};

#[test]
fn checksums_have_their_published_check_values() {
    let table = [
        (CrcAlgorithm::Crc32IsoHdlc, 0xcbf4_3926),
        (CrcAlgorithm::Crc32Iscsi, 0xe306_9283),
        (CrcAlgorithm::Crc64Nvme, 0xae8b_1486_0a79_9888),
    ];
    for (algorithm, wanted) in table {
        assert_eq!(checksum(algorithm, b"123456789"), wanted, "{algorithm:?}");
        assert_eq!(checksum(algorithm, b""), 0, "{algorithm:?}");
        let mut digest = Digest::new(algorithm);
        for part in [&b"1234"[..], b"", b"56789"] {
            digest.update(part);
        }
        assert_eq!(digest.finalize(), wanted, "{algorithm:?} in parts");
    }
}
