//! The lock as it lies in the bucket, in the fields and the order of the Python script, ours behind. Strict about what
//! decisions rest on and lenient about the rest.

use serde::{Deserialize, Serialize};

use crate::storage::records::{or_nothing, whole_seconds};

/// The lock as it was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Sight {
    /// What it says.
    pub record: LockRecord,
    /// When the store got it, seconds since 1970 by the store's clock; asked for only where the record's own time lies in
    /// the future.
    pub stored: Option<i64>,
}

impl Sight {
    /// Since when it is held. A time in the future is nobody's: then it counts from when the store first saw the record.
    pub fn since(&self, now: i64) -> i64 {
        match self.stored {
            Some(stored) if self.record.timestamp > now => stored.min(now),
            _ => self.record.timestamp,
        }
    }

    /// For how long it has been held, seconds.
    pub fn age(&self, now: i64) -> i64 {
        now.saturating_sub(self.since(now)).max(0)
    }
}

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

/// Who has it, when it is not ours any more.
pub(super) fn holder(record: Option<LockRecord>) -> String {
    match record {
        Some(record) if record.timestamp <= 0 => "it was taken over and released".to_owned(),
        Some(record) => format!("{} holds it now", record.hostname),
        None => "the lock object is gone".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::LockRecord;
    use crate::storage::records::to_bytes;

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
}
