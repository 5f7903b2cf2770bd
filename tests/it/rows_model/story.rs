//! Words for short histories told by hand: a fleet, rows, syncs, and what everybody must hold at the end.

use rusqlite::types::Value;

use super::dice::Dice;
use super::life::judge;
use super::machine::Sync;
use super::memory::token_column;
use super::troubles::Troubles;
use super::world::World;
use crate::support::claude_mem::Version;

pub struct Story {
    pub world: World,
    dice: Dice,
    births: i64,
}

impl Story {
    /// Machines of these releases, empty.
    pub fn of(versions: &[Version]) -> Story {
        let mut world = World::new(1, Troubles::NONE);
        for version in versions {
            world.add_machine(*version);
        }
        Story { world, dice: Dice::of_step(1, 1), births: 1_690_000_000_000 }
    }

    /// Machines of the newest release.
    pub fn new(machines: usize) -> Story {
        Story::of(&vec![Version::V13_25_3; machines])
    }

    fn insert(&mut self, at: usize, table: &str, kind: char, row: Vec<(&str, Value)>) {
        let token = self.world.ledger.birth(kind, at);
        let mut row = row;
        row.push((token_column(table), Value::Text(token.clone())));
        row.push(("created_at", Value::Text("x".to_owned())));
        row.push(("content_hash", Value::Text(token)));
        self.world.machines[at].memory().insert(table, &row).expect("a row");
    }

    pub fn next_birth(&mut self) -> i64 {
        self.births += 10;
        self.births
    }

    /// A session and some observations in it.
    pub fn session(&mut self, at: usize, name: &str, observations: usize) {
        self.session_on(at, name, "claude");
        (0..observations).for_each(|_| self.observation(at, name));
    }

    pub fn session_on(&mut self, at: usize, name: &str, platform: &str) {
        let text = |text: &str| Value::Text(text.to_owned());
        let born = self.next_birth();
        let row = vec![
            ("content_session_id", text(name)),
            ("memory_session_id", Value::Text(format!("m-{name}"))),
            ("project", text("p")),
            ("started_at", text("x")),
            ("started_at_epoch", Value::Integer(born)),
            ("status", text("active")),
            ("platform_source", text(platform)),
        ];
        self.insert(at, "sdk_sessions", 's', row);
    }

    pub fn observation(&mut self, at: usize, session: &str) {
        let title = format!("t{}", self.world.ledger.next_token());
        let born = self.next_birth();
        self.observation_called(at, session, &title, born);
    }

    pub fn observation_called(&mut self, at: usize, session: &str, title: &str, born: i64) {
        let text = |text: &str| Value::Text(text.to_owned());
        let row = vec![
            ("memory_session_id", Value::Text(format!("m-{session}"))),
            ("project", text("p")),
            ("type", text("d")),
            ("title", text(title)),
            ("narrative", text("n")),
            ("created_at_epoch", Value::Integer(born)),
        ];
        self.insert(at, "observations", 'o', row);
    }

    /// Changes rows of a machine by SQL, behind the ledger's back.
    pub fn sql(&mut self, at: usize, sql: &str) {
        self.world.machines[at].memory().db.execute_batch(sql).expect("the statement");
    }

    pub fn delete(&mut self, at: usize, sql: &str) {
        self.world.delete(at, sql);
    }

    /// Syncs these machines, one after the other.
    pub fn sync(&mut self, machines: &[usize]) {
        for at in machines {
            self.world.tick(1000);
            self.world.sync(*at, Sync::QUIET, &mut self.dice);
            assert!(self.world.failures.is_empty(), "{:?}", self.world.failures);
        }
    }

    /// A sync that dies at the failpoint after so many others; whether it died.
    pub fn crash(&mut self, at: usize, after: u64) -> bool {
        self.world.tick(1000);
        self.world.sync(at, Sync { crash: Some(after), ..Sync::QUIET }, &mut self.dice);
        self.world.machines[at].crashed
    }

    pub fn fold(&mut self, at: usize) {
        self.world.tick(1000);
        self.world.sync(at, Sync { base: true, ..Sync::QUIET }, &mut self.dice);
    }

    /// The values of one column, as each machine has them.
    pub fn values(&self, sql: &str) -> Vec<Vec<String>> {
        let of = |at: usize| {
            let mut query = self.world.machines[at].memory().db.prepare(sql).expect("the question");
            let values = query.query_map([], |row| row.get::<_, Value>(0)).expect("the answer");
            let shown = values.map(|value| match value.expect("a value") {
                Value::Null => "NULL".to_owned(),
                Value::Integer(number) => number.to_string(),
                Value::Text(text) => text,
                other => format!("{other:?}"),
            });
            shown.collect()
        };
        (0..self.world.machines.len()).map(of).collect()
    }

    /// Every machine gives this answer, and everything else is well.
    #[track_caller]
    pub fn ends_with(&mut self, sql: &str, answer: &[&str]) {
        self.world.quiet();
        for (at, values) in self.values(sql).iter().enumerate() {
            assert_eq!(values, answer, "machine {at}: {sql}\n{}", self.world.log.join("\n"));
        }
        let wrong = judge(&mut self.world);
        assert!(wrong.is_empty(), "{}\n\n{}", wrong.join("\n"), self.world.log.join("\n"));
    }

    /// Every machine has so many rows of a table, and everything else is well.
    #[track_caller]
    pub fn ends_with_count(&mut self, table: &str, count: usize) {
        self.ends_with(&format!("SELECT count(*) FROM {table}"), &[&count.to_string()]);
    }
}
