//! Logs for the person who looks for a fault: tracing events on stderr, chosen by MEMBRIDGE_LOG or -v,
//! as text or (--log-format json, MEMBRIDGE_LOG_FORMAT=json) as one JSON object per line. Silent by default.

use tracing_subscriber::EnvFilter;

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
    let filter = EnvFilter::builder().parse_lossy(directives);
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false);
    let json = match format {
        Some(format) => format == LogFormat::Json,
        None => environment.get("MEMBRIDGE_LOG_FORMAT") == Some("json"),
    };
    let started = if json {
        builder.json().try_init()
    } else {
        builder.try_init()
    };
    if let Err(error) = started {
        eprintln!("membridge: logging could not be started: {error}");
    }
}
