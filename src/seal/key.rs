//! The fleet's key: 32 random bytes, as a line of text and as a file of ours (0600), and what is derived from it. A key is
//! never printed by accident: its `Debug` shows the id. Knows no cipher.

use std::io::{ErrorKind, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ring::{digest, hkdf};

use super::base32;
use crate::context::hex;
use crate::platform::leave_no_core;
use crate::private_files::write_private;

/// How the text of a key begins.
const PREFIX: &str = "mbkey1-";
/// Bytes of a key's checksum: one typing error in 16 million goes unseen here, and is seen when nothing opens.
const CHECKSUM: usize = 3;
/// The salt of the extraction: it tells our keys' uses from any other program's.
const SALT: &[u8] = b"membridge seal 1";
/// A key file holds the key and those before it, a line each; nothing near this.
const FILE_LIMIT: u64 = 64 * 1024;

/// What is wrong with a key or its file. No message holds any part of a key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Not the text of a key.
    #[error("that is no key: a key begins with {PREFIX} and has 63 characters")]
    NotAKey,
    /// A character is wrong.
    #[error("the key's checksum does not fit: a character is wrong")]
    Checksum,
    /// A line of the file is no key.
    #[error("line {line} of {} is no key", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
    },
    /// No key in the file.
    #[error("{} holds no key", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// Other users can read it.
    #[error("{} can be read by other users of this machine", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
    },
    /// The disk.
    #[error("cannot read or write {}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
}

/// The public name of a key: it stands in every sealed object. 16 bytes; text is 32 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyId(pub [u8; 16]);

impl KeyId {
    /// 32 hex digits as an id.
    pub fn parse(text: &str) -> Option<Self> {
        let digits: &[u8; 32] = text.as_bytes().try_into().ok()?;
        let mut id = [0; 16];
        for (byte, [high, low]) in id.iter_mut().zip(digits.as_chunks::<2>().0) {
            let digit = |c: u8| char::from(c).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            *byte = (digit(*high)? << 4) | digit(*low)?;
        }
        Some(Self(id))
    }
}

impl std::fmt::Display for KeyId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

/// A fleet's key.
#[derive(Clone, PartialEq, Eq)]
pub struct MasterKey([u8; 32]);

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MasterKey({})", self.id())
    }
}

impl MasterKey {
    /// From 32 random bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// From its text. Space around it and upper case do not matter.
    ///
    /// # Errors
    /// The text is no key, or not one that was ever written.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let text = text.trim().to_ascii_lowercase();
        let digits = text.strip_prefix(PREFIX).ok_or(KeyError::NotAKey)?;
        let bytes = base32::decode(digits).ok_or(KeyError::NotAKey)?;
        let (key, checksum) = bytes.split_first_chunk::<32>().ok_or(KeyError::NotAKey)?;
        if checksum.len() != CHECKSUM {
            return Err(KeyError::NotAKey);
        }
        if checksum == checksum_of(key) { Ok(Self(*key)) } else { Err(KeyError::Checksum) }
    }

    /// Its text: a secret. For the key file, and for whoever asked to see the key.
    pub fn reveal(&self) -> String {
        let mut bytes = self.0.to_vec();
        bytes.extend_from_slice(&checksum_of(&self.0));
        format!("{PREFIX}{}", base32::encode(&bytes))
    }

    /// The bytes themselves, for whoever wraps them.
    pub(super) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Its public name.
    pub fn id(&self) -> KeyId {
        let [id @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = self.subkey("key-id");
        KeyId(id)
    }

    /// The key for one use: HKDF-SHA256 (RFC 5869) with our salt and the label as info.
    pub(super) fn subkey(&self, label: &str) -> [u8; 32] {
        derive(SALT, &self.0, label.as_bytes())
    }
}

/// 32 bytes of HKDF-SHA256.
pub(super) fn derive(salt: &[u8], key: &[u8], info: &[u8]) -> [u8; 32] {
    let mut derived = [0; 32];
    let info = [info];
    let filled = hkdf::Salt::new(hkdf::HKDF_SHA256, salt)
        .extract(key)
        .expand(&info, hkdf::HKDF_SHA256)
        .and_then(|okm| okm.fill(&mut derived));
    debug_assert!(filled.is_ok(), "32 bytes are what one round gives");
    derived
}

fn checksum_of(key: &[u8; 32]) -> [u8; CHECKSUM] {
    let mut hash = digest::Context::new(&digest::SHA256);
    hash.update(PREFIX.as_bytes());
    hash.update(key);
    let mut checksum = [0; CHECKSUM];
    for (to, from) in checksum.iter_mut().zip(hash.finish().as_ref()) {
        *to = *from;
    }
    checksum
}

/// The keys of a machine: the one for new objects, and older ones that only open.
#[derive(Debug, Clone)]
pub struct Keyring {
    current: MasterKey,
    older: Vec<MasterKey>,
}

impl Keyring {
    /// With one key.
    pub fn new(current: MasterKey) -> Self {
        Self { current, older: Vec::new() }
    }

    /// The key for new objects.
    pub fn current(&self) -> &MasterKey {
        &self.current
    }

    /// The key with this id.
    pub fn find(&self, id: KeyId) -> Option<&MasterKey> {
        self.all().find(|key| key.id() == id)
    }

    /// All of them, the current one first.
    pub fn all(&self) -> impl Iterator<Item = &MasterKey> {
        std::iter::once(&self.current).chain(&self.older)
    }

    /// From here on `key` is the current one; the others stay to open what they sealed.
    #[must_use]
    pub fn led_by(self, key: MasterKey) -> Self {
        let older = self.all().filter(|known| **known != key).cloned().collect();
        Self { current: key, older }
    }

    /// With older keys behind those that are there.
    #[must_use]
    pub fn over(mut self, older: impl IntoIterator<Item = MasterKey>) -> Self {
        for key in older {
            if self.all().all(|known| *known != key) {
                self.older.push(key);
            }
        }
        self
    }

    /// Reads a key file; `None` when there is none.
    ///
    /// # Errors
    /// It cannot be read, others can read it, or a line is no key. A line of a wrong key is an error: going on without
    /// it would make things unreadable. From then on this process leaves no core.
    pub fn read(path: &Path) -> Result<Option<Self>, KeyError> {
        let fail = |error| KeyError::Io { path: path.to_owned(), error };
        let file = match std::fs::File::open(path) {
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            file => file.map_err(fail)?,
        };
        if file.metadata().map_err(fail)?.permissions().mode() & 0o077 != 0 {
            return Err(KeyError::Exposed { path: path.to_owned() });
        }
        leave_no_core();
        let mut text = String::new();
        file.take(FILE_LIMIT).read_to_string(&mut text).map_err(fail)?;
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let mut keys = Vec::new();
        for (at, line) in lines {
            let wrong = |_| KeyError::Line { path: path.to_owned(), line: at + 1 };
            keys.push(MasterKey::parse(line).map_err(wrong)?);
        }
        let mut keys = keys.into_iter();
        let current = keys.next().ok_or_else(|| KeyError::Empty { path: path.to_owned() })?;
        Ok(Some(Self { current, older: keys.collect() }))
    }

    /// Writes the key file: 0600, whole or not at all, synced.
    ///
    /// # Errors
    /// The disk's.
    pub fn write(&self, path: &Path) -> Result<(), KeyError> {
        leave_no_core();
        let lines: String = self.all().map(|key| key.reveal() + "\n").collect();
        write_private(path, lines.as_bytes()).map_err(|error| KeyError::Io { path: path.to_owned(), error })
    }
}

#[cfg(test)]
mod tests {
    use super::{KeyError, KeyId, Keyring, MasterKey};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_survives_its_text_and_a_wrong_text_is_told() {
        let key = MasterKey::new([7; 32]);
        let text = key.reveal();
        assert_eq!(text.len(), 63);
        assert_eq!(MasterKey::parse(&format!(" {}\n", text.to_uppercase())).unwrap(), key);
        for at in 7..text.len() {
            let mut wrong = text.clone().into_bytes();
            wrong[at] = if wrong[at] == b'a' { b'b' } else { b'a' };
            let wrong = String::from_utf8(wrong).unwrap();
            assert!(matches!(MasterKey::parse(&wrong), Err(KeyError::Checksum)), "{at}");
        }
        for wrong in
            ["", "mbkey1-", &text[..62], &format!("{text}a"), &text.replace("key1", "key2"), "mbkey1-é"]
        {
            assert!(matches!(MasterKey::parse(wrong), Err(KeyError::NotAKey)), "{wrong}");
        }
    }

    #[test]
    fn nothing_that_is_printed_holds_the_key() {
        let key = MasterKey::new([7; 32]);
        let shown = format!("{key:?} {:?}", Keyring::new(key.clone()));
        assert!(!shown.contains("mbkey1-") && !shown.contains("7, 7") && !shown.contains("0707"), "{shown}");
        assert!(shown.contains(&key.id().to_string()));
        assert_eq!(KeyId::parse(&key.id().to_string()), Some(key.id()));
        assert_eq!((KeyId::parse("07"), KeyId::parse(&"+7".repeat(16))), (None, None));
    }

    #[test]
    fn a_key_file_is_private_and_keeps_older_keys() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fleet.key");
        assert!(Keyring::read(&path).unwrap().is_none());
        let (first, second) = (MasterKey::new([1; 32]), MasterKey::new([2; 32]));
        let ring = Keyring::new(first.clone()).led_by(second.clone());
        ring.write(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let ring = Keyring::read(&path).unwrap().unwrap();
        assert_eq!(ring.current(), &second);
        assert_eq!(ring.find(first.id()), Some(&first));
        // A key that leads again stands once.
        assert_eq!(ring.led_by(first).all().count(), 2);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(Keyring::read(&path), Err(KeyError::Exposed { .. })));
        for (text, wrong) in [("\n", "holds no key"), ("mbkey1-x\n", "line 1")] {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            assert!(Keyring::read(&path).unwrap_err().to_string().contains(wrong));
        }
    }
}
