//! One life: some machines, a bucket, people who work on them. Runs the binary and notes what a person would.

use std::collections::{BTreeSet, HashSet};

use super::bucket::{Bucket, Shop};
use super::hints;
use super::keys;
use super::node::{Node, Ran, Tokens, VERSIONS};
use crate::rows_model::deeds::Deed;
use crate::rows_model::dice::Dice;
use crate::rows_model::ledger::Ledger;
use crate::rows_model::memory::{Edit, Memory, Token};
use crate::support::claude_mem::Version;
use crate::support::machine::{Machine, Run};
use crate::support::s3::{Fault, S3Server};

/// Who edits on a Python node.
pub const PYTHON: usize = 99;

/// So many projects of a hundred are sealed.
const SEALED: usize = 20;

/// How a command is run.
#[derive(Clone, Debug, Default)]
pub struct How {
    /// Where it dies or stops: a failpoint, or the number of one.
    pub point: Option<String>,
    /// Whether something goes wrong meanwhile that it may end with.
    pub troubled: bool,
}

impl How {
    pub const WELL: How = How { point: None, troubled: false };

    pub fn at(point: impl Into<String>) -> How {
        How { point: Some(point.into()), troubled: true }
    }
}

pub struct World {
    pub nodes: Vec<Node>,
    pub ledger: Ledger,
    pub log: Vec<String>,
    pub wrong: Vec<String>,
    pub shop: Shop,
    pub folder: tempfile::TempDir,
    /// Whether the store checks conditions.
    pub conditional: bool,
    /// The database of the Python node.
    pub python: Option<std::path::PathBuf>,
    /// Births of rows that a Python node has pushed and nobody has taken in yet.
    pub python_owed: BTreeSet<Edit>,
    pub mirrored: bool,
    /// Seconds by which the store's clock is ahead.
    pub store_clock: i64,
    /// The machine that made the key of a sealed project.
    pub keeper: Option<usize>,
    seed: u64,
    fault: Option<&'static str>,
    births: i64,
    tried: HashSet<String>,
}

/// The words of a command that exchanges rows, and whether it looks at all that is here.
fn is_whole(words: &str) -> bool {
    !words.contains("--for turn")
}

fn publishes(words: &str) -> bool {
    let first = words.split(' ').next().unwrap_or_default();
    matches!(first, "sync" | "push_sqlite" | "pull_sqlite")
        && !words.contains("--for start")
        && !words.contains("--dry-run")
}

/// Exit codes that the pages about a command name.
fn documented(words: &str) -> &'static [i32] {
    match words.split(' ').next().unwrap_or_default() {
        "push_sqlite" | "demote" | "promote" => &[0, 1, 3],
        "pull_sqlite" => &[0, 1, 2],
        "hook" | "hook-work" => &[0],
        _ => &[0, 1],
    }
}

impl World {
    pub fn new(seed: u64, fault: Option<&'static str>) -> World {
        let folder = folder();
        let mut dice = Dice::of_step(seed, 0);
        let conditional = !dice.percent(10);
        // By dice of its own: the other lives stay what they were.
        let sealed = Dice::of_step(seed, usize::MAX - 1).percent(SEALED);
        let bucket = if dice.percent(75) {
            let server = S3Server::start();
            if !conditional {
                server.fault(Fault::IgnoresConditions).forever();
            }
            Bucket::S3(server)
        } else {
            let bucket = folder.path().join("bucket");
            std::fs::create_dir_all(&bucket).expect("a bucket");
            Bucket::Dir(bucket)
        };
        let mut world = World {
            nodes: Vec::new(),
            ledger: Ledger::default(),
            log: Vec::new(),
            wrong: Vec::new(),
            // Who made a sealed commit is not to be seen.
            shop: Shop::new(bucket, conditional && !sealed),
            folder,
            conditional,
            python: None,
            python_owed: BTreeSet::new(),
            mirrored: true,
            store_clock: 0,
            keeper: None,
            seed,
            fault,
            births: 1_690_000_000_000,
            tried: HashSet::new(),
        };
        world.populate(&mut dice);
        if sealed {
            keys::seal(&mut world);
        }
        world
    }

    /// The machines, and what is on them before they ever sync.
    fn populate(&mut self, dice: &mut Dice) {
        let alike = dice.percent(60);
        let roles = dice.percent(60);
        let few_backups = dice.percent(70);
        for at in 0..dice.weighted(&[(2, 50), (3, 35), (4, 10), (5, 5)]) {
            self.add_machine(&format!("machine-{at}"));
            let node = self.nodes.last_mut().expect("a machine");
            if !roles {
                node.machine.set("LEADERSHIP_ENABLED", "0");
            }
            if few_backups {
                node.machine.set("PULL_BACKUP_MAX_COUNT", "1").set("PULL_BACKUP_MAX_DAYS", "0");
            }
            let version = if alike { Version::V13_25_3 } else { *dice.pick(&VERSIONS) };
            if at == 0 || dice.percent(60) {
                node.create(version);
                (0..dice.below(3)).for_each(|_| self.deed(at, dice, |deed| deed.session()));
            }
        }
        self.deed(0, dice, |deed| deed.session());
    }

    pub fn add_machine(&mut self, name: &str) -> usize {
        let mut machine = Machine::below(self.folder.path(), name, self.shop.store());
        machine.set("MEMBRIDGE_PUSH_INTERVAL_SECONDS", "0");
        if let Some(fault) = self.fault {
            machine.set("MEMBRIDGE_TEST_PLANTED", fault);
        }
        self.nodes.push(Node::new(machine));
        self.nodes.len() - 1
    }

    /// The store's clock is wrong by so much, and stays it.
    pub fn set_store_clock(&mut self, seconds: i64) {
        self.store_clock = seconds;
        self.let_pass(0);
    }

    /// So many seconds have gone by at the store.
    pub fn let_pass(&self, seconds: i64) {
        if let Some(server) = self.shop.server() {
            server.set_clock_offset(self.store_clock + seconds);
        }
    }

    pub fn dice(&self, step: usize) -> Dice {
        Dice::of_step(self.seed, step)
    }

    pub fn note(&mut self, text: impl Into<String>) {
        self.log.push(text.into());
    }

    pub fn fail(&mut self, text: impl Into<String>) {
        self.wrong.push(text.into());
    }

    /// Somebody does something on a machine that has a memory.
    pub fn deed<T: Default>(
        &mut self,
        at: usize,
        dice: &mut Dice,
        what: impl FnOnce(&mut Deed<'_>) -> T,
    ) -> T {
        if !self.nodes[at].has_database() {
            return T::default();
        }
        let memory = self.nodes[at].memory();
        self.deed_in(&memory, at, dice, what)
    }

    pub fn deed_in<T>(
        &mut self,
        memory: &Memory,
        by: usize,
        dice: &mut Dice,
        what: impl FnOnce(&mut Deed<'_>) -> T,
    ) -> T {
        what(&mut Deed {
            memory,
            ledger: &mut self.ledger,
            dice,
            time: &mut self.births,
            by,
            twin_keys: true,
            bad_text: by != PYTHON,
            keys: by != PYTHON,
        })
    }

    /// A person deletes rows.
    pub fn delete(&mut self, at: usize, sql: &str) {
        let before = self.nodes[at].tokens();
        self.nodes[at].memory().db.execute_batch(sql).expect("delete");
        let after = self.nodes[at].tokens();
        let node = &self.nodes[at];
        for (token, edits) in before.iter().filter(|(token, _)| !after.contains_key(*token)) {
            let in_crash = node.crashed && !node.before_crash.contains(token);
            self.ledger.delete(token, edits, in_crash);
        }
    }

    /// A command that is ready to run.
    pub fn prepare(&self, at: usize, words: &str, how: &How) -> Run {
        let mut run = self.nodes[at].machine.cmd(words).arg("--json");
        if let Some(point) = &how.point {
            run = run.env("MEMBRIDGE_FAILPOINT", point);
        }
        run
    }

    /// Runs a command to its end.
    pub fn run(&mut self, at: usize, words: &str, how: &How) -> Ran {
        let before = self.before(at);
        let ran = Ran::of(self.prepare(at, words, how).run());
        self.ran(at, words, how, &before, &ran);
        ran
    }

    /// What a person could have seen before a command.
    pub fn before(&mut self, at: usize) -> Tokens {
        let here = self.nodes[at].tokens();
        let node = &mut self.nodes[at];
        if !node.crashed {
            node.before_crash.clone_from(&node.known);
        }
        node.known = here.keys().cloned().collect();
        here
    }

    /// A command has ended: what it means for what is owed, and whether it may end so.
    pub fn ran(&mut self, at: usize, words: &str, how: &How, before: &Tokens, ran: &Ran) {
        self.note(format!("   {at}: {words} {:?} → {}", how.point.as_deref().unwrap_or(""), ran.brief()));
        if publishes(words) {
            self.exchanged(at, words, before, ran);
        }
        let parents: Vec<_> = self
            .nodes
            .iter()
            .filter(|node| node.has_database())
            .map(|node| node.memory().parents())
            .collect();
        for parents in parents {
            self.ledger.parents(parents);
        }
        if ran.outcome.signal == Some(9) && how.point.is_some() {
            return;
        }
        let shown = format!("{at}: {words} {how:?}: {:?}", ran.outcome);
        if !documented(words).contains(&ran.code()) {
            self.fail(format!("an exit code that no page names for it: {shown}"));
        } else if ran.trouble() == "usage" || ran.outcome.stderr.contains("panicked") {
            self.fail(format!("it cannot end like this: {shown}"));
        } else if !words.starts_with("hook") && ran.json["exit_code"] != ran.code() {
            self.fail(format!("its report does not say what its exit code says: {shown}"));
        } else if ran.code() == 1 && !how.troubled && !excused(words, ran) && !self.lacks_key(at, ran) {
            self.fail(format!("it fails and nothing is wrong: {shown}"));
        }
        self.try_hints(at, ran);
    }

    fn exchanged(&mut self, at: usize, words: &str, before: &Tokens, ran: &Ran) {
        let whole = is_whole(words);
        if !ran.exchanged() {
            self.nodes[at].crashed = true;
            return;
        }
        let here = self.nodes[at].tokens();
        let node = &mut self.nodes[at];
        node.crashed = false;
        for (token, edits) in &here {
            // After a turn only sessions and rows that are new are looked at.
            if whole || token.starts_with('s') || !before.contains_key(token) {
                for edit in edits {
                    self.ledger.acknowledge(*edit);
                }
            }
        }
        node.known = here.into_keys().collect();
        node.settled |= whole;
        let held = ran.matter("held");
        node.accepts = node.asked && held;
        let undone = std::mem::take(&mut node.undone);
        if !ran.matter("went_back") {
            self.ledger.undo(undone);
        }
        if words.starts_with("sync") && whole && ran.code() == 0 && self.mirrored {
            for edit in std::mem::take(&mut self.python_owed) {
                self.ledger.acknowledge(edit);
            }
        }
    }

    /// Whether that is so because nobody has brought the new key yet.
    fn lacks_key(&self, at: usize, ran: &Ran) -> bool {
        self.nodes[at].lacks_key && ran.trouble() == "key_needed"
    }

    /// Each kind of advice is followed once.
    fn try_hints(&mut self, at: usize, ran: &Ran) {
        for typed in hints::commands(&ran.said()) {
            if !self.tried.insert(typed.kind()) {
                continue;
            }
            let Some(typed) = typed.trial() else { continue };
            let mut run = self.nodes[at].machine.cmd("--json");
            for word in &typed.words {
                // What stands for a name that only the person knows.
                run = run.arg(if word.chars().all(|c| c.is_ascii_uppercase()) { "machine-0" } else { word });
            }
            for (name, value) in &typed.settings {
                run = run.env(name, value);
            }
            let tried = Ran::of(run.run());
            let words = typed.words.join(" ");
            self.note(format!("   {at}: as a hint says: {words} → {}", tried.brief()));
            let code = tried.code();
            if tried.trouble() == "usage" || !documented(&words).contains(&code) || !tried.json.is_object() {
                self.fail(format!("a hint that cannot be typed: {:?}\nof {:?}", tried.outcome, ran.outcome));
            }
        }
    }

    /// What the person of this machine types to share everything.
    pub fn words_of_sync(&mut self, at: usize) -> String {
        let accepts = std::mem::take(&mut self.nodes[at].accepts);
        if accepts { "sync --accept-deletions".to_owned() } else { "sync".to_owned() }
    }

    pub fn sync(&mut self, at: usize, how: &How) -> Ran {
        let words = self.words_of_sync(at);
        self.run(at, &words, how)
    }

    /// A sync after which everything here is shared; the lock of the dead is taken. Whether it came to that.
    pub fn share(&mut self, at: usize) -> bool {
        let ran = self.sync(at, &How::WELL);
        if ran.exchanged() || ran.trouble() != "lock_held" {
            return ran.exchanged();
        }
        self.run(at, "sync --take-lock", &How::WELL).exchanged()
    }

    pub fn tokens_everywhere(&self) -> BTreeSet<Token> {
        self.nodes.iter().flat_map(|node| node.tokens().into_keys()).collect()
    }
}

/// Failures that a life brings with it although nothing is wrong with the store now.
fn excused(words: &str, ran: &Ran) -> bool {
    match ran.trouble() {
        // Somebody died and left it; more than half of the rows went; somebody else is at it.
        "lock_held" | "contended" => true,
        "refused" => ran.said().contains("more than half are missing") || !words.starts_with("sync"),
        "newer_schema" | "nothing_there" | "not_found" => !words.starts_with("sync"),
        "database_missing" => words.starts_with("push_sqlite"),
        "unknown_schema" => true,
        _ => words.starts_with("demote"),
    }
}

/// A folder for one life, in memory where that can be had.
fn folder() -> tempfile::TempDir {
    let memory = std::path::Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("a folder")
}
