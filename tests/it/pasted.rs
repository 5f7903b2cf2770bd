//! Commands that are printed can be pasted (F69): into a shell, with names that a shell would take apart.

use std::os::unix::fs::PermissionsExt;

use crate::common::pushed;
use crate::support::machine::Machine;
use crate::support::process::Outcome;
use crate::support::s3::S3Server;

/// A folder whose name is several words, a quote and a program.
const ODD: &str = "it's \"mine\" $(touch pwned) & more";

/// Runs what was printed between the two, as somebody does who pastes it.
fn paste(machine: &Machine, said: &Outcome, begins: &str, ends: &str) -> Outcome {
    let from = said.stdout.split(begins).nth(1).unwrap_or_else(|| panic!("no {begins:?} in {}", said.stdout));
    let command = from.split(ends).next().unwrap();
    let binary = std::path::Path::new(env!("CARGO_BIN_EXE_membridge")).parent().unwrap();
    let path = format!("{}:/usr/bin:/bin", binary.display());
    machine.program("/bin/sh").arg("-c").arg(command).env("PATH", path).run()
}

#[test]
fn f69_the_remedy_for_a_damaged_database() {
    let server = S3Server::start();
    let _alpha = pushed(&server, 5);
    let mut beta = Machine::new("beta", &server);
    let database = format!("{ODD}/claude-mem.db");
    let path = beta.write(&database, "no database at all, for more than a hundred bytes: ".repeat(4));
    beta.set("CLAUDE_MEM_DB", path.as_os_str());
    let refused = beta.cmd("push_sqlite").run();
    refused.assert_code(1);
    paste(&beta, &refused, "start again from the bucket: ", "; or put a backup back").assert_code(0);
    assert!(beta.path(&format!("{database}.damaged/claude-mem.db")).is_file(), "{:?}", beta.files());
    assert_eq!(crate::support::claude_mem::counts(&path).observations, 5);
    assert!(!beta.path("pwned").exists());
}

#[test]
fn f69_the_remedy_for_files_that_others_can_read() {
    let server = S3Server::start();
    let mut alpha = Machine::new("alpha", &server);
    let config = alpha.write(&format!("{ODD}/.claude-mem-minio/config.env"), "");
    let mode = || std::fs::metadata(&config).unwrap().permissions().mode() & 0o777;
    std::fs::set_permissions(&config, PermissionsExt::from_mode(0o644)).unwrap();
    alpha.set("HOME", alpha.path(ODD).as_os_str());
    let told = alpha.cmd("doctor --no-network").run();
    let command = told.stdout.lines().find_map(|line| line.find("chmod 600").map(|at| &line[at..])).unwrap();
    alpha.program("/bin/sh").arg("-c").arg(command).run().assert_code(0);
    assert_eq!(mode(), 0o600);
    assert!(!alpha.path("pwned").exists());
}
