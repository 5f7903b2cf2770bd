//! What a push says when it does not push. Words and hints only.

use super::plan::Push;
use super::rows;
use super::session::Session;
use crate::database::Counts;
use crate::database::compare::Comparison;
use crate::error::Failure;
use crate::exit::ExitCode;
use crate::history::Commit;
use crate::python::Head;

/// The decision, as the report says it.
pub(super) fn describe(plan: Push) -> &'static str {
    match plan {
        Push::NoDatabase => "there is no database here",
        Push::UpToDate => "both sides are the same",
        Push::Upload => "the bucket lacks what is here: upload",
        Push::NothingOfOurs => "the bucket is ahead and nothing is new here",
        Push::Diverged => "both sides have memories that the other lacks",
        Push::Compare => "not known",
    }
}

/// Both sides have memories that the other lacks (exit 4).
pub(super) fn diverged(here: &Counts, head: &Head, comparison: Option<&Comparison>) -> Failure {
    let only = rows::only(comparison);
    let there = head.observations().map_or("an unknown number of".to_owned(), |count| count.to_string());
    Failure::with_exit(
        ExitCode::Diverged,
        format!(
            "diverged: {} observations here, {there} in the bucket (pushed by {}){only}",
            here.observations,
            head.source()
        ),
    )
    .hint("take the bucket's version, with a backup of this one: ALLOW_PRIMARY_PULL_OVERRIDE=1 membridge pull_sqlite")
    .hint("overwrite the bucket with this one (a copy of the bucket's is kept there): FORCE_PUSH=1 membridge push_sqlite")
}

/// Nothing is new here, and the bucket is ahead.
pub(super) fn nothing_of_ours(session: &Session, head: &Head) {
    let there = head.observations().map_or(String::new(), |count| format!(" with {count} observations"));
    session.ui.line(format!(
        "nothing of ours to push: the bucket is ahead{there} (pushed by {}); get it with: membridge pull_sqlite",
        head.source()
    ));
}

/// Rows were here and are gone: tidied up, or an older copy of the database was put back. A push cannot know which; the
/// commit before holds them for as long as the history reaches.
pub(super) fn fewer(parent: Option<&Commit>, commit: &Commit) -> Option<String> {
    let (before, now) = (parent?.counts.observations, commit.counts.observations);
    let gone = before.checked_sub(now).filter(|gone| *gone > 0)?;
    let number = parent?.number;
    Some(format!(
        "{gone} observations fewer than in the push before ({now} instead of {before}); if that was not meant: membridge restore {number}"
    ))
}

#[cfg(test)]
mod tests {
    use super::fewer;
    use crate::history::commit::tests::sample;

    #[test]
    fn a_push_says_when_rows_are_gone() {
        let with = |number, observations| {
            let mut commit = sample(number, 0);
            commit.counts.observations = observations;
            commit
        };
        for (before, now, says) in [(10, 10, None), (10, 12, None), (10, 9, Some("1 observations fewer"))] {
            let text = fewer(Some(&with(4, before)), &with(5, now));
            assert_eq!(text.is_some(), says.is_some(), "{before} {now}");
            assert!(says.is_none_or(|says| text.as_ref().is_some_and(|text| text.starts_with(says))));
            assert!(text.is_none_or(|text| text.ends_with("membridge restore 4")));
        }
        assert_eq!(fewer(None, &with(1, 0)), None);
    }
}
