//! `validate-install`: six questions about this machine, with the names and the report of the Python product's. Reads,
//! leaves no trace, and asks the two health addresses.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use super::layout::{Daemon, Layout};
use super::legacy::{answers, plugin, program};
use crate::database::look::look;
use crate::database::{self, integrity_check};
use crate::worker::http::Endpoint;

/// What config.env must say.
const NEEDED: [&str; 4] = ["MINIO_ENDPOINT", "MINIO_ACCESS_KEY", "MINIO_SECRET_KEY", "MINIO_BUCKET"];

/// The answer to one question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Its name.
    pub name: &'static str,
    /// Whether all is well.
    pub ok: bool,
    /// What was seen.
    pub detail: String,
}

/// What the questions need to know.
#[derive(Debug)]
pub struct Machine<'a> {
    /// The places.
    pub layout: &'a Layout,
    /// PATH.
    pub path: Option<&'a str>,
    /// What config.env says; `None`: it is not there, or cannot be read.
    pub config: Option<BTreeMap<String, String>>,
    /// MEMBRIDGE_SERVER_HOST
    pub server_host: &'a str,
    /// MEMBRIDGE_SERVER_PORT
    pub server_port: u16,
}

/// Asks all of them.
pub async fn checks(machine: &Machine<'_>) -> Vec<Check> {
    let database = machine.layout.database();
    let sound = database::blocking(move || Ok(sound(&database))).await;
    let sound = sound.unwrap_or_else(|failure| Err(failure.to_string()));
    let agent = answers(Daemon::Agent).await;
    let server = Endpoint { host: machine.server_host.to_owned(), port: machine.server_port };
    let server = server.get("/health").await;
    let check = |name, ok: bool, good: &str, bad: &str| Check {
        name,
        ok,
        detail: if ok { good } else { bad }.to_owned(),
    };
    vec![
        check("claude_cli", program("claude", machine.path), "found in PATH", "not in PATH"),
        check("claude_mem_plugin", plugin(&machine.layout.home), "found", "not found"),
        match &sound {
            Ok(detail) => check("sqlite_db", true, detail, ""),
            Err(detail) => check("sqlite_db", false, "", detail),
        },
        config(machine.config.as_ref()),
        check("agent_running", agent, "answers on port 8001", "does not answer on port 8001"),
        Check {
            name: "server_reachable",
            ok: server.as_ref().is_ok_and(crate::worker::http::Answer::ok),
            detail: match server {
                Ok(answer) => {
                    format!("{}:{} answers {}", machine.server_host, machine.server_port, answer.status)
                }
                Err(error) => format!("{}:{}: {error}", machine.server_host, machine.server_port),
            },
        },
    ]
}

fn sound(path: &Path) -> Result<String, String> {
    if !path.is_file() {
        return Err(format!("{} is not there", path.display()));
    }
    let checked = look(path, |connection| integrity_check(connection, path));
    match checked.map_err(|error| error.to_string())? {
        damaged if damaged.is_empty() => Ok("integrity ok".to_owned()),
        damaged => Err(damaged.join("; ")),
    }
}

fn config(values: Option<&BTreeMap<String, String>>) -> Check {
    let name = "minio_config";
    let Some(values) = values else {
        return Check { name, ok: false, detail: "config.env is not there, or cannot be read".to_owned() };
    };
    // A directory needs neither keys nor a server.
    let directory = values.get("MINIO_ENDPOINT").is_some_and(|endpoint| endpoint.starts_with("file://"));
    let unset = |name: &&&str| values.get(**name).is_none_or(String::is_empty);
    let missing: Vec<&str> = NEEDED.iter().filter(unset).copied().collect();
    let ok = missing.is_empty() || directory;
    let detail =
        if ok { "all settings are there".to_owned() } else { format!("not set: {}", missing.join(", ")) };
    Check { name, ok, detail }
}

/// The report, with the fields that the Python product's had.
pub fn report(checks: &[Check], host: &str, at: &str) -> Value {
    let all = checks.iter().all(|check| check.ok);
    let checks: Vec<Value> = (checks.iter())
        .map(|check| json!({"name": check.name, "ok": check.ok, "detail": check.detail}))
        .collect();
    json!({
        "timestamp": at,
        "hostname": host,
        "python": Value::Null,
        "overall": if all { "OK" } else { "ISSUES_FOUND" },
        "checks": checks,
    })
}

#[cfg(test)]
mod tests {
    use super::{Check, config, report};
    use std::collections::BTreeMap;

    #[test]
    fn four_keys_or_a_directory() {
        let of = |values: &[(&str, &str)]| {
            let values: BTreeMap<String, String> =
                values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            config(Some(&values))
        };
        assert!(!config(None).ok);
        assert!(of(&[("MINIO_ENDPOINT", "file:///mnt")]).ok);
        let partly = of(&[("MINIO_ENDPOINT", "http://x"), ("MINIO_BUCKET", "b"), ("MINIO_ACCESS_KEY", "")]);
        assert_eq!(partly.detail, "not set: MINIO_ACCESS_KEY, MINIO_SECRET_KEY");
    }

    #[test]
    fn one_bad_answer_makes_the_whole_bad() {
        let check = |ok| Check { name: "x", ok, detail: String::new() };
        assert_eq!(report(&[check(true)], "h", "t")["overall"], "OK");
        assert_eq!(report(&[check(true), check(false)], "h", "t")["overall"], "ISSUES_FOUND");
    }
}
