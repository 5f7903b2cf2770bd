//! The JSON records in the bucket: their fields in the order that the Python script writes them, ours behind.
//! Reading is strict about what decisions rest on and lenient about the rest; unknown fields survive a rewrite.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{StoreError, StoreErrorKind};

/// The only leadership policy there is.
pub const POLICY: &str = "primary_authoritative";

/// `locks/active.lock`. Python reads `hostname` and `timestamp` only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LockRecord {
    /// Host name of the holder (not its node id).
    pub hostname: String,
    /// When it was taken or renewed, seconds since 1970; 0 once it is released, which Python reads as stale.
    #[serde(deserialize_with = "whole_seconds")]
    pub timestamp: i64,
    /// Project name.
    #[serde(default, deserialize_with = "or_nothing")]
    pub project: String,
    /// Canonical project id.
    #[serde(default, deserialize_with = "or_nothing")]
    pub canonical_id: String,
    /// Random token of the holder; absent in locks that Python wrote.
    #[serde(default, deserialize_with = "or_nothing", skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Node id of the holder.
    #[serde(default, deserialize_with = "or_nothing", skip_serializing_if = "Option::is_none")]
    pub node_id: Option<String>,
    /// Process id of the holder on its host.
    #[serde(default, deserialize_with = "or_nothing", skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// When it expires, seconds since 1970.
    #[serde(default, deserialize_with = "or_nothing", skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<i64>,
    /// `held` or `released`.
    #[serde(default, deserialize_with = "or_nothing", skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Counts renewals, so that each write of the record has bytes of its own.
    #[serde(default, deserialize_with = "or_nothing", skip_serializing_if = "Option::is_none")]
    pub renewals: Option<u64>,
}

impl LockRecord {
    /// The machine part of our owner token (`machine-random`); `None` for a lock that Python wrote.
    pub fn machine(&self) -> Option<&str> {
        self.owner.as_deref().map(|owner| owner.split_once('-').map_or(owner, |(machine, _)| machine))
    }
}

/// `leadership/lease.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LeaseRecord {
    /// Canonical project id.
    #[serde(default)]
    pub canonical_id: String,
    /// Who is primary.
    pub primary_node_id: String,
    /// Seconds since 1970.
    #[serde(deserialize_with = "whole_seconds")]
    pub issued_at: i64,
    /// Seconds since 1970.
    #[serde(deserialize_with = "whole_seconds")]
    pub expires_at: i64,
    /// Lifetime, seconds.
    #[serde(deserialize_with = "whole_seconds")]
    pub lease_seconds: i64,
    /// Grows with each term: the fencing token of pushes (F24).
    #[serde(deserialize_with = "whole_seconds")]
    pub epoch: i64,
    /// See [`POLICY`].
    #[serde(default)]
    pub policy: String,
    /// Node that wrote the lease.
    #[serde(default)]
    pub issued_by: String,
    /// True while nobody has chosen the primary; written only when true.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub needs_ui_selection: bool,
    /// Random token of this write, so that its bytes are its writer's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
}

impl LeaseRecord {
    /// The primary as people read it: a demotion without a successor leaves nobody.
    pub fn primary_label(&self) -> &str {
        match self.primary_node_id.as_str() {
            "" => "nobody",
            name => name,
        }
    }
}

/// `leadership/audit/….json`: the lease, then what happened to it.
#[derive(Debug, Clone, Serialize)]
pub struct AuditRecord<'a> {
    /// The lease as written.
    #[serde(flatten)]
    pub lease: &'a LeaseRecord,
    /// `lease_written`.
    pub event: &'static str,
    /// ISO time.
    pub timestamp: String,
    /// Why: `created`, `renewed`, `taken_over`, `promoted`, `demoted`.
    pub reason: &'a str,
}

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
fn whole_seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    let number = serde_json::Number::deserialize(deserializer)?;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a saturating cast is what a nonsensical time deserves"
    )]
    number
        .as_i64()
        .or_else(|| number.as_f64().map(|seconds| seconds as i64))
        .ok_or_else(|| serde::de::Error::custom(format!("{number} is not a number of seconds")))
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
    use super::{LeaseRecord, LockRecord, iso, to_bytes};

    #[test]
    fn a_python_lock_is_read_and_ours_keeps_its_order() {
        let python =
            br#"{"hostname": "pi", "timestamp": 1700000000, "project": "mem", "canonical_id": "6f"}"#;
        let record: LockRecord = serde_json::from_slice(python).unwrap();
        assert_eq!(
            (record.hostname.as_str(), record.timestamp, record.owner.clone()),
            ("pi", 1_700_000_000, None)
        );
        let text = String::from_utf8(to_bytes(&record).unwrap()).unwrap();
        let expected = "{\n  \"hostname\": \"pi\",\n  \"timestamp\": 1700000000,\n  \"project\": \"mem\",\n  \"canonical_id\": \"6f\"\n}";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_lock_is_its_host_and_its_time_whatever_else_it_holds() {
        for other in [
            r#""project": null"#,
            r#""project": 7, "canonical_id": []"#,
            r#""pid": -1"#,
            r#""pid": "12""#,
            r#""owner": 5"#,
            r#""owner": null, "state": false, "node_id": {}"#,
            r#""expires_at": "later", "renewals": -3"#,
            r#""expires_at": 1e300"#,
        ] {
            let text = format!(r#"{{"hostname": "pi", "timestamp": 1700000000, {other}}}"#);
            let record: LockRecord = serde_json::from_str(&text).unwrap();
            assert_eq!((record.hostname.as_str(), record.timestamp), ("pi", 1_700_000_000), "{text}");
            assert_eq!((record.owner, record.pid, record.expires_at), (None, None, None), "{text}");
        }
        for text in [
            r#"{"hostname": 7, "timestamp": 1}"#,
            r#"{"hostname": "pi", "timestamp": null}"#,
            r#"{"timestamp": 1}"#,
        ] {
            assert!(serde_json::from_str::<LockRecord>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn garbage_leases_are_not_leases() {
        for text in
            ["{}", "[1,2]", "null", "7", "{\"primary_node_id\": \"a\"", "{\"primary_node_id\": 7}", ""]
        {
            assert!(serde_json::from_str::<LeaseRecord>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_are_written_as_python_does() {
        let at = jiff::Timestamp::from_second(1_767_323_045).unwrap();
        assert_eq!(iso(at), "2026-01-02T03:04:05+00:00");
    }
}
