//! What people and claude-mem do to one machine's memory between two syncs. Each deed is noted in the ledger.

use rusqlite::types::Value;

use super::dice::Dice;
use super::ledger::Ledger;
use super::memory::{Memory, Row, TABLES, token_column};

/// The session that claude-mem makes on every machine under one name.
const MANUAL: &str = "manual-content-p";

fn text(value: impl Into<String>) -> Value {
    Value::Text(value.into())
}

/// Who does something where, by which dice.
pub struct Deed<'a> {
    pub memory: &'a Memory,
    pub ledger: &'a mut Ledger,
    pub dice: &'a mut Dice,
    /// The time at which rows are born, in milliseconds; it goes on with each.
    pub time: &'a mut i64,
    pub by: usize,
    /// Whether two rows may be born with one key.
    pub twin_keys: bool,
    /// Whether texts may be no UTF-8.
    pub bad_text: bool,
    /// Whether edits may touch what keys are made of.
    pub keys: bool,
}

impl Deed<'_> {
    fn now(&mut self) -> Value {
        *self.time += i64::from(self.dice.between(1, 50) as u32);
        Value::Integer(*self.time)
    }

    fn birth(&mut self, kind: char) -> String {
        self.ledger.birth(kind, self.by)
    }

    /// A session with some rows, as a person has it.
    pub fn session(&mut self) {
        let name = format!("c{}-{}", self.ledger.next_token(), self.by);
        self.session_named(&name);
    }

    /// claude-mem's session for notes that a person makes by hand: made once, and set to where the person is now.
    pub fn manual_session(&mut self) {
        let there = self.memory.rows("sdk_sessions", &format!("content_session_id='{MANUAL}'"));
        match there.first() {
            None => self.session_named(MANUAL),
            Some(row) if self.memory.has("sdk_sessions", "platform_source") => {
                let platform = *self.dice.pick(&["claude", "cursor"]);
                let _ = self.change("sdk_sessions", row, vec![("platform_source", text(platform))]);
            }
            Some(_) => {}
        }
    }

    fn session_named(&mut self, name: &str) {
        let memory_id = (!self.dice.percent(20)).then(|| format!("m{name}"));
        let token = self.birth('s');
        if name == MANUAL {
            self.ledger.merging(&token);
        }
        let platform = if self.dice.percent(80) { "claude" } else { "cursor" };
        let model = if self.dice.percent(50) { text("opus") } else { Value::Null };
        let row = [
            ("content_session_id", text(name)),
            ("memory_session_id", memory_id.clone().map_or(Value::Null, Value::Text)),
            ("project", text(*self.dice.pick(&["p", "q"]))),
            ("user_prompt", text(&token)),
            ("started_at", text("x")),
            ("started_at_epoch", self.now()),
            ("status", text("active")),
            ("platform_source", text(platform)),
            ("observed_model", model),
        ];
        if self.memory.insert("sdk_sessions", &row).is_err() {
            self.ledger.unborn(&token);
            return;
        }
        if let Some(memory_id) = memory_id {
            for _ in 0..self.dice.below(5) {
                self.observations_of(&memory_id);
            }
            if self.dice.percent(50) {
                self.summary(&memory_id);
            }
        }
        for number in 0..self.dice.below(3) {
            self.prompt(name, i64::from(number as u32));
        }
    }

    /// One answer of the model: an observation or two of one instant.
    pub fn observations(&mut self) {
        let sessions = self.memory.rows("sdk_sessions", "memory_session_id IS NOT NULL");
        if !sessions.is_empty() {
            let session = self.dice.pick(&sessions).text("memory_session_id").expect("a name").to_owned();
            self.observations_of(&session);
        }
    }

    fn observations_of(&mut self, session: &str) {
        let now = self.now();
        let mut title = None;
        for _ in 0..*self.dice.pick(&[1, 1, 2]) {
            let token = self.birth('o');
            let title = match &title {
                Some(title) if self.twin_keys && self.dice.percent(40) => title,
                _ => title.insert(format!("t{}", self.ledger.next_token())),
            };
            self.ledger.titled(&token, format!("{session} {title}"));
            let model = if self.dice.percent(50) { text("g") } else { Value::Null };
            let row = [
                ("memory_session_id", text(session)),
                ("project", text("p")),
                ("type", text("d")),
                ("title", text(title.as_str())),
                ("facts", text(&token)),
                ("narrative", text("n")),
                ("concepts", text(*self.dice.pick(&["a", "\u{1f534}:b"]))),
                ("created_at", text("x")),
                ("created_at_epoch", now.clone()),
                ("content_hash", text(&token)),
                ("generated_by_model", model),
            ];
            let id = self.memory.insert("observations", &row).expect("an observation");
            if self.bad_text && self.dice.percent(10) {
                // Half an emoji, as bun:sqlite stores it.
                let sql =
                    format!("UPDATE observations SET narrative=CAST(x'61eda0bd62' AS TEXT) WHERE id={id}");
                self.memory.db.execute_batch(&sql).expect("half an emoji");
            }
        }
    }

    fn summary(&mut self, session: &str) {
        let row = [
            ("memory_session_id", text(session)),
            ("project", text("p")),
            ("request", text("r")),
            ("notes", text(self.birth('z'))),
            ("created_at", text("x")),
            ("created_at_epoch", self.now()),
            ("prompt_number", Value::Integer(1)),
        ];
        self.memory.insert("session_summaries", &row).expect("a summary");
    }

    fn prompt(&mut self, session: &str, number: i64) {
        let newest = "SELECT max(id) FROM sdk_sessions WHERE content_session_id=?";
        let id: i64 = self.memory.db.query_row(newest, [session], |row| row.get(0)).expect("a session");
        let row = [
            ("session_db_id", Value::Integer(id)),
            ("content_session_id", text(session)),
            ("prompt_number", Value::Integer(number)),
            ("prompt_text", text(self.birth('p'))),
            ("created_at", text("x")),
            ("created_at_epoch", self.now()),
        ];
        self.memory.insert("user_prompts", &row).expect("a prompt");
    }

    fn pick(&mut self, table: &str) -> Option<Row> {
        let mut rows = self.memory.rows(table, "1");
        (!rows.is_empty()).then(|| rows.swap_remove(self.dice.below(rows.len())))
    }

    fn find(&self, token: &str) -> Option<(&'static str, Row)> {
        TABLES.into_iter().find_map(|(table, column)| {
            let mut rows = self.memory.rows(table, &format!("{column} LIKE '{token}|%'"));
            (rows.len() == 1).then(|| (table, rows.remove(0)))
        })
    }

    fn change(&mut self, table: &str, row: &Row, mut change: Vec<(&str, Value)>) -> rusqlite::Result<()> {
        let token = self.ledger.edit(&row.token, row.edit, self.by);
        if change.iter().any(|(name, _)| *name == "custom_title") {
            self.ledger.name(&token);
        }
        change.push((token_column(table), text(&token)));
        self.memory.update(table, row.id, &change)
    }

    /// Something that only a person does: another text in a row.
    pub fn edit(&mut self) {
        let (table, _) = *self.dice.pick(&TABLES);
        let again =
            self.ledger.edited_last().filter(|_| self.dice.percent(60)).and_then(|token| self.find(token));
        let Some((table, row)) = again.or_else(|| Some((table, self.pick(table)?))) else { return };
        let change = match table {
            "observations" => self.edit_of_observation(&row),
            "sdk_sessions" => self.edit_of_session(&row),
            _ => Vec::new(),
        };
        // A name that is taken here stays with who has it.
        let _ = self.change(table, &row, change);
    }

    fn edit_of_observation(&mut self, row: &Row) -> Vec<(&'static str, Value)> {
        match self.dice.below(4) {
            0 => vec![("narrative", text("n2"))],
            1 if self.keys => vec![("title", text(format!("{}x", row.text("title").unwrap_or_default())))],
            2 if self.keys => vec![("type", text("x"))],
            3 if row.text("subtitle").is_none() => vec![("subtitle", text("z"))],
            3 => vec![("subtitle", Value::Null)],
            _ => Vec::new(),
        }
    }

    fn edit_of_session(&mut self, row: &Row) -> Vec<(&'static str, Value)> {
        if row.text("memory_session_id").is_none() && self.dice.percent(50) {
            let name = format!("mm{}-{}", self.ledger.next_token(), self.by);
            return vec![("memory_session_id", text(name))];
        }
        if self.memory.has("sdk_sessions", "custom_title")
            && row.text("custom_title").is_none()
            && self.dice.percent(20)
        {
            return vec![("custom_title", text(format!("named by {}", self.by)))];
        }
        self.ledger.touch(self.by, &row.token);
        match self.dice.below(5) {
            0 if self.keys => vec![("platform_source", text(*self.dice.pick(&["cursor", "claude"])))],
            1 => vec![("status", text("completed")), ("completed_at", text("y"))],
            2 => vec![("status", text("active")), ("completed_at", Value::Null)],
            _ => vec![("project", text("z"))],
        }
    }

    /// What the worker writes into a session by itself; no edit of a person.
    pub fn touch(&mut self) {
        let Some(row) = self.pick("sdk_sessions") else { return };
        let change = match self.dice.below(3) {
            0 => [("status", text("active")), ("completed_at", Value::Null)],
            1 => [("status", text("completed")), ("completed_at", text(format!("t{}", self.time)))],
            _ => [("status", text("failed")), ("completed_at", Value::Null)],
        };
        self.ledger.touch(self.by, &row.token);
        self.memory.update("sdk_sessions", row.id, &change).expect("a status");
    }

    /// A person deletes one row, with what hangs on it.
    pub fn delete(&mut self) -> Option<String> {
        let tables = ["observations", "observations", "user_prompts", "session_summaries", "sdk_sessions"];
        let table = *self.dice.pick(&tables);
        let row = self.pick(table)?;
        Some(format!("DELETE FROM {table} WHERE id={}", row.id))
    }

    /// A person deletes all sessions of a project.
    pub fn purge(&mut self) -> String {
        format!("DELETE FROM sdk_sessions WHERE project='{}'", self.dice.pick(&["p", "q"]))
    }
}
