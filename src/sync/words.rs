//! What a push says when it does not push. Words and hints only.

use super::plan::Push;
use super::remote::Head;
use super::rows;
use super::session::Session;
use crate::database::Counts;
use crate::database::compare::Comparison;
use crate::error::Failure;
use crate::exit::ExitCode;

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
    let there = head
        .observations()
        .map_or("an unknown number of".to_owned(), |count| count.to_string());
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
    let there = head
        .observations()
        .map_or(String::new(), |count| format!(" with {count} observations"));
    session.ui.line(format!(
        "nothing of ours to push: the bucket is ahead{there} (pushed by {}); get it with: membridge pull_sqlite",
        head.source()
    ));
}
