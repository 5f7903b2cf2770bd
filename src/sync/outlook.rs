//! Is my memory safe, and everywhere? Judged from what this machine knows of itself and what the machines' records say.
//! Pure; status and doctor ask it, so that both say the same.

use crate::rows::node::NodeRecord;
use crate::rows::{Standing, Tally};

/// What is known.
#[derive(Debug, Clone, Default)]
pub struct Outlook {
    /// There is a database here, with so many observations.
    pub observations: Option<u64>,
    /// Rows here that have not been published, as far as a quick look tells.
    pub unsent: Tally,
    /// How this machine stands in the log; `None`: it has never synced.
    pub standing: Option<Standing>,
    /// What each machine last said, this one among them; `None`: the store was not asked, or did not answer.
    pub nodes: Option<Vec<NodeRecord>>,
    /// The bucket holds an archive.
    pub archived: bool,
}

/// The answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// There is no memory here, and none is known elsewhere.
    Nothing,
    /// There is memory elsewhere and none here.
    OnlyThere,
    /// This machine has never synced.
    OnlyHere,
    /// The store was not reached.
    Offline,
    /// Rows vanished here at once, and a person has to say what is meant.
    Held,
    /// Something recorded here is not in the store yet.
    Unsent,
    /// All of it is in the store; other machines have not taken all of it in yet.
    InStore,
    /// All of it is on every machine.
    Everywhere,
}

impl Answer {
    /// As `--json` says it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::OnlyThere => "only_there",
            Self::OnlyHere => "only_here",
            Self::Offline => "offline",
            Self::Held => "held",
            Self::Unsent => "unsent",
            Self::InStore => "in_store",
            Self::Everywhere => "everywhere",
        }
    }

    /// Whether nothing has to be done or awaited for the memory to be safe.
    pub fn is_safe(self) -> bool {
        matches!(self, Self::InStore | Self::Everywhere | Self::Nothing)
    }

    /// What to type, when there is something to type.
    pub fn remedy(self) -> Option<&'static str> {
        match self {
            Self::InStore | Self::Everywhere | Self::Offline => None,
            Self::Nothing => Some("start claude-mem once, then: membridge sync"),
            Self::OnlyThere | Self::OnlyHere | Self::Unsent => Some("membridge sync"),
            Self::Held => Some(
                "membridge sync --put-back, or, when they were deleted on purpose: membridge sync --accept-deletions",
            ),
        }
    }
}

/// Another machine, seen from here.
#[derive(Debug, Clone, PartialEq)]
pub struct Machine<'a> {
    /// What it says.
    pub record: &'a NodeRecord,
    /// Segments of ours that it has not taken in.
    pub behind: u64,
}

impl Outlook {
    fn me(&self) -> Option<String> {
        Some(self.standing.as_ref()?.writer?.to_string())
    }

    /// The other machines, by name. An installation that started again under a new id is one machine: its newest record counts.
    pub fn others(&self) -> Vec<Machine<'_>> {
        let me = self.me();
        let published = self.standing.as_ref().map_or(0, |standing| standing.segment);
        let records = self.nodes.iter().flatten().filter(|record| Some(&record.writer) != me.as_ref());
        let mut newest: Vec<&NodeRecord> = Vec::new();
        for record in records {
            match newest.iter_mut().find(|other| other.name() == record.name()) {
                Some(other) if other.at() < record.at() => *other = record,
                Some(_) => {}
                None => newest.push(record),
            }
        }
        newest.sort_by(|a, b| a.name().cmp(b.name()));
        let seen = |record: &NodeRecord| me.as_ref().and_then(|me| record.seen.get(me)).copied().unwrap_or(0);
        newest
            .into_iter()
            .map(|record| Machine { record, behind: published.saturating_sub(seen(record)) })
            .collect()
    }

    /// The answer.
    pub fn answer(&self) -> Answer {
        let others = self.others();
        let somewhere = self.archived || others.iter().any(|machine| machine.record.last > 0);
        let synced = self.standing.as_ref().is_some_and(|standing| standing.writer.is_some());
        if self.standing.as_ref().is_some_and(|standing| standing.held.total() > 0) {
            return Answer::Held;
        }
        match (self.observations, &self.nodes) {
            (_, None) => Answer::Offline,
            (None, Some(_)) if somewhere => Answer::OnlyThere,
            (None, Some(_)) => Answer::Nothing,
            (Some(_), Some(_)) if !synced => Answer::OnlyHere,
            (Some(_), Some(_)) if self.waits_to_be_sent() => Answer::Unsent,
            (Some(_), Some(_)) if others.iter().any(|machine| machine.behind > 0) => Answer::InStore,
            (Some(_), Some(_)) => Answer::Everywhere,
        }
    }

    fn waits_to_be_sent(&self) -> bool {
        self.unsent.total() > 0 || self.standing.as_ref().is_some_and(|standing| standing.outbox)
    }

    /// One line for people.
    pub fn describe(&self) -> String {
        let here = self.observations.unwrap_or(0);
        let noun = if here == 1 { "observation" } else { "observations" };
        let others = self.others();
        let (all, with) = (others.len(), others.iter().filter(|machine| machine.behind == 0).count());
        let unsent = match self.unsent.describe() {
            text if text.is_empty() => "what was recorded here".to_owned(),
            text => text,
        };
        match self.answer() {
            Answer::Nothing => "nothing recorded yet: no database here, none in the store".to_owned(),
            Answer::OnlyThere => {
                "the memory of your other machines is in the store, and not here yet".to_owned()
            }
            Answer::OnlyHere => format!("only here: {here} {noun}, never synced"),
            Answer::Offline if self.waits_to_be_sent() => format!("offline: {unsent} will be sent"),
            Answer::Offline => format!("offline: {here} {noun} here, nothing waits to be sent"),
            Answer::Held => {
                let held =
                    self.standing.as_ref().map(|standing| standing.held.describe()).unwrap_or_default();
                format!(
                    "{held} vanished here at once: kept on the other machines until you say what is meant"
                )
            }
            Answer::Unsent => format!("{unsent} not sent yet"),
            Answer::InStore => format!(
                "safe: everything recorded here ({here} {noun}) is in the store and on {with} of {all} other machines"
            ),
            Answer::Everywhere if all == 0 => {
                format!(
                    "safe: everything recorded here ({here} {noun}) is in the store; no other machine has synced yet"
                )
            }
            Answer::Everywhere if all == 1 => {
                format!(
                    "safe: everything recorded here ({here} {noun}) is in the store and on the other machine"
                )
            }
            Answer::Everywhere => {
                format!(
                    "safe: everything recorded here ({here} {noun}) is in the store and on all {all} other machines"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Answer, Outlook};
    use crate::rows::node::NodeRecord;
    use crate::rows::{Standing, Tally, Writer};

    fn writer(digit: char) -> Writer {
        digit.to_string().repeat(32).parse().unwrap()
    }

    fn node(digit: char, name: &str, last: u64, seen_of_a: u64) -> NodeRecord {
        NodeRecord {
            writer: writer(digit).to_string(),
            node_id: name.to_owned(),
            last,
            seen: [(writer('a').to_string(), seen_of_a)].into(),
            time: "2026-11-25T10:00:00+00:00".to_owned(),
            ..NodeRecord::default()
        }
    }

    fn synced(segment: u64) -> Standing {
        Standing { writer: Some(writer('a')), segment, ..Standing::default() }
    }

    #[test]
    fn one_question_has_one_answer() {
        let unsent = |count| {
            let mut tally = Tally::default();
            tally.add_many("observations", count);
            tally
        };
        let at =
            |observations, standing, nodes| Outlook { observations, standing, nodes, ..Outlook::default() };
        let held = Some(Standing { held: unsent(60), ..synced(3) });
        let table = [
            (at(None, None, Some(vec![])), Answer::Nothing, "nothing recorded yet"),
            (at(None, None, Some(vec![node('b', "board", 4, 0)])), Answer::OnlyThere, "not here yet"),
            (at(Some(5), None, Some(vec![])), Answer::OnlyHere, "only here: 5 observations"),
            (at(Some(1), Some(synced(3)), None), Answer::Offline, "offline: 1 observation here"),
            (
                Outlook { unsent: unsent(36), ..at(Some(40), Some(synced(3)), None) },
                Answer::Offline,
                "offline: 36 observations will be sent",
            ),
            (at(Some(5), held, Some(vec![])), Answer::Held, "60 observations vanished"),
            (
                Outlook { unsent: unsent(2), ..at(Some(5), Some(synced(3)), Some(vec![])) },
                Answer::Unsent,
                "2 observations not sent yet",
            ),
            (at(Some(5), Some(synced(3)), Some(vec![])), Answer::Everywhere, "no other machine"),
            (
                at(Some(5), Some(synced(3)), Some(vec![node('b', "board", 4, 3)])),
                Answer::Everywhere,
                "on the other machine",
            ),
            (
                at(Some(5), Some(synced(3)), Some(vec![node('b', "board", 4, 3), node('c', "desk", 1, 2)])),
                Answer::InStore,
                "on 1 of 2 other machines",
            ),
            // Our own record is no other machine.
            (
                at(Some(5), Some(synced(3)), Some(vec![node('a', "me", 3, 0)])),
                Answer::Everywhere,
                "no other machine",
            ),
        ];
        for (outlook, answer, says) in table {
            assert_eq!(outlook.answer(), answer, "{says}");
            let text = outlook.describe();
            assert!(text.contains(says), "{text} lacks {says}");
        }
    }

    #[test]
    fn a_machine_that_started_again_is_one_machine() {
        let old = NodeRecord { time: "2026-11-01T00:00:00+00:00".to_owned(), ..node('b', "board", 9, 0) };
        let outlook = Outlook {
            observations: Some(1),
            standing: Some(synced(3)),
            nodes: Some(vec![old, node('c', "board", 1, 3)]),
            ..Outlook::default()
        };
        assert_eq!(outlook.others().len(), 1);
        assert_eq!(outlook.answer(), Answer::Everywhere);
    }
}
