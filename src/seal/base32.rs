//! Base32 (RFC 4648, lower case, no padding): a key as people type it. Pure.

const DIGITS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// The text of some bytes, whose number must be a multiple of five for a whole number of digits.
pub(super) fn encode(bytes: &[u8]) -> String {
    let digits = bytes.chunks(5).flat_map(|five| {
        let number = five.iter().fold(0_u64, |number, byte| (number << 8) | u64::from(*byte));
        (0..8).rev().map(move |at| {
            let digit = usize::try_from((number >> (5 * at)) & 31).unwrap_or(0);
            char::from(DIGITS.get(digit).copied().unwrap_or(b'?'))
        })
    });
    digits.collect()
}

/// The bytes of a text; upper case is as good. `None` for any other character, or another length than whole groups have.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    let (groups, rest) = text.as_bytes().as_chunks::<8>();
    if !rest.is_empty() {
        return None;
    }
    let mut bytes = Vec::with_capacity(groups.len() * 5);
    for group in groups {
        let mut number = 0_u64;
        for digit in group {
            let value = DIGITS.iter().position(|known| *known == digit.to_ascii_lowercase())?;
            number = (number << 5) | u64::try_from(value).ok()?;
        }
        let [_, _, _, five @ ..] = number.to_be_bytes();
        bytes.extend_from_slice(&five);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::{decode, encode};

    #[test]
    fn texts_are_those_of_the_standard() {
        // RFC 4648, section 10, the group that needs no padding; and all digits.
        assert_eq!(encode(b"fooba"), "mzxw6ytb");
        assert_eq!(decode("MZXW6YTB").unwrap(), b"fooba");
        let all = "abcdefghijklmnopqrstuvwxyz234567";
        assert_eq!(encode(&decode(all).unwrap()), all);
        for wrong in ["mzxw6yt", "mzxw6yt1", "mzxw6yt=", "mzxw6yt\u{e9}"] {
            assert_eq!(decode(wrong), None, "{wrong}");
        }
    }
}
