//! Reads the one JSON object that Claude Code writes to a hook, and never waits for the end of the pipe: it may come
//! late or not at all. Knows nothing of what the object means.

use std::io::{IsTerminal, Read};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;

/// More than this is not what Claude Code sends.
const MAX: usize = 1 << 20;

/// What came in.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    /// Claude Code's object.
    Object(Value),
    /// The input ended empty, or is a terminal: a person or a script called.
    Nothing,
    /// Something else, or nothing in time.
    Garbage,
}

impl Heard {
    /// The object, when there is one.
    pub fn object(&self) -> Option<&Value> {
        match self {
            Self::Object(value) => Some(value),
            Self::Nothing | Self::Garbage => None,
        }
    }
}

/// Reads standard input for at most `patience`. The reading thread is left behind when the time is over; it ends with
/// the process.
pub fn read(patience: Duration) -> Heard {
    if std::io::stdin().is_terminal() {
        return Heard::Nothing;
    }
    listen(std::io::stdin(), patience)
}

fn listen(mut input: impl Read + Send + 'static, patience: Duration) -> Heard {
    let (sender, receiver) = mpsc::channel::<Vec<u8>>();
    let reader = move || {
        let mut chunk = [0_u8; 8192];
        // The end of the input is told by dropping the sender.
        while let Ok(count) = input.read(&mut chunk) {
            let bytes = chunk.get(..count).unwrap_or_default();
            if bytes.is_empty() || sender.send(bytes.to_vec()).is_err() {
                return;
            }
        }
    };
    if std::thread::Builder::new().spawn(reader).is_err() {
        return Heard::Garbage;
    }
    let deadline = Instant::now() + patience;
    let mut seen = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match receiver.recv_timeout(left) {
            Ok(bytes) => seen.extend(bytes),
            Err(mpsc::RecvTimeoutError::Disconnected) if seen.trim_ascii().is_empty() => {
                return Heard::Nothing;
            }
            Err(_) => return Heard::Garbage,
        }
        match first_object(&seen) {
            Some(heard) => return heard,
            None if seen.len() > MAX => return Heard::Garbage,
            None => {}
        }
    }
}

/// The object, as soon as it is complete; `None` while more may come.
fn first_object(seen: &[u8]) -> Option<Heard> {
    let mut values = serde_json::Deserializer::from_slice(seen).into_iter::<Value>();
    match values.next()? {
        Ok(value) if value.is_object() => Some(Heard::Object(value)),
        Err(error) if error.is_eof() => None,
        Ok(_) | Err(_) => Some(Heard::Garbage),
    }
}

#[cfg(test)]
mod tests {
    use super::{Heard, listen};
    use serde_json::json;
    use std::io::Write;
    use std::time::Duration;

    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn the_object_is_taken_as_soon_as_it_is_complete() {
        let (input, mut pipe) = std::io::pipe().unwrap();
        let writer = std::thread::spawn(move || {
            pipe.write_all(b" {\"source\": \"star").unwrap();
            pipe.write_all(b"tup\"}").unwrap();
            // Kept open: the end of the input never comes.
            pipe
        });
        assert_eq!(listen(input, LONG), Heard::Object(json!({"source": "startup"})));
        drop(writer.join());
    }

    #[test]
    fn the_end_of_the_input_is_told_from_garbage() {
        let table: [(&str, Heard); 7] = [
            ("", Heard::Nothing),
            (" \n", Heard::Nothing),
            ("{}", Heard::Object(json!({}))),
            ("{\"a\": 1} trailing", Heard::Object(json!({"a": 1}))),
            ("{\"a\": ", Heard::Garbage),
            ("[1]", Heard::Garbage),
            ("hello", Heard::Garbage),
        ];
        for (text, expected) in table {
            assert_eq!(listen(text.as_bytes(), LONG), expected, "{text}");
        }
    }

    #[test]
    fn silence_is_not_waited_for() {
        let (input, pipe) = std::io::pipe().unwrap();
        assert_eq!(listen(input, Duration::from_millis(10)), Heard::Garbage);
        drop(pipe);
    }
}
