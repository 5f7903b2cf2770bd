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
/// The first line that is not an assignment, has an open quote or a bad name, or asks for command substitution.
pub fn parse(
    text: &str,
    lookup: impl Fn(&str) -> Option<String>,
) -> Result<BTreeMap<String, String>, EnvFileError> {
    let mut values = BTreeMap::new();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (index, raw) in text.lines().enumerate() {
        let fail = |problem: String| EnvFileError {
            line: index + 1,
            problem,
        };
        let line = raw.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line
            .strip_prefix("export")
            .and_then(|rest| rest.starts_with([' ', '\t']).then(|| rest.trim_start()))
            .unwrap_or(line);
        let (name, value) = line
            .split_once('=')
            .ok_or_else(|| fail("expected NAME=value, a comment or an empty line".to_owned()))?;
        if !is_name(name) {
            return Err(fail(format!(
                "'{name}' is not a variable name (no spaces around '=')"
            )));
        }
        let value = expand(value, &|variable| {
            values.get(variable).cloned().or_else(|| lookup(variable))
        })
        .map_err(fail)?;
        values.insert(name.to_owned(), value);
    }
    Ok(values)
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

fn expand(raw: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    const SUBSTITUTION: &str = "command substitution is not supported: write the value itself, or set the variable in the environment";
    let mut out = String::new();
    let mut quote = Quote::None;
    let mut rest = raw.chars().peekable();
    if raw == "~" || raw.starts_with("~/") {
        rest.next();
        out.push_str(&lookup("HOME").ok_or("'~' needs HOME, which is not set")?);
    }
    while let Some(c) = rest.next() {
        match (quote, c) {
            (Quote::Single, '\'') | (Quote::Double, '"') => quote = Quote::None,
            (Quote::Single, _) => out.push(c),
            (Quote::None, '\'') => quote = Quote::Single,
            (Quote::None, '"') => quote = Quote::Double,
            (_, '`') => return Err(SUBSTITUTION.to_owned()),
            (Quote::Double, '\\') => match rest.next() {
                Some(escaped @ ('"' | '\\' | '$' | '`')) => out.push(escaped),
                Some(other) => out.extend(['\\', other]),
                None => return Err("ends with a backslash".to_owned()),
            },
            (Quote::None, '\\') => out.push(rest.next().ok_or("ends with a backslash")?),
            (_, '$') => match rest.peek() {
                Some('(') => return Err(SUBSTITUTION.to_owned()),
                Some('{') => {
                    rest.next();
                    out.push_str(&braced(&mut rest, lookup)?);
                }
                Some(c) if c.is_ascii_alphabetic() || *c == '_' => {
                    let mut name = String::new();
                    while let Some(c) = rest.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
                        name.push(c);
                    }
                    out.push_str(&lookup(&name).unwrap_or_default());
                }
                _ => out.push('$'),
            },
            (Quote::None, ' ' | '\t') => {
                let tail: String = rest.collect();
                let tail = tail.trim_start();
                if tail.is_empty() || tail.starts_with('#') {
                    return Ok(out);
                }
                return Err("has a space outside quotes: put the value in double quotes".to_owned());
            }
            (Quote::None, ';' | '&' | '|' | '<' | '>' | '(' | ')') => {
                return Err(format!(
                    "has '{c}' outside quotes: put the value in single quotes"
                ));
            }
            _ => out.push(c),
        }
    }
    match quote {
        Quote::None => Ok(out),
        Quote::Single | Quote::Double => Err("a quote is opened and not closed on the same line".to_owned()),
    }
}

fn braced(
    rest: &mut std::iter::Peekable<std::str::Chars<'_>>,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<String, String> {
    let inside: String = rest.by_ref().take_while(|c| *c != '}').collect();
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside.as_str(), None),
    };
    if !is_name(name) || default.is_some_and(|text| text.contains(['$', '`', '"', '\''])) {
        return Err(format!(
            "'${{{inside}}}' is not supported: only ${{NAME}} and ${{NAME:-plain text}}"
        ));
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
            (
                "A=$HOME/.claude-mem/claude-mem.db",
                "/home/ann/.claude-mem/claude-mem.db",
            ),
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
        ];
        for (text, value) in table {
            assert_eq!(
                parse(text, home).unwrap().get("A").map(String::as_str),
                Some(value),
                "{text}"
            );
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
        ];
        for (text, line, problem) in table {
            let error = parse(text, home).unwrap_err();
            assert_eq!(error.line, line, "{text}");
            assert!(error.problem.contains(problem), "{text}: {error}");
        }
    }
}
