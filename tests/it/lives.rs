//! Many random lives on some threads, and a failing one made short: the steps that it needs are found, and said so that they
//! can be lived again. What a life is its model knows: rows_model lives in this process, fleet_model with the binary.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many failing lives are told of before the rest is left alone.
const TOLD: usize = 3;

/// How a life ended.
pub struct Ended {
    pub wrong: Vec<String>,
    pub log: Vec<String>,
}

/// The lives of one model.
pub struct Lives<'a> {
    /// What the variables begin with: `ROWS_SEED`.
    pub name: &'static str,
    /// Steps of a life, numbered from 1.
    pub steps: usize,
    /// Lives at the same time.
    pub threads: usize,
    /// Lives some steps of a seed, and judges.
    pub live: &'a (dyn Fn(u64, &[usize]) -> Ended + Sync),
}

/// As many as there are cores.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

pub fn variable<T: std::str::FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

impl Lives<'_> {
    fn variable<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        variable(&format!("{}_{name}", self.name))
    }

    fn all_steps(&self) -> Vec<usize> {
        (1..=self.steps).collect()
    }

    /// A life that does not get to its end went wrong too.
    fn outcome(&self, seed: u64, kept: &[usize]) -> Ended {
        catch_unwind(AssertUnwindSafe(|| (self.live)(seed, kept))).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Ended { wrong: vec![format!("panicked: {}", text.unwrap_or_default())], log: Vec::new() }
        })
    }

    fn fails(&self, seed: u64, kept: &[usize]) -> bool {
        !self.outcome(seed, kept).wrong.is_empty()
    }

    /// The steps that a failing life needs to fail: a prefix first, then without each step that it can do without.
    fn shrink(&self, seed: u64) -> Vec<usize> {
        let mut kept = self.all_steps();
        while kept.len() > 1 && self.fails(seed, &kept[..kept.len() / 2]) {
            kept.truncate(kept.len() / 2);
        }
        let mut chunk = (kept.len() / 4).max(1);
        loop {
            let mut at = kept.len();
            while at > 0 {
                let from = at.saturating_sub(chunk);
                let mut fewer = kept.clone();
                fewer.drain(from..at);
                if self.fails(seed, &fewer) {
                    kept = fewer;
                }
                at = from;
            }
            if chunk == 1 {
                return kept;
            }
            chunk /= 2;
        }
    }

    fn told(&self, seed: u64, kept: &[usize]) -> String {
        let Ended { wrong, log } = self.outcome(seed, kept);
        let steps: Vec<String> = kept.iter().map(usize::to_string).collect();
        let steps = if steps.is_empty() { "0".to_owned() } else { steps.join(",") };
        let name = self.name;
        format!("{}\n\n{}\n\n{name}_SEED={seed} {name}_STEPS={steps}", log.join("\n"), wrong.join("\n"))
    }

    /// The seeds from `from` on that fail, until `enough` do.
    fn failing(&self, from: u64, cases: usize, enough: usize) -> Vec<u64> {
        let next = AtomicUsize::new(0);
        let found = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..self.threads {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= cases || found.lock().expect("the list").len() >= enough {
                            return;
                        }
                        let seed = from + number as u64;
                        let wrong = self.outcome(seed, &self.all_steps()).wrong;
                        if let Some(first) = wrong.first() {
                            println!("{} {seed} goes wrong: {first}", self.name);
                            found.lock().expect("the list").push(seed);
                        }
                    }
                });
            }
        });
        let mut found = found.into_inner().expect("the list");
        found.sort_unstable();
        found
    }

    /// Lives `cases` lives; panics with short histories of those that go wrong. `NAME_SEED` lives one, `NAME_STEPS` some
    /// steps of it, `NAME_CASES` and `NAME_FROM` say which lives, `NAME_ENOUGH` after how many bad ones to end.
    pub fn all_go_well(&self, cases: usize) {
        if let Some(seed) = self.variable("SEED") {
            let kept = match self.variable::<String>("STEPS") {
                Some(steps) => steps.split(',').map(|step| step.parse().expect("a step")).collect(),
                None if !self.fails(seed, &self.all_steps()) => self.all_steps(),
                None => self.shrink(seed),
            };
            println!("{}", self.told(seed, &kept));
            assert!(!self.fails(seed, &kept), "seed {seed} fails");
            return;
        }
        let (from, cases) = (self.variable("FROM").unwrap_or(1), self.variable("CASES").unwrap_or(cases));
        let enough = self.variable("ENOUGH").unwrap_or(TOLD);
        let started = std::time::Instant::now();
        let seeds = self.failing(from, cases, enough);
        println!("{cases} lives from seed {from} on in {:?}; failing: {seeds:?}", started.elapsed());
        let told: Vec<String> =
            seeds.iter().take(TOLD).map(|seed| self.told(*seed, &self.shrink(*seed))).collect();
        assert!(seeds.is_empty(), "lives go wrong: {seeds:?}\n\n{}", told.join("\n\n"));
    }

    /// A life, of the first `cases`, that goes wrong: the one that did when this was written, or, where the generator has
    /// changed since, whichever is found first.
    pub fn finds(&self, known: u64, cases: usize) -> Option<u64> {
        if known <= cases as u64 && self.fails(known, &self.all_steps()) {
            return Some(known);
        }
        self.failing(1, cases, 1).first().copied()
    }

    /// Whether a life ends well.
    pub fn goes_well(&self, seed: u64) -> bool {
        !self.fails(seed, &self.all_steps())
    }
}
