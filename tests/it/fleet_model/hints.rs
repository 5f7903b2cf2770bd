//! The commands that the binary tells a person to type, out of what it prints.

/// Commands with a word behind them that is no flag.
const WITH_A_WORD: [&str; 7] = ["restore", "restore-backup", "promote", "demote", "mirror", "hooks", "diff"];
/// All that a hint may name; what else follows the program's name is prose.
const COMMANDS: [&str; 22] = [
    "push_sqlite",
    "pull_sqlite",
    "sync",
    "restore-backup",
    "restore",
    "log",
    "nodes",
    "history",
    "mirror",
    "diff",
    "verify",
    "doctor",
    "status",
    "config",
    "leadership_info",
    "promote",
    "demote",
    "print_project",
    "hooks",
    "watch",
    "validate-install",
    "install",
];
/// Those that can say what they would do.
const PLANNED: [&str; 6] = ["push_sqlite", "pull_sqlite", "sync", "restore", "restore-backup", "hooks"];

/// One command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Typed {
    /// `FORCE_PUSH=1`.
    pub settings: Vec<(String, String)>,
    pub words: Vec<String>,
}

impl Typed {
    /// What makes two hints the same advice.
    pub fn kind(&self) -> String {
        let flags = self.words.iter().enumerate().filter(|(at, word)| *at == 0 || word.starts_with('-'));
        let flags: Vec<&str> = flags.map(|(_, word)| word.as_str()).collect();
        let settings: Vec<&str> = self.settings.iter().map(|(name, _)| name.as_str()).collect();
        format!("{} {}", settings.join(" "), flags.join(" "))
    }

    /// As it can be tried without changing memory; `None` where it waits for a person or for ever.
    pub fn trial(mut self) -> Option<Typed> {
        match self.words[0].as_str() {
            "watch" | "install" | "config" => return None,
            planned if PLANNED.contains(&planned) => self.words.push("--dry-run".to_owned()),
            _ => {}
        }
        Some(self)
    }
}

/// The commands that a text names.
pub fn commands(text: &str) -> Vec<Typed> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let starts = words.iter().enumerate().filter(|(_, word)| **word == "membridge");
    starts.filter_map(|(at, _)| command(&words[..at], &words[at + 1..])).collect()
}

fn command(before: &[&str], after: &[&str]) -> Option<Typed> {
    let setting = |word: &&str| {
        let (name, value) = word.split_once('=')?;
        let shouted = name.chars().all(|c| c.is_ascii_uppercase() || c == '_');
        (shouted && !name.is_empty()).then(|| (name.to_owned(), value.to_owned()))
    };
    let settings = before.iter().rev().map_while(setting).collect();
    let mut words: Vec<String> = Vec::new();
    for word in after {
        let bare = word.trim_end_matches([',', ';', '.', ')', ':', '\'', '"']);
        let belongs = match words.as_slice() {
            [] => COMMANDS.contains(&bare),
            [command] => {
                bare.starts_with("--") || WITH_A_WORD.contains(&command.as_str()) && !bare.starts_with('[')
            }
            _ => bare.starts_with("--"),
        };
        if !belongs || bare.is_empty() {
            break;
        }
        words.push(bare.to_owned());
        if bare != *word {
            break;
        }
    }
    (!words.is_empty()).then_some(Typed { settings, words })
}

#[test]
fn commands_are_found_in_what_is_printed() {
    let typed = |text: &str| {
        let lines = commands(text).into_iter().map(|typed| {
            let settings: Vec<String> = typed.settings.iter().map(|(a, b)| format!("{a}={b}")).collect();
            format!("{}|{}", settings.join(" "), typed.words.join(" "))
        });
        lines.collect::<Vec<_>>()
    };
    let table = [
        ("share memory without pushing the image: membridge sync", vec!["|sync"]),
        (
            "if that was meant: membridge sync --accept-deletions, then FORCE_PUSH=1 membridge push_sqlite",
            vec!["|sync --accept-deletions", "FORCE_PUSH=1|push_sqlite"],
        ),
        ("if that was not meant: membridge restore 4", vec!["|restore 4"]),
        (
            "is in a backup only: membridge restore-backup 20260101-000000; and",
            vec!["|restore-backup 20260101-000000"],
        ),
        ("something deletes objects (see: membridge doctor)", vec!["|doctor"]),
        ("membridge is a program, and membridge sync is a command of it", vec!["|sync"]),
    ];
    for (text, wanted) in table {
        assert_eq!(typed(text), wanted, "{text}");
    }
}
