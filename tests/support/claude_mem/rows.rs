//! Rows as claude-mem would write them: realistic sizes, the same for the same machine
//! label and number, different for different labels. Pure, no database.

use rusqlite::types::Value;

/// Column names and values; columns that a release lacks are left out on insert.
pub type Row = Vec<(&'static str, Value)>;

/// 2025-11-03 10:00 UTC in milliseconds; row times count up from here.
const FIRST: i64 = 1_762_164_000_000;

const WORDS: &[&str] = &[
    "the",
    "worker",
    "reads",
    "a",
    "snapshot",
    "and",
    "keeps",
    "each",
    "observation",
    "in",
    "order",
    "while",
    "session",
    "hooks",
    "write",
    "to",
    "queue",
    "because",
    "transaction",
    "must",
    "never",
    "lose",
    "rows",
    "when",
    "machine",
    "sleeps",
    "or",
    "network",
    "drops",
    "so",
    "we",
    "moved",
    "retry",
    "logic",
    "into",
    "storage",
    "layer",
    "added",
    "tests",
    "for",
    "timeouts",
    "checked",
    "etag",
    "before",
    "commit",
    "schema",
    "migration",
    "renamed",
    "column",
    "index",
    "trigger",
    "fixed",
    "bug",
    "where",
    "parser",
    "skipped",
    "empty",
    "lines",
    "refactored",
    "module",
    "boundaries",
    "documented",
    "decision",
    "about",
    "locks",
    "lease",
    "epoch",
    "verified",
    "checksum",
    "after",
    "upload",
    "café",
    "naïve",
    "größe",
    "память",
    "сад",
    "観察",
    "cargo",
    "clippy",
    "rustfmt",
    "endpoint",
    "bucket",
    "prefix",
    "latency",
    "budget",
];

/// A small generator (splitmix64), so that no row depends on the run.
pub struct Random(u64);

impl Random {
    pub fn new(label: &str, number: i64) -> Random {
        let mut seed = 0xcbf2_9ce4_8422_2325_u64;
        for byte in label.bytes().chain(number.to_le_bytes()) {
            seed = (seed ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        Random(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number under `limit`, which is not 0.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    /// Words, with an identifier now and then, as in real notes.
    pub fn text(&mut self, words: usize) -> String {
        let mut text = String::with_capacity(words * 7);
        for at in 0..words {
            if at > 0 {
                text.push(' ');
            }
            if self.below(12) == 0 {
                text += &format!("src/{:05x}.rs:{}", self.below(1 << 20), self.below(900));
            } else {
                text += WORDS[self.below(WORDS.len())];
            }
        }
        text
    }

    fn list(&mut self, items: usize, words: usize) -> String {
        let items: Vec<String> = (0..items).map(|_| self.text(words)).collect();
        serde_json::to_string(&items).expect("a list of strings")
    }

    fn hex(&mut self, digits: usize) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = String::with_capacity(digits + 16);
        while text.len() < digits {
            let word = self.next();
            text.extend((0..16).map(|at| char::from(DIGITS[(word >> (4 * at)) as usize & 15])));
        }
        text.truncate(digits);
        text
    }
}

fn text(value: impl Into<String>) -> Value {
    Value::Text(value.into())
}

fn at(random: &mut Random, number: i64) -> (Value, Value) {
    let epoch = FIRST + number * 60_000 + random.below(59_999) as i64;
    let time = jiff::Timestamp::from_millisecond(epoch).expect("a time");
    (text(format!("{time:.3}")), Value::Integer(epoch))
}

/// The ids of one session.
#[derive(Clone, Debug)]
#[allow(clippy::struct_field_names)]
pub struct Session {
    pub db_id: i64,
    pub content_id: String,
    pub memory_id: String,
}

pub fn session(label: &str, name: &str, number: i64) -> Row {
    let mut random = Random::new(label, -number);
    let (started_at, started_at_epoch) = at(&mut random, number);
    vec![
        ("content_session_id", text(content_id(label, name))),
        ("memory_session_id", text(memory_id(label, name))),
        ("project", text("mem")),
        ("user_prompt", text(random.text(20))),
        ("started_at", started_at),
        ("started_at_epoch", started_at_epoch),
        ("prompt_counter", Value::Integer(1)),
    ]
}

pub fn content_id(label: &str, name: &str) -> String {
    format!("{label}-content-{name}")
}

pub fn memory_id(label: &str, name: &str) -> String {
    format!("{label}-memory-{name}")
}

/// The title of an observation; unique per label and number.
pub fn title(label: &str, number: i64) -> String {
    format!("{label} observation {number}: {}", Random::new(label, number).text(5))
}

/// Text that does not compress well, to cut paddings from; made once, because making it
/// anew for each row of a large database takes a debug build minutes.
pub fn padding_pool(label: &str, bytes: usize) -> String {
    Random::new(label, 0).hex(bytes)
}

/// One to two KB; `padding` adds its bytes to a column that no index covers.
pub fn observation(label: &str, number: i64, session: &Session, padding: &str) -> Row {
    let mut random = Random::new(label, number);
    let kinds = ["discovery", "bugfix", "feature", "refactor", "change", "decision"];
    let (created_at, created_at_epoch) = at(&mut random, number);
    let words = 100 + random.below(80);
    let mut files_read = random.list(3, 1);
    if !padding.is_empty() {
        files_read = format!("[\"{padding}\"]");
    }
    vec![
        ("memory_session_id", text(session.memory_id.as_str())),
        ("project", text("mem")),
        ("type", text(kinds[random.below(kinds.len())])),
        ("title", text(title(label, number))),
        ("subtitle", text(random.text(9))),
        ("facts", text(random.list(4, 9))),
        ("narrative", text(random.text(words))),
        ("concepts", text(random.list(3, 2))),
        ("files_read", text(files_read)),
        ("files_modified", text(random.list(2, 1))),
        ("prompt_number", Value::Integer(1 + number % 9)),
        ("discovery_tokens", Value::Integer(random.below(4000) as i64)),
        ("created_at", created_at),
        ("created_at_epoch", created_at_epoch),
        ("content_hash", text(random.hex(16))),
    ]
}

pub fn summary(label: &str, number: i64, session: &Session) -> Row {
    let mut random = Random::new(label, 1_000_000 + number);
    let (created_at, created_at_epoch) = at(&mut random, number);
    vec![
        ("memory_session_id", text(session.memory_id.as_str())),
        ("project", text("mem")),
        ("request", text(format!("{label} summary {number}: {}", random.text(12)))),
        ("investigated", text(random.text(40))),
        ("learned", text(random.text(60))),
        ("completed", text(random.text(40))),
        ("next_steps", text(random.text(30))),
        ("files_read", text(random.list(3, 1))),
        ("files_edited", text(random.list(2, 1))),
        ("prompt_number", Value::Integer(number)),
        ("created_at", created_at),
        ("created_at_epoch", created_at_epoch),
    ]
}

pub fn prompt(label: &str, number: i64, session: &Session) -> Row {
    let mut random = Random::new(label, 2_000_000 + number);
    let (created_at, created_at_epoch) = at(&mut random, number);
    let words = 10 + random.below(60);
    vec![
        ("session_db_id", Value::Integer(session.db_id)),
        ("content_session_id", text(session.content_id.as_str())),
        ("prompt_number", Value::Integer(number)),
        ("prompt_text", text(format!("{label} prompt {number}: {}", random.text(words)))),
        ("created_at", created_at),
        ("created_at_epoch", created_at_epoch),
    ]
}

pub fn pending_message(label: &str, number: i64, session: &Session) -> Row {
    let mut random = Random::new(label, 3_000_000 + number);
    let (_, created_at_epoch) = at(&mut random, number);
    vec![
        ("session_db_id", Value::Integer(session.db_id)),
        ("content_session_id", text(session.content_id.as_str())),
        ("message_type", text("observation")),
        ("tool_name", text("Bash")),
        ("tool_input", text(random.text(20))),
        ("tool_response", text(random.text(80))),
        ("created_at_epoch", created_at_epoch),
        ("tool_use_id", text(format!("toolu_{label}_{number}"))),
    ]
}

pub fn tool_use(label: &str, number: i64, session: &Session, observation: Option<i64>) -> Row {
    let mut random = Random::new(label, 4_000_000 + number);
    let (created_at, created_at_epoch) = at(&mut random, number);
    vec![
        ("tool_use_id", text(format!("toolu_{label}_{number}"))),
        ("content_session_id", text(session.content_id.as_str())),
        ("memory_session_id", text(session.memory_id.as_str())),
        ("session_db_id", Value::Integer(session.db_id)),
        ("project", text("mem")),
        ("tool_name", text("Read")),
        ("tool_input", text(random.text(20))),
        ("observation_id", observation.map_or(Value::Null, Value::Integer)),
        ("created_at", created_at),
        ("created_at_epoch", created_at_epoch),
    ]
}
