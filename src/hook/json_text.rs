//! Edits of a JSON text that leave every other byte as it is: append an item to a container, remove an item. Works on
//! text that serde_json has accepted; knows nothing of what the items mean. The crate jsonc-parser (0.34, feature cst) does
//! not take its place: it spreads an object of one line over several, and removing the item does not put that back.

use std::ops::Range;

use serde_json::Value;

/// An object or an array within a text.
#[derive(Debug)]
pub struct Container {
    /// Between the brackets.
    inside: Range<usize>,
    /// Members or elements, in order.
    pub items: Vec<Item>,
}

/// A member of an object or an element of an array.
#[derive(Debug)]
pub struct Item {
    /// The key of a member.
    pub key: Option<String>,
    /// Where it starts: the key's quote, or the value.
    start: usize,
    /// Where its value is.
    pub value: Range<usize>,
}

impl Container {
    /// The container that starts at this place; `None` where there is none.
    pub fn at(text: &str, start: usize) -> Option<Self> {
        let bytes = text.as_bytes();
        let keyed = match bytes.get(start)? {
            b'{' => true,
            b'[' => false,
            _ => return None,
        };
        let mut items = Vec::new();
        let mut at = skip_space(bytes, start + 1);
        while !matches!(bytes.get(at)?, b'}' | b']') {
            let item_start = at;
            let mut key = None;
            if keyed {
                let end = skip_value(bytes, at)?;
                key = serde_json::from_str(text.get(at..end)?).ok();
                at = skip_space(bytes, end);
                at = skip_space(bytes, at + 1);
            }
            let end = skip_value(bytes, at)?;
            items.push(Item { key, start: item_start, value: at..end });
            at = skip_space(bytes, end);
            if bytes.get(at)? == &b',' {
                at = skip_space(bytes, at + 1);
            }
        }
        Some(Self { inside: start + 1..at, items })
    }

    /// The container of the whole text.
    pub fn root(text: &str) -> Option<Self> {
        Self::at(text, skip_space(text.as_bytes(), 0))
    }

    /// The container under this key.
    pub fn child(&self, text: &str, key: &str) -> Option<Self> {
        let item = self.items.iter().rev().find(|item| item.key.as_deref() == Some(key))?;
        Self::at(text, item.value.start)
    }

    /// The text with one more item at the end.
    pub fn append(&self, text: &str, key: Option<&str>, value: &Value) -> Option<String> {
        let style = Style::of(text);
        let own = line_indent(text, self.inside.start);
        let spread = |start: usize| {
            text.get(..start).is_some_and(|before| before.trim_end_matches([' ', '\t']).ends_with('\n'))
        };
        let (at, indent, lead, tail) = match (self.items.first(), self.items.last()) {
            (Some(first), Some(last)) if spread(first.start) => {
                let indent = line_indent(text, first.start);
                let lead = format!(",{}{indent}", style.newline);
                (last.value.end..last.value.end, indent, lead, String::new())
            }
            (_, Some(last)) => (last.value.end..last.value.end, own, ", ".to_owned(), String::new()),
            (_, None) => {
                let indent = format!("{own}{}", style.unit);
                let lead = format!("{}{indent}", style.newline);
                (self.inside.clone(), indent, lead, format!("{}{own}", style.newline))
            }
        };
        let item = style.render(key, value, &indent)?;
        Some(format!("{}{lead}{item}{tail}{}", text.get(..at.start)?, text.get(at.end..)?))
    }

    /// The text without this item.
    pub fn remove(&self, text: &str, index: usize) -> Option<String> {
        let item = self.items.get(index)?;
        let cut = if self.items.len() == 1 {
            self.inside.clone()
        } else if let Some(before) = index.checked_sub(1).and_then(|before| self.items.get(before)) {
            before.value.end..item.value.end
        } else {
            item.start..self.items.get(1)?.start
        };
        Some(format!("{}{}", text.get(..cut.start)?, text.get(cut.end..)?))
    }
}

/// How the text is laid out.
struct Style {
    unit: String,
    newline: &'static str,
}

impl Style {
    fn of(text: &str) -> Self {
        let unit = text
            .lines()
            .skip(1)
            .map(|line| line.chars().take_while(|c| matches!(c, ' ' | '\t')).collect::<String>())
            .find(|indent| !indent.is_empty());
        Self {
            unit: unit.unwrap_or_else(|| "  ".to_owned()),
            newline: if text.contains("\r\n") { "\r\n" } else { "\n" },
        }
    }

    fn render(&self, key: Option<&str>, value: &Value, indent: &str) -> Option<String> {
        let mut out = Vec::new();
        let formatter = serde_json::ser::PrettyFormatter::with_indent(self.unit.as_bytes());
        let mut serializer = serde_json::Serializer::with_formatter(&mut out, formatter);
        serde::Serialize::serialize(value, &mut serializer).ok()?;
        let value = String::from_utf8(out).ok()?.replace('\n', &format!("{}{indent}", self.newline));
        Some(match key {
            Some(key) => format!("{}: {value}", Value::from(key)),
            None => value,
        })
    }
}

/// The white space that the line around this place starts with.
fn line_indent(text: &str, at: usize) -> String {
    let before = text.get(..at).unwrap_or_default();
    let line = before.rsplit('\n').next().unwrap_or_default();
    line.chars().take_while(|c| matches!(c, ' ' | '\t')).collect()
}

fn skip_space(bytes: &[u8], mut at: usize) -> usize {
    while bytes.get(at).is_some_and(u8::is_ascii_whitespace) {
        at += 1;
    }
    at
}

/// The place after the value that starts here.
fn skip_value(bytes: &[u8], start: usize) -> Option<usize> {
    let mut depth = 0_usize;
    let mut at = start;
    loop {
        match bytes.get(at)? {
            b'"' => at = skip_string(bytes, at)?,
            b'{' | b'[' => {
                depth += 1;
                at += 1;
            }
            b'}' | b']' => {
                depth = depth.checked_sub(1)?;
                at += 1;
            }
            _ if depth > 0 => at += 1,
            _ => {
                while bytes
                    .get(at)
                    .is_some_and(|c| !matches!(c, b',' | b'}' | b']') && !c.is_ascii_whitespace())
                {
                    at += 1;
                }
                return Some(at);
            }
        }
        if depth == 0 {
            return Some(at);
        }
    }
}

fn skip_string(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start + 1;
    loop {
        match bytes.get(at)? {
            b'\\' => at += 2,
            b'"' => return Some(at + 1),
            _ => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Container;
    use serde_json::{Value, json};

    const TEXTS: &[&str] = &[
        "{}",
        "{\"a\": 1}",
        "{\n  \"a\": [1, {\"b\": \"}]\\\"\"}],\n  \"c\": {}\n}\n",
        "{\r\n\t\"a\": true,\r\n\t\"c\": {\r\n\t\t\"d\": null\r\n\t}\r\n}",
        "\n\n{ \"a\" : -1.5e3 , \"ключ\": \"\\u007b\" }",
    ];

    #[test]
    fn an_appended_item_is_there_and_removing_it_restores_every_byte() {
        for text in TEXTS {
            let root = Container::root(text).unwrap();
            let value = json!({"x": [1, "two"]});
            let longer = root.append(text, Some("new"), &value).unwrap();
            let parsed: Value = serde_json::from_str(&longer).unwrap();
            assert_eq!(parsed["new"], value, "{longer}");
            let mut without = parsed.clone();
            without.as_object_mut().unwrap().shift_remove("new");
            assert_eq!(without, serde_json::from_str::<Value>(text).unwrap());
            let again = Container::root(&longer).unwrap();
            assert_eq!(&again.remove(&longer, again.items.len() - 1).unwrap(), text);
        }
    }

    #[test]
    fn any_item_can_be_removed() {
        let text = "[1, [2, \"]\"], {\"a\": 3}]";
        let root = Container::root(text).unwrap();
        let table = ["[[2, \"]\"], {\"a\": 3}]", "[1, {\"a\": 3}]", "[1, [2, \"]\"]]"];
        for (index, expected) in table.iter().enumerate() {
            assert_eq!(&root.remove(text, index).unwrap(), expected);
        }
        assert_eq!(root.remove(text, 3), None);
    }

    #[test]
    fn the_layout_of_the_file_is_followed() {
        let text = "{\n\t\"a\": {\n\t\t\"b\": 1\n\t}\n}\n";
        let child = Container::root(text).unwrap().child(text, "a").unwrap();
        assert_eq!(
            child.append(text, Some("c"), &json!([2])).unwrap(),
            "{\n\t\"a\": {\n\t\t\"b\": 1,\n\t\t\"c\": [\n\t\t\t2\n\t\t]\n\t}\n}\n"
        );
    }

    #[test]
    fn what_is_no_container_is_none() {
        for text in ["", "1", "\"{}\"", "{", "[1", "{\"a\""] {
            assert!(Container::root(text).is_none(), "{text}");
        }
    }
}
