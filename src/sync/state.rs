//! Where this machine and the bucket stand, for people: in sync, ahead, behind, diverged. Read-only; status and
//! doctor share it. The decisions that change anything are made in `plan`, from the same situation.

use std::path::Path;

use super::lineage;
use super::plan::{Local, Remote, Situation};
use super::record::Base;
use crate::database::files::{self, Fingerprint};
use crate::database::look::look;
use crate::database::{Counts, DatabaseError, Facts, digest, facts, tables};
use crate::python::Head;

/// Databases up to this size are read whole by a quick look (bytes, with the log): a few tens of milliseconds.
const QUICK: u64 = 32 << 20;

/// What a quick look at the local database saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Rows.
    pub counts: Counts,
    /// The files are exactly those that the record remembers.
    pub untouched: bool,
    /// Content digest, where it was worth its time.
    pub digest: Option<String>,
}

/// One word for where both sides stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Neither side holds a database.
    Nothing,
    /// Never pushed.
    OnlyHere,
    /// Never pulled.
    OnlyThere,
    /// The same memory.
    InSync,
    /// Rows here wait for a push.
    Ahead,
    /// Rows in the bucket wait for a pull.
    Behind,
    /// Both sides changed since they last agreed.
    Diverged,
    /// They never agreed as far as this machine knows, or what is in the bucket does not build on that.
    NotCompared,
}

/// Where both sides stand, with the numbers behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// The word.
    pub standing: Standing,
    /// False where a large database was judged by its files alone.
    pub certain: bool,
    /// Observations here.
    pub here: Option<u64>,
    /// Observations in the bucket, when its manifest says.
    pub there: Option<u64>,
    /// Observations when both last agreed.
    pub base: Option<u64>,
}

impl Standing {
    /// As `--json` says it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::OnlyHere => "only_here",
            Self::OnlyThere => "only_there",
            Self::InSync => "in_sync",
            Self::Ahead => "ahead",
            Self::Behind => "behind",
            Self::Diverged => "diverged",
            Self::NotCompared => "not_compared",
        }
    }

    /// What to type, when there is something to type.
    pub fn remedy(self) -> Option<&'static str> {
        match self {
            Self::InSync => None,
            Self::Nothing => Some("start claude-mem once, then: membridge push_sqlite"),
            Self::OnlyHere | Self::Ahead => Some("membridge push_sqlite"),
            Self::OnlyThere | Self::Behind => Some("membridge pull_sqlite"),
            Self::Diverged | Self::NotCompared => Some("membridge sync"),
        }
    }
}

/// The word for a situation. `plan` decides what may be done about it.
fn standing(situation: Situation) -> Standing {
    match (situation.local, situation.remote) {
        (Local::Missing, Remote::Absent) => Standing::Nothing,
        (Local::Missing, _) => Standing::OnlyThere,
        (_, Remote::Absent) => Standing::OnlyHere,
        _ if situation.same_content => Standing::InSync,
        (Local::Unchanged, Remote::Unchanged) => Standing::InSync,
        (Local::Changed, Remote::Unchanged) => Standing::Ahead,
        (Local::Unchanged, Remote::Changed) => Standing::Behind,
        (Local::Changed, Remote::Changed) => Standing::Diverged,
        _ => Standing::NotCompared,
    }
}

/// Judges from what was seen of both sides; `base` is what the record says of this bucket.
pub fn judge(base: Option<&Base>, local: Option<&Seen>, head: Option<&Head>) -> State {
    let mut certain = true;
    let side = match (local, base) {
        (None, _) => Local::Missing,
        (Some(_), None) => Local::Unknown,
        (Some(seen), Some(base)) => match &seen.digest {
            _ if seen.untouched => Local::Unchanged,
            Some(digest) if *digest == base.digest => Local::Unchanged,
            Some(_) => Local::Changed,
            None => {
                certain = seen.counts != base.counts;
                Local::Changed
            }
        },
    };
    let digest = local.and_then(|seen| match &seen.digest {
        None if seen.untouched => base.map(|base| base.digest.as_str()),
        digest => digest.as_deref(),
    });
    let remote = match (base, head) {
        (_, None) => Remote::Absent,
        (None, Some(_)) => Remote::Unknown,
        (Some(base), Some(head)) if head.is(&base.sha256) => Remote::Unchanged,
        // A look asks no further: whatever may be behind what we know, and is not smaller, waits for a pull, which
        // compares where it has to.
        (Some(base), Some(head))
            if lineage::may_have_grown(base, head)
                || head.observations() >= Some(base.counts.observations) =>
        {
            Remote::Changed
        }
        (Some(_), Some(_)) => Remote::Replaced,
    };
    State {
        standing: standing(Situation {
            local: side,
            remote,
            same_content: digest.is_some() && digest == head.and_then(Head::digest),
            relation: None,
        }),
        certain,
        here: local.map(|seen| seen.counts.observations),
        there: head.and_then(Head::observations),
        base: base.map(|base| base.counts.observations),
    }
}

impl State {
    /// One line for people.
    pub fn describe(&self) -> String {
        let (here, there) = (self.here.unwrap_or(0), self.there);
        let in_bucket = there.map_or("an unknown number".to_owned(), |count| count.to_string());
        let since = |count: Option<u64>| match (count, self.base) {
            (Some(now), Some(base)) if now > base => format!("{} more observations", now - base),
            (Some(now), Some(base)) if now < base => format!("{} observations fewer", base - now),
            _ => "changes".to_owned(),
        };
        let text = match self.standing {
            Standing::Nothing => "nothing to sync yet: no database here, none in the bucket".to_owned(),
            Standing::OnlyHere => {
                format!("never pushed: {here} observations here, nothing in the bucket")
            }
            Standing::OnlyThere => {
                format!("never pulled: no database here, {in_bucket} observations in the bucket")
            }
            Standing::InSync => format!("in sync ({here} observations)"),
            Standing::Ahead => format!(
                "ahead: {} here since the last sync ({here} here, {in_bucket} in the bucket)",
                since(self.here)
            ),
            Standing::Behind => format!(
                "behind: {} in the bucket since the last sync ({here} here, {in_bucket} in the bucket)",
                since(there)
            ),
            Standing::Diverged => format!(
                "diverged: since the last sync {} here and {} in the bucket ({here} here, {in_bucket} in the bucket)",
                since(self.here),
                since(there)
            ),
            Standing::NotCompared if self.base.is_some() => format!(
                "not compared yet: {here} observations here, {in_bucket} in the bucket, which does not build on the last sync (a Python node's push, a forced one, or a bucket put back from a copy)"
            ),
            Standing::NotCompared => format!(
                "not compared yet: {here} observations here, {in_bucket} in the bucket, and no sync of both is on record"
            ),
        };
        if self.certain { text } else { format!("{text}; judged by the files alone, doctor reads the rows") }
    }
}

/// Looks at the local database, quickly: rows are counted, content is read only where the database is small and its
/// files are not those of the record. `None`: there is no database.
///
/// # Errors
/// See [`DatabaseError`].
pub fn quick_look(path: &Path, base: Option<&Base>) -> Result<Option<Seen>, DatabaseError> {
    if !path.exists() {
        return Ok(None);
    }
    let untouched =
        base.is_some_and(|base| base.fingerprint.is_some() && base.fingerprint == Fingerprint::take(path));
    let small = files::size_with_wal(path) <= QUICK;
    look(path, |connection| {
        let tables = tables::tables(connection, path)?;
        tables::require_core(&tables, path)?;
        let digest =
            if untouched || !small { None } else { Some(digest::content(connection, &tables, path)?) };
        Ok(Some(Seen { counts: facts::counts(connection, path)?, untouched, digest }))
    })
}

impl From<&Facts> for Seen {
    fn from(facts: &Facts) -> Self {
        Self { counts: facts.counts, untouched: false, digest: Some(facts.digest.clone()) }
    }
}

#[cfg(test)]
mod tests {
    use super::{Seen, Standing, judge};
    use crate::database::Counts;
    use crate::python::Head;
    use crate::python::announcements::Announced;
    use crate::sync::record::Base;

    fn counts(observations: u64) -> Counts {
        Counts { observations, ..Counts::default() }
    }

    fn base() -> Base {
        Base {
            sha256: "old".to_owned(),
            commit: None,
            mirrored: false,
            digest: "d0".to_owned(),
            counts: counts(10),
            fingerprint: None,
        }
    }

    fn seen(observations: u64, digest: Option<&str>, untouched: bool) -> Seen {
        Seen { counts: counts(observations), untouched, digest: digest.map(str::to_owned) }
    }

    fn head(sha256: &str, digest: &str, observations: u64) -> Head {
        let text = format!(
            r#"{{"sha256": "{sha256}", "source_host": "beta", "observations": {observations}, "membridge":
            {{"version": "1", "node_id": "b", "content_digest": "{digest}", "push_id": "p"}}}}"#
        );
        let manifest = serde_json::from_str(&text).unwrap();
        Head::foreign(Some(Announced { sha256: sha256.to_owned(), manifest: Some(manifest) }), None)
    }

    #[test]
    fn every_standing_and_what_it_says() {
        use Standing as S;
        let same = || Some(head("old", "d0", 10));
        let newer = || Some(head("new", "d9", 14));
        let table = [
            (None, None, None, S::Nothing, "nothing to sync"),
            (None, Some(seen(5, Some("d1"), false)), None, S::OnlyHere, "never pushed: 5"),
            (None, None, newer(), S::OnlyThere, "14 observations in the bucket"),
            (Some(base()), Some(seen(10, Some("d0"), false)), same(), S::InSync, "in sync (10"),
            (Some(base()), Some(seen(10, None, true)), same(), S::InSync, "in sync (10"),
            (Some(base()), Some(seen(13, Some("d1"), false)), same(), S::Ahead, "3 more observations here"),
            (Some(base()), Some(seen(13, None, false)), same(), S::Ahead, "3 more observations here"),
            (Some(base()), Some(seen(8, Some("d1"), false)), same(), S::Ahead, "2 observations fewer here"),
            (Some(base()), Some(seen(10, Some("d1"), false)), same(), S::Ahead, "changes here"),
            (
                Some(base()),
                Some(seen(10, None, true)),
                newer(),
                S::Behind,
                "4 more observations in the bucket",
            ),
            (
                Some(base()),
                Some(seen(11, Some("d1"), false)),
                newer(),
                S::Diverged,
                "1 more observations here and 4 more observations in the bucket",
            ),
            (Some(base()), Some(seen(14, Some("d9"), false)), newer(), S::InSync, "in sync (14"),
            (None, Some(seen(14, Some("d9"), false)), newer(), S::InSync, "in sync (14"),
            (None, Some(seen(5, Some("d1"), false)), newer(), S::NotCompared, "5 observations here, 14"),
            (
                Some(base()),
                Some(seen(10, None, true)),
                Some(head("new", "d9", 3)),
                S::NotCompared,
                "3 in the bucket, which does not build on the last sync",
            ),
            (Some(base()), Some(seen(10, None, false)), same(), S::Ahead, "judged by the files alone"),
        ];
        for (base, local, head, standing, says) in table {
            let state = judge(base.as_ref(), local.as_ref(), head.as_ref());
            assert_eq!(state.standing, standing, "{says}");
            let text = state.describe();
            assert!(text.contains(says), "{text} lacks {says}");
        }
    }
}
