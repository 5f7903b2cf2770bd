//! Who is primary, and what to write about it, if anything: a pure function of the lease, our configuration and
//! the time (the rules that Python nodes follow too, tests/it/contract.rs; F01, F24 of docs/failures.md).

use super::record::LeaseRecord;

/// What this node may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Pushes.
    Primary,
    /// Pulls.
    Secondary,
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Primary => "primary",
            Self::Secondary => "secondary",
        })
    }
}

/// A lease that should be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTerm {
    /// For the audit record.
    pub reason: &'static str,
    /// Who is primary.
    pub primary: String,
    /// Same for a renewal in time, one more for a new term.
    pub epoch: i64,
    /// Nobody has chosen this primary.
    pub needs_ui_selection: bool,
    /// How long, where that differs from the setting.
    pub seconds: Option<i64>,
}

/// Role now, and the write that should come first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The role as the lease stands.
    pub role: Role,
    /// What to write; when the write is won, `role` holds for the new term.
    pub write: Option<NewTerm>,
}

/// Decides. `now` is the store's time, seconds since 1970.
pub fn decide(lease: Option<&LeaseRecord>, node: &str, configured: Option<&str>, now: i64) -> Decision {
    let Some(lease) = lease else {
        let primary = configured.unwrap_or(node);
        return Decision {
            role: role(primary == node),
            write: Some(NewTerm {
                reason: "created",
                primary: primary.to_owned(),
                epoch: 1,
                needs_ui_selection: configured.is_none(),
                seconds: None,
            }),
        };
    };
    let named = lease.primary_node_id == node;
    let renewal = |reason, epoch| NewTerm {
        reason,
        primary: node.to_owned(),
        epoch,
        needs_ui_selection: lease.needs_ui_selection && configured != Some(node),
        seconds: None,
    };
    if now < lease.expires_at {
        let half_gone = lease.expires_at.saturating_sub(now) <= lease.lease_seconds / 2;
        let write = (named && half_gone).then(|| renewal("renewed", lease.epoch));
        return Decision { role: role(named), write };
    }
    let next = lease.epoch.saturating_add(1);
    let write = match configured {
        Some(primary) if primary == node => {
            Some(renewal(if named { "renewed after expiry" } else { "taken over by configuration" }, next))
        }
        // The node that the lease names renews it, also after it expired (F01) …
        None if named => Some(renewal("renewed after expiry", next)),
        // … unless its own configuration says that somebody else should be primary.
        _ => None,
    };
    Decision { role: role(write.is_some()), write }
}

fn role(primary: bool) -> Role {
    if primary { Role::Primary } else { Role::Secondary }
}

#[cfg(test)]
mod tests {
    use super::super::record::LeaseRecord;
    use super::{Decision, NewTerm, Role, decide};

    const NOW: i64 = 1_000_000;

    fn lease(primary: &str, expires_in: i64, needs_ui: bool) -> LeaseRecord {
        LeaseRecord {
            canonical_id: "c".to_owned(),
            primary_node_id: primary.to_owned(),
            issued_at: NOW + expires_in - 3600,
            expires_at: NOW + expires_in,
            lease_seconds: 3600,
            epoch: 7,
            policy: "primary_authoritative".to_owned(),
            issued_by: primary.to_owned(),
            needs_ui_selection: needs_ui,
            nonce: None,
        }
    }

    #[expect(clippy::unnecessary_wraps, reason = "it is compared with one")]
    fn term(reason: &'static str, primary: &str, epoch: i64, needs_ui_selection: bool) -> Option<NewTerm> {
        Some(NewTerm { reason, primary: primary.to_owned(), epoch, needs_ui_selection, seconds: None })
    }

    #[test]
    fn every_case_of_the_role() {
        use Role::{Primary, Secondary};
        let table = [
            ("absent, nothing configured", None, None, Primary, term("created", "me", 1, true)),
            ("absent, we are configured", None, Some("me"), Primary, term("created", "me", 1, false)),
            ("absent, another is configured", None, Some("you"), Secondary, term("created", "you", 1, false)),
            ("valid, ours, fresh", Some(lease("me", 3000, false)), None, Primary, None),
            (
                "valid, ours, half gone",
                Some(lease("me", 1800, false)),
                None,
                Primary,
                term("renewed", "me", 7, false),
            ),
            (
                "valid, ours, half gone, unchosen",
                Some(lease("me", 10, true)),
                None,
                Primary,
                term("renewed", "me", 7, true),
            ),
            (
                "valid, ours, chosen by configuration",
                Some(lease("me", 10, true)),
                Some("me"),
                Primary,
                term("renewed", "me", 7, false),
            ),
            ("valid, theirs", Some(lease("you", 10, false)), None, Secondary, None),
            ("valid, theirs, we are configured", Some(lease("you", 10, false)), Some("me"), Secondary, None),
            (
                "at the second of expiry, ours",
                Some(lease("me", 0, false)),
                None,
                Primary,
                term("renewed after expiry", "me", 8, false),
            ),
            (
                "expired, ours",
                Some(lease("me", -9000, true)),
                None,
                Primary,
                term("renewed after expiry", "me", 8, true),
            ),
            (
                "expired, ours, configured",
                Some(lease("me", -1, false)),
                Some("me"),
                Primary,
                term("renewed after expiry", "me", 8, false),
            ),
            (
                "expired, ours, another is configured",
                Some(lease("me", -1, false)),
                Some("you"),
                Secondary,
                None,
            ),
            ("expired, theirs", Some(lease("you", -1, false)), None, Secondary, None),
            (
                "expired, theirs, we are configured",
                Some(lease("you", -1, false)),
                Some("me"),
                Primary,
                term("taken over by configuration", "me", 8, false),
            ),
            (
                "expired, theirs, they are configured",
                Some(lease("you", -1, false)),
                Some("you"),
                Secondary,
                None,
            ),
        ];
        for (name, lease, configured, role, write) in table {
            assert_eq!(decide(lease.as_ref(), "me", configured, NOW), Decision { role, write }, "{name}");
        }
    }
}
