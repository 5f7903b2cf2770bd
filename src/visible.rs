//! Text that came from elsewhere, made fit for a terminal, a log or a command that is printed: it shows, and is not
//! obeyed. Knows nothing of what it says.

use std::path::Path;

/// Longer words than this are cut: no path or address of a person is, and a name could fill the screen.
const LONGEST_WORD: usize = 300;
/// So are longer lines, whatever they consist of.
const LONGEST_LINE: usize = 2_000;

/// The text with every control character made visible and what is too long cut, so that a host name or a project name
/// that came from the bucket can neither move the cursor, nor forge a line, nor push the rest off the screen.
pub fn clean(text: &str) -> String {
    let (mut shown, mut length, mut word) = (String::with_capacity(text.len().min(LONGEST_LINE)), 0, 0);
    for c in text.chars() {
        word = if c == ' ' { 0 } else { word + 1 };
        if word > LONGEST_WORD {
            continue;
        }
        if length == LONGEST_LINE || word == LONGEST_WORD {
            shown.push('…');
        } else {
            shown.push(if is_invisible(c) { '\u{fffd}' } else { c });
        }
        length += 1;
        if length > LONGEST_LINE {
            break;
        }
    }
    shown
}

/// Controls, and the marks that reorder text or hide in it.
pub fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// The text as one word of a POSIX shell, for a command that a person pastes: quoted where it needs to be.
pub fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+@:,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// A path as such a word; one that begins with a dash is no option.
pub fn shell_path(path: &Path) -> String {
    let text = path.to_string_lossy();
    if text.starts_with('-') { shell_word(&format!("./{text}")) } else { shell_word(&text) }
}

/// The same, short where it lies in the home directory and a shell takes `~/` for that.
pub fn shell_short(path: &Path, home: &Path) -> String {
    match path.strip_prefix(home).map(Path::to_string_lossy) {
        Ok(rest) if shell_word(&rest) == rest => format!("~/{rest}"),
        _ => shell_path(path),
    }
}

/// A path as people name it: `~/` for the home directory.
pub fn short_path(path: &Path, home: &Path) -> String {
    match path.strip_prefix(home) {
        Ok(rest) => format!("~/{}", rest.display()),
        Err(_) => path.display().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::{clean, shell_path, shell_short, shell_word};
    use std::path::Path;

    #[test]
    fn f69_a_word_of_a_command_is_one_word_to_a_shell() {
        for text in [
            "/home/ann/.claude-mem/claude-mem.db",
            "",
            "a b",
            "it's",
            "'",
            "$(touch x)`id`",
            "a\"b\\c!*?[]{}~#&;|<>",
            "сад",
            "a\nb",
            "~/x",
            "--help",
        ] {
            let script = format!("printf '%s' {}", shell_word(text));
            let said = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&said.stdout), text, "{script}");
        }
        assert_eq!(shell_word("/home/ann/x.db"), "/home/ann/x.db");
        assert_eq!(shell_path(Path::new("-rf x")), "'./-rf x'");
        let home = Path::new("/home/ann");
        for (path, short) in
            [("/home/ann/.x/y", "~/.x/y"), ("/home/ann/a b", "'/home/ann/a b'"), ("/y", "/y")]
        {
            assert_eq!(shell_short(Path::new(path), home), short);
        }
    }

    #[test]
    fn remote_text_cannot_move_the_cursor_or_forge_a_line() {
        let table = [
            ("alpha", "alpha"),
            ("a\nSTATUS: OK", "a\u{fffd}STATUS: OK"),
            ("\u{1b}[2Jx", "\u{fffd}[2Jx"),
            ("сад", "сад"),
            ("x\u{202e}y", "x\u{fffd}y"),
        ];
        for (raw, shown) in table {
            assert_eq!(clean(raw), shown);
        }
    }

    #[test]
    fn what_is_too_long_is_cut_and_the_rest_stays() {
        let long = "x".repeat(5_000);
        let shown = clean(&format!("held by {long} for 3s"));
        assert_eq!(shown.chars().count(), "held by  for 3s".len() + 300);
        assert!(shown.ends_with("x… for 3s"), "{shown}");
        let words = "x ".repeat(5_000);
        assert_eq!(clean(&words).chars().count(), 2_001);
        assert!(clean(&words).ends_with('…'));
        let fits = "y".repeat(299);
        assert_eq!(clean(&fits), fits);
    }
}
