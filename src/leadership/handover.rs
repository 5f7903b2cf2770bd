//! Handing the lease over on a person's word, at any time: `promote` and `demote`. What the new term looks like is
//! pure; it is written as every lease is, by compare-and-swap and with an audit record.

use super::decide::NewTerm;
use super::record::LeaseRecord;
use super::{Leadership, LeadershipError};
use crate::storage::Etag;

/// What `promote` was asked for.
#[derive(Debug, Clone)]
pub struct Promotion {
    /// Who becomes primary.
    pub node: String,
    /// For how long; the setting's, where not given.
    pub seconds: Option<i64>,
    /// Also over a lease that cannot be read.
    pub force: bool,
    /// Only over the term that the person saw: its epoch, 0 for none.
    pub over: Option<i64>,
}

/// A hand-over that was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Handed {
    /// The lease before.
    pub before: Option<LeaseRecord>,
    /// The lease now.
    pub now: LeaseRecord,
}

impl Leadership<'_> {
    /// Makes a node primary, whoever is it now: epoch + 1, chosen by a person.
    ///
    /// # Errors
    /// See [`LeadershipError`].
    pub async fn promote(&self, promotion: &Promotion) -> Result<Handed, LeadershipError> {
        self.hand_over(promotion.force, |lease| promoted(lease, promotion)).await
    }

    /// Takes the lease from whoever has it: `to` becomes primary, or, without it, nobody, until the node that is
    /// configured as primary comes or a node is promoted.
    ///
    /// # Errors
    /// See [`LeadershipError`]; [`LeadershipError::Senseless`] when nothing would change by it.
    pub async fn demote(&self, to: Option<&str>) -> Result<Handed, LeadershipError> {
        self.hand_over(false, |lease| {
            demoted(lease, to, &self.node.id, self.config.primary.as_deref())
                .map_err(LeadershipError::Senseless)
        })
        .await
    }

    async fn hand_over(
        &self,
        force: bool,
        decide: impl Fn(Option<&LeaseRecord>) -> Result<NewTerm, LeadershipError>,
    ) -> Result<Handed, LeadershipError> {
        const ATTEMPTS: u32 = 4;
        for _ in 0..ATTEMPTS {
            let (before, etag) = self.read_to_replace(force).await?;
            let term = decide(before.as_ref())?;
            let term = self.full(&term, before.as_ref()).await?;
            if let Some(now) = self.write(&term, etag.as_ref()).await? {
                return Ok(Handed { before, now });
            }
        }
        Err(LeadershipError::Contended(ATTEMPTS))
    }

    async fn read_to_replace(
        &self,
        force: bool,
    ) -> Result<(Option<LeaseRecord>, Option<Etag>), LeadershipError> {
        if self.bucket.seal.is_on() {
            return Ok(super::find(self.bucket).await?);
        }
        Ok(match self.bucket.look(&self.bucket.keys.lease()).await? {
            None => (None, None),
            Some((Ok(lease), etag)) => (Some(lease), Some(etag)),
            // Only content that was read is stepped over: a lease that could not be had may be a valid one.
            Some((Err(_), etag)) if force => (None, Some(etag)),
            Some((Err(error), _)) => return Err(error.into()),
        })
    }
}

fn next_epoch(lease: Option<&LeaseRecord>) -> i64 {
    lease.map_or(0, |lease| lease.epoch).saturating_add(1)
}

fn promoted(lease: Option<&LeaseRecord>, promotion: &Promotion) -> Result<NewTerm, LeadershipError> {
    let epoch = lease.map_or(0, |lease| lease.epoch);
    if promotion.over.is_some_and(|seen| seen != epoch) {
        let primary = lease.map_or("nobody", |lease| lease.primary_label()).to_owned();
        return Err(LeadershipError::Overtaken { primary, epoch });
    }
    Ok(NewTerm {
        reason: "promoted",
        primary: promotion.node.clone(),
        epoch: next_epoch(lease),
        needs_ui_selection: false,
        seconds: promotion.seconds,
    })
}

fn demoted(
    lease: Option<&LeaseRecord>,
    to: Option<&str>,
    node: &str,
    configured: Option<&str>,
) -> Result<NewTerm, String> {
    let Some(lease) = lease else {
        return Err("there is no lease, so nobody can be demoted".to_owned());
    };
    let current = lease.primary_node_id.as_str();
    match to {
        Some(to) if to == current => Err(format!(
            "{to} is primary now; name the node that should be primary instead: membridge demote NODE"
        )),
        Some(to) => Ok(NewTerm {
            reason: "demoted",
            primary: to.to_owned(),
            epoch: next_epoch(Some(lease)),
            needs_ui_selection: false,
            seconds: None,
        }),
        None if current.is_empty() => {
            Err("nobody is primary; make a node primary: membridge promote NODE".to_owned())
        }
        // It would take the lease back with its next command.
        None if current == node && configured == Some(node) => Err(format!(
            "PRIMARY_NODE_ID of this machine names this node ({node}); name another node: membridge demote NODE"
        )),
        None => Ok(NewTerm {
            reason: "demoted",
            // A node that the lease names renews it also after expiry (F01); a name that no node has cannot.
            primary: String::new(),
            epoch: next_epoch(Some(lease)),
            needs_ui_selection: false,
            seconds: Some(0),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::{LeaseRecord, Promotion, demoted, promoted};

    fn lease(primary: &str) -> LeaseRecord {
        LeaseRecord {
            canonical_id: "c".to_owned(),
            primary_node_id: primary.to_owned(),
            issued_at: 0,
            expires_at: 3600,
            lease_seconds: 3600,
            epoch: 7,
            policy: String::new(),
            issued_by: String::new(),
            needs_ui_selection: true,
            nonce: None,
        }
    }

    #[test]
    fn a_choice_goes_only_over_the_term_that_the_person_saw() {
        let table = [
            (Some(lease("a")), None, Some(8)),
            (Some(lease("a")), Some(7), Some(8)),
            (Some(lease("a")), Some(6), None),
            (None, Some(0), Some(1)),
            (None, Some(7), None),
        ];
        for (lease, over, expected) in table {
            let promotion = Promotion { node: "b".to_owned(), seconds: None, force: false, over };
            let epoch = promoted(lease.as_ref(), &promotion).ok().map(|term| term.epoch);
            assert_eq!(epoch, expected, "{lease:?} over {over:?}");
        }
    }

    #[test]
    fn who_is_primary_after_a_demotion() {
        // lease names, demote to, we are, configured → primary and lifetime, or refused
        let table = [
            ("a", Some("b"), "a", None, Some(("b", None))),
            ("a", Some("b"), "c", Some("a"), Some(("b", None))),
            ("a", Some("a"), "a", None, None),
            ("a", None, "a", None, Some(("", Some(0)))),
            ("a", None, "b", Some("b"), Some(("", Some(0)))),
            ("a", None, "a", Some("a"), None),
            ("", None, "a", None, None),
            ("", Some("b"), "a", None, Some(("b", None))),
        ];
        for (names, to, node, configured, expected) in table {
            let term = demoted(Some(&lease(names)), to, node, configured).ok();
            let got = term.as_ref().map(|term| (term.primary.as_str(), term.seconds));
            assert_eq!(got, expected, "{names} → {to:?} on {node}");
            if let Some(term) = term {
                assert_eq!((term.epoch, term.needs_ui_selection), (8, false));
            }
        }
        assert!(demoted(None, Some("b"), "a", None).is_err());
    }
}
