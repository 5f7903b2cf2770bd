//! Makes output comparable: replaces what differs from run to run. Pure.

/// Ports, times, epochs, long hashes.
pub fn normalise(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut inside_word = false;
    while let Some(first) = rest.chars().next() {
        if !inside_word && let Some((length, name)) = recognise(rest) {
            out += name;
            rest = &rest[length..];
            continue;
        }
        out.push(first);
        inside_word = first.is_alphanumeric();
        rest = &rest[first.len_utf8()..];
    }
    out
}

fn recognise(text: &str) -> Option<(usize, &'static str)> {
    if let Some(port) = text.strip_prefix("127.0.0.1:").map(digits).filter(|length| *length > 0) {
        return Some(("127.0.0.1:".len() + port, "127.0.0.1:[PORT]"));
    }
    if let Some(length) = shaped(text, "dddd-dd-ddTdd:dd:dd").or_else(|| shaped(text, "dddd-dd-dd dd:dd:dd"))
    {
        let mut end = length;
        if text[end..].starts_with('.') {
            end += 1 + digits(&text[end + 1..]);
        }
        for zone in ["Z", "+00:00", " UTC"] {
            if text[end..].starts_with(zone) {
                end += zone.len();
                break;
            }
        }
        return Some((end, "[TIME]"));
    }
    if let Some(length) = ago(text) {
        return Some((length, "[AGO]"));
    }
    for shape in ["ddddddddTddddddZ", "dddddddd-dddddd"] {
        if let Some(length) = shaped(text, shape).filter(|length| ends_word(&text[*length..])) {
            return Some((length, "[TIME]"));
        }
    }
    let hex = text.bytes().take_while(u8::is_ascii_hexdigit).count();
    if hex >= 32 && ends_word(&text[hex..]) {
        return Some((hex, "[HASH]"));
    }
    let epoch = digits(text) == 10 && text.starts_with(['1', '2']) && ends_word(&text[10..]);
    epoch.then_some((10, "[EPOCH]"))
}

/// `just now`, `5 minutes ago (14:03)`, `2 days ago (22 Nov 14:03)`.
fn ago(text: &str) -> Option<usize> {
    const NOW: &str = "just now";
    if text.starts_with(NOW) {
        return Some(NOW.len());
    }
    let (number, rest) = text.split_at(digits(text));
    let word = rest.strip_prefix(' ')?.split(' ').next()?;
    let known = ["minute", "hour", "day"].iter().any(|unit| word.trim_end_matches('s') == *unit);
    let mut end = number.len() + 1 + word.len() + " ago".len();
    if number.is_empty() || !known || !text.get(..end)?.ends_with(" ago") {
        return None;
    }
    if let Some(inside) = text[end..].strip_prefix(" (").and_then(|rest| rest.split_once(')')) {
        end += inside.0.len() + 3;
    }
    Some(end)
}

fn ends_word(rest: &str) -> bool {
    !rest.starts_with(char::is_alphanumeric)
}

fn digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

/// Matches a shape in which `d` is any digit and other characters are themselves.
fn shaped(text: &str, shape: &str) -> Option<usize> {
    let fits = |(have, want): (u8, u8)| {
        if want == b'd' { have.is_ascii_digit() } else { have == want }
    };
    (text.len() >= shape.len() && text.bytes().zip(shape.bytes()).all(fits)).then_some(shape.len())
}
