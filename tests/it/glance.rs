//! What a person sees at a glance: the one question of `status`, its line for prompts, times in their own zone, and the way
//! to be rid of a backup.

use std::time::{Duration, Instant};

use jiff::SignedDuration;
use serde_json::Value;

use crate::common::{backups, pushed, with_memory};
use crate::support::claude_mem::Version;
use crate::support::machine::{Machine, Run};
use crate::support::s3::{RequestLog, S3Server};

fn warnings(said: &Value) -> Vec<&str> {
    said["warnings"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect()
}

#[test]
fn a_prompt_gets_one_line_without_a_single_request() {
    let server = S3Server::start();
    let alpha = Machine::new("alpha", &server);
    let line = |machine: &Machine| machine.cmd("status --oneline").run().assert_code(0).stdout.clone();
    assert_eq!(line(&alpha), "no memory here yet\n");
    with_memory(&alpha);
    assert_eq!(line(&alpha), "5 observations, never synced\n");
    alpha.cmd("sync").run().assert_code(0);
    server.reset_log();
    let later = |hours: i64| {
        let run =
            alpha.cmd("status --oneline").env("MEMBRIDGE_TEST_CLOCK_OFFSET", (hours * 3_600).to_string());
        run.run().assert_code(0).stdout.clone()
    };
    assert_eq!(later(3), "ok: 5 observations, synced 3 h ago\n");
    alpha.db().add_observations(2);
    assert_eq!(later(50), "2 observations to send, synced 2 days ago\n");
    let said = alpha.cmd("status --oneline --json").run().json();
    assert_eq!(said["unsent"]["observations"], 2, "{said}");
    assert!(said["age_seconds"].as_i64().is_some_and(|age| (0..600).contains(&age)), "{said}");
    alpha.write(
        ".membridge/last-result.json",
        r#"{"stop": {"time": "2026-01-02T03:04:05Z", "event": "stop", "outcome": "failed", "code": 1, "duration_ms": 1, "pid": 2, "message": "no route"}}"#,
    );
    assert!(line(&alpha).ends_with(", the last try failed\n"));
    assert_eq!(warnings(&alpha.cmd("status --oneline --json").run().json()), ["no route"]);
    std::fs::write(alpha.db_path(), "no database").unwrap();
    assert!(line(&alpha).starts_with("NOT SAFE: "), "{}", line(&alpha));
    assert!(server.requests().is_empty(), "{:?}", server.requests());
}

#[test]
fn it_is_everywhere_only_when_what_others_recorded_is_too() {
    let server = S3Server::start();
    let alpha = pushed(&server, 5);
    let (beta, gamma) = (Machine::new("beta", &server), Machine::new("gamma", &server));
    for machine in [&beta, &gamma] {
        machine.cmd("pull_sqlite").run().assert_code(0);
    }
    alpha.db().add_observations(3);
    alpha.cmd("sync").run().assert_code(0);
    beta.cmd("sync").run().assert_code(0);
    // Beta recorded nothing itself, and has what gamma lacks.
    let status = beta.cmd("status").run();
    status.assert_code(0).stdout_has("all 8 observations are in the store and on 1 of 2 other machines");
    status.stdout_has("1 sync behind");
    gamma.cmd("sync").run().assert_code(0);
    beta.cmd("status").run().assert_code(0).stdout_has("are in the store and on both other machines");
}

#[test]
fn offline_is_a_calm_line() {
    let server = S3Server::start();
    let alpha = Machine::new("alpha", &server);
    with_memory(&alpha).cmd("sync").run().assert_code(0);
    drop(server);
    alpha
        .cmd("status")
        .run()
        .stdout_has("offline: 5 observations here, nothing waits")
        .stdout_lacks("WARNING");
    alpha.db().add_observations(36);
    let said = alpha.cmd("status").run();
    assert_eq!(said.stdout.lines().next(), Some("offline: 36 observations will be sent"));
    said.stdout_lacks("WARNING").stdout_lacks("ERROR").stdout_lacks("→");
    assert_eq!(said.stdout.lines().filter(|line| line.contains("store:")).count(), 1, "{said:?}");
    let json = alpha.cmd("status --json").run().json();
    assert_eq!((&json["sync"], &json["code"]), (&"offline".into(), &"store_unreachable".into()));
    assert_eq!(warnings(&json).len(), 1, "{json}");
}

#[test]
fn what_waits_for_days_is_a_warning_in_status_and_doctor() {
    let server = S3Server::start();
    let alpha = Machine::new("alpha", &server);
    with_memory(&alpha).cmd("sync").run().assert_code(0);
    alpha.db().add_observations(2);
    server.set_clock_offset(4 * 86_400);
    let later = |command: &str| {
        let run = alpha.cmd(command).env("MEMBRIDGE_TEST_CLOCK_OFFSET", (4 * 86_400).to_string());
        run.run()
    };
    later("status").assert_code(0).stdout_has("2 observations not sent yet").stdout_has("4 days ago (");
    let said = later("status --json").json();
    let old = warnings(&said);
    assert!(old.iter().any(|line| line.contains("memory waits to be sent")), "{said}");
    assert!(old.iter().any(|line| line.starts_with("archive: 4 days ago")), "{said}");
    let doctor = later("doctor");
    doctor.stdout_has("WARNING  sync: 2 observations not sent yet, last sync 4 days ago");
    // The problem and its remedy come before all groups.
    let (problem, group) = (doctor.stdout.find("WARNING  sync: "), doctor.stdout.find("[1/5]"));
    assert!(problem < group && doctor.stdout.starts_with("3 things to look at:\n"), "{doctor:?}");
}

#[test]
fn ids_are_for_those_who_look_for_a_fault() {
    let server = S3Server::start();
    let alpha = Machine::new("alpha", &server);
    with_memory(&alpha).cmd("push_sqlite").run().assert_code(0);
    let plain = alpha.cmd("status").run();
    assert!(plain.stdout.lines().count() <= 7, "{plain:?}");
    for id in ["6fe2e0f6071ac2bb", "segment 1", "epoch"] {
        plain.stdout_lacks(id);
        alpha.cmd("status -v").run().stdout_has(id);
    }
}

#[test]
fn times_are_told_in_the_zone_of_the_machine_and_iso_in_json() {
    let server = S3Server::start();
    let mut alpha = Machine::new("alpha", &server);
    // Five hours east, without any file of the system.
    alpha.set("TZ", "XYZ-5");
    with_memory(&alpha).cmd("push_sqlite").run().assert_code(0);
    let said = alpha.cmd("status --json").run().json();
    let iso = said["last_sync"].as_str().unwrap();
    assert!(iso.ends_with("+00:00"), "{iso}");
    let synced: jiff::Timestamp = iso.parse().unwrap();
    server.set_clock_offset(86_400);
    let local = synced.checked_add(SignedDuration::from_hours(5)).unwrap();
    let shown = local.to_zoned(jiff::tz::TimeZone::UTC).strftime("%-d %b %H:%M").to_string();
    let run = alpha.cmd("status").env("MEMBRIDGE_TEST_CLOCK_OFFSET", "86400");
    run.run().assert_code(0).stdout_has(&format!("last sync:   24 hours ago ({shown})"));
    // What a person types is in that zone too: the push is not of the time that stands in UTC's clock.
    let typed = local.to_zoned(jiff::tz::TimeZone::UTC).strftime("%Y-%m-%dT%H:%M:59").to_string();
    alpha.cmd(&format!("restore {typed} --dry-run")).run().assert_code(0).stdout_has("commit 1, made");
    let early = synced.to_zoned(jiff::tz::TimeZone::UTC).strftime("%Y-%m-%dT%H:%M:59").to_string();
    alpha.cmd(&format!("restore {early} --dry-run")).run().assert_code(1);
    alpha.cmd(&format!("restore {early}Z --dry-run")).run().assert_code(0);
}

#[test]
fn a_backup_that_nobody_wants_is_deleted_by_name_and_the_only_copy_on_request_alone() {
    let server = S3Server::start();
    let alpha = pushed(&server, 4);
    alpha.db().add_session("later").add_observations(1);
    alpha.cmd("restore 1 --yes").run().assert_code(0);
    let listed = alpha.cmd("restore-backup --json").run().json();
    let name = listed["backups"][0]["name"].as_str().unwrap().to_owned();
    let folder = alpha.path(&format!(".claude-mem/backups/pull-overwrite/{name}"));
    // As if no commit held it.
    let manifest = folder.join("manifest.json");
    let text = std::fs::read_to_string(&manifest)
        .unwrap()
        .replace("\"local_ahead\": false", "\"local_ahead\": true");
    std::fs::write(&manifest, text).unwrap();
    let table = alpha.cmd("restore-backup").run();
    assert!(
        table.stdout.lines().filter(|line| line.contains(&name)).all(|line| line.len() <= 80),
        "{table:?}"
    );
    table.stdout_has("5 observations").stdout_has("only copy").stdout_has("just now");
    alpha.cmd(&format!("restore-backup --forget {name} --dry-run")).run().assert_code(0);
    let refused = alpha.cmd(&format!("restore-backup --forget {name}")).run();
    refused.assert_code(1).stdout_has("may be the only copy of some rows").stdout_has("--yes");
    assert_eq!(backups(&alpha).len(), 1);
    alpha.cmd("restore-backup --forget 20010101-000000").run().assert_code(1).stdout_has("no backup named");
    alpha.cmd(&format!("restore-backup --forget {name} --yes")).run().assert_code(0).stdout_has("deleted: ");
    assert!(!folder.exists());
}

/// How long a command took, and at least how long its packs have to take at so many bytes a millisecond.
fn took(server: &S3Server, run: Run, pace: u64, sent: impl Fn(&RequestLog) -> u64) -> (Duration, Duration) {
    server.reset_log();
    let start = Instant::now();
    run.run().assert_code(0);
    let took = start.elapsed();
    let bytes: u64 =
        server.requests().iter().filter(|request| request.key.contains("/packs/")).map(sent).sum();
    (took, Duration::from_millis(bytes / pace))
}

#[test]
fn a_limit_of_the_line_is_kept_in_both_directions() {
    let (second, ahead) = (Duration::from_secs(1), Duration::from_millis(500));
    let server = S3Server::start();
    let alpha = Machine::new("alpha", &server);
    alpha.create_db(Version::V13_25_3).add_session("one").fill_to_bytes(1_000_000);
    let push = alpha.cmd("push_sqlite --limit-upload 200");
    let (seconds, least) = took(&server, push, 200, |request| request.bytes_in);
    assert!(least > second, "{least:?} of packs are too few to tell");
    assert!(seconds + ahead > least, "{seconds:?} for {least:?} of packs");
    let mut beta = Machine::new("beta", &server);
    beta.set("MEMBRIDGE_LIMIT_DOWNLOAD", "200");
    let (seconds, least) = took(&server, beta.cmd("pull_sqlite"), 200, |request| request.bytes_out);
    assert!(least > second && seconds + ahead > least, "{seconds:?} for {least:?} of packs");
    let low = alpha.cmd("sync --limit-upload 15").run();
    low.assert_code(1).stdout_has("MEMBRIDGE_LIMIT_UPLOAD='15' is not a whole number from 16 to");
}
