//! Is my memory safe, and everywhere? Judged from what this machine knows of itself and what the machines' records say.
//! Pure; status and doctor ask it, so that both say the same.

use serde_json::{Value, json};

use crate::amount::count;
use crate::rows::fleet;
use crate::rows::node::NodeRecord;
use crate::rows::{Standing, Tally};

/// What waits longer than this without a sync is worth a warning (seconds).
const LONG: i64 = 86_400;

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
    /// Projects are named that never leave this machine.
    pub excludes: bool,
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

    /// What to type, when there is something to type: one of them.
    pub fn remedies(self) -> &'static [&'static str] {
        match self {
            Self::InStore | Self::Everywhere | Self::Offline => &[],
            Self::Nothing => &["start claude-mem once, then: membridge sync"],
            Self::OnlyThere | Self::OnlyHere | Self::Unsent => &["membridge sync"],
            Self::Held => &[
                "to have them back: membridge sync --put-back",
                "deleted on purpose: membridge sync --accept-deletions",
            ],
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
    /// Segments of anybody's that are here and not there.
    pub lacks: u64,
}

impl Machine<'_> {
    /// Observations there.
    pub fn observations(&self) -> u64 {
        self.record.counts.get("observations").copied().unwrap_or(0)
    }

    /// As `--json` says it.
    pub fn to_json(&self) -> Value {
        let record = self.record;
        json!({
            "node_id": record.node_id, "host": record.host, "observations": self.observations(),
            "last_seen": record.time, "behind": self.behind, "lacks": self.lacks, "role": record.role,
        })
    }
}

impl Outlook {
    /// What we say of ourselves, as far as others have to collect it.
    fn own(&self) -> Option<NodeRecord> {
        let standing = self.standing.as_ref()?;
        let (writer, folds) = (standing.writer?.to_string(), standing.folds.clone());
        Some(NodeRecord { writer, last: standing.segment, folds, ..NodeRecord::default() })
    }

    /// What is here of the log, as the record of each writer would say it.
    fn here(&self) -> Vec<NodeRecord> {
        let Some(standing) = &self.standing else {
            return Vec::new();
        };
        let folds = |writer: &str| match self.nodes.iter().flatten().find(|record| record.writer == writer) {
            Some(record) => record.folds.clone(),
            None => Vec::new(),
        };
        let others = standing.seen.iter().map(|(writer, number)| (writer.to_string(), *number));
        let others = others.map(|(writer, last)| NodeRecord {
            folds: folds(&writer),
            writer,
            last,
            ..NodeRecord::default()
        });
        others.chain(self.own()).collect()
    }

    /// The other machines, by name. An installation that started again under a new id is one machine: its newest record counts.
    pub fn others(&self) -> Vec<Machine<'_>> {
        let own = self.own();
        let is_own = |record: &NodeRecord| own.as_ref().is_some_and(|own| own.writer == record.writer);
        let mut newest: Vec<&NodeRecord> = Vec::new();
        for record in self.nodes.iter().flatten().filter(|record| !is_own(record)) {
            match newest.iter_mut().find(|other| other.name() == record.name()) {
                Some(other) if other.at() < record.at() => *other = record,
                Some(_) => {}
                None => newest.push(record),
            }
        }
        newest.sort_by(|a, b| a.name().cmp(b.name()));
        let here = self.here();
        let is_of = |record: &NodeRecord, part: &NodeRecord| {
            let same = |other: &NodeRecord| other.writer == part.writer && other.name() == record.name();
            self.nodes.iter().flatten().any(same)
        };
        let machines = newest.into_iter().map(|record| Machine {
            record,
            behind: fleet::behind(record, own.iter()),
            lacks: fleet::behind(record, here.iter().filter(|part| !is_of(record, part))),
        });
        machines.collect()
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
            (Some(_), Some(_)) if others.iter().any(|machine| machine.lacks > 0) => Answer::InStore,
            (Some(_), Some(_)) => Answer::Everywhere,
        }
    }

    /// Whether something recorded here is not in the store yet.
    pub fn waits_to_be_sent(&self) -> bool {
        self.unsent.total() > 0 || self.standing.as_ref().is_some_and(|standing| standing.outbox)
    }

    /// Whether it has waited for so long that somebody should look; `age`: seconds since the last sync.
    pub fn is_overdue(&self, age: Option<i64>) -> bool {
        self.waits_to_be_sent() && age.is_some_and(|age| age > LONG)
    }

    fn unsent(&self) -> String {
        match self.unsent.describe() {
            text if text.is_empty() => "what was recorded here".to_owned(),
            text => text,
        }
    }

    fn held(&self) -> Tally {
        self.standing.as_ref().map(|standing| standing.held.clone()).unwrap_or_default()
    }

    /// One line for people, of at most 76 columns as long as numbers and names are ordinary.
    pub fn describe(&self) -> String {
        let here = self.observations.unwrap_or(0);
        let observations = count(here, "observation", "observations");
        let all_of_it = match here {
            _ if self.excludes => "all that may leave this machine is".to_owned(),
            0 => "everything here is".to_owned(),
            1 => "the one observation here is".to_owned(),
            _ => format!("all {here} observations are"),
        };
        let others = self.others();
        let (all, with) = (others.len(), others.iter().filter(|machine| machine.lacks == 0).count());
        match self.answer() {
            Answer::Nothing => "nothing recorded yet: no database here, none in the store".to_owned(),
            Answer::OnlyThere => {
                "the memory of your other machines is in the store, and not here yet".to_owned()
            }
            Answer::OnlyHere => format!("only here: {observations}, never synced"),
            Answer::Offline if self.waits_to_be_sent() => format!("offline: {} will be sent", self.unsent()),
            Answer::Offline => format!("offline: {observations} here, nothing waits to be sent"),
            Answer::Held => {
                format!("{} vanished here at once; the other machines keep them", self.held().describe())
            }
            Answer::Unsent => format!("{} not sent yet", self.unsent()),
            Answer::InStore if with == 0 => {
                format!("safe: {all_of_it} in the store; not yet on another machine")
            }
            Answer::InStore => {
                format!("safe: {all_of_it} in the store and on {with} of {all} other machines")
            }
            Answer::Everywhere if all == 0 => {
                format!("safe: {all_of_it} in the store; no other machine has synced")
            }
            Answer::Everywhere if all == 1 => {
                format!("safe: {all_of_it} in the store and on the other machine")
            }
            Answer::Everywhere if all == 2 => {
                format!("safe: {all_of_it} in the store and on both other machines")
            }
            Answer::Everywhere => format!("safe: {all_of_it} in the store and on all {all} other machines"),
        }
    }

    /// The same from our own record alone, as short as a prompt wants it. `synced`: how long ago the last sync was.
    pub fn briefly(&self, synced: Option<&str>) -> (Brief, String) {
        let synced = synced.map_or(String::new(), |ago| format!(", synced {ago}"));
        let observations = count(self.observations.unwrap_or(0), "observation", "observations");
        if self.held().total() > 0 {
            return (Brief::Bad, format!("{} vanished here: membridge status", self.held().describe()));
        }
        match (self.observations, &self.standing) {
            (None, _) => (Brief::Waits, "no memory here yet".to_owned()),
            (Some(_), None) => (Brief::Waits, format!("{observations}, never synced")),
            (Some(_), Some(_)) if self.waits_to_be_sent() => {
                (Brief::Waits, format!("{} to send{synced}", self.unsent()))
            }
            (Some(_), Some(_)) => (Brief::Good, format!("{observations}{synced}")),
        }
    }
}

/// How a brief answer is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Brief {
    /// All of it is in the store.
    Good,
    /// Something waits.
    Waits,
    /// Somebody has to act.
    Bad,
}

#[cfg(test)]
mod tests {
    use super::{Answer, Brief, Outlook};
    use crate::rows::header::{Covers, Kind};
    use crate::rows::node::{Fold, NodeRecord};
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
            (
                at(Some(5), Some(synced(3)), Some(vec![])),
                Answer::Everywhere,
                "safe: all 5 observations are in the store; no other",
            ),
            (
                at(Some(1), Some(synced(3)), Some(vec![])),
                Answer::Everywhere,
                "safe: the one observation here is in",
            ),
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
    fn what_came_from_others_has_to_be_everywhere_too() {
        // Here are three segments of b's; c has taken two of them in, and all of ours.
        let standing = Standing { seen: [(writer('b'), 3)].into(), ..synced(1) };
        let of_c = |seen_of_b| NodeRecord {
            seen: [(writer('a').to_string(), 1), (writer('b').to_string(), seen_of_b)].into(),
            ..node('c', "laptop", 0, 1)
        };
        for (seen, answer, lacks) in
            [(2, Answer::InStore, 1), (3, Answer::Everywhere, 0), (9, Answer::Everywhere, 0)]
        {
            let outlook = Outlook {
                observations: Some(5),
                standing: Some(standing.clone()),
                nodes: Some(vec![node('b', "board", 3, 1), of_c(seen)]),
                ..Outlook::default()
            };
            let others: Vec<_> =
                outlook.others().iter().map(|machine| (machine.behind, machine.lacks)).collect();
            assert_eq!((outlook.answer(), others), (answer, vec![(0, 0), (0, lacks)]), "{seen}");
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

    #[test]
    fn what_was_folded_is_nothing_that_others_lack() {
        let covers = Covers { first: 1, last: 16 };
        let folds = vec![Fold { kind: Kind::Fold, number: 17, parts: 1, covers }];
        for (seen, behind) in [(16, 0), (15, 2), (17, 0)] {
            let outlook = Outlook {
                observations: Some(5),
                standing: Some(Standing { folds: folds.clone(), ..synced(17) }),
                nodes: Some(vec![node('b', "board", 4, seen)]),
                ..Outlook::default()
            };
            assert_eq!(outlook.others().first().unwrap().behind, behind, "{seen}");
        }
    }

    #[test]
    fn a_prompt_gets_the_short_answer_from_our_own_record() {
        let tally = |count| Tally([("observations".to_owned(), count)].into());
        let at = |observations, standing| Outlook { observations, standing, ..Outlook::default() };
        let waits = Outlook { unsent: tally(1), ..at(Some(5), Some(synced(3))) };
        let held = Standing { held: tally(60), ..synced(3) };
        let table = [
            (at(None, None), Brief::Waits, "no memory here yet"),
            (at(Some(1), None), Brief::Waits, "1 observation, never synced"),
            (waits.clone(), Brief::Waits, "1 observation to send, synced 2 h ago"),
            (at(Some(5), Some(synced(3))), Brief::Good, "5 observations, synced 2 h ago"),
            (at(Some(5), Some(held)), Brief::Bad, "60 observations vanished here: membridge status"),
        ];
        for (outlook, brief, text) in table {
            assert_eq!(outlook.briefly(Some("2 h ago")), (brief, text.to_owned()));
        }
        assert!(waits.is_overdue(Some(86_401)) && !waits.is_overdue(Some(86_400)) && !waits.is_overdue(None));
        assert!(!at(Some(5), Some(synced(3))).is_overdue(Some(9 * 86_400)), "nothing waits");
    }

    #[test]
    fn the_answer_fits_a_terminal() {
        let many: Vec<_> = ('b'..='f').map(|digit| node(digit, &digit.to_string(), 1, 3)).collect();
        let behind = vec![node('b', "b", 1, 0), node('c', "c", 1, 3)];
        for nodes in [
            None,
            Some(vec![]),
            Some(many[..1].to_vec()),
            Some(behind[..1].to_vec()),
            Some(behind),
            Some(many),
        ] {
            let outlook = Outlook {
                observations: Some(380_360),
                standing: Some(synced(3)),
                nodes,
                ..Outlook::default()
            };
            // "NOT SAFE: " before it is for other answers.
            assert!(outlook.describe().len() <= 76, "{}", outlook.describe());
        }
    }
}
