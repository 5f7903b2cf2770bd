//! The lease as it lies in the bucket, and the records of its writing. Strict about what decisions rest on and lenient about
//! the rest.

use serde::{Deserialize, Serialize};

use crate::config::MAX_SECONDS;
use crate::storage::records::{counted, whole_seconds};

/// The only leadership policy there is.
pub const POLICY: &str = "primary_authoritative";

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
    #[serde(deserialize_with = "counted")]
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

/// A lease whose time is so far ahead of the store's (seconds) is not of this time.
const AHEAD: i64 = 60;

impl LeaseRecord {
    /// Whether it was issued at a time that is still to come.
    pub fn is_ahead(&self, now: i64) -> bool {
        self.issued_at.saturating_sub(now) > AHEAD
    }

    /// The lease with an end that can be true: no term is longer than any setting allows, and one that was issued in the
    /// future began when the store first saw it (`stored`, seconds since 1970), where the store says when.
    #[must_use]
    pub fn in_time(mut self, now: i64, stored: Option<i64>) -> Self {
        let began = match stored {
            Some(stored) if self.is_ahead(now) => stored.min(now),
            _ => self.issued_at,
        };
        let longest =
            if began == self.issued_at { MAX_SECONDS } else { self.lease_seconds.clamp(0, MAX_SECONDS) };
        self.expires_at = self.expires_at.min(began.saturating_add(longest));
        self
    }

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

#[cfg(test)]
mod tests {
    use super::LeaseRecord;

    #[test]
    fn garbage_leases_are_not_leases() {
        for text in
            ["{}", "[1,2]", "null", "7", "{\"primary_node_id\": \"a\"", "{\"primary_node_id\": 7}", ""]
        {
            assert!(serde_json::from_str::<LeaseRecord>(text).is_err(), "{text}");
        }
        let lease = |epoch: &str| {
            let text = format!(
                r#"{{"primary_node_id": "a", "issued_at": 1, "expires_at": 2, "lease_seconds": 1, "epoch": {epoch}}}"#
            );
            serde_json::from_str::<LeaseRecord>(&text).map(|lease| lease.epoch)
        };
        assert_eq!((lease("7").unwrap(), lease("9007199254740992").unwrap()), (7, 1 << 53));
        for epoch in ["9007199254740993", "9223372036854775807", "-9223372036854775808", "1e300"] {
            assert!(lease(epoch).is_err(), "{epoch} is no term that anything could follow");
        }
    }

    #[test]
    fn a_lease_ends_when_it_can_end() {
        const NOW: i64 = 1_000_000;
        // issued, expires, seconds, when the store got it → end
        let table = [
            (NOW - 10, NOW + 50, 60, None, NOW + 50),
            (NOW + 60, NOW + 120, 60, Some(NOW), NOW + 120),
            (NOW + 9000, NOW + 9060, 60, Some(NOW - 30), NOW + 30),
            (NOW + 9000, NOW + 9060, 60, Some(NOW - 300), NOW - 240),
            (i64::MAX, i64::MAX, 60, Some(NOW), NOW + 60),
            (i64::MAX, i64::MAX, i64::MAX, Some(NOW), NOW + super::MAX_SECONDS),
            (NOW - 10, i64::MAX, i64::MAX, None, NOW - 10 + super::MAX_SECONDS),
            // A store that does not say.
            (NOW + 9000, NOW + 9060, 60, None, NOW + 9060),
        ];
        for (issued_at, expires_at, lease_seconds, stored, end) in table {
            let text = r#"{"primary_node_id": "a", "issued_at": 1, "expires_at": 2, "lease_seconds": 1, "epoch": 1}"#;
            let lease = serde_json::from_str::<LeaseRecord>(text).unwrap();
            let lease = LeaseRecord { issued_at, expires_at, lease_seconds, ..lease };
            assert_eq!(lease.in_time(NOW, stored).expires_at, end, "{issued_at} {expires_at} {stored:?}");
        }
    }
}
