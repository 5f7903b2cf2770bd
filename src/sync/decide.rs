//! What a push may do, found out as cheaply as possible: from the last-sync record and the content digests, and only
//! where these do not tell by fetching the bucket's database and comparing rows. The rule itself is in `plan`.

use super::plan::{self, Local, Push, Remote, Situation};
use super::record::{Base, RecordFile};
use super::session::Session;
use super::shot::Shot;
use super::{fetch, lineage, rows};
use crate::database::Facts;
use crate::database::compare::Comparison;
use crate::error::CommandResult;
use crate::python::Head;

/// The plan, and the comparison that it rests on, when one was needed.
pub(super) struct Decision {
    /// The plan.
    pub(super) plan: Push,
    /// Which rows only one side has.
    pub(super) comparison: Option<Comparison>,
}

/// Decides from the record, both digests and, where these do not tell, from the rows themselves.
pub(super) async fn decide(
    session: &Session,
    record: &RecordFile,
    shot: &Shot,
    head: Option<&Head>,
) -> CommandResult<Decision> {
    let base = record.record.base_for(head.and_then(Head::sha256));
    let mut situation = situation(session, base.as_ref(), &shot.facts, head).await?;
    let mut comparison = None;
    if plan::push(situation) == Push::Compare {
        session.ui.line(format!("      {}", rows::WHY));
        let image = match fetch::whatever_is_there(session, head).await {
            Ok(image) => image,
            Err(failure) if session.config.overrides.force_push => {
                session.ui.warn(format!("{failure}: overwritten, because FORCE_PUSH is set"));
                return Ok(Decision { plan: Push::Diverged, comparison: None });
            }
            Err(failure) => return Err(failure),
        };
        // An announcement of another database than the one that is there is mended by writing all three again (F21).
        let torn = matches!(head, Some(head @ Head::Foreign(_)) if head.manifest().is_none() || !head.is(&image.sha256));
        situation.same_content = !torn && image.facts.digest == shot.facts.digest;
        // By now the local database may have more rows than the shot: those wait for the next push.
        let rows = rows::compare(session, &image.path).await?;
        situation.relation = Some(rows.relation());
        comparison = Some(rows);
    }
    Ok(Decision { plan: plan::push(situation), comparison })
}

/// What changed since the record, on either side. Asks the bucket only where that decides.
pub(super) async fn situation(
    session: &Session,
    base: Option<&Base>,
    local: &Facts,
    head: Option<&Head>,
) -> CommandResult<Situation> {
    let grew = match (base, head) {
        (Some(base), Some(head)) if base.digest == local.digest && !head.is(&base.sha256) => {
            lineage::grew(&session.bucket, base, head).await?
        }
        _ => false,
    };
    Ok(since(base, local, head, grew))
}

/// The same from what is known; `grew`: see [`lineage`].
fn since(base: Option<&Base>, local: &Facts, head: Option<&Head>, grew: bool) -> Situation {
    Situation {
        local: match base {
            None => Local::Unknown,
            Some(base) if base.digest == local.digest => Local::Unchanged,
            Some(_) => Local::Changed,
        },
        remote: match (base, head) {
            (_, None) => Remote::Absent,
            (None, Some(_)) => Remote::Unknown,
            (Some(base), Some(head)) if head.is(&base.sha256) => Remote::Unchanged,
            (Some(_), Some(_)) if grew => Remote::Changed,
            (Some(_), Some(_)) => Remote::Replaced,
        },
        same_content: head.and_then(Head::digest) == Some(local.digest.as_str()),
        relation: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::Counts;
    use crate::python::announcements::Announced;

    fn facts(digest: &str) -> Facts {
        Facts {
            counts: Counts::default(),
            tables: Vec::new(),
            schema_version: None,
            digest: digest.to_owned(),
        }
    }

    #[test]
    fn a_head_that_did_not_grow_out_of_the_last_sync_is_another_one() {
        let base = Base {
            sha256: "aa".to_owned(),
            commit: Some(3),
            mirrored: false,
            digest: "d".to_owned(),
            counts: Counts::default(),
            fingerprint: None,
        };
        let head =
            |sha256: &str| Head::foreign(Some(Announced { sha256: sha256.to_owned(), manifest: None }), None);
        for (head, grew, remote) in [
            (None, false, Remote::Absent),
            (Some(head("aa")), false, Remote::Unchanged),
            (Some(head("bb")), true, Remote::Changed),
            (Some(head("bb")), false, Remote::Replaced),
        ] {
            let got = since(Some(&base), &facts("d"), head.as_ref(), grew);
            assert_eq!((got.local, got.remote), (Local::Unchanged, remote), "{head:?}");
        }
        let unknown = since(None, &facts("d"), Some(&head("bb")), false);
        assert_eq!((unknown.local, unknown.remote), (Local::Unknown, Remote::Unknown));
    }
}
