//! What was measured: samples of each size, case and program, and their medians.

use std::collections::BTreeMap;

use super::support::usage::Usage;

/// Our name in the tables.
pub const OURS: &str = "membridge";
/// The same in a sealed project.
pub const SEALED: &str = "membridge, sealed";

/// One run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    pub usage: Usage,
    /// Bytes on the wire, with request lines, headers and framing.
    pub up: u64,
    pub down: u64,
    pub requests: u64,
}

/// One median of the runs of a case.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Measure {
    /// Milliseconds.
    Wall,
    /// Milliseconds.
    Cpu,
    /// MB.
    Memory,
    /// kB, both ways.
    Wire,
    /// kB.
    Disk,
    Requests,
}

#[derive(Default)]
pub struct Samples {
    runs: BTreeMap<(u64, &'static str, &'static str), Vec<Cost>>,
    /// Cases in the order in which they were met, and programs likewise.
    cases: Vec<(u64, &'static str)>,
    who: Vec<&'static str>,
}

impl Samples {
    pub fn add(&mut self, megabytes: u64, case: &'static str, who: &'static str, cost: Cost) {
        if !self.cases.contains(&(megabytes, case)) {
            self.cases.push((megabytes, case));
        }
        if !self.who.contains(&who) {
            self.who.push(who);
        }
        self.runs.entry((megabytes, case, who)).or_default().push(cost);
    }

    /// The cases of a size, in order.
    pub fn cases(&self, megabytes: u64) -> impl Iterator<Item = &'static str> + '_ {
        self.cases.iter().filter(move |(size, _)| *size == megabytes).map(|(_, case)| *case)
    }

    /// The programs that were measured in a case, ours first, sealed behind it.
    pub fn who(&self, megabytes: u64, case: &'static str) -> Vec<&'static str> {
        let mut who: Vec<_> =
            self.who.iter().copied().filter(|who| self.runs.contains_key(&(megabytes, case, who))).collect();
        who.sort_by_key(|who| (*who != OURS, *who != SEALED));
        who
    }

    pub fn median(
        &self,
        megabytes: u64,
        case: &'static str,
        who: &'static str,
        what: Measure,
    ) -> Option<f64> {
        let runs = self.runs.get(&(megabytes, case, who))?;
        let mut values: Vec<f64> = runs.iter().map(|cost| value(cost, what)).collect();
        values.sort_by(f64::total_cmp);
        Some(values[values.len() / 2])
    }
}

fn value(cost: &Cost, what: Measure) -> f64 {
    match what {
        Measure::Wall => cost.usage.wall_us as f64 / 1e3,
        Measure::Cpu => cost.usage.cpu_us as f64 / 1e3,
        Measure::Memory => cost.usage.peak_rss as f64 / 1e6,
        Measure::Wire => (cost.up + cost.down) as f64 / 1e3,
        Measure::Disk => cost.usage.written as f64 / 1e3,
        Measure::Requests => cost.requests as f64,
    }
}
