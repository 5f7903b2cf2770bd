//! The questions of `config init`, and whether an answer can be used: by the same rules by which the settings are read. Asks
//! no store.

use std::path::Path;

use super::super::answers;
use crate::config::paths::expand_home;
use crate::config::{Config, Settings, Source};

/// A question to the person, for a setting that nothing else has answered.
pub(super) struct Question {
    pub(super) name: &'static str,
    pub(super) text: &'static str,
    pub(super) hidden: bool,
}

impl Question {
    /// As it is asked.
    pub(super) fn asked(&self) -> answers::Question<'static> {
        answers::Question { text: self.text, hidden: self.hidden }
    }
}

const fn question(name: &'static str, text: &'static str) -> Question {
    Question { name, text, hidden: false }
}

/// Where the memory is kept; answered together, because only together they can be tried.
pub(super) const STORE: [Question; 4] = [
    question(
        ENDPOINT,
        "Where is the memory kept? A server (https://host:port) or a folder that all machines see (/mnt/nas)",
    ),
    question("MINIO_ACCESS_KEY", "Access key"),
    Question { name: "MINIO_SECRET_KEY", text: "Secret key (not shown)", hidden: true },
    question("MINIO_BUCKET", "Bucket"),
];

/// Whose memory it is, and where it lies here.
pub(super) const MEMORY: [Question; 2] = [
    question("CLAUDE_PROJECT_ID", "Project name, the same on all of your machines"),
    question(DATABASE, "claude-mem's database"),
];

/// For the first machine of a project; a setting of the whole fleet, kept in the store.
pub(super) const PYTHON: answers::Question<'static> =
    answers::Question { text: "Does one of your machines still run the Python script?", hidden: false };

/// What Enter alone stands for there.
pub(super) const NO: &str = "no";

const ENDPOINT: &str = "MINIO_ENDPOINT";
const DATABASE: &str = "CLAUDE_MEM_DB";

/// Whether the answers so far name a folder, which needs no keys.
pub(super) fn is_folder(settings: &Settings) -> bool {
    settings.get(ENDPOINT).is_some_and(|url| url.starts_with("file://"))
}

/// What Enter alone stands for where nothing is set.
pub(super) fn default(question: &Question, home: &Path) -> Option<String> {
    (question.name == DATABASE).then(|| home.join(".claude-mem/claude-mem.db").display().to_string())
}

/// The value that an answer stands for.
///
/// # Errors
/// Why it cannot be used, in a sentence.
pub(super) fn understood(name: &'static str, answer: &str, settings: &Settings) -> Result<String, String> {
    let value = match name {
        ENDPOINT => endpoint(answer, &settings.home)?,
        DATABASE => expand_home(answer, &settings.home).display().to_string(),
        _ => answer.to_owned(),
    };
    let mut with = settings.clone();
    with.set(name, value.clone(), Source::File);
    sound(&with)?;
    match name {
        ENDPOINT => folder(&value)?,
        DATABASE => database(Path::new(&value))?,
        _ => {}
    }
    Ok(value)
}

/// Whether what is set can be used; what is not set yet is taken for something that can.
///
/// # Errors
/// The first thing that cannot.
pub(super) fn sound(settings: &Settings) -> Result<(), String> {
    let mut with = settings.clone();
    for name in STORE.iter().chain(&MEMORY).map(|question| question.name) {
        let stands_in = match name {
            ENDPOINT => "https://store.example",
            DATABASE => "/claude-mem.db",
            _ => "x",
        };
        if with.get(name).is_none() {
            with.set(name, stands_in.to_owned(), Source::Default);
        }
    }
    Config::new(&with).map(drop).map_err(|error| error.to_string())
}

/// A folder may be written as folders are.
fn endpoint(answer: &str, home: &Path) -> Result<String, String> {
    if answer == "~" || answer.starts_with("~/") || answer.starts_with('/') {
        let path = if answer == "~" { home.to_owned() } else { expand_home(answer, home) };
        // In a URL a percent sign begins a character.
        return Ok(format!("file://{}", path.display().to_string().replace('%', "%25")));
    }
    if answer.contains("://") {
        return Ok(answer.to_owned());
    }
    Err(format!(
        "'{answer}' is neither a server nor a folder: https://{answer}, http://{answer} or /{answer}?"
    ))
}

/// Whether an answer is a yes.
///
/// # Errors
/// It is neither.
pub(super) fn yes_or_no(answer: &str) -> Result<bool, &'static str> {
    match answer.to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(true),
        "n" | NO => Ok(false),
        _ => Err("yes or no?"),
    }
}

/// What was settled about the copy for Python nodes, and how it is changed.
pub(super) fn about_copy(on: bool) -> &'static str {
    if on {
        "copy for Python nodes: sent with each push; when the last of them is gone: membridge mirror off"
    } else {
        "copy for Python nodes: none; should one come: membridge mirror on"
    }
}

/// Whether a folder is there: an unmounted disk must not become a new store.
fn folder(url: &str) -> Result<(), String> {
    let Some(path) = url.strip_prefix("file://") else {
        return Ok(());
    };
    let path = percent_encoding::percent_decode_str(path).decode_utf8_lossy().into_owned();
    if Path::new(&path).is_dir() {
        return Ok(());
    }
    Err(format!("there is no folder {path}: make it first, or mount the disk"))
}

/// Whether it can be claude-mem's database; one that is not there yet can.
fn database(path: &Path) -> Result<(), String> {
    use std::io::Read;
    let shown = path.display();
    if path.is_dir() {
        return Err(format!("{shown} is a folder: the file in it is called claude-mem.db"));
    }
    let mut start = [0_u8; 16];
    match std::fs::File::open(path).and_then(|mut file| file.read(&mut start)) {
        Ok(0) | Err(_) => Ok(()),
        Ok(_) if start == *b"SQLite format 3\0" => Ok(()),
        Ok(_) => Err(format!("{shown} is no SQLite database")),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{sound, understood, yes_or_no};
    use crate::config::{Environment, Settings, Source};

    #[test]
    fn a_yes_and_a_no_are_told_from_anything_else() {
        for (answer, wanted) in [("y", Ok(true)), ("Yes", Ok(true)), ("N", Ok(false)), ("no", Ok(false))] {
            assert_eq!(yes_or_no(answer), wanted, "{answer}");
        }
        for neither in ["", "perhaps", "yess"] {
            assert!(yes_or_no(neither).is_err(), "{neither}");
        }
    }

    #[test]
    fn an_answer_is_understood_or_refused_when_it_is_given() {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = Settings::without_file(&BTreeMap::new(), &Environment::default(), None);
        settings.home = folder.path().to_owned();
        let home = folder.path().to_str().unwrap();
        std::fs::create_dir(folder.path().join("100%nas")).unwrap();
        std::fs::write(folder.path().join("notes.txt"), "a text of some length").unwrap();
        std::fs::write(folder.path().join("real.db"), b"SQLite format 3\0and more").unwrap();
        let table = [
            ("MINIO_ENDPOINT", "~/100%nas", Ok(format!("file://{home}/100%25nas"))),
            ("MINIO_ENDPOINT", "~", Ok(format!("file://{home}"))),
            ("MINIO_ENDPOINT", home, Ok(format!("file://{home}"))),
            ("MINIO_ENDPOINT", "/nowhere/at/all", Err("there is no folder")),
            ("MINIO_ENDPOINT", "file:///nowhere/at/all", Err("there is no folder")),
            ("MINIO_ENDPOINT", "nas.home:9000", Err("neither a server nor a folder")),
            ("MINIO_ENDPOINT", "ftp://nas", Err("must start with")),
            ("MINIO_ENDPOINT", "https://", Err("MINIO_ENDPOINT")),
            ("MINIO_ENDPOINT", "https://nas:9000", Ok("https://nas:9000".to_owned())),
            ("MINIO_BUCKET", "a/b", Err("is not the name of a bucket")),
            ("MINIO_BUCKET", "memory", Ok("memory".to_owned())),
            ("CLAUDE_PROJECT_ID", "me\tm", Err("control character")),
            ("CLAUDE_MEM_DB", "~/real.db", Ok(format!("{home}/real.db"))),
            ("CLAUDE_MEM_DB", "~/not-yet.db", Ok(format!("{home}/not-yet.db"))),
            ("CLAUDE_MEM_DB", "~/notes.txt", Err("is no SQLite database")),
            ("CLAUDE_MEM_DB", "~/100%nas", Err("is a folder")),
        ];
        for (name, answer, wanted) in table {
            match (understood(name, answer, &settings), wanted) {
                (Ok(value), Ok(wanted)) => assert_eq!(value, wanted, "{answer}"),
                (Err(why), Err(part)) => assert!(why.contains(part), "{answer}: {why}"),
                (got, wanted) => panic!("{name} {answer}: {got:?} instead of {wanted:?}"),
            }
        }
        assert_eq!(sound(&settings), Ok(()));
        settings.set("LOCK_TTL_SECONDS", "soon".to_owned(), Source::Environment);
        assert!(sound(&settings).is_err_and(|why| why.contains("LOCK_TTL_SECONDS")));
    }
}
