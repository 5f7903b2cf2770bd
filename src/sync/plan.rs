//! The three-way decision of failures.md: what changed here and there since the last sync, and so what a push or
//! a pull may do. Pure functions of plain values; every cell is in the tables below.

use crate::database::compare::Relation;

/// The local database against the last-sync record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Local {
    /// There is none.
    Missing,
    /// As it was at the last sync.
    Unchanged,
    /// Written to since.
    Changed,
    /// There is no record to compare with.
    Unknown,
}

/// The bucket against the last-sync record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remote {
    /// It holds no database for this project.
    Absent,
    /// As it was at the last sync.
    Unchanged,
    /// Somebody has pushed since, and what they pushed grew out of what both sides agreed on.
    Changed,
    /// It holds something that is not known to have grown out of it: the push of a Python node, a forced one, a bucket
    /// that was emptied or put back from a copy.
    Replaced,
    /// There is no record to compare with.
    Unknown,
}

/// What is known when the decision is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Situation {
    /// The local side.
    pub local: Local,
    /// The bucket.
    pub remote: Remote,
    /// Both hold the same memory by content digest, whatever the record says.
    pub same_content: bool,
    /// The one-time comparison by natural keys, once it was made.
    pub relation: Option<Relation>,
}

/// What a push does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Push {
    /// There is no local database to push.
    NoDatabase,
    /// Both sides are the same.
    UpToDate,
    /// Upload.
    Upload,
    /// The bucket is ahead and nothing is new here.
    NothingOfOurs,
    /// Both sides have rows that the other lacks.
    Diverged,
    /// The remote image must be fetched and compared first.
    Compare,
}

/// What a pull does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pull {
    /// The bucket holds nothing for this project.
    NothingThere,
    /// Both sides are the same.
    UpToDate,
    /// Rows here wait for a push; nothing to pull.
    LocalAhead,
    /// There is no local database: put the remote one in place.
    Install,
    /// Everything of ours is in the remote image: replace.
    FastForward,
    /// Both sides have rows that the other lacks.
    Diverged,
    /// The remote image must be fetched and compared first.
    Compare,
}

/// Decides a push.
pub fn push(situation: Situation) -> Push {
    match situation {
        Situation { local: Local::Missing, .. } => Push::NoDatabase,
        Situation { remote: Remote::Absent, .. } => Push::Upload,
        Situation { same_content: true, .. } => Push::UpToDate,
        Situation { local: Local::Unchanged, remote: Remote::Unchanged, .. } => Push::UpToDate,
        Situation { local: Local::Changed, remote: Remote::Unchanged, .. } => Push::Upload,
        Situation { local: Local::Unchanged, remote: Remote::Changed, .. } => Push::NothingOfOurs,
        // Nothing is new here, and what is there has all of it, perhaps with other contents.
        Situation {
            local: Local::Unchanged,
            remote: Remote::Replaced,
            relation: Some(Relation::Equal),
            ..
        } => Push::NothingOfOurs,
        // Both changed, or nobody knows: the rows themselves say.
        Situation { relation, .. } => match relation {
            None => Push::Compare,
            Some(Relation::Equal | Relation::LocalHasMore) => Push::Upload,
            Some(Relation::RemoteHasMore) => Push::NothingOfOurs,
            Some(Relation::Diverged) => Push::Diverged,
        },
    }
}

/// Decides a pull.
pub fn pull(situation: Situation) -> Pull {
    match situation {
        Situation { remote: Remote::Absent, .. } => Pull::NothingThere,
        Situation { local: Local::Missing, .. } => Pull::Install,
        Situation { same_content: true, .. } => Pull::UpToDate,
        Situation { local: Local::Unchanged, remote: Remote::Unchanged, .. } => Pull::UpToDate,
        Situation { local: Local::Changed, remote: Remote::Unchanged, .. } => Pull::LocalAhead,
        Situation { local: Local::Unchanged, remote: Remote::Changed, .. } => Pull::FastForward,
        // Nothing is new here, and what is there has all of it, perhaps with other contents.
        Situation {
            local: Local::Unchanged,
            remote: Remote::Replaced,
            relation: Some(Relation::Equal),
            ..
        } => Pull::FastForward,
        // Both changed, or nobody knows: the rows themselves say.
        Situation { relation, .. } => match relation {
            None => Pull::Compare,
            // The same rows with other contents (a session that ended): nothing that we lack is there.
            Some(Relation::Equal | Relation::LocalHasMore) => Pull::LocalAhead,
            Some(Relation::RemoteHasMore) => Pull::FastForward,
            Some(Relation::Diverged) => Pull::Diverged,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::{Local, Pull, Push, Remote, Situation, pull, push};
    use crate::database::compare::Relation;

    fn situation(local: Local, remote: Remote) -> Situation {
        Situation { local, remote, same_content: false, relation: None }
    }

    #[test]
    fn every_cell_of_the_table() {
        use Local as L;
        use Remote as R;
        let table = [
            (L::Missing, R::Absent, Push::NoDatabase, Pull::NothingThere),
            (L::Missing, R::Unchanged, Push::NoDatabase, Pull::Install),
            (L::Missing, R::Changed, Push::NoDatabase, Pull::Install),
            (L::Missing, R::Unknown, Push::NoDatabase, Pull::Install),
            (L::Unchanged, R::Absent, Push::Upload, Pull::NothingThere),
            (L::Changed, R::Absent, Push::Upload, Pull::NothingThere),
            (L::Unknown, R::Absent, Push::Upload, Pull::NothingThere),
            (L::Unchanged, R::Unchanged, Push::UpToDate, Pull::UpToDate),
            (L::Changed, R::Unchanged, Push::Upload, Pull::LocalAhead),
            (L::Unchanged, R::Changed, Push::NothingOfOurs, Pull::FastForward),
            (L::Changed, R::Changed, Push::Compare, Pull::Compare),
            (L::Unknown, R::Unknown, Push::Compare, Pull::Compare),
            (L::Unknown, R::Changed, Push::Compare, Pull::Compare),
            (L::Unknown, R::Unchanged, Push::Compare, Pull::Compare),
            (L::Unchanged, R::Unknown, Push::Compare, Pull::Compare),
            (L::Changed, R::Unknown, Push::Compare, Pull::Compare),
            (L::Missing, R::Replaced, Push::NoDatabase, Pull::Install),
            (L::Unchanged, R::Replaced, Push::Compare, Pull::Compare),
            (L::Changed, R::Replaced, Push::Compare, Pull::Compare),
            (L::Unknown, R::Replaced, Push::Compare, Pull::Compare),
        ];
        for (local, remote, pushed, pulled) in table {
            let situation = situation(local, remote);
            assert_eq!(push(situation), pushed, "push {local:?} {remote:?}");
            assert_eq!(pull(situation), pulled, "pull {local:?} {remote:?}");
        }
    }

    #[test]
    fn without_a_record_and_when_both_changed_the_rows_decide() {
        let table = [
            (Relation::Equal, Push::Upload, Pull::LocalAhead),
            (Relation::LocalHasMore, Push::Upload, Pull::LocalAhead),
            (Relation::RemoteHasMore, Push::NothingOfOurs, Pull::FastForward),
            (Relation::Diverged, Push::Diverged, Pull::Diverged),
        ];
        for (relation, pushed, pulled) in table {
            for (local, remote) in [
                (Local::Unknown, Remote::Unknown),
                (Local::Changed, Remote::Changed),
                (Local::Changed, Remote::Replaced),
                (Local::Unchanged, Remote::Replaced),
            ] {
                // Rows that both have are as new there as here, where nobody wrote.
                let (pushed, pulled) = match (local, relation) {
                    (Local::Unchanged, Relation::Equal) => (Push::NothingOfOurs, Pull::FastForward),
                    _ => (pushed, pulled),
                };
                let situation = Situation { relation: Some(relation), ..situation(local, remote) };
                assert_eq!((push(situation), pull(situation)), (pushed, pulled), "{relation:?}");
            }
        }
    }

    #[test]
    fn the_same_content_is_up_to_date_whatever_the_record_says() {
        for local in [Local::Unchanged, Local::Changed, Local::Unknown] {
            for remote in [Remote::Unchanged, Remote::Changed, Remote::Replaced, Remote::Unknown] {
                let situation = Situation { same_content: true, ..situation(local, remote) };
                assert_eq!((push(situation), pull(situation)), (Push::UpToDate, Pull::UpToDate));
            }
        }
    }
}
