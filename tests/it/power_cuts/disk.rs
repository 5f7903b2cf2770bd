//! A disk as it may be after the power went. What was synced is there; of the rest some is: names as far as some point, for
//! file systems keep their order, and of the bytes any write, or the first sectors of one. Knows deeds and dice alone.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::recorder::Deed;
use crate::support::claude_mem::Random;

/// What a disk writes at once.
const SECTOR: usize = 512;

#[derive(Clone, Debug, PartialEq)]
enum Node {
    Folder,
    Symlink(PathBuf),
    /// A number among the files: two names may have one file.
    File(usize),
}

type Names = BTreeMap<PathBuf, Node>;

/// How much of what was not synced the disk has.
#[derive(Clone, Copy, Debug)]
pub enum Luck {
    Nothing,
    Some,
    Everything,
}

/// Folders, names and bytes below a root.
#[derive(Clone)]
pub struct Disk {
    root: PathBuf,
    names: Names,
    files: Vec<(Vec<u8>, u32)>,
}

/// A change of names, and the folders of which one has to be synced for it to be sure.
struct Step {
    folder: PathBuf,
    what: What,
}

enum What {
    Make(PathBuf, Node),
    Rename(PathBuf, PathBuf),
    Swap(PathBuf, PathBuf),
    Remove(PathBuf),
}

/// A change of a file's bytes.
enum Change<'a> {
    Write(usize, &'a [u8]),
    Length(usize, bool),
}

/// The changes of a file, and how many of them were synced.
#[derive(Default)]
struct Changes<'a> {
    all: Vec<Change<'a>>,
    synced: usize,
}

/// All that happened, names and bytes apart.
struct Told<'a> {
    steps: Vec<Step>,
    /// Steps that are sure.
    sure: usize,
    bytes: HashMap<usize, Changes<'a>>,
    files: usize,
}

impl Disk {
    /// What is below `root` now.
    pub fn read(root: &Path) -> Disk {
        let mut disk = Disk { root: root.to_owned(), names: Names::new(), files: Vec::new() };
        disk.names.insert(root.to_owned(), Node::Folder);
        let mut folders = vec![root.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                let about = path.symlink_metadata().expect("an entry");
                let node = if about.is_dir() {
                    folders.push(path.clone());
                    Node::Folder
                } else if about.is_symlink() {
                    Node::Symlink(path.read_link().expect("where it leads"))
                } else {
                    disk.files.push((fs::read(&path).expect("a file"), about.permissions().mode()));
                    Node::File(disk.files.len() - 1)
                };
                disk.names.insert(path, node);
            }
        }
        disk
    }

    /// Makes what is below the root this.
    pub fn write(&self) {
        for entry in fs::read_dir(&self.root).expect("the root") {
            let path = entry.expect("an entry").path();
            let removed = if path.symlink_metadata().expect("an entry").is_dir() {
                fs::remove_dir_all(&path)
            } else {
                fs::remove_file(&path)
            };
            removed.expect("make room");
        }
        let mut written: HashMap<usize, &Path> = HashMap::new();
        for (path, node) in self.names.iter().filter(|(path, _)| **path != self.root) {
            match node {
                Node::Folder => {
                    fs::create_dir(path).expect("make a folder");
                    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).expect("its mode");
                }
                Node::Symlink(leads) => std::os::unix::fs::symlink(leads, path).expect("make a link"),
                Node::File(number) => {
                    if let Some(first) = written.get(number) {
                        fs::hard_link(first, path).expect("a second name");
                        continue;
                    }
                    let (bytes, mode) = &self.files[*number];
                    fs::write(path, bytes).expect("write a file");
                    fs::set_permissions(path, fs::Permissions::from_mode(*mode)).expect("its mode");
                    written.insert(*number, path);
                }
            }
        }
    }

    /// The disk if the power goes after these deeds.
    pub fn after(&self, deeds: &[Deed], luck: Luck, dice: &mut Random) -> Disk {
        let told = self.told(deeds);
        let steps = match luck {
            Luck::Nothing => told.sure,
            Luck::Some => told.sure + dice.below(told.steps.len() - told.sure + 1),
            Luck::Everything => told.steps.len(),
        };
        let mut disk = self.clone();
        for step in &told.steps[..steps] {
            step.what.apply(&mut disk.names);
        }
        disk.files.resize_with(told.files, || (Vec::new(), 0o600));
        let mut changed: Vec<_> = told.bytes.into_iter().collect();
        changed.sort_by_key(|(number, _)| *number);
        for (number, changes) in changed {
            let bytes = &mut disk.files[number].0;
            for (at, change) in changes.all.iter().enumerate() {
                let whole = at < changes.synced || matches!(luck, Luck::Everything);
                change.apply(bytes, if whole { None } else { Some((luck, &mut *dice)) });
            }
        }
        disk
    }

    fn told<'a>(&self, deeds: &'a [Deed]) -> Told<'a> {
        let mut names = self.names.clone();
        let mut told = Told { steps: Vec::new(), sure: 0, bytes: HashMap::new(), files: self.files.len() };
        for deed in deeds {
            match deed {
                Deed::Open { path, makes, empties } => match names.get(path) {
                    Some(Node::File(number)) if *empties => told.change(*number, Change::Length(0, false)),
                    None if *makes => {
                        let node = Node::File(told.files);
                        told.files += 1;
                        told.step(&mut names, path, What::Make(path.clone(), node));
                    }
                    _ => {}
                },
                Deed::Write { path, at, bytes } => {
                    let at = usize::try_from(*at).expect("a position");
                    told.change(file(&names, path), Change::Write(at, bytes));
                }
                Deed::Length { path, length, grows } => {
                    let length = usize::try_from(*length).expect("a length");
                    told.change(file(&names, path), Change::Length(length, *grows));
                }
                Deed::Folder { path } => told.step(&mut names, path, What::Make(path.clone(), Node::Folder)),
                Deed::Symlink { path, leads } => {
                    let node = Node::Symlink(leads.clone());
                    told.step(&mut names, path, What::Make(path.clone(), node));
                }
                Deed::Link { from, to } => {
                    let node = names[from].clone();
                    told.step(&mut names, to, What::Make(to.clone(), node));
                }
                Deed::Rename { from, to } => {
                    told.step(&mut names, to, What::Rename(from.clone(), to.clone()));
                }
                Deed::Swap { one, other } => {
                    told.step(&mut names, other, What::Swap(one.clone(), other.clone()));
                }
                Deed::Remove { path } => told.step(&mut names, path, What::Remove(path.clone())),
                Deed::Sync { path } => told.sync(&names, path),
            }
        }
        told
    }
}

impl<'a> Told<'a> {
    fn step(&mut self, names: &mut Names, path: &Path, what: What) {
        what.apply(names);
        self.steps.push(Step { folder: path.parent().expect("a folder").to_owned(), what });
    }

    fn change(&mut self, number: usize, change: Change<'a>) {
        self.bytes.entry(number).or_default().all.push(change);
    }

    fn sync(&mut self, names: &Names, path: &Path) {
        match names.get(path) {
            Some(Node::File(number)) => {
                let changes = self.bytes.entry(*number).or_default();
                changes.synced = changes.all.len();
            }
            Some(Node::Folder) => {
                let last = self.steps.iter().rposition(|step| step.folder == path);
                self.sure = self.sure.max(last.map_or(0, |at| at + 1));
            }
            _ => {}
        }
    }
}

fn file(names: &Names, path: &Path) -> usize {
    let Some(Node::File(number)) = names.get(path) else { panic!("no file {}", path.display()) };
    *number
}

impl What {
    fn apply(&self, names: &mut Names) {
        match self {
            What::Make(path, node) => drop(names.insert(path.clone(), node.clone())),
            What::Remove(path) => drop(names.remove(path)),
            What::Rename(from, to) => {
                let moved = take(names, from);
                drop(take(names, to));
                names.extend(under(moved, from, to));
            }
            What::Swap(one, other) => {
                let (first, second) = (take(names, one), take(names, other));
                names.extend(under(first, one, other));
                names.extend(under(second, other, one));
            }
        }
    }
}

/// A name and what is below it.
fn take(names: &mut Names, path: &Path) -> Names {
    let paths: Vec<PathBuf> = names.keys().filter(|name| name.starts_with(path)).cloned().collect();
    paths.into_iter().filter_map(|name| names.remove_entry(&name)).collect()
}

fn under(names: Names, from: &Path, to: &Path) -> Names {
    let moved = |name: PathBuf| {
        let rest = name.strip_prefix(from).expect("below it");
        if rest.as_os_str().is_empty() { to.to_owned() } else { to.join(rest) }
    };
    names.into_iter().map(|(name, node)| (moved(name), node)).collect()
}

impl Change<'_> {
    /// With luck and dice, what was not synced: whole, in part, or not at all.
    fn apply(&self, bytes: &mut Vec<u8>, chance: Option<(Luck, &mut Random)>) {
        let kept = match chance {
            None => usize::MAX,
            Some((Luck::Nothing, _)) => return,
            Some((_, dice)) => match dice.below(5) {
                0 => return,
                1 => SECTOR * dice.below(8),
                _ => usize::MAX,
            },
        };
        match self {
            Change::Write(at, new) => {
                let new = &new[..new.len().min(kept)];
                if bytes.len() < at + new.len() {
                    bytes.resize(at + new.len(), 0);
                }
                bytes[*at..at + new.len()].copy_from_slice(new);
            }
            Change::Length(length, grows) if !grows || bytes.len() < *length => bytes.resize(*length, 0),
            Change::Length(..) => {}
        }
    }
}
