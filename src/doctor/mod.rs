//! doctor: each check is a name, a pure function of the evidence, and a remedy. [`evidence`] gathers once, read-only,
//! from whatever configuration there is; the other files judge, one file per group. Prints nothing.

mod bucket;
mod configuration;
mod database;
pub mod evidence;
pub mod finding;
pub mod hooks;
mod identity;
mod leadership;
mod lock;
mod memory;
pub mod page;
pub mod questions;
mod worker;

use serde_json::{Map, Value, json};

use crate::amount::count;
use evidence::Evidence;
use finding::{Check, Finding, Level};

/// Checks under one heading.
pub struct Group {
    /// The heading; the first seven are the Python script's, which people and prompts know.
    pub heading: &'static str,
    /// In the order in which they are shown.
    pub checks: &'static [Check],
    /// Names of the checks whose text stands in the line of what is fine; the others are counted there.
    pub told: &'static [&'static str],
}

/// All checks, in the order in which they are shown.
pub const GROUPS: &[Group] = &[
    group("[1/5] Project identity", identity::CHECKS, &["project", "canonical_id", "node"]),
    group("[2/5] MinIO connectivity", bucket::CHECKS, &["reach"]),
    group("[3/5] Lock status", lock::CHECKS, &["lock"]),
    group("[4/5] SQLite DB health", database::CHECKS, &["observations"]),
    group("[5/5] Worker health", worker::CHECKS, &["worker"]),
    group("[+] Hooks", hooks::CHECKS, &[]),
    group("[+] Leadership", leadership::CHECKS, &["role", "primary", "epoch"]),
    group("[+] Sync", memory::CHECKS, &["sync_state"]),
    group("[+] Configuration", configuration::CHECKS, &["settings"]),
];

const fn group(heading: &'static str, checks: &'static [Check], told: &'static [&'static str]) -> Group {
    Group { heading, checks, told }
}

/// One check, made.
#[derive(Debug)]
pub struct Checked {
    /// The heading that it stands under.
    pub group: &'static str,
    /// The check's name.
    pub name: &'static str,
    /// What it found, with a remedy for each warning and error.
    pub finding: Finding,
}

impl Checked {
    /// As `--json` shows it.
    pub fn to_json(&self) -> Value {
        let mut fields = Map::new();
        fields.insert("group".into(), self.group.into());
        fields.insert("name".into(), self.name.into());
        fields.insert("result".into(), self.finding.level.word().into());
        fields.insert("text".into(), self.finding.text.clone().into());
        fields.insert("remedy".into(), json!(self.finding.remedy));
        Value::Object(fields)
    }
}

/// Makes all checks.
pub fn examine(evidence: &Evidence) -> Vec<Checked> {
    let mut all = Vec::new();
    for group in GROUPS {
        for check in group.checks {
            let mut finding = (check.run)(evidence);
            if finding.level < Level::Warning {
                finding.remedy = None;
            } else if finding.remedy.is_none() {
                finding.remedy = Some(check.remedy.to_owned());
            }
            all.push(Checked { group: group.heading, name: check.name, finding });
        }
    }
    all
}

/// What all of it comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Nothing to do.
    Ok,
    /// This many warnings.
    Degraded(usize),
    /// At least one error.
    Error,
}

impl Status {
    /// The sum of what was found.
    pub fn of(checked: &[Checked]) -> Self {
        let count = |level| checked.iter().filter(|one| one.finding.level == level).count();
        match (count(Level::Error), count(Level::Warning)) {
            (0, 0) => Self::Ok,
            (0, warnings) => Self::Degraded(warnings),
            _ => Self::Error,
        }
    }

    /// One word for `--json`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded(_) => "degraded",
            Self::Error => "error",
        }
    }

    /// The last line, in the Python script's words.
    pub fn line(self) -> String {
        match self {
            Self::Ok => "STATUS: OK — READY FOR PRODUCTION".to_owned(),
            Self::Degraded(warnings) => {
                format!("STATUS: DEGRADED — {} above", count(warnings as u64, "warning", "warnings"))
            }
            Self::Error => "STATUS: ERROR".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Checked, Finding, GROUPS, Level, Status};

    #[test]
    fn headings_and_names_are_as_pinned() {
        let headings: Vec<_> = GROUPS.iter().map(|group| group.heading).collect();
        assert_eq!(
            headings.get(..7).unwrap(),
            [
                "[1/5] Project identity",
                "[2/5] MinIO connectivity",
                "[3/5] Lock status",
                "[4/5] SQLite DB health",
                "[5/5] Worker health",
                "[+] Hooks",
                "[+] Leadership"
            ]
        );
        let mut names: Vec<_> =
            GROUPS.iter().flat_map(|group| group.checks).map(|check| check.name).collect();
        for group in GROUPS {
            let known = |name: &&str| group.checks.iter().any(|check| check.name == *name);
            assert!(group.told.iter().all(known), "{}", group.heading);
        }
        assert!(
            GROUPS.iter().flat_map(|group| group.checks).all(|check| !check.remedy.is_empty()),
            "every check has a remedy"
        );
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all, "no name stands twice");
    }

    #[test]
    fn the_worst_finding_makes_the_status() {
        use Level::{Error, Info, Ok, Skipped, Warning};
        let status = |levels: &[Level]| {
            let checked: Vec<_> = levels
                .iter()
                .map(|level| Checked { group: "g", name: "n", finding: Finding::new(*level, "t") })
                .collect();
            Status::of(&checked).line()
        };
        let table: [(&[Level], &str); 5] = [
            (&[], "STATUS: OK — READY FOR PRODUCTION"),
            (&[Ok, Info, Skipped], "STATUS: OK — READY FOR PRODUCTION"),
            (&[Ok, Warning], "STATUS: DEGRADED — 1 warning above"),
            (&[Warning, Warning], "STATUS: DEGRADED — 2 warnings above"),
            (&[Warning, Error], "STATUS: ERROR"),
        ];
        for (levels, line) in table {
            assert_eq!(status(levels), line);
        }
    }
}
