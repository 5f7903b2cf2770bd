//! A machine of a life: claude-mem's database, membridge's state, its view of the bucket. The only file here that calls
//! membridge.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use membridge::config::StoreConfig;
use membridge::context::Context;
use membridge::failpoint::script::Crash;
use membridge::identity::{Node, canonical_id};
use membridge::progress::Bars;
use membridge::rows::node::{NodeRecord, SCHEMA};
use membridge::rows::{Depth, Rows, RowsError, Site};
use membridge::storage::{Bucket, Store};

use super::dice::Dice;
use super::memory::{Edit, Memory, Token, parse_all};
use super::world::{Image, World};
use crate::support::claude_mem::Version;

/// How a machine syncs.
#[derive(Clone, Copy, Debug)]
pub struct Sync {
    pub depth: Depth,
    /// Dies at the failpoint after so many others.
    pub crash: Option<u64>,
    /// Whether it makes one of all its segments.
    pub base: bool,
    /// Whether others may sync meanwhile.
    pub alone: bool,
}

impl Sync {
    pub const WHOLE: Sync = Sync { depth: Depth::Whole, crash: None, base: false, alone: false };
    pub const TURN: Sync = Sync { depth: Depth::Turn, ..Sync::WHOLE };
    pub const QUIET: Sync = Sync { alone: true, ..Sync::WHOLE };
}

/// What a sync said.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    pub went_back: bool,
    pub published: u64,
    pub collected: u64,
    pub held: u64,
}

/// Why a sync did not end.
pub enum Cut {
    /// It died at this failpoint.
    Died(String),
    /// It says that it cannot.
    Failed(String),
}

pub struct Machine {
    pub at: usize,
    folder: PathBuf,
    memory: Option<Memory>,
    bucket: Rc<Bucket>,
    node: Rc<Node>,
    /// Whether a whole sync ended well since the shadow was lost or an old file put back.
    pub settled: bool,
    /// What was here at the last sync, and at the one before where that one died.
    pub known: BTreeSet<Token>,
    pub before_crash: BTreeSet<Token>,
    /// Whether the last sync died.
    pub crashed: bool,
    /// What a person says to the next sync about rows that vanished in mass.
    pub accepts: bool,
    pub puts_back: bool,
    /// Whether a person is asked at all.
    pub asked: bool,
    /// Edits of the person here that an old file has undone, until the next sync.
    pub undone: Vec<Edit>,
    /// Whether its state was copied, from or to another machine.
    pub cloned: bool,
    /// Whether it has kept its shadow, its writer id and its database all along.
    pub steady: bool,
    image_taken: usize,
}

impl Machine {
    pub fn new(at: usize, life: &Path, bucket: &Path, version: Version) -> Machine {
        let machine = Machine::empty(at, life, bucket);
        let memory = Memory::create(&machine.database(), version);
        Machine { memory: Some(memory), ..machine }
    }

    fn empty(at: usize, life: &Path, bucket: &Path) -> Machine {
        let folder = life.join(format!("machine-{at}"));
        std::fs::create_dir_all(folder.join("state")).expect("a machine");
        let context = Arc::new(Context::new(SignedDuration::ZERO));
        let store = Store::open(&StoreConfig::Dir(bucket.to_owned()), &context).expect("a store");
        // The clock of a life is not the one of this machine's files.
        store.leave_no_trace();
        let bucket = Bucket::new(store, &canonical_id("mem"), context, &folder.join("state"));
        let name = format!("machine-{at}");
        Machine {
            at,
            folder,
            memory: None,
            bucket: Rc::new(bucket),
            node: Rc::new(Node { host: name.clone(), id: name }),
            settled: false,
            known: BTreeSet::new(),
            before_crash: BTreeSet::new(),
            crashed: false,
            accepts: false,
            puts_back: false,
            asked: true,
            undone: Vec::new(),
            cloned: false,
            steady: true,
            image_taken: 0,
        }
    }

    pub fn memory(&self) -> &Memory {
        self.memory.as_ref().expect("a database")
    }

    pub fn version(&self) -> Version {
        self.memory().version
    }

    pub fn database(&self) -> PathBuf {
        self.folder.join("claude-mem.db")
    }

    fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// Puts another file in the place of the database.
    pub fn replace(&mut self, image: &[u8], version: Version) {
        self.memory = None;
        for suffix in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(self.folder.join(format!("claude-mem.db{suffix}")));
        }
        let beside = self.folder.join("other.db");
        std::fs::write(&beside, image).expect("write another file");
        std::fs::rename(beside, self.database()).expect("put it there");
        self.memory = Some(Memory::open(&self.database(), version));
    }

    /// Another machine with a copy of this one's disk.
    pub fn cloned_as(&self, at: usize, life: &Path, bucket: &Path) -> Machine {
        let mut clone = Machine::empty(at, life, bucket);
        copy_folder(&self.state(), &clone.state());
        let (here, there) = (self.file_name(), clone.file_name());
        let rows = clone.state().join("rows");
        for entry in std::fs::read_dir(&rows).into_iter().flatten() {
            let name = entry.expect("an entry").file_name().into_string().expect("a name");
            // On two machines the database has one path; here it has two, and the files are named after it.
            if let Some(rest) = name.strip_prefix(&here) {
                std::fs::rename(rows.join(&name), rows.join(format!("{there}{rest}"))).expect("rename");
            }
        }
        clone.replace(&self.memory().image(), self.version());
        Machine { known: self.known.clone(), settled: self.settled, image_taken: self.image_taken, ..clone }
    }

    /// What the files of the row log are called here, without their endings.
    fn file_name(&self) -> String {
        let nowhere = super::folder();
        let site = Site { state: nowhere.path().to_owned(), ..self.site(&self.bucket, &self.node) };
        drop(Rows::open(site).expect("a shadow"));
        let names = std::fs::read_dir(nowhere.path().join("rows")).expect("a folder");
        let mut names =
            names.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"));
        names.find_map(|name| name.strip_suffix(".sqlite").map(str::to_owned)).expect("a shadow")
    }

    fn site<'a>(&self, bucket: &'a Bucket, node: &'a Node) -> Site<'a> {
        Site {
            bucket,
            database: self.database(),
            state: self.state(),
            node,
            tool_uses: false,
            excluded: Vec::new(),
            claude_mem: Some(self.memory.as_ref().map_or("", |memory| memory.version.number()).to_owned()),
            bars: Bars::default(),
        }
    }

    /// Removes the shadow, and the writer id beside it.
    pub fn lose_shadow(&mut self, writer_too: bool) {
        for entry in std::fs::read_dir(self.state().join("rows")).into_iter().flatten() {
            let path = entry.expect("an entry").path();
            let is_writer = path.extension().is_some_and(|kind| kind == "writer");
            if path.is_file() && (writer_too || !is_writer) {
                std::fs::remove_file(path).expect("lose a file");
            }
        }
        self.image_taken = 0;
    }

    /// Memories of records that wait here.
    pub fn waiting(&self) -> BTreeSet<Token> {
        waiting(&self.state())
    }

    /// One sync of machine `at`.
    pub fn sync(world: &mut World, at: usize, how: Sync, dice: &mut Dice) -> Result<Report, Cut> {
        let machine = &mut world.machines[at];
        if !machine.crashed {
            machine.before_crash = machine.known.clone();
        }
        machine.known = machine.memory().tokens().into_keys().collect();
        let ended = catch_unwind(AssertUnwindSafe(|| run(world, at, how, dice)));
        let machine = &mut world.machines[at];
        machine.crashed = false;
        match ended {
            Ok(Ok(report)) => Ok(report),
            Ok(Err(error)) => Err(Cut::Failed(error.to_string())),
            Err(panic) => match panic.downcast::<Crash>() {
                Ok(crash) => {
                    machine.crashed = true;
                    Err(Cut::Died(crash.0))
                }
                Err(panic) => resume_unwind(panic),
            },
        }
    }
}

/// Memories of records that wait on a machine, by its state directory.
pub fn waiting(state: &Path) -> BTreeSet<Token> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(state.join("rows")).into_iter().flatten() {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|kind| kind == "sqlite") {
            let db = rusqlite::Connection::open(path).expect("the shadow");
            // A run that had no room has made the file and nothing in it.
            let Ok(mut query) = db.prepare("SELECT record FROM waiting") else { continue };
            let records = query.query_map([], |row| row.get::<_, Vec<u8>>(0)).expect("what waits");
            for record in records {
                found.extend(parse_all(&String::from_utf8_lossy(&record.expect("a record"))));
            }
        }
    }
    found
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy_folder(&path, &target);
        } else {
            std::fs::copy(&path, &target).expect("copy a file");
        }
    }
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(future)
}

/// As `membridge sync` does it.
fn run(world: &mut World, at: usize, how: Sync, dice: &mut Dice) -> Result<Report, RowsError> {
    let machine = &mut world.machines[at];
    let (bucket, node) = (Rc::clone(&machine.bucket), Rc::clone(&machine.node));
    let (accepts, puts_back) = (std::mem::take(&mut machine.accepts), std::mem::take(&mut machine.puts_back));
    let taken = machine.image_taken;
    let mut rows = Rows::open(machine.site(&bucket, &node))?;
    if accepts {
        rows.accept_deletions()?;
    }
    if puts_back {
        rows.put_back()?;
    }
    let mut report = Report::default();
    // Once more where the state turned out to be a copy.
    for _ in 0..2 {
        let begun = wait(rows.begin(how.depth))?;
        report.went_back |= begun.went_back.is_some();
        wait(rows.settle())?;
        report.collected += wait(rows.collect(None))?.segments;
        let mut scanned = rows.scan()?;
        if scanned.asks > 0 {
            wait(rows.ask())?;
            scanned = rows.scan()?;
        }
        if !how.alone {
            world.meanwhile(at, dice);
        }
        let published = wait(rows.publish(scanned))?;
        report.published += published.records;
        if !published.new_writer {
            break;
        }
    }
    if let Some(Image { number, path, modified_ms }) = world.image().filter(|image| image.number != taken) {
        wait(rows.take_image(path, *modified_ms))?;
        world.machines[at].image_taken = *number;
    }
    if how.depth == Depth::Whole && world.troubles().folding {
        wait(rows.fold())?;
    }
    if how.base {
        wait(rows.make_base())?;
    }
    keep_node_record(&mut rows, world.now_ms())?;
    report.held = rows.standing()?.held.total();
    Ok(report)
}

/// Says in the bucket how far this machine is, where that has changed or a quarter of an hour has gone by.
fn keep_node_record(rows: &mut Rows<'_>, now_ms: i64) -> Result<(), RowsError> {
    let (standing, before) = (rows.standing()?, rows.last_node()?);
    let told = before.is_some_and(|before| {
        let young = before.at().is_some_and(|at| (0..900).contains(&(now_ms / 1000 - at)));
        young && before.last == standing.segment && before.folds == standing.folds
    });
    if told {
        return Ok(());
    }
    let time = Timestamp::from_millisecond(now_ms).expect("a time").to_string();
    wait(rows.put_node(NodeRecord { schema: SCHEMA, time, ..NodeRecord::default() }))
}
