//! What the history says of a page: its hash.

use sha2::{Digest, Sha256};

pub use crate::database::pages::{Shape, cookie_of, for_each, lock_page, size};

/// The first 16 bytes of a page's SHA-256: nobody finds two pages of one hash by chance.
pub type PageHash = [u8; 16];

/// The hash of a page.
pub fn hash(page: &[u8]) -> PageHash {
    let digest: [u8; 32] = Sha256::digest(page).into();
    let mut short = [0; 16];
    for (to, from) in short.iter_mut().zip(digest) {
        *to = from;
    }
    short
}
