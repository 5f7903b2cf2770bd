//! Logs for the person who looks for a fault: tracing events on stderr, chosen by MEMBRIDGE_LOG,
//! as text or (MEMBRIDGE_LOG_FORMAT=json) as one JSON object per line. Silent by default.

use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt, registry};

use crate::config::Environment;

/// Starts logging to stderr as the environment asks for.
pub fn start(environment: &Environment) {
    let Some(wanted) = environment.get("MEMBRIDGE_LOG") else {
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
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    let lines = match environment.get("MEMBRIDGE_LOG_FORMAT") {
        Some("json") => lines.json().with_filter(filter).boxed(),
        _ => lines.with_filter(filter).boxed(),
    };
    let started = registry().with(lines).try_init();
    if let Err(error) = started {
        eprintln!("membridge: logging could not be started: {error}");
    }
}
