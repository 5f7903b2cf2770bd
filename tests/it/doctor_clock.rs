//! F48: what doctor says where this machine's clock and the store's disagree.

use crate::common::with_memory;
use crate::doctor::{Said, equipped};
use crate::support::machine::Machine;
use crate::support::s3::{Fault, S3Server};

/// What doctor prints, without what differs from run to run.
fn report(machine: &Machine) -> String {
    let said = machine.cmd("doctor").run();
    said.assert_code(0);
    assert_eq!(said.stderr, "");
    machine.normalise(&said.stdout)
}

macro_rules! assert_report {
    ($said:expr, @$wanted:literal) => {{
        let said = $said;
        insta::with_settings!({
            filters => vec![
                (r"\d+(\.\d+)? [kMG]?B\b", "[SIZE]"),
                (r"\b[0-9a-f]{12}\b", "[SHORT]"),
                (r"(another|ago;) \d+ (min|h)", "$1 [N] $2"),
                (r"\d+\.\d+\.\d+ (here|wrote)", "[VERSION] $1"),
            ],
        }, { insta::assert_snapshot!(said, @$wanted); });
    }};
}

#[test]
fn f48_a_clock_ten_minutes_off_is_a_warning() {
    let server = S3Server::start();
    let (alpha, _worker) = equipped("alpha", &server);
    with_memory(&alpha).cmd("push_sqlite").run().assert_code(0);
    server.set_clock_offset(600);
    Said::by(&alpha, "").status("degraded").check("reach", "ok", "answers").check(
        "clock",
        "warning",
        "this machine is 10 min behind the store",
    );
}

/// The store refuses the first request, says what time it is, and takes the next.
#[test]
fn f48_a_clock_two_hours_behind_the_store() {
    let server = S3Server::start();
    let (alpha, _worker) = equipped("alpha", &server);
    with_memory(&alpha).cmd("push_sqlite").run().assert_code(0);
    server.set_clock_offset(7200);
    Said::by(&alpha, "").check("lease", "ok", "ran out 60 min ago; this node's next push renews it");
    assert_report!(report(&alpha), @r#"
    1 thing to look at:
      WARNING  clock: this machine is 2 h behind the store
               → set this machine's clock: timedatectl set-ntp true (or: ntpd -q)

    [1/5] Project identity
      ok       project_name: mem; canonical_project_id: 6fe2e0f6071ac2bb; node_id: alpha; 2 more
    [2/5] MinIO connectivity
      ok       reachable: yes, the bucket answers; 3 more
      WARNING  clock: this machine is 2 h behind the store
    [3/5] Lock status
      ok       lock: free (last held by alpha)
    [4/5] SQLite DB health
      ok       observations: 5 (1 summary, 2 prompts, 1 session); 4 more
    [5/5] Worker health
      ok       worker: claude-mem 13.25.3 on 127.0.0.1:[PORT], ready; 3 more
    [+] Hooks
      ok       2 checks
      info     last hooks: none has run yet
    [+] Leadership
      ok       role: primary; primary: alpha, by default; epoch: 1; 1 more
    [+] Sync
      ok       sync: safe: all 5 observations are in the store; no other machine has synced; 9 more
    [+] Configuration
      ok       settings: complete; 2 more
    STATUS: DEGRADED — 1 warning above
    "#);
}

#[test]
fn f48_a_clock_two_hours_ahead_of_the_store() {
    let server = S3Server::start();
    let (alpha, _worker) = equipped("alpha", &server);
    with_memory(&alpha).cmd("push_sqlite").run().assert_code(0);
    server.set_clock_offset(-7200);
    Said::by(&alpha, "").check("lease", "ok", "valid for another");
    assert_report!(report(&alpha), @r#"
    1 thing to look at:
      WARNING  clock: this machine is 2 h ahead of the store
               → set this machine's clock: timedatectl set-ntp true (or: ntpd -q)

    [1/5] Project identity
      ok       project_name: mem; canonical_project_id: 6fe2e0f6071ac2bb; node_id: alpha; 2 more
    [2/5] MinIO connectivity
      ok       reachable: yes, the bucket answers; 3 more
      WARNING  clock: this machine is 2 h ahead of the store
    [3/5] Lock status
      ok       lock: free (last held by alpha)
    [4/5] SQLite DB health
      ok       observations: 5 (1 summary, 2 prompts, 1 session); 4 more
    [5/5] Worker health
      ok       worker: claude-mem 13.25.3 on 127.0.0.1:[PORT], ready; 3 more
    [+] Hooks
      ok       2 checks
      info     last hooks: none has run yet
    [+] Leadership
      ok       role: primary; primary: alpha, by default; epoch: 1; 1 more
    [+] Sync
      ok       sync: safe: all 5 observations are in the store; no other machine has synced; 9 more
    [+] Configuration
      ok       settings: complete; 2 more
    STATUS: DEGRADED — 1 warning above
    "#);
}

/// A store that goes on refusing: the remedy is the clock's.
#[test]
fn f48_a_store_that_refuses_the_time_for_good() {
    let server = S3Server::start();
    let (alpha, _worker) = equipped("alpha", &server);
    with_memory(&alpha).cmd("push_sqlite").run().assert_code(0);
    server.set_clock_offset(-7200);
    server.fault(Fault::Status(403, "RequestTimeTooSkewed")).forever();
    let said = Said::by(&alpha, "");
    said.1.assert_code(0).stdout_has("timedatectl set-ntp true");
    said.status("error").check("reach", "error", "RequestTimeTooSkewed").check(
        "clock",
        "warning",
        "2 h ahead",
    );
}
