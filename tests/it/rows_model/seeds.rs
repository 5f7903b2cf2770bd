//! Many lives on some threads, and a failing one made short: the steps that it needs are found, and said so that they can be
//! lived again.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use membridge::failpoint::script;

use super::life::live;
use super::troubles::Troubles;

/// How many failing lives are told of before the rest is left alone.
const TOLD: usize = 3;

fn variable<T: std::str::FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

/// What is wrong at the end of a life; `Err` where it did not get there.
fn outcome(
    seed: u64,
    troubles: Troubles,
    fault: Option<&'static str>,
    kept: &[usize],
) -> (Vec<String>, Vec<String>) {
    script::plant(fault);
    let ended = std::panic::catch_unwind(|| live(seed, troubles, kept));
    script::plant(None);
    script::set_time(None);
    script::set_chance(None);
    script::crash_after(None);
    match ended {
        Ok(ended) => (ended.wrong, ended.log),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            (vec![format!("panicked: {}", text.unwrap_or_default())], Vec::new())
        }
    }
}

fn fails(seed: u64, troubles: Troubles, fault: Option<&'static str>, kept: &[usize]) -> bool {
    !outcome(seed, troubles, fault, kept).0.is_empty()
}

/// The steps that a failing life needs to fail: a prefix first, then without each step that it can do without.
fn shrink(seed: u64, troubles: Troubles, fault: Option<&'static str>) -> Vec<usize> {
    let mut kept: Vec<usize> = (1..=troubles.steps).collect();
    while kept.len() > 1 && fails(seed, troubles, fault, &kept[..kept.len() / 2]) {
        kept.truncate(kept.len() / 2);
    }
    let mut chunk = (kept.len() / 4).max(1);
    loop {
        let mut at = kept.len();
        while at > 0 {
            let from = at.saturating_sub(chunk);
            let mut fewer = kept.clone();
            fewer.drain(from..at);
            if fails(seed, troubles, fault, &fewer) {
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

fn told(seed: u64, troubles: Troubles, kept: &[usize]) -> String {
    let (wrong, log) = outcome(seed, troubles, None, kept);
    let steps: Vec<String> = kept.iter().map(usize::to_string).collect();
    format!(
        "{}\n\n{}\n\nROWS_SEED={seed} ROWS_STEPS={}",
        log.join("\n"),
        wrong.join("\n"),
        if steps.is_empty() { "0".to_owned() } else { steps.join(",") }
    )
}

/// The seeds from `from` on that fail, until `enough` do.
fn failing(
    from: u64,
    cases: usize,
    troubles: Troubles,
    fault: Option<&'static str>,
    enough: usize,
) -> Vec<u64> {
    let next = AtomicUsize::new(0);
    let found = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= cases || found.lock().expect("the list").len() >= enough {
                        return;
                    }
                    let seed = from + number as u64;
                    let all: Vec<usize> = (1..=troubles.steps).collect();
                    if fails(seed, troubles, fault, &all) {
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

/// Lives `cases` lives; panics with short histories of those that go wrong. `ROWS_SEED` lives one, `ROWS_STEPS` some steps of
/// it, `ROWS_TROUBLES` chooses classes of trouble (`all-python`, `crashes,late`), `ROWS_CASES` and `ROWS_FROM` which lives.
pub fn all_go_well(cases: usize, troubles: Troubles) {
    let troubles = variable::<String>("ROWS_TROUBLES").map_or(troubles, |text| Troubles::named(&text));
    if let Some(seed) = variable("ROWS_SEED") {
        let kept = match variable::<String>("ROWS_STEPS") {
            Some(steps) => steps.split(',').map(|step| step.parse().expect("a step")).collect(),
            None => shrink(seed, troubles, None),
        };
        println!("{}", told(seed, troubles, &kept));
        assert!(!fails(seed, troubles, None, &kept), "seed {seed} fails");
        return;
    }
    let (from, cases) = (variable("ROWS_FROM").unwrap_or(1), variable("ROWS_CASES").unwrap_or(cases));
    let enough = variable("ROWS_ENOUGH").unwrap_or(TOLD);
    let started = std::time::Instant::now();
    let seeds = failing(from, cases, troubles, None, enough);
    println!("{cases} lives from seed {from} on in {:?}; failing: {seeds:?}", started.elapsed());
    let told: Vec<String> =
        seeds.iter().take(TOLD).map(|seed| told(*seed, troubles, &shrink(*seed, troubles, None))).collect();
    assert!(seeds.is_empty(), "lives go wrong: {seeds:?}\n\n{}", told.join("\n\n"));
}

/// The first life, of `cases`, in which a planted fault shows.
pub fn finds(fault: &'static str, cases: usize, troubles: Troubles) -> Option<u64> {
    failing(1, cases, troubles, Some(fault), 1).first().copied()
}

/// Whether a life ends well with all rules in force.
pub fn goes_well(seed: u64, troubles: Troubles) -> bool {
    let all: Vec<usize> = (1..=troubles.steps).collect();
    !fails(seed, troubles, None, &all)
}
