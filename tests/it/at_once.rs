//! A fleet of which all machines sync at the same moment, round after round: six of them for three rounds, or, with
//! MEMBRIDGE_TEST_SYNCS, 24 for as many. On a server, in a directory, and in one folder for each machine that somebody keeps
//! alike as Syncthing does: late, one file at a time, in any order. After a quiet round all hold the same.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::common::{assert_whole, memory};
use crate::support::claude_mem::{self, Random, Version};
use crate::support::machine::{Machine, Store};
use crate::support::process::Running;
use crate::support::s3::{Fault, S3Server};

/// How many machines, and how many rounds.
fn size() -> (usize, usize) {
    match std::env::var("MEMBRIDGE_TEST_SYNCS") {
        Ok(rounds) => (24, rounds.parse().expect("a number")),
        Err(_) => (6, 3),
    }
}

/// A fleet in which the first machine archives; each has memory of its own.
fn fleet(machines: usize, project: &str, store: impl Fn(usize) -> Store) -> Vec<Machine> {
    let machine = |number: usize| {
        let mut machine = Machine::new(&format!("node-{number}"), store(number));
        machine.set("CLAUDE_PROJECT_ID", project).set("PRIMARY_NODE_ID", "node-0");
        machine.create_db(Version::V13_25_3).add_session(&machine.name).add_observations(2);
        machine
    };
    (0..machines).map(machine).collect()
}

/// All of them at once; each ends well.
fn all_sync(machines: &[Machine]) {
    let runs: Vec<Running> = machines.iter().map(|machine| machine.cmd("sync").spawn()).collect();
    for run in runs {
        run.wait().assert_code(0);
    }
}

/// One round: everybody records something, one changes what another recorded, and all sync.
fn round(machines: &[Machine], round: usize) {
    for machine in machines {
        machine.db().add_observations(1);
    }
    let changes = &machines[round % machines.len()];
    changes.db().execute(&format!(
        "UPDATE observations SET title = 'changed in round {round}' WHERE id = (SELECT min(id) FROM observations)"
    ));
    all_sync(machines);
}

fn all_hold_the_same(machines: &[Machine], rounds: usize) {
    let all = memory(&machines[0].db_path());
    let observations = i64::try_from(machines.len() * (2 + rounds)).unwrap();
    assert_eq!(claude_mem::counts(machines[0].db_path()).observations, observations);
    for machine in machines {
        assert!(memory(&machine.db_path()) == all, "{} holds something else", machine.name);
        assert_whole(&machine.db_path());
    }
}

/// The rounds, and a quiet one in which each machine looks once after all have sent.
pub fn converge(project: &str, store: &Store, (count, rounds): (usize, usize)) {
    let machines = fleet(count, project, |_| store.clone());
    machines[0].cmd("sync").run().assert_code(0);
    for number in 0..rounds {
        round(&machines, number);
    }
    all_sync(&machines);
    all_sync(&machines);
    all_hold_the_same(&machines, rounds);
}

#[test]
fn on_a_server() {
    let server = S3Server::start();
    converge("mem", &Store::from(&server), size());
}

#[test]
fn on_a_server_that_ignores_conditions() {
    let server = S3Server::start();
    let _ignores = server.fault(Fault::IgnoresConditions);
    converge("mem", &Store::from(&server), size());
}

#[test]
fn in_a_directory() {
    let folder = tempfile::tempdir().unwrap();
    converge("mem", &Store::from(folder.path()), size());
}

/// Keeps the folders of all machines alike: what is new or other in one comes to each of the others some time later. It is
/// brought as it is then, never as it was.
struct Courier {
    folders: Vec<tempfile::TempDir>,
    /// What lies in each folder since the last look: by whose hand it came does not matter.
    known: Vec<BTreeMap<PathBuf, Vec<u8>>>,
    /// What each still has to get, and from whom.
    owed: Vec<BTreeMap<PathBuf, usize>>,
    dice: Random,
}

impl Courier {
    fn of(machines: usize) -> Courier {
        Courier {
            folders: (0..machines).map(|_| tempfile::tempdir().unwrap()).collect(),
            known: vec![BTreeMap::new(); machines],
            owed: vec![BTreeMap::new(); machines],
            dice: Random::new("late", 16),
        }
    }

    /// Sees what the machines have left in their folders.
    fn look(&mut self) {
        for at in 0..self.folders.len() {
            let mut now = BTreeMap::new();
            files(self.folders[at].path(), self.folders[at].path(), &mut now);
            let changed: BTreeSet<PathBuf> = now
                .iter()
                .filter(|(path, bytes)| self.known[at].get(*path) != Some(bytes))
                .map(|(path, _)| path.clone())
                .collect();
            for path in changed {
                for (other, owed) in self.owed.iter_mut().enumerate() {
                    if other != at {
                        owed.insert(path.clone(), at);
                    }
                }
                self.owed[at].remove(&path);
            }
            self.known[at] = now;
        }
    }

    /// Brings about one file in `of`, in any order.
    fn bring(&mut self, of: u64) {
        for at in 0..self.folders.len() {
            let mut owed: Vec<(PathBuf, usize)> = self.owed[at].clone().into_iter().collect();
            while !owed.is_empty() {
                let (path, from) = owed.swap_remove(self.dice.next() as usize % owed.len());
                if !self.dice.next().is_multiple_of(of) {
                    continue;
                }
                let bytes = std::fs::read(self.folders[from].path().join(&path)).unwrap();
                let target = self.folders[at].path().join(&path);
                std::fs::create_dir_all(target.parent().unwrap()).unwrap();
                let temporary = target.with_extension("syncthing.tmp");
                std::fs::write(&temporary, &bytes).unwrap();
                std::fs::rename(&temporary, &target).unwrap();
                self.known[at].insert(path.clone(), bytes);
                self.owed[at].remove(&path);
            }
        }
    }
}

fn files(folder: &Path, root: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if path.is_dir() && !hidden {
            files(&path, root, found);
        } else if !hidden {
            found.insert(path.strip_prefix(root).unwrap().to_owned(), std::fs::read(&path).unwrap());
        }
    }
}

#[test]
fn in_folders_whose_files_arrive_late_and_in_any_order() {
    let (count, rounds) = size();
    let mut courier = Courier::of(count);
    let stores: Vec<Store> = courier.folders.iter().map(|folder| Store::from(folder.path())).collect();
    let machines = fleet(count, "mem", |number| stores[number].clone());
    machines[0].cmd("sync").run().assert_code(0);
    courier.look();
    courier.bring(1);
    for number in 0..rounds {
        round(&machines, number);
        courier.look();
        courier.bring(3);
    }
    // Quiet: everything comes, all look, and what that makes comes too.
    for _ in 0..2 {
        courier.bring(1);
        all_sync(&machines);
        courier.look();
    }
    courier.bring(1);
    all_sync(&machines);
    all_hold_the_same(&machines, rounds);
}
