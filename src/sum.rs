//! A SHA-256: of an object, of an image, of a memory. Knows bytes and hex digits; not what they are of.

use std::fmt;
use std::io::{self, Read};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::context::hex;

/// A SHA-256. As text and in JSON it is 64 lower-case hex digits, which is also what makes it safe as a part of a key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sum([u8; 32]);

impl Sum {
    /// Of these bytes.
    pub fn of(bytes: impl AsRef<[u8]>) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Of what went through a hasher.
    pub fn end(hasher: Sha256) -> Self {
        Self(hasher.finalize().into())
    }

    /// Of everything that a reader gives, 64 KiB at a time.
    ///
    /// # Errors
    /// The reader's.
    pub fn of_all(mut from: impl Read) -> io::Result<Self> {
        let (mut hasher, mut buffer) = (Sha256::new(), vec![0; 64 * 1024]);
        loop {
            match from.read(&mut buffer) {
                Ok(0) => return Ok(Self::end(hasher)),
                Ok(count) => hasher.update(buffer.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// As it lies in a binary format.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first twelve digits, as people compare them.
    pub fn short(&self) -> String {
        hex(self.0.get(..6).unwrap_or_default())
    }
}

impl From<[u8; 32]> for Sum {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// It is not 64 lower-case hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a checksum is not 64 lower-case hex digits")]
pub struct NotASum;

impl FromStr for Sum {
    type Err = NotASum;

    fn from_str(text: &str) -> Result<Self, NotASum> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Ok(byte - b'0'),
            b'a'..=b'f' => Ok(byte - b'a' + 10),
            _ => Err(NotASum),
        };
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        if pairs.len() != 32 || !rest.is_empty() {
            return Err(NotASum);
        }
        let mut bytes = [0; 32];
        for (byte, &[high, low]) in bytes.iter_mut().zip(pairs) {
            *byte = digit(high)? << 4 | digit(low)?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Sum {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Sum {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::{NotASum, Sum};

    #[test]
    fn a_sum_is_64_lower_case_hex_digits_and_nothing_else() {
        let digits = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let sum = Sum::of("");
        assert_eq!(Sum::of_all(&b""[..]).unwrap(), sum);
        let long = vec![7; 200_000];
        assert_eq!(Sum::of_all(&long[..]).unwrap(), Sum::of(&long));
        assert_eq!((sum.to_string(), sum.short()), (digits.to_owned(), digits[..12].to_owned()));
        assert_eq!(digits.parse(), Ok(sum));
        assert_eq!(serde_json::to_string(&sum).unwrap(), format!("\"{digits}\""));
        assert_eq!(serde_json::from_str::<Sum>(&format!("\"{digits}\"")).unwrap(), sum);
        let (short, long) = (&digits[..63], format!("{digits}0"));
        let upper = digits.to_uppercase();
        let signed = format!("+{short}");
        for text in
            ["", short, &long, &upper, &signed, &format!("{short}g"), &format!("{}сад", &digits[..58])]
        {
            assert_eq!(text.parse::<Sum>(), Err(NotASum), "{text}");
        }
    }
}
