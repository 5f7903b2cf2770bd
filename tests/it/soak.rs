//! `make soak`: hundreds of random pushes from two nodes and a Python node, with retention and chains that start anew.
//! Every commit that is kept restores to the image and the rows that were noted when it was made. The seed is printed;
//! SOAK_SEED repeats a run, SOAK_PUSHES sets its length.

use std::collections::BTreeMap;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::common::{COMMITS, assert_whole, memory, rows};
use crate::support::claude_mem::{self, Random, Version};
use crate::support::machine::Machine;
use crate::support::python_node::{PythonNode, Stop};
use crate::support::s3::S3Server;

const KEPT: usize = 40;
/// An hour between two pushes: after a day nothing is too young to go.
const BETWEEN: u64 = 3600;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

fn sha256(bytes: &[u8]) -> String {
    membridge::context::hex(&Sha256::digest(bytes))
}

fn rows_hash(database: &Path) -> String {
    sha256(rows(database).join("\n").as_bytes())
}

/// What was noted about a commit when it was made.
struct Noted {
    image: String,
    rows: String,
    kind: String,
    adopted: bool,
}

struct Soak {
    server: S3Server,
    nodes: [Machine; 2],
    python: Machine,
    random: Random,
    noted: BTreeMap<u64, Noted>,
    /// Rows of a Python push that no commit holds yet.
    unadopted: Option<String>,
    python_titles: Vec<String>,
}

impl Soak {
    fn new(seed: u64) -> Soak {
        let server = S3Server::start();
        let node = |name: &str| {
            let mut machine = Machine::new(name, &server);
            machine.set("LEADERSHIP_ENABLED", "0");
            machine.set("HISTORY_MAX_COUNT", KEPT.to_string());
            machine.set("HISTORY_MAX_DAYS", "1");
            machine
        };
        let nodes = [node("alpha"), node("beta")];
        nodes[0].create_db(Version::V13_25_3).add_session("one").add_observations(60);
        let python = Machine::new("python", &server);
        Soak {
            server,
            nodes,
            python,
            random: Random::new("soak", seed.cast_signed()),
            noted: BTreeMap::new(),
            unadopted: None,
            python_titles: Vec::new(),
        }
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.random.next() % limit
    }

    /// Some change, small mostly.
    fn change(&mut self, node: usize, round: u64) {
        let db = self.nodes[node].db();
        match self.below(20) {
            0 => {
                // Every page is another: more than a delta is worth.
                db.add_observations(1).vacuum();
            }
            1 => {
                db.add_observations(60);
            }
            2..=4 => {
                // As a person deletes: a few. Many at once would be held.
                let count = 1 + self.below(5);
                db.add_observations(1).execute(&format!(
                    "DELETE FROM observations WHERE id IN (SELECT id FROM observations
                    WHERE title NOT LIKE 'python%' ORDER BY (id * 7919 + {round}) % 1009 LIMIT {count})"
                ));
            }
            5..=7 => {
                let rest = self.below(13);
                db.execute(&format!(
                    "UPDATE observations SET narrative = narrative || ' changed in {round}' WHERE id % 13 = {rest}"
                ));
            }
            8..=10 => {
                let session = format!("round-{round}");
                db.add_session(&session).add_prompts(3).add_observations(4).add_summaries(1);
            }
            _ => {
                let count = 1 + self.below(8) as usize;
                db.add_observations(count);
            }
        }
    }

    fn push(&mut self, node: usize, whole: bool) {
        let words = if whole { "push_sqlite" } else { "sync --for end" };
        self.nodes[node].cmd(words).run().assert_code(0);
        let ours = rows_hash(&self.nodes[node].db_path());
        for key in self.server.keys(COMMITS) {
            let commit: serde_json::Value = serde_json::from_str(&self.server.text(&key)).unwrap();
            let number = commit["number"].as_u64().unwrap();
            if self.noted.contains_key(&number) {
                continue;
            }
            let adopted = !commit["adopted_from"].is_null();
            let rows = if adopted {
                self.unadopted.take().expect("an adopted commit for each Python push")
            } else {
                ours.clone()
            };
            let text = |name: &str| commit[name].as_str().unwrap().to_owned();
            let noted = Noted { image: text("sha256"), rows, kind: text("kind"), adopted };
            self.noted.insert(number, noted);
        }
        assert!(self.unadopted.is_none(), "a Python push was not adopted");
    }

    fn pull(&self, node: usize) {
        self.nodes[node].cmd("pull_sqlite").run().assert_code(0);
    }

    /// A Python node takes what is there, adds to it, and overwrites.
    fn python_push(&mut self) {
        let node = PythonNode::new(&self.server, "mem", "python");
        let database = self.python.db_path();
        node.pull(&database).unwrap();
        let before = claude_mem::titles(&database);
        let count = 1 + self.below(5) as usize;
        let session = format!("there-{}", self.python_titles.len());
        self.python.db().add_session(&session).add_observations(count);
        let after = claude_mem::titles(&database);
        self.python_titles.extend(after.into_iter().filter(|title| !before.contains(title)));
        // Its lock, which it never gives back, has run out.
        node.write(&database, jiff::Timestamp::now().as_second() - 8000, Stop::Never);
        self.unadopted = Some(rows_hash(&database));
    }

    fn check_kept(&self) -> usize {
        let keys = self.server.keys(COMMITS);
        let node = &self.nodes[0];
        for key in &keys {
            let number: u64 = key[COMMITS.len()..].trim_end_matches(".json").parse().unwrap();
            let noted = &self.noted[&number];
            let file = node.path("restored.db");
            let _ = std::fs::remove_file(&file);
            node.cmd(&format!("restore {number} --to")).arg(&file).run().assert_code(0);
            assert_eq!(sha256(&std::fs::read(&file).unwrap()), noted.image, "commit {number}");
            assert_eq!(rows_hash(&file), noted.rows, "commit {number}");
        }
        node.cmd("verify --all").run().assert_code(0);
        keys.len()
    }
}

#[test]
#[ignore = "takes minutes; make soak"]
fn soak() {
    let seed = number("SOAK_SEED").unwrap_or_else(|| u64::from(std::process::id()) * 7919);
    let pushes = number("SOAK_PUSHES").unwrap_or(300);
    println!("SOAK_SEED={seed} SOAK_PUSHES={pushes}");
    let started = std::time::Instant::now();
    let mut soak = Soak::new(seed);
    soak.push(0, true);
    let (mut done, mut by_python) = (1, 0);
    while done < pushes {
        let node = soak.below(2) as usize;
        soak.pull(node);
        soak.change(node, done);
        let python_follows = soak.below(12) == 0;
        let whole = python_follows || soak.below(4) == 0;
        soak.push(node, whole);
        done += 1;
        if python_follows {
            soak.python_push();
            by_python += 1;
            done += 1;
        }
        soak.server.age(BETWEEN);
        if done % 100 == 0 {
            println!(
                "{done} pushes after {:?}: {} commits kept and right",
                started.elapsed(),
                soak.check_kept()
            );
        }
    }
    soak.pull(0);
    soak.nodes[0].db().add_observations(1);
    soak.push(0, true);
    soak.pull(1);
    for machine in &soak.nodes {
        assert_whole(&machine.db_path());
        let titles = claude_mem::titles(machine.db_path());
        let lost: Vec<_> = soak.python_titles.iter().filter(|title| !titles.contains(title)).collect();
        assert!(lost.is_empty(), "lost on {}: {lost:?}", machine.name);
    }
    assert_eq!(memory(&soak.nodes[0].db_path()), memory(&soak.nodes[1].db_path()));

    let kept = soak.check_kept();
    let adopted = soak.noted.values().filter(|noted| noted.adopted).count();
    let full = soak.noted.values().filter(|noted| noted.kind == "full").count();
    assert_eq!(adopted, by_python, "each Python push is a commit");
    let first = soak.noted.len() - kept + 1;
    let listed = soak.nodes[0].cmd("history --json --limit 1000").run().json();
    let listed = listed["commits"].as_array().expect("a list").clone();
    for (number, noted) in soak.noted.range(first as u64..) {
        assert!(
            listed.iter().any(|commit| commit["number"] == *number
                && (!noted.adopted || commit.to_string().contains("python"))),
            "commit {number} in {listed:?}"
        );
    }
    println!(
        "{} commits, {adopted} adopted from a Python node, {full} full packs, {kept} kept, all right, after {:?}",
        soak.noted.len(),
        started.elapsed()
    );
    if pushes >= 150 {
        assert!(kept < soak.noted.len() && kept >= KEPT, "retention: {kept}");
        assert!(full > adopted + 1, "chains start anew: {full}");
    }
}
