//! What a push may do, found out as cheaply as possible: from the last-sync record and the content digests, and only
//! where these do not tell by fetching the bucket's database and comparing rows. The rule itself is in `plan`.

use super::fetch;
use super::plan::{self, Local, Push, Remote, Situation};
use super::record::{Base, RecordFile};
use super::remote::Head;
use super::session::Session;
use super::shot::Shot;
use crate::database::compare::{self, Comparison};
use crate::database::{self, Facts, files};
use crate::error::CommandResult;

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
    let base = record.record.base_for(head.map(|head| head.sha256.as_str()));
    let mut situation = situation(base.as_ref(), &shot.facts, head);
    let mut comparison = None;
    if plan::push(situation) == Push::Compare {
        session
            .ui
            .line("      no common history: the bucket's database is fetched once and compared row by row");
        let image = match fetch::whatever_is_there(session, head).await {
            Ok(image) => image,
            Err(failure) if session.config.overrides.force_push => {
                session
                    .ui
                    .warn(format!("{failure}: overwritten, because FORCE_PUSH is set"));
                return Ok(Decision {
                    plan: Push::Diverged,
                    comparison: None,
                });
            }
            Err(failure) => return Err(failure),
        };
        // An announcement of another database than the one that is there is mended by writing all three again (F21).
        let torn = head.is_some_and(|head| head.manifest.is_none() || head.sha256 != image.sha256);
        situation.same_content = !torn && image.facts.digest == shot.facts.digest;
        // By now the local database may have more rows than the shot: what counts is what the shot was taken of.
        let (local, folder) = (session.database.clone(), session.config.paths.tmp());
        let rows = database::blocking(move || {
            let scratch = files::temporary(&folder, "compare")?;
            compare::compare(&local, &image.path, &scratch)
        })
        .await?;
        situation.relation = Some(rows.relation());
        comparison = Some(rows);
    }
    Ok(Decision {
        plan: plan::push(situation),
        comparison,
    })
}

/// What changed since the record, on either side.
pub(super) fn situation(base: Option<&Base>, local: &Facts, head: Option<&Head>) -> Situation {
    Situation {
        local: match base {
            None => Local::Unknown,
            Some(base) if base.digest == local.digest => Local::Unchanged,
            Some(_) => Local::Changed,
        },
        remote: match (base, head) {
            (_, None) => Remote::Absent,
            (None, Some(_)) => Remote::Unknown,
            (Some(base), Some(head)) if base.sha256 == head.sha256 => Remote::Unchanged,
            (Some(_), Some(_)) => Remote::Changed,
        },
        same_content: head.and_then(Head::digest) == Some(local.digest.as_str()),
        relation: None,
    }
}
