//! Logs for the person who looks for a fault: tracing events on stderr, chosen by MEMBRIDGE_LOG,
//! as text or (MEMBRIDGE_LOG_FORMAT=json) as one JSON object per line. Silent by default.

use tracing_subscriber::EnvFilter;

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
    let filter = EnvFilter::builder().parse_lossy(directives);
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false);
    let started = match environment.get("MEMBRIDGE_LOG_FORMAT") {
        Some("json") => builder.json().try_init(),
        _ => builder.try_init(),
    };
    if let Err(error) = started {
        eprintln!("membridge: logging could not be started: {error}");
    }
}
