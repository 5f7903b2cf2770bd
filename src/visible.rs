//! Text that came from elsewhere, made fit for a terminal or a log: it shows, and is not obeyed. Knows nothing of what
//! it says.

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

#[cfg(test)]
mod tests {
    use super::clean;

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
