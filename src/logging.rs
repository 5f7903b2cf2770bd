//! Logs for the person who looks for a fault: tracing events on stderr, chosen by MEMBRIDGE_LOG or -v,
//! as text or (--log-format json, MEMBRIDGE_LOG_FORMAT=json) as one JSON object per line. Silent by default.

use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt, registry};

use crate::cli::LogFormat;
use crate::config::Environment;

/// Starts logging to stderr: `-v` says what is done, `-vv` how; MEMBRIDGE_LOG is finer and comes first.
pub fn start(environment: &Environment, verbose: u8, format: Option<LogFormat>) {
    let by_flag = match verbose {
        0 => None,
        1 => Some("info"),
        2 => Some("debug"),
        _ => Some("trace"),
    };
    let Some(wanted) = environment.get("MEMBRIDGE_LOG").or(by_flag) else {
        return;
    };
    // A bare level is meant for us, not for the hundred crates below us.
    let directives = match wanted {
        "error" | "warn" | "info" | "debug" | "trace" => format!("membridge={wanted}"),
        other => other.to_owned(),
    };
    // Targets and levels only: filtering by fields would bring a regular-expression engine of 300 kB.
    let filter: Targets = match directives.parse() {
        Ok(filter) => filter,
        Err(error) => {
            eprintln!("membridge: MEMBRIDGE_LOG='{wanted}' is not understood: {error}");
            return;
        }
    };
    let json = match format {
        Some(format) => format == LogFormat::Json,
        None => environment.get("MEMBRIDGE_LOG_FORMAT") == Some("json"),
    };
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    let lines =
        if json { lines.json().with_filter(filter).boxed() } else { lines.with_filter(filter).boxed() };
    if let Err(error) = registry().with(lines).try_init() {
        eprintln!("membridge: logging could not be started: {error}");
    }
}
