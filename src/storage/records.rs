//! What the JSON records in the bucket have in common: how they are written, which of their fields nobody insists on, how
//! times look in them. Each record belongs to whom it speaks of.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{StoreError, StoreErrorKind};

/// The bytes of a record: two-space indent, as Python writes them.
///
/// # Errors
/// Never for our own types.
pub fn to_bytes<T: Serialize>(record: &T) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec_pretty(record).map_err(|error| {
        StoreError::new(StoreErrorKind::Local, "this machine", "write a record", error.to_string())
    })
}

/// A field on which no reader may insist: what is not of its type counts as not there.
///
/// # Errors
/// What is no JSON at all.
pub fn or_nothing<'de, D: Deserializer<'de>, T: DeserializeOwned + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    let value = Value::deserialize(deserializer)?;
    Ok(T::deserialize(value).unwrap_or_default())
}

/// Seconds since 1970 that are a number in JSON; fractions, which other writers may leave, are cut off.
///
/// # Errors
/// What is no number.
pub fn whole_seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    let number = serde_json::Number::deserialize(deserializer)?;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a saturating cast is what a nonsensical time deserves"
    )]
    number
        .as_i64()
        .or_else(|| number.as_f64().map(|seconds| seconds as i64))
        .ok_or_else(|| serde::de::Error::custom(format!("{number} is not a whole number")))
}

/// The largest number that a count of anything may have: above it, JSON readers of other languages count wrong.
pub const MOST: u64 = 1 << 53;

/// A number that grows by one, and must always be able to: what lies beyond [`MOST`] is refused.
///
/// # Errors
/// What is no such number.
pub fn counted<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    let number = whole_seconds(deserializer)?;
    if number.unsigned_abs() > MOST {
        return Err(serde::de::Error::custom(format!("{number} is beyond 2^53")));
    }
    Ok(number)
}

/// UTC with `+00:00`, as Python's `isoformat` writes it.
pub fn iso(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S+00:00").to_string()
}

/// `YYYYMMDDTHHMMSSZ`, for the names of audit records.
pub fn compact(at: Timestamp) -> String {
    at.strftime("%Y%m%dT%H%M%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::iso;

    #[test]
    fn times_are_written_as_python_does() {
        let at = jiff::Timestamp::from_second(1_767_323_045).unwrap();
        assert_eq!(iso(at), "2026-01-02T03:04:05+00:00");
    }
}
