//! Reads config.env: the subset of shell that people's files really use (assignments, `export`, quotes,
//! `$NAME`, `${NAME}`, `~`, comments). Never runs anything; what it cannot read it refuses with the line number.
//! A pure function of the text and a look-up for variables.

use std::collections::BTreeMap;

/// What is wrong with a line of the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct EnvFileError {
    /// Counted from 1.
    pub line: usize,
    /// One sentence.
    pub problem: String,
}

/// Parses the text of a config.env. `lookup` answers `$NAME` for names that the file itself did not set before.
///
/// # Errors
/// The first line that does more than set variables, has an open quote or a bad name, asks for command substitution, or
/// holds bytes that are not UTF-8 outside a comment.
pub fn parse(
    text: impl AsRef<[u8]>,
    lookup: impl Fn(&str) -> Option<String>,
) -> Result<BTreeMap<String, String>, EnvFileError> {
    let mut values = BTreeMap::new();
    let text = text.as_ref();
    let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
    for (index, raw) in text.split(|byte| *byte == b'\n').enumerate() {
        // What is not UTF-8 may stand in a comment; it is looked for in what was read.
        let line = String::from_utf8_lossy(raw);
        let known = |name: &str| values.get(name).cloned().or_else(|| lookup(name));
        let read = assignments(line.trim(), &known);
        let broken = std::str::from_utf8(raw).is_err();
        let read = read.and_then(|assigned| {
            let mangled =
                |(name, value): &(String, String)| [name, value].iter().any(|text| text.contains('\u{fffd}'));
            if broken && assigned.iter().any(mangled) {
                return Err("holds bytes that are not UTF-8: save the file as UTF-8".to_owned());
            }
            Ok(assigned)
        });
        let assigned = read.map_err(|problem| EnvFileError { line: index + 1, problem })?;
        values.extend(assigned);
    }
    Ok(values)
}

/// What one line sets. Exporting is what we do with every variable, so `export NAME` and `set -a` change nothing.
fn assignments(line: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Vec<(String, String)>, String> {
    let mut assigned: Vec<(String, String)> = Vec::new();
    let (words, exported) = match line.strip_prefix("export") {
        Some(rest) if rest.starts_with([' ', '\t']) => (rest.trim_start(), true),
        _ => (line, false),
    };
    if let Some(rest) = line.strip_prefix("set ")
        && matches!(without_comment(rest), "-a" | "+a" | "-o allexport" | "+o allexport")
    {
        return Ok(assigned);
    }
    let mut rest = words;
    while !rest.is_empty() && !rest.starts_with('#') {
        let bare = rest.split([' ', '\t']).next().unwrap_or_default();
        if exported && is_name(bare) {
            rest = rest.strip_prefix(bare).unwrap_or_default().trim_start();
            continue;
        }
        let found = rest.split_once('=');
        // A second word that is no assignment is a value with a space in it, or a command.
        if !assigned.is_empty() && !found.is_some_and(|(name, _)| is_name(name)) {
            return Err("has a space outside quotes: put the value in double quotes".to_owned());
        }
        let (name, value) = found.ok_or("expected NAME=value, a comment or an empty line")?;
        if !is_name(name) {
            return Err(format!("'{name}' is not a variable name (no spaces around '=')"));
        }
        // As in a shell: `A=1 B=$A` sees the new A, `export A=1 B=$A` the old one.
        let known = |wanted: &str| {
            let earlier = assigned.iter().rev().filter(|_| !exported);
            let earlier = earlier.into_iter().find(|(name, _)| name == wanted);
            earlier.map(|(_, value)| value.clone()).or_else(|| lookup(wanted))
        };
        let (value, behind) = expand(value, &known)?;
        assigned.push((name.to_owned(), value));
        rest = behind.trim_start();
    }
    Ok(assigned)
}

fn without_comment(text: &str) -> &str {
    text.split_once(" #").map_or(text, |(text, _)| text).trim()
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Where in a value the reader is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Quote {
    None,
    Single,
    Double,
}

/// The value that a word stands for, and what follows the word.
fn expand<'a>(raw: &'a str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<(String, &'a str), String> {
    const SUBSTITUTION: &str = "command substitution is not supported: write the value itself, or set the variable in the environment";
    let mut out = String::new();
    let mut quote = Quote::None;
    let mut rest = raw.chars();
    // Where a shell looks for '~': at the start of a value, and behind an unquoted ':'.
    let mut at_start = true;
    while let Some(c) = rest.next() {
        let tilde = std::mem::replace(&mut at_start, quote == Quote::None && c == ':');
        match (quote, c) {
            (Quote::Single, '\'') | (Quote::Double, '"') => quote = Quote::None,
            (Quote::Single, _) => out.push(c),
            (Quote::None, '\'') => quote = Quote::Single,
            (Quote::None, '"') => quote = Quote::Double,
            (Quote::None, '~') if tilde => out.push_str(&home(rest.as_str(), lookup)?),
            (_, '`') => return Err(SUBSTITUTION.to_owned()),
            (Quote::Double, '\\') => match rest.next() {
                Some(escaped @ ('"' | '\\' | '$' | '`')) => out.push(escaped),
                Some(other) => out.extend(['\\', other]),
                None => return Err("ends with a backslash".to_owned()),
            },
            (Quote::None, '\\') => out.push(rest.next().ok_or("ends with a backslash")?),
            (_, '$') => match rest.as_str().chars().next() {
                Some('(') => return Err(SUBSTITUTION.to_owned()),
                Some('{') => {
                    rest.next();
                    let (inside, behind) = rest
                        .as_str()
                        .split_once('}')
                        .ok_or("'${' is opened and not closed on the same line")?;
                    rest = behind.chars();
                    out.push_str(&braced(inside, lookup)?);
                }
                // Shells disagree about these.
                Some(mark @ ('\'' | '"')) if quote == Quote::None => {
                    return Err(format!("${mark}…{mark} is not supported: use plain quotes"));
                }
                Some(c) if c.is_ascii_alphabetic() || c == '_' => {
                    let from = rest.as_str();
                    let end = from.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                    let (name, behind) = from.split_at(end.unwrap_or(from.len()));
                    rest = behind.chars();
                    out.push_str(&lookup(name).unwrap_or_default());
                }
                _ => out.push('$'),
            },
            (Quote::None, ' ' | '\t') => return Ok((out, rest.as_str())),
            (Quote::None, ';' | '&' | '|' | '<' | '>' | '(' | ')') => {
                return Err(format!("has '{c}' outside quotes: put the value in single quotes"));
            }
            _ => out.push(c),
        }
    }
    match quote {
        Quote::None => Ok((out, "")),
        Quote::Single | Quote::Double => Err("a quote is opened and not closed on the same line".to_owned()),
    }
}

/// What an unquoted `~` stands for, by what follows it.
fn home(behind: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    match behind.chars().next() {
        None | Some('/' | ':' | ' ' | '\t') => {
            lookup("HOME").ok_or_else(|| "'~' needs HOME, which is not set".to_owned())
        }
        Some(c) if c.is_alphanumeric() || matches!(c, '_' | '.' | '+' | '-') => {
            Err("'~name' is not supported: write the path itself".to_owned())
        }
        Some(_) => Ok("~".to_owned()),
    }
}

fn braced(inside: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    if !is_name(name) || default.is_some_and(|text| text.contains(['$', '`', '"', '\'', '\\', '~'])) {
        return Err(format!("'${{{inside}}}' is not supported: only ${{NAME}} and ${{NAME:-plain text}}"));
    }
    Ok(lookup(name)
        .filter(|value| !value.is_empty())
        .unwrap_or_else(|| default.unwrap_or_default().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::parse;

    fn home(name: &str) -> Option<String> {
        (name == "HOME").then(|| "/home/ann".to_owned())
    }

    #[test]
    fn reads_what_people_write() {
        let table = [
            ("A=1", "1"),
            ("export A=1", "1"),
            ("export\tA=1", "1"),
            ("  A=1  ", "1"),
            ("A=", ""),
            ("A='x $HOME'", "x $HOME"),
            ("A=\"$HOME/db\"", "/home/ann/db"),
            ("A=$HOME/.claude-mem/claude-mem.db", "/home/ann/.claude-mem/claude-mem.db"),
            ("A=${HOME}/x", "/home/ann/x"),
            ("A=${NOPE:-plain}", "plain"),
            ("A=~/x", "/home/ann/x"),
            ("A=\"~/x\"", "~/x"),
            ("A=x # comment", "x"),
            ("A=x#y", "x#y"),
            ("A=\"a # b\"", "a # b"),
            ("A='it'\\''s'", "it's"),
            ("A=\"q\\\"q\"", "q\"q"),
            ("A=pa$$", "pa$$"),
            ("A=a=b=c", "a=b=c"),
            ("B=/x\nA=$B/y", "/x/y"),
            ("A=1\r\n", "1"),
            ("\u{feff}A=1", "1"),
            ("A=сад", "сад"),
            ("export A=1 B=2", "1"),
            ("export B=2 A=1 # both", "1"),
            ("B=2 A=1", "1"),
            ("A=0\nexport A", "0"),
            ("A=0\nexport B A # again", "0"),
            ("B=/x A=$B/y", "/x/y"),
            ("B=old\nexport B=new A=$B", "old"),
            ("set -a\nA=1\nset +a", "1"),
            ("set -a # all\nA=1", "1"),
            ("set -o allexport\nA=1", "1"),
            ("A=a:~/x:b", "a:/home/ann/x:b"),
            ("A=~:x", "/home/ann:x"),
            ("A=~", "/home/ann"),
            ("A=a~/x", "a~/x"),
            ("A=~\"/x\"", "~/x"),
            ("A='a:'~/x", "a:~/x"),
            ("A=\"$'x'\"", "$'x'"),
            ("A=${HOME}${HOME}", "/home/ann/home/ann"),
        ];
        for (text, value) in table {
            assert_eq!(parse(text, home).unwrap().get("A").map(String::as_str), Some(value), "{text}");
        }
    }

    #[test]
    fn other_bytes_than_utf8_may_stand_in_comments_only() {
        let table: [(&[u8], Result<&str, usize>); 6] = [
            (b"# caf\xe9\nA=1", Ok("1")),
            (b"A=1 # caf\xe9", Ok("1")),
            (b"A='1' # caf\xe9\n", Ok("1")),
            (b"\nA=caf\xe9", Err(2)),
            (b"A=1\nB=\"caf\xe9\"", Err(2)),
            (b"A\xe9=1", Err(1)),
        ];
        for (text, expected) in table {
            let got = parse(text, home);
            let shown = String::from_utf8_lossy(text);
            match expected {
                Ok(value) => assert_eq!(got.unwrap().get("A").map(String::as_str), Some(value), "{shown}"),
                Err(line) => assert_eq!(got.unwrap_err().line, line, "{shown}"),
            }
        }
    }

    #[test]
    fn refuses_what_it_cannot_read_with_the_line_number() {
        let table = [
            ("A=$(hostname)", 1, "command substitution"),
            ("A=\"$(hostname)\"", 1, "command substitution"),
            ("# c\nA=`x`", 2, "command substitution"),
            ("A=\"open", 1, "quote"),
            ("A='open", 1, "quote"),
            ("A=two words", 1, "space"),
            ("A = 1", 1, "not a variable name"),
            ("1A=1", 1, "not a variable name"),
            ("source other.env", 1, "expected NAME=value"),
            ("A=1; rm -rf x", 1, "outside quotes"),
            ("A=${HOME%/}", 1, "not supported"),
            ("A=x\\", 1, "backslash"),
            ("A=${HOME", 1, "not closed"),
            ("A=\"${HOME\"", 1, "not closed"),
            ("A=$'x'", 1, "plain quotes"),
            ("A=$\"x\"", 1, "plain quotes"),
            ("A=~bob/x", 1, "'~name'"),
            ("A=a:~bob/x", 1, "'~name'"),
            ("A=${B:-~/x}", 1, "not supported"),
            ("export A=two words=x;", 1, "outside quotes"),
            ("export -n A", 1, "expected NAME=value"),
            ("A=1\nset -e", 2, "expected NAME=value"),
            ("set -a; A=1", 1, "not a variable name"),
        ];
        for (text, line, problem) in table {
            let error = parse(text, home).unwrap_err();
            assert_eq!(error.line, line, "{text}");
            assert!(error.problem.contains(problem), "{text}: {error}");
        }
    }
}
