//! The bucket of a life: a directory, of which each machine may see new segments later than others, and not in their order.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::dice::Dice;

pub struct Shelf {
    root: PathBuf,
    hidden: PathBuf,
    /// What a machine does not see yet: relative paths, and the step from which on it does.
    late: BTreeMap<usize, BTreeMap<PathBuf, usize>>,
    known: BTreeSet<PathBuf>,
    stamped: BTreeSet<PathBuf>,
    /// What is out of sight now.
    away: BTreeSet<PathBuf>,
}

fn walk(folder: &Path, root: &Path, found: &mut BTreeSet<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            walk(&path, root, found);
        } else if path.extension().is_some_and(|kind| kind == "seg") {
            found.insert(path.strip_prefix(root).expect("below the root").to_owned());
        }
    }
}

impl Shelf {
    pub fn new(folder: &Path) -> Shelf {
        let (root, hidden) = (folder.join("bucket"), folder.join("hidden"));
        std::fs::create_dir_all(&root).expect("a bucket");
        Shelf {
            root,
            hidden,
            late: BTreeMap::new(),
            known: BTreeSet::new(),
            stamped: BTreeSet::new(),
            away: BTreeSet::new(),
        }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The segments that are in sight.
    pub fn segments(&self) -> BTreeSet<PathBuf> {
        let mut there = BTreeSet::new();
        walk(&self.root, &self.root, &mut there);
        there
    }

    /// Lets some of the segments that are new arrive late at machines other than `by`.
    pub fn delay(&mut self, by: usize, machines: &[usize], step: usize, dice: &mut Dice) {
        let there = self.segments();
        for path in there.difference(&self.known).cloned().collect::<Vec<_>>() {
            for machine in machines.iter().filter(|machine| **machine != by) {
                if dice.percent(15) {
                    let until = step + dice.between(2, 12);
                    self.late.entry(*machine).or_default().insert(path.clone(), until);
                }
            }
            self.known.insert(path);
        }
    }

    /// Gives what is new the time of a life, which is not this machine's.
    pub fn stamp(&mut self, milliseconds: i64) {
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_millis(milliseconds.unsigned_abs());
        for path in self.segments() {
            if self.stamped.insert(path.clone()) {
                let file =
                    std::fs::File::options().write(true).open(self.root.join(path)).expect("a segment");
                file.set_modified(time).expect("set a time");
            }
        }
    }

    /// Everything has arrived everywhere.
    pub fn settle(&mut self) {
        self.late.clear();
    }

    /// From here on the store looks as this machine sees it.
    pub fn show_to(&mut self, machine: usize, step: usize) {
        let mut wanted = BTreeSet::new();
        if let Some(late) = self.late.get_mut(&machine) {
            late.retain(|_, until| *until > step);
            wanted.extend(late.keys().cloned());
        }
        for path in self.away.difference(&wanted) {
            std::fs::rename(self.hidden.join(path), self.root.join(path)).expect("show a segment");
        }
        for path in wanted.difference(&self.away) {
            let to = self.hidden.join(path);
            std::fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
            // It may have been folded away.
            let _ = std::fs::rename(self.root.join(path), to);
        }
        let hidden = &self.hidden;
        self.away = wanted.into_iter().filter(|path| hidden.join(path).exists()).collect();
    }
}
