//! The bucket of a life, an S3 server or a directory: which versions of which memories its log holds, and who had the lock
//! when a commit was made. Reads segments by what docs/format.md says of them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use membridge::seal::{Keyring, Place, is_sealed, open_bytes};
use serde_json::Value;

use crate::rows_model::memory::{Edit, Token};
use crate::sealed::ROOT;
use crate::support::machine::Store;
use crate::support::python_node;
use crate::support::s3::{Op, S3Server};

/// Versions of memories, wherever they are.
pub type Held = BTreeMap<Token, BTreeSet<Edit>>;

/// A request for a commit, and what stood in the lock then.
type Attempt = (String, Option<Value>);

pub enum Bucket {
    S3(S3Server),
    Dir(PathBuf),
}

pub struct Shop {
    pub bucket: Bucket,
    /// The keys of a sealed project.
    pub ring: Option<Keyring>,
    /// What each segment holds.
    read: BTreeMap<String, Held>,
    attempts: Arc<Mutex<Vec<Attempt>>>,
}

/// The versions that stand in a text of any kind: `o12|34`.
pub fn versions_in(text: &str, held: &mut Held) {
    for (at, _) in text.match_indices('|') {
        let (before, after) = (&text[..at], &text[at + 1..]);
        let digits = after.len() - after.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let start = before.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        let kind = before[..start].chars().next_back();
        if digits > 0
            && start < before.len()
            && let Some(kind @ ('s' | 'o' | 'z' | 'p')) = kind
            && let Ok(edit) = after[..digits].parse()
        {
            held.entry(format!("{kind}{}", &before[start..])).or_default().insert(edit);
        }
    }
}

/// What stands in the lines of a segment.
fn decode(segment: &[u8]) -> Held {
    let mut held = Held::new();
    let size = u32::from_le_bytes(segment[12..16].try_into().expect("four bytes")) as usize;
    let mut text = String::new();
    let mut body =
        zstd::stream::read::Decoder::with_buffer(&segment[16 + size..]).expect("a body").single_frame();
    body.read_to_string(&mut text).expect("lines");
    versions_in(&text, &mut held);
    held
}

impl Shop {
    pub fn new(bucket: Bucket, watched: bool) -> Shop {
        let attempts: Arc<Mutex<Vec<Attempt>>> = Arc::default();
        if let (Bucket::S3(server), true) = (&bucket, watched) {
            let (noted, there) = (Arc::clone(&attempts), server.handle());
            server.on_request(move |op, key| {
                if op == Op::PutObject && key.contains("/membridge/commits/") {
                    let lock = there.get(&python_node::key("mem", "locks/active.lock"));
                    let lock = lock.and_then(|bytes| serde_json::from_slice(&bytes).ok());
                    noted.lock().expect("the attempts").push((key.to_owned(), lock));
                }
            });
        }
        Shop { bucket, ring: None, read: BTreeMap::new(), attempts }
    }

    pub fn server(&self) -> Option<&S3Server> {
        match &self.bucket {
            Bucket::S3(server) => Some(server),
            Bucket::Dir(_) => None,
        }
    }

    pub fn store(&self) -> Store {
        match &self.bucket {
            Bucket::S3(server) => Store::from(server),
            Bucket::Dir(folder) => Store::Dir(folder.clone()),
        }
    }

    fn keys(&self) -> Vec<String> {
        match &self.bucket {
            Bucket::S3(server) => server.keys(""),
            Bucket::Dir(folder) => files(folder),
        }
    }

    fn get(&self, key: &str) -> Option<Vec<u8>> {
        match &self.bucket {
            Bucket::S3(server) => server.get(key),
            Bucket::Dir(folder) => std::fs::read(folder.join(key)).ok(),
        }
    }

    pub fn segments(&self) -> BTreeSet<String> {
        let is_one = |key: &String| key.contains("/membridge/rows/") && key.strip_suffix(".seg").is_some();
        self.keys().into_iter().filter(is_one).collect()
    }

    /// A segment as it was before it was sealed.
    fn opened(&self, key: &str, bytes: Vec<u8>) -> Vec<u8> {
        let Some(ring) = self.ring.as_ref().filter(|_| is_sealed(&bytes)) else { return bytes };
        let mut names = key.trim_end_matches(".seg").rsplit('/');
        let (number, writer) = (names.next().expect("a number"), names.next().expect("a writer"));
        let place = Place::Segment { writer, number: number.parse().expect("a number") };
        let project = ROOT.trim_end_matches('/').rsplit('/').next().expect("a project");
        open_bytes(&bytes, ring, project, place).expect("a segment that opens")
    }

    /// The numbers of the commits.
    pub fn commits(&self) -> Vec<u64> {
        let number = |key: String| {
            let (_, name) = key.split_once("/membridge/commits/")?;
            name.strip_suffix(".json")?.parse().ok()
        };
        let mut numbers: Vec<u64> = self.keys().into_iter().filter_map(number).collect();
        numbers.sort_unstable();
        numbers
    }

    /// Adds what the segments hold.
    pub fn log(&mut self, held: &mut Held) {
        for key in self.segments() {
            if !self.read.contains_key(&key)
                && let Some(bytes) = self.get(&key)
            {
                let held = decode(&self.opened(&key, bytes));
                self.read.insert(key.clone(), held);
            }
            for (token, edits) in self.read.get(&key).into_iter().flatten() {
                held.entry(token.clone()).or_default().extend(edits);
            }
        }
    }

    /// Commits that were made by a machine that did not hold the lock.
    pub fn unlocked(&self) -> Vec<String> {
        let attempts = std::mem::take(&mut *self.attempts.lock().expect("the attempts"));
        let mut wrong = Vec::new();
        for (key, _) in &attempts {
            let Some(commit) = self.get(key).and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok())
            else {
                continue;
            };
            let of_maker = |lock: &Value| lock["hostname"] == commit["node_id"] && lock["timestamp"] != 0;
            let mut tried = attempts.iter().filter(|(other, _)| other == key);
            if !tried.any(|(_, lock)| lock.as_ref().is_some_and(of_maker)) {
                let lock = attempts.iter().find(|(other, _)| other == key).and_then(|(_, lock)| lock.clone());
                let name = key.rsplit('/').next().unwrap_or_default();
                wrong.push(format!("{} made commit {name} while the lock was {lock:?}", commit["node_id"]));
            }
        }
        wrong
    }
}

/// The files below a folder.
pub fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    walk(folder, folder, &mut found);
    found
}

fn walk(folder: &Path, root: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            walk(&path, root, found);
        } else {
            found.push(path.strip_prefix(root).expect("below the root").display().to_string());
        }
    }
}
