//! One life: some machines, a bucket, a person who works on them, and what goes wrong. Everything in it comes from one seed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use membridge::failpoint::script;
use membridge::rows::Depth;

use super::deeds::Deed;
use super::dice::Dice;
use super::ledger::Ledger;
use super::machine::{Cut, Machine, Sync};
use super::memory::{Edit, Memory, Token};
use super::shelf::Shelf;
use super::troubles::Troubles;
use super::upgrade::{MERGE_TWINS, upgraded};
use crate::support::claude_mem::Version;

/// The releases that live together.
pub const VERSIONS: [Version; 4] = [Version::V9_1_1, Version::V10_3_3, Version::V13_15_3, Version::V13_25_3];
const DAY: i64 = 86_400_000;
/// Who edits on a Python node.
const PYTHON: usize = 99;

/// A file that somebody kept.
#[derive(Clone)]
struct OldFile {
    image: Vec<u8>,
    version: Version,
}

/// What a Python node put into the bucket.
#[derive(Clone)]
pub struct Image {
    pub number: usize,
    pub path: PathBuf,
    pub modified_ms: i64,
}

pub struct World {
    pub machines: Vec<Machine>,
    pub ledger: Ledger,
    pub log: Vec<String>,
    /// Syncs that said that they cannot.
    pub failures: Vec<String>,
    folder: tempfile::TempDir,
    shelf: Shelf,
    troubles: Troubles,
    seed: u64,
    step: usize,
    clock: i64,
    skew: i64,
    births: i64,
    old: BTreeMap<usize, OldFile>,
    python: Option<Memory>,
    image: Option<Image>,
    /// Machines that are syncing now.
    busy: BTreeSet<usize>,
}

impl World {
    pub fn new(seed: u64, troubles: Troubles) -> World {
        script::set_chance(Some(seed));
        let folder = super::folder();
        let shelf = Shelf::new(folder.path());
        let mut world = World {
            machines: Vec::new(),
            ledger: Ledger::default(),
            log: Vec::new(),
            failures: Vec::new(),
            shelf,
            folder,
            troubles,
            seed,
            step: 0,
            clock: 1_700_000_000_000,
            skew: 0,
            births: 1_690_000_000_000,
            old: BTreeMap::new(),
            python: None,
            image: None,
            busy: BTreeSet::new(),
        };
        world.tick(0);
        world
    }

    /// Machines of a random life, and what they had in common before they ever synced.
    pub fn populate(&mut self) {
        let mut dice = Dice::of_step(self.seed, 0);
        for _ in 0..dice.between(2, self.troubles.machines) {
            self.add_machine(*dice.pick(&VERSIONS));
        }
        if !dice.percent(40) {
            return;
        }
        for _ in 0..dice.between(1, 4) {
            self.deed(0, &mut dice, |deed| deed.session());
        }
        let (image, version) = (self.machines[0].memory().image(), self.machines[0].version());
        self.ledger.copied();
        for at in 1..self.machines.len() {
            if self.machines[at].version() == version && dice.percent(80) {
                self.machines[at].replace(&image, version);
            }
        }
        for at in dice.order(self.machines.len()) {
            self.sync(at, Sync::WHOLE, &mut dice);
        }
    }

    pub fn add_machine(&mut self, version: Version) -> usize {
        let at = self.machines.len();
        self.machines.push(Machine::new(at, self.folder.path(), self.shelf.root(), version));
        at
    }

    fn note(&mut self, text: String) {
        self.log.push(text);
    }

    /// The time by which all machines go.
    pub fn now_ms(&self) -> i64 {
        self.clock + self.skew
    }

    /// Time goes by.
    pub fn tick(&mut self, milliseconds: i64) {
        self.clock += milliseconds;
        script::set_time(Some(self.clock + self.skew));
    }

    /// Somebody does something on a machine.
    pub fn deed<T>(&mut self, at: usize, dice: &mut Dice, what: impl FnOnce(&mut Deed<'_>) -> T) -> T {
        what(&mut Deed {
            memory: self.machines[at].memory(),
            ledger: &mut self.ledger,
            dice,
            time: &mut self.births,
            by: at,
            twin_keys: self.troubles.twin_keys,
            bad_text: self.troubles.bad_text,
            keys: true,
        })
    }

    /// A person deletes rows.
    pub fn delete(&mut self, at: usize, sql: &str) {
        let machine = &self.machines[at];
        let before = machine.memory().tokens();
        machine.memory().db.execute_batch(sql).expect("delete");
        let after = machine.memory().tokens();
        for (token, edits) in before {
            if !after.contains_key(&token) {
                let in_crash = machine.crashed && !machine.before_crash.contains(&token);
                self.ledger.delete(&token, &edits, in_crash);
            }
        }
    }

    /// A sync of one machine. A crash that was planned ends it; the next sync recovers.
    pub fn sync(&mut self, at: usize, how: Sync, dice: &mut Dice) {
        if !self.busy.insert(at) {
            return;
        }
        self.tick(7);
        self.shelf.show_to(at, self.step);
        let outer = script::crash_after(how.crash);
        let ended = Machine::sync(self, at, how, dice);
        script::crash_after(outer);
        self.shelf.stamp(self.clock + self.skew);
        if self.troubles.late {
            let others = |other: &usize| !how.alone && !self.machines[*other].cloned;
            let machines: Vec<usize> = (0..self.machines.len()).filter(others).collect();
            self.shelf.delay(at, &machines, self.step, dice);
        }
        match ended {
            Ok(report) => {
                self.note(format!("   {at}: {report:?}"));
                self.acknowledge(at, how, report.went_back);
                // Who is asked about rows that vanished says that they were to go.
                self.machines[at].accepts |= self.machines[at].asked && report.held > 0;
            }
            Err(Cut::Died(point)) => self.note(format!("   {at} died at {point}")),
            Err(Cut::Failed(error)) => {
                self.note(format!("   {at} failed: {error}"));
                self.failures.push(format!("{at} cannot sync: {error}"));
            }
        }
        let parents: Vec<_> = self.machines.iter().map(|machine| machine.memory().parents()).collect();
        for parents in parents {
            self.ledger.parents(parents);
        }
        self.busy.remove(&at);
    }

    /// What others do between a scan and the publishing of what it found.
    pub fn meanwhile(&mut self, at: usize, dice: &mut Dice) {
        if self.troubles.interleaved && dice.percent(30) && self.busy.len() < 3 {
            let other = dice.below(self.machines.len());
            if other != at {
                // What this machine has sent so far it sees itself, whoever looks next.
                self.shelf.delay(at, &[], self.step, dice);
                self.note(format!("   meanwhile {other} syncs"));
                self.sync(other, Sync::WHOLE, dice);
                self.shelf.show_to(at, self.step);
            }
        }
    }

    pub fn image(&self) -> Option<&Image> {
        self.image.as_ref()
    }

    fn acknowledge(&mut self, at: usize, how: Sync, went_back: bool) {
        let machine = &mut self.machines[at];
        let here = machine.memory().tokens();
        for (token, edits) in &here {
            // After a turn only sessions and rows that are new are looked at.
            if how.depth == Depth::Whole || token.starts_with('s') || !machine.known.contains(token) {
                for edit in edits {
                    self.ledger.acknowledge(*edit);
                }
            }
        }
        machine.known = here.into_keys().collect();
        if how.depth == Depth::Whole {
            machine.settled = true;
        }
        let undone = std::mem::take(&mut machine.undone);
        if !went_back {
            self.ledger.undo(undone);
        }
    }

    /// Everybody syncs until nothing is left to say.
    pub fn quiet(&mut self) {
        self.shelf.settle();
        let mut dice = Dice::of_step(self.seed, usize::MAX);
        if dice.percent(50) {
            self.skew = 0;
        }
        self.step += 1;
        for _ in 0..4 {
            for at in 0..self.machines.len() {
                self.tick(1000);
                self.sync(at, Sync::QUIET, &mut dice);
            }
        }
    }

    // What goes wrong.

    pub fn lose_shadow(&mut self, at: usize, writer_too: bool) {
        let machine = &mut self.machines[at];
        machine.lose_shadow(writer_too);
        machine.steady = false;
        machine.settled = false;
    }

    pub fn keep_old_file(&mut self, at: usize) {
        let machine = &self.machines[at];
        let old = OldFile { image: machine.memory().image(), version: machine.version() };
        self.old.insert(at, old);
    }

    /// A file from before is put back; what was only here and never acknowledged is gone by the person's hand.
    pub fn put_old_file_back(&mut self, at: usize) {
        let Some(old) = self.old.get(&at).cloned() else { return };
        let machine = &mut self.machines[at];
        let before = machine.memory().tokens();
        machine.replace(&old.image, old.version);
        machine.settled = false;
        machine.steady = false;
        let after = machine.memory().tokens();
        let newest = |edits: &Vec<Edit>| edits[0];
        for (token, edits) in &before {
            self.ledger.throw_away(edits);
            if let Some(back) = after.get(token) {
                machine.undone.extend(self.ledger.own_edits(newest(back), newest(edits), at));
            }
        }
    }

    pub fn clone_machine(&mut self, at: usize) {
        let to = self.machines.len();
        let mut clone = self.machines[at].cloned_as(to, self.folder.path(), self.shelf.root());
        clone.cloned = true;
        clone.steady = false;
        self.machines[at].cloned = true;
        self.machines[at].steady = false;
        self.machines.push(clone);
        self.shelf.settle();
    }

    pub fn upgrade(&mut self, at: usize, to: Version, lowered: bool, merge: bool) {
        let machine = &mut self.machines[at];
        let before: BTreeSet<Token> = machine.memory().tokens().into_keys().collect();
        let image = upgraded(&machine.database(), self.folder.path(), to, lowered);
        machine.replace(&image, to);
        if merge {
            machine.memory().db.execute_batch(MERGE_TWINS).expect("merge twins");
        }
        let after = machine.memory().tokens();
        for token in before.iter().filter(|token| !after.contains_key(*token)) {
            self.ledger.merge(token);
        }
    }

    /// A clock that jumps: the store's, by which all machines go.
    pub fn jump(&mut self, dice: &mut Dice) {
        self.skew = *dice.pick(&[0, 0, 3 * DAY, -3 * DAY, 400 * DAY]);
        self.tick(0);
    }

    // A Python node: it takes the database of a machine, adds to it, and overwrites what is in the bucket.

    pub fn mirror(&mut self, at: usize) {
        let path = self.folder.path().join("python.db");
        self.python = None;
        let machine = &self.machines[at];
        std::fs::write(&path, machine.memory().image()).expect("the mirror");
        self.python = Some(Memory::open(&path, machine.version()));
    }

    pub fn python_deed(&mut self, dice: &mut Dice, what: impl FnOnce(&mut Deed<'_>)) {
        let Some(memory) = &self.python else { return };
        what(&mut Deed {
            memory,
            ledger: &mut self.ledger,
            dice,
            time: &mut self.births,
            by: PYTHON,
            twin_keys: self.troubles.twin_keys,
            bad_text: false,
            keys: false,
        });
    }

    pub fn python_push(&mut self) {
        let Some(python) = &self.python else { return };
        let number = self.image.as_ref().map_or(1, |image| image.number + 1);
        let path = self.folder.path().join(format!("image-{number}.db"));
        std::fs::write(&path, python.image()).expect("the image");
        self.image = Some(Image { number, path, modified_ms: self.clock + self.skew });
    }

    pub fn begin_step(&mut self, step: usize) -> Dice {
        self.step = step;
        Dice::of_step(self.seed, step)
    }

    /// The segments that are in the bucket, and when folding has left them there.
    pub fn segments(&self) -> BTreeSet<PathBuf> {
        self.shelf.segments()
    }

    pub fn troubles(&self) -> Troubles {
        self.troubles
    }
}
