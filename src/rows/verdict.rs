//! What becomes of a record that arrives, from what lies where it wants to go. Pure.

use super::desk::Restoring;
use super::report::Kept;

/// What lies where a record wants to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Nothing.
    Empty,
    /// Nothing, but the shadow knows a row there: it was deleted here, and no scan has seen it yet.
    Vanished,
    /// A row that the shadow does not know.
    Found,
    /// A row as the shadow knows it.
    AsSeen,
    /// A row of which the shadow knows only that it is this one: the database went back.
    Unsure,
    /// A row that was changed here, and no scan has seen it yet.
    Changed,
}

/// What becomes of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The row is made.
    Insert,
    /// It says the same as the row.
    Same,
    /// It takes the place of the row's content.
    Overwrite,
    /// It takes its place column by column; where it says nothing, ours stays.
    Complete,
    /// The row goes.
    Delete,
    /// There is no row that could go.
    Forget,
    /// Ours stays, and gets a greater stamp at the scan.
    Refuse,
    /// Nothing is written: the scan that follows finds what the row says otherwise, or that it is gone.
    Note,
}

/// When a record was made, seen from the moment in which a person put an earlier state in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// It was known then.
    Before,
    /// Others recorded, changed or deleted it since. `untouched`: the state that was put in place says of the row what was
    /// here before.
    Since {
        /// See above.
        untouched: bool,
    },
}

/// The same where a person put an earlier state in place, and means it: the log is told, not the database. What others did
/// since is taken in as ever, unless the person has changed the same row.
pub fn decide_restoring(
    place: Place,
    deleted: bool,
    same: bool,
    restoring: Restoring,
    heard: Heard,
) -> (Verdict, Option<Kept>) {
    let empty = matches!(place, Place::Empty | Place::Vanished);
    match heard {
        Heard::Since { untouched: true } if empty => decide(Place::Empty, deleted, same, false),
        Heard::Since { untouched: true } => decide(Place::AsSeen, deleted, same, false),
        _ if empty && deleted => (Verdict::Forget, None),
        _ if empty && restoring == Restoring::Adding => (Verdict::Insert, None),
        _ if !empty && !deleted && same => (Verdict::Same, None),
        Heard::Since { .. } if !empty && !deleted => (Verdict::Note, Some(Kept::Ours)),
        _ => (Verdict::Note, None),
    }
}

/// Decides, and says whose version goes to the conflicts. `same`: the record says exactly what the row says.
pub fn decide(place: Place, deleted: bool, same: bool, migrated: bool) -> (Verdict, Option<Kept>) {
    match (place, deleted) {
        (Place::Empty, false) => (Verdict::Insert, None),
        (Place::Empty | Place::Vanished, true) => (Verdict::Forget, None),
        (Place::Vanished, false) => (Verdict::Refuse, None),
        (Place::Found | Place::Unsure | Place::AsSeen, true) => (Verdict::Delete, None),
        (_, false) if same => (Verdict::Same, None),
        (Place::AsSeen, false) => (Verdict::Overwrite, None),
        // Nobody knows which is newer; a machine that was behind must not bring old content back.
        (Place::Found | Place::Unsure, false) => (Verdict::Complete, Some(Kept::Theirs)),
        // A migration's doing loses to anybody's.
        (Place::Changed, false) if migrated => (Verdict::Overwrite, Some(Kept::Theirs)),
        (Place::Changed, true) if migrated => (Verdict::Delete, Some(Kept::Theirs)),
        (Place::Changed, _) => (Verdict::Refuse, Some(Kept::Ours)),
    }
}

#[cfg(test)]
mod tests {
    use super::{Heard, Kept, Place, Restoring, Verdict, decide, decide_restoring};

    #[test]
    fn a_restored_state_is_told_to_the_log() {
        use Place::{AsSeen, Changed, Empty, Found, Unsure, Vanished};
        let (exactly, adding) = (Restoring::Exactly, Restoring::Adding);
        let table = [
            ((Empty, false, false, exactly), Verdict::Note),
            ((Vanished, false, false, exactly), Verdict::Note),
            ((Empty, false, false, adding), Verdict::Insert),
            ((Empty, true, false, exactly), Verdict::Forget),
            ((Found, false, true, exactly), Verdict::Same),
            ((Found, false, false, exactly), Verdict::Note),
            ((Found, true, false, adding), Verdict::Note),
            ((AsSeen, true, false, exactly), Verdict::Note),
            ((Unsure, false, false, adding), Verdict::Note),
            ((Changed, false, true, adding), Verdict::Same),
        ];
        for ((place, deleted, same, restoring), verdict) in table {
            let found = decide_restoring(place, deleted, same, restoring, Heard::Before);
            assert_eq!(found, (verdict, None), "{place:?} {deleted} {same} {restoring:?}");
        }
    }

    #[test]
    fn what_others_did_since_an_earlier_state_was_put_in_place_is_taken_in() {
        use Place::{Empty, Found};
        let table = [
            // place, deleted, same, untouched → verdict, conflict
            ((Empty, false, false, true), (Verdict::Insert, None)),
            ((Empty, true, false, true), (Verdict::Forget, None)),
            ((Found, false, false, true), (Verdict::Overwrite, None)),
            ((Found, true, false, true), (Verdict::Delete, None)),
            ((Found, false, true, true), (Verdict::Same, None)),
            // The person has put another version in place, or none.
            ((Empty, false, false, false), (Verdict::Note, None)),
            ((Empty, true, false, false), (Verdict::Forget, None)),
            ((Found, false, false, false), (Verdict::Note, Some(Kept::Ours))),
            ((Found, true, false, false), (Verdict::Note, None)),
            ((Found, false, true, false), (Verdict::Same, None)),
        ];
        for ((place, deleted, same, untouched), wanted) in table {
            let heard = Heard::Since { untouched };
            let found = decide_restoring(place, deleted, same, Restoring::Exactly, heard);
            assert_eq!(found, wanted, "{place:?} {deleted} {same} {untouched}");
        }
    }

    #[test]
    fn what_becomes_of_a_record() {
        use Place::{AsSeen, Changed, Empty, Found, Unsure, Vanished};
        let (ours, theirs) = (Some(Kept::Ours), Some(Kept::Theirs));
        let table = [
            // place, deleted, same, migrated → verdict, conflict
            ((Empty, false, false, false), (Verdict::Insert, None)),
            ((Empty, true, false, false), (Verdict::Forget, None)),
            ((Vanished, false, false, false), (Verdict::Refuse, None)),
            ((Vanished, true, false, false), (Verdict::Forget, None)),
            ((Found, false, true, false), (Verdict::Same, None)),
            ((Found, false, false, false), (Verdict::Complete, theirs)),
            ((Found, true, false, false), (Verdict::Delete, None)),
            ((Unsure, false, true, false), (Verdict::Same, None)),
            ((Unsure, false, false, false), (Verdict::Complete, theirs)),
            ((Unsure, true, false, false), (Verdict::Delete, None)),
            ((AsSeen, false, true, false), (Verdict::Same, None)),
            ((AsSeen, false, false, false), (Verdict::Overwrite, None)),
            ((AsSeen, false, false, true), (Verdict::Overwrite, None)),
            ((AsSeen, true, false, false), (Verdict::Delete, None)),
            ((Changed, false, true, false), (Verdict::Same, None)),
            ((Changed, false, false, false), (Verdict::Refuse, ours)),
            ((Changed, true, false, false), (Verdict::Refuse, ours)),
            ((Changed, false, false, true), (Verdict::Overwrite, theirs)),
            ((Changed, true, false, true), (Verdict::Delete, theirs)),
        ];
        for ((place, deleted, same, migrated), wanted) in table {
            assert_eq!(
                decide(place, deleted, same, migrated),
                wanted,
                "{place:?} {deleted} {same} {migrated}"
            );
        }
    }
}
