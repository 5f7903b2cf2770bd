//! How the findings are laid out for people: problems first, each with its remedy; then the groups under their headings, in
//! which what is fine stands in one line. Pure; prints nothing.

use super::finding::{Finding, Level};
use super::{Checked, GROUPS};
use crate::amount::count;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// A title or a heading.
    Heading(String),
    /// What a check found, or several that are fine.
    Found(Level, String),
    /// What to type or look at.
    Remedy(String),
    /// Between the problems and the groups.
    Gap,
}

/// The lines; `whole`: each check has its own, also where it is fine.
pub fn lines(checked: &[Checked], whole: bool) -> Vec<Line> {
    let mut lines = problems(checked);
    for group in GROUPS {
        lines.push(Line::Heading(group.heading.to_owned()));
        let checks: Vec<&Checked> = checked.iter().filter(|one| one.group == group.heading).collect();
        if whole {
            lines.extend(checks.iter().map(|one| found(&one.finding)));
        } else {
            lines.extend(folded(&checks, group.told));
        }
    }
    lines
}

fn found(finding: &Finding) -> Line {
    Line::Found(finding.level, finding.text.clone())
}

/// What somebody should look at, errors first; a remedy that several have in common stands once.
fn problems(checked: &[Checked]) -> Vec<Line> {
    let at = |level| checked.iter().filter(move |one| one.finding.level == level);
    let problems: Vec<&Checked> = at(Level::Error).chain(at(Level::Warning)).collect();
    if problems.is_empty() {
        return Vec::new();
    }
    let title = count(problems.len() as u64, "thing to look at", "things to look at");
    let mut lines = vec![Line::Heading(format!("{title}:"))];
    for (index, one) in problems.iter().enumerate() {
        lines.push(found(&one.finding));
        let next = problems.get(index + 1).and_then(|next| next.finding.remedy.as_ref());
        if next != one.finding.remedy.as_ref() {
            lines.extend(one.finding.remedy.clone().map(Line::Remedy));
        }
    }
    lines.push(Line::Gap);
    lines
}

/// One line for what is fine: the texts that are told, and how many others there are; then everything else. What is told
/// keeps its place: behind a label that is not fine each has its own line.
fn folded(checks: &[&Checked], told: &[&str]) -> Vec<Line> {
    let (mut said, mut more, mut rest) = (Vec::new(), 0_u64, Vec::new());
    let mut in_order = true;
    for one in checks {
        let (is_told, fine) = (told.contains(&one.name), one.finding.level == Level::Ok);
        match (fine, is_told) {
            (true, true) if in_order => said.push(one.finding.text.clone()),
            (true, false) => more += 1,
            _ => {
                in_order &= !is_told;
                rest.push(found(&one.finding));
            }
        }
    }
    match (said.is_empty(), more) {
        (_, 0) => {}
        (true, more) => said.push(count(more, "check", "checks")),
        (false, more) => said.push(format!("{more} more")),
    }
    let fine = (!said.is_empty()).then(|| Line::Found(Level::Ok, said.join("; ")));
    fine.into_iter().chain(rest).collect()
}

#[cfg(test)]
mod tests {
    use super::{Line, lines};
    use crate::doctor::{Checked, Finding, Level};

    fn checked(group: &'static str, name: &'static str, level: Level, text: &str) -> Checked {
        let finding = Finding::new(level, text);
        let finding = if level < Level::Warning { finding } else { finding.remedy("membridge sync") };
        Checked { group, name, finding }
    }

    fn told(checked: &[Checked], whole: bool) -> Vec<String> {
        let lines = lines(checked, whole).into_iter().filter_map(|line| match line {
            Line::Heading(text) if text.starts_with('[') => None,
            Line::Heading(text) | Line::Remedy(text) => Some(text),
            Line::Found(level, text) => Some(format!("{} {text}", level.word())),
            Line::Gap => None,
        });
        lines.collect()
    }

    #[test]
    fn what_is_fine_is_one_line_and_problems_come_first() {
        const GROUP: &str = "[+] Leadership";
        let role = checked(GROUP, "role", Level::Ok, "role: primary");
        let primary = checked(GROUP, "primary", Level::Ok, "primary: alpha");
        let lease = checked(GROUP, "lease", Level::Ok, "lease: valid");
        let all = [role, primary, lease];
        assert_eq!(told(&all, false), ["ok role: primary; primary: alpha; 1 more"]);
        assert_eq!(told(&all, true), ["ok role: primary", "ok primary: alpha", "ok lease: valid"]);
        let [role, _, lease] = all;
        let primary = checked(GROUP, "primary", Level::Warning, "primary: beta");
        let epoch = checked(GROUP, "epoch", Level::Error, "epoch: 2");
        assert_eq!(
            told(&[role, primary, epoch, lease], false),
            [
                "2 things to look at:",
                "error epoch: 2",
                "warning primary: beta",
                "membridge sync",
                "ok role: primary; 1 more",
                "warning primary: beta",
                "error epoch: 2",
            ],
            "labels stay in their order"
        );
    }

    #[test]
    fn a_label_that_is_fine_stays_behind_one_that_is_not() {
        const GROUP: &str = "[+] Leadership";
        let all = [
            checked(GROUP, "role", Level::Skipped, "role: unknown"),
            checked(GROUP, "primary", Level::Ok, "primary: alpha"),
            checked(GROUP, "lease", Level::Info, "lease: ran out"),
        ];
        assert_eq!(told(&all, false), ["skipped role: unknown", "ok primary: alpha", "info lease: ran out"]);
    }

    #[test]
    fn a_group_of_which_nothing_is_told_is_counted() {
        let hook = |name| checked("[+] Hooks", name, Level::Ok, "SessionStart: there");
        assert_eq!(told(&[hook("hook_session_start"), hook("hook_stop")], false), ["ok 2 checks"]);
    }
}
