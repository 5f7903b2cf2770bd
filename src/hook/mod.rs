//! What runs when Claude Code calls: a session never notices us. Nothing on stdout, exit code 0 always, bounded time;
//! the work itself is a job ([`crate::jobs`]). [`input`] reads what Claude Code says. [`scripts`] and [`registration`]
//! are what `hooks install` writes, [`settings_file`] how it writes into a person's file, [`settings`] what stands there.

pub mod input;
pub mod json_text;
pub mod registration;
pub mod scripts;
pub mod settings;
pub mod settings_file;

use std::time::Duration;

use crate::jobs::Event;

/// How long `session-start` may keep a session waiting for its pull.
pub const SESSION_START: Duration = Duration::from_secs(8);

/// How long the start of a session waits for Claude Code's JSON object.
pub const START_INPUT: Duration = Duration::from_millis(500);

/// How long the other hooks wait for it. They must return within 100 ms in all, and can do without it.
pub const STOP_INPUT: Duration = Duration::from_millis(40);

/// What a hook decides to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The work of this event.
    Act(Event),
    /// Nothing, for this reason.
    Skip(&'static str),
}

/// Decides from what was asked for and what Claude Code said. Pull only where a session begins: `clear` and `compact`
/// happen inside one, and a pull would take its memory away (F13). A hook called by hand, with nothing on stdin, acts.
pub fn decide(event: Event, heard: &input::Heard) -> Decision {
    let said = |name: &str| heard.object().and_then(|object| object.get(name)?.as_str());
    match event {
        Event::SessionStart => match (heard, said("source")) {
            (_, Some("startup" | "resume")) | (input::Heard::Nothing, _) => Decision::Act(event),
            (_, Some(_)) => Decision::Skip("not the start of a session"),
            (_, None) => Decision::Skip("Claude Code did not say why the session starts"),
        },
        // One wrapper script serves both.
        Event::Stop if said("hook_event_name") == Some("SessionEnd") => Decision::Act(Event::SessionEnd),
        Event::Stop | Event::SessionEnd => Decision::Act(event),
    }
}

#[cfg(test)]
mod tests {
    use super::input::Heard;
    use super::{Decision, Event, decide};
    use serde_json::json;

    #[test]
    fn f13_a_pull_happens_only_where_a_session_begins() {
        let heard = |source: &str| Heard::Object(json!({"source": source}));
        let acts = |heard: Heard| matches!(decide(Event::SessionStart, &heard), Decision::Act(_));
        let table = [
            (heard("startup"), true),
            (heard("resume"), true),
            (heard("clear"), false),
            (heard("compact"), false),
            (heard("something new"), false),
            (Heard::Object(json!({"hook_event_name": "SessionStart"})), false),
            (Heard::Object(json!({"source": 1})), false),
            (Heard::Garbage, false),
            (Heard::Nothing, true),
        ];
        for (heard, expected) in table {
            assert_eq!(acts(heard.clone()), expected, "{heard:?}");
        }
    }

    #[test]
    fn one_script_serves_stop_and_session_end() {
        let end = Heard::Object(json!({"hook_event_name": "SessionEnd"}));
        let stop = Heard::Object(json!({"hook_event_name": "Stop", "stop_hook_active": true}));
        assert_eq!(decide(Event::Stop, &end), Decision::Act(Event::SessionEnd));
        assert_eq!(decide(Event::Stop, &stop), Decision::Act(Event::Stop));
        assert_eq!(decide(Event::Stop, &Heard::Garbage), Decision::Act(Event::Stop));
        assert_eq!(decide(Event::SessionEnd, &stop), Decision::Act(Event::SessionEnd));
    }
}
