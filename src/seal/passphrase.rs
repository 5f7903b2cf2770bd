//! A key wrapped by a passphrase, as `membridge/keys/ID.json` in the bucket: the next machine needs the passphrase only,
//! and another passphrase wraps the same 32 bytes again. Whoever has the bucket can try passphrases against it, 600,000
//! rounds of PBKDF2 each. Pure.

use std::num::NonZeroU32;

use aws_smithy_types::base64;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::pbkdf2;
use serde::{Deserialize, Serialize};

use super::key::{KeyId, MasterKey};

/// Rounds of PBKDF2-HMAC-SHA256, as OWASP's password storage cheat sheet has them since 2023.
pub const ROUNDS: u32 = 600_000;
/// More rounds than this would keep a board busy for minutes: nobody's record.
const MOST_ROUNDS: u32 = 10_000_000;
/// A shorter passphrase (in characters) is not taken.
pub const MIN_PASSPHRASE: usize = 12;
const KDF: &str = "pbkdf2-hmac-sha256";

/// The record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wrapped {
    /// 1.
    pub schema: u32,
    /// The wrapped key's public name.
    pub key_id: String,
    /// How the passphrase becomes a key.
    pub kdf: String,
    /// Rounds of it.
    pub rounds: u32,
    /// 32 random bytes, base64.
    pub salt: String,
    /// The sealed key, base64: 48 bytes.
    pub wrapped: String,
}

impl Wrapped {
    /// Wraps a key. `salt`: 32 fresh random bytes. Takes about half a second on a board.
    pub fn wrap(key: &MasterKey, passphrase: &str, salt: [u8; 32]) -> Self {
        Self::wrap_with(key, passphrase, salt, ROUNDS)
    }

    fn wrap_with(key: &MasterKey, passphrase: &str, salt: [u8; 32], rounds: u32) -> Self {
        let mut wrapped = key.bytes().to_vec();
        if let Some(cipher) = cipher(passphrase, &salt, rounds) {
            let covered = covered(key.id(), rounds);
            let sealed = cipher.seal_in_place_append_tag(nonce(), Aad::from(covered), &mut wrapped);
            debug_assert!(sealed.is_ok(), "32 bytes can be sealed");
        }
        Self {
            schema: 1,
            key_id: key.id().to_string(),
            kdf: KDF.to_owned(),
            rounds,
            salt: base64::encode(salt),
            wrapped: base64::encode(wrapped),
        }
    }

    /// The key; `None` when the passphrase is another one, or the record was changed.
    pub fn unwrap(&self, passphrase: &str) -> Option<MasterKey> {
        if self.schema != 1 || self.kdf != KDF || self.rounds > MOST_ROUNDS {
            return None;
        }
        let id = KeyId::parse(&self.key_id)?;
        let salt = base64::decode(&self.salt).ok()?;
        let mut wrapped = base64::decode(&self.wrapped).ok()?;
        let cipher = cipher(passphrase, &salt, self.rounds)?;
        let opened = cipher.open_in_place(nonce(), Aad::from(covered(id, self.rounds)), &mut wrapped).ok()?;
        let key = MasterKey::new((&*opened).try_into().ok()?);
        (key.id() == id).then_some(key)
    }
}

fn cipher(passphrase: &str, salt: &[u8], rounds: u32) -> Option<LessSafeKey> {
    let mut key = [0; 32];
    let rounds = NonZeroU32::new(rounds)?;
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, salt, passphrase.as_bytes(), &mut key);
    UnboundKey::new(&CHACHA20_POLY1305, &key).ok().map(LessSafeKey::new)
}

/// The derived key seals one thing once.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

fn covered(id: KeyId, rounds: u32) -> Vec<u8> {
    let mut bytes = b"membridge wrapped key 1".to_vec();
    bytes.extend_from_slice(&id.0);
    bytes.extend_from_slice(&rounds.to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::{MOST_ROUNDS, Wrapped};
    use crate::seal::MasterKey;

    #[test]
    fn a_key_comes_back_by_its_passphrase_only() {
        let key = MasterKey::new([9; 32]);
        let wrapped = Wrapped::wrap_with(&key, "correct horse battery", [3; 32], 10);
        let text = serde_json::to_string(&wrapped).unwrap();
        assert_eq!(
            serde_json::from_str::<Wrapped>(&text).unwrap().unwrap("correct horse battery"),
            Some(key)
        );
        assert_eq!(wrapped.unwrap("correct horse batterz"), None);
        let edits: [fn(&mut Wrapped); 7] = [
            |record| record.rounds = 11,
            |record| record.rounds = 0,
            |record| record.rounds = MOST_ROUNDS + 1,
            |record| record.schema = 2,
            |record| record.key_id = "0".repeat(32),
            |record| record.salt = "AAAA".to_owned(),
            |record| record.wrapped = "?".to_owned(),
        ];
        for (at, edit) in edits.into_iter().enumerate() {
            let mut edited = wrapped.clone();
            edit(&mut edited);
            assert_eq!(edited.unwrap("correct horse battery"), None, "{at}");
        }
    }
}
