//! What an etag says about content: most stores answer the MD5 of what they hold, some answer other digits. Reads nothing.

use std::sync::atomic::{AtomicBool, Ordering};

use super::{Digests, Etag};

/// What an etag says about content that should have some digests.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// It is their checksum.
    Same,
    /// It looks like a checksum and is another one: damage, or a server that encrypts with keys of its own.
    Other,
    /// It is no checksum: composed objects, or a server of its own kind.
    Nothing,
}

pub(super) fn says(etag: &Etag, digests: &Digests) -> Said {
    let etag = etag.0.trim_matches('"').to_ascii_lowercase();
    let hexadecimal = etag.bytes().all(|byte| byte.is_ascii_hexdigit());
    let same = match etag.len() {
        32 if hexadecimal => etag == digests.md5,
        64 if hexadecimal => etag.parse() == Ok(digests.sha256),
        _ => return Said::Nothing,
    };
    if same { Said::Same } else { Said::Other }
}

/// What a run has found out about a store's etags. One small object that was read back spares the large ones.
#[derive(Debug, Default)]
pub(super) struct Etags {
    /// Digits that look like a checksum stood on content that was right.
    are_no_checksums: AtomicBool,
}

impl Etags {
    pub(super) fn are_no_checksums(&self) -> bool {
        self.are_no_checksums.load(Ordering::Relaxed)
    }

    pub(super) fn learn_that_they_are_no_checksums(&self) {
        self.are_no_checksums.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::{Digests, Etag, Said, says};

    #[test]
    fn what_an_etag_says_about_a_file() {
        let digests = Digests { size: 3, sha256: [0xab; 32].into(), md5: "cd".repeat(16) };
        let table = [
            (format!("\"{}\"", "cd".repeat(16)), Said::Same),
            ("CD".repeat(16), Said::Same),
            ("ab".repeat(32), Said::Same),
            ("ff".repeat(32), Said::Other),
            ("ff".repeat(16), Said::Other),
            (format!("{}-2", "cd".repeat(16)), Said::Nothing),
            (String::new(), Said::Nothing),
        ];
        for (etag, said) in table {
            assert_eq!(says(&Etag(etag.clone()), &digests), said, "{etag}");
        }
    }
}
