//! `nodes`: the machines of this project: when they were last seen, what they hold, who is behind. Changes nothing.

use serde_json::{Value, json};

use super::run::Run;
use crate::amount::count;
use crate::error::CommandResult;
use crate::outcome::Outcome;
use crate::rows::fleet::{self, Machine};
use crate::rows::log::RowLog;
use crate::ui::{Report, Tone};

/// Longer names are cut (characters): a row has 80 columns.
const NAME: usize = 22;

pub(super) async fn run(run: &Run) -> CommandResult<Report> {
    let (config, bucket) = run.open_to_read().await?;
    let log = RowLog::new(&bucket, &config.paths.tmp());
    let (mut records, mut problems) = (Vec::new(), Vec::new());
    for node in log.nodes().await? {
        match log.node(&node.writer).await {
            Ok(record) => records.extend(record.map(|(record, _)| record)),
            Err(error) if error.is_damage() => problems.push(error.to_string()),
            Err(error) => return Err(error.into()),
        }
    }
    for problem in &problems {
        run.ui.warn(problem);
    }
    let here = &config.node.id;
    let machines = fleet::machines(&records, here);
    let spread = fleet::spread(&records, here);
    let now = run.context.server_now().as_second();
    if machines.is_empty() {
        run.ui.line("no machine has synced its rows yet: membridge sync");
    } else {
        let head = row("  name", "seen", "observations", "behind", "role", "waiting", "held");
        run.ui.toned(Tone::Faint, &head, "");
        for machine in &machines {
            show(run, machine, now);
        }
    }
    if let Some(spread) = spread {
        run.ui.line(format!(
            "everything recorded here is on {} of {}",
            spread.hold,
            count(spread.of as u64, "machine", "machines")
        ));
    }
    let objects = machines.iter().map(|machine| object(machine, now)).collect();
    let outcome = if machines.is_empty() { Outcome::Empty } else { Outcome::Shown };
    Ok(Report::ok(outcome)
        .with("node_id", here.clone())
        .with("nodes", Value::Array(objects))
        .with("hold", json!(spread.map(|spread| spread.hold)))
        .with("problems", json!(problems)))
}

fn row(
    name: &str,
    seen: &str,
    observations: &str,
    behind: &str,
    role: &str,
    waiting: &str,
    held: &str,
) -> String {
    let line =
        format!("{name:<24} {seen:>9} {observations:>12} {behind:>6}  {role:<9} {waiting:>7} {held:>5}");
    line.trim_end().to_owned()
}

fn show(run: &Run, machine: &Machine, now: i64) {
    let record = &machine.record;
    let name: String = record.name().chars().take(NAME).collect();
    let mark = if machine.here { '*' } else { ' ' };
    let seen = record.at().map_or("?".to_owned(), |at| ago(now.saturating_sub(at)));
    let observations = record.counts.get("observations").copied().unwrap_or(0);
    let role = if record.role.is_empty() { "?" } else { &record.role };
    let line = row(
        &format!("{mark} {name}"),
        &seen,
        &observations.to_string(),
        &machine.behind.to_string(),
        role,
        &record.waiting.to_string(),
        &record.held.to_string(),
    );
    let tone = if machine.behind > 0 || record.held > 0 { Tone::Caution } else { Tone::Plain };
    run.ui.toned(tone, &line, "");
}

/// How long ago, in one unit.
fn ago(seconds: i64) -> String {
    match seconds {
        ..60 => "now".to_owned(),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

fn object(machine: &Machine, now: i64) -> Value {
    let record = &machine.record;
    json!({
        "name": record.name(),
        "here": machine.here,
        "writer": record.writer,
        "node_id": record.node_id,
        "host": record.host,
        "time": record.time,
        "seen_seconds_ago": record.at().map(|at| now.saturating_sub(at)),
        "last": record.last,
        "behind": machine.behind,
        "counts": record.counts,
        "role": record.role,
        "configured_primary": record.configured_primary,
        "last_sync": record.last_sync,
        "waiting": record.waiting,
        "held": record.held,
        "commit": record.commit,
        "membridge_version": record.membridge_version,
        "claude_mem_version": record.claude_mem_version,
        "schema_version": record.schema_version,
        "arch": record.arch,
        "os": record.os,
        "agent_url": record.agent_url,
    })
}

#[cfg(test)]
mod tests {
    use super::{ago, row};

    #[test]
    fn a_row_fits_a_terminal() {
        let widest =
            row(&"x".repeat(24), "9999 days", "999999999999", "999999", "secondary", "9999999", "99999");
        assert!(widest.chars().count() <= 80, "{}", widest.chars().count());
    }

    #[test]
    fn times_are_said_in_one_unit() {
        let table = [
            (-5, "now"),
            (59, "now"),
            (60, "1 min"),
            (3_599, "59 min"),
            (3_600, "1 h"),
            (172_799, "47 h"),
            (172_800, "2 days"),
        ];
        for (seconds, text) in table {
            assert_eq!(ago(seconds), text, "{seconds}");
        }
    }
}
