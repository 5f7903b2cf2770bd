//! Systems as people have them: no home, no name, a home that is read-only, few descriptors, one process, files that may
//! not grow. Each is an error that says what it is, or no trouble at all; never a panic, never a death without a word.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::claude_mem::Version;
use crate::support::machine::Machine;

const BINARY: &str = env!("CARGO_BIN_EXE_membridge");

/// A user that no list of users knows.
const NOBODY: u32 = 54_321;

fn machine(store: &Path) -> Machine {
    let machine = Machine::new("alpha", store);
    machine.create_db(Version::V13_25_3).add_session("one").add_observations(3);
    machine
}

/// Opens everything from the folder down to whoever runs.
fn open_up(folder: &Path) {
    let mode = if folder.is_dir() { 0o777 } else { 0o666 };
    std::fs::set_permissions(folder, PermissionsExt::from_mode(mode)).unwrap();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        open_up(&entry.unwrap().path());
    }
}

/// A copy of the binary where a user without rights finds it: it may have been built below a home that is closed to others.
fn open_binary(machine: &Machine) -> PathBuf {
    machine.copy_program("bin/membridge", Path::new(BINARY))
}

/// Lets `command` run as a user whom no list of users knows, where we are root: limits do not hold for root.
fn as_nobody(command: &mut Command, machine: &Machine, store: &Path) {
    let binary = machine.path("bin/membridge");
    open_up(machine.home().parent().unwrap());
    std::fs::set_permissions(binary, PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::set_permissions(store, PermissionsExt::from_mode(0o777)).unwrap();
    command.uid(NOBODY).gid(NOBODY);
}

/// Runs the binary after `before`, a command of a shell.
fn limited(machine: &Machine, before: &str, words: &str) -> Command {
    limited_at(Path::new(BINARY), machine, before, words)
}

fn limited_at(binary: &Path, machine: &Machine, before: &str, words: &str) -> Command {
    let mut command = machine.bare("/bin/sh");
    command.arg("-c").arg(format!("{before}; exec {} {words}", binary.display()));
    command
}

#[track_caller]
fn said(output: &Output, code: i32, text: &str) {
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{:?}\n{stdout}{stderr}", output.status.signal());
    assert!(stdout.contains(text) && !stderr.contains("panicked"), "no '{text}' in\n{stdout}{stderr}");
}

#[test]
fn few_descriptors_are_an_error_or_enough() {
    let store = tempfile::tempdir().unwrap();
    let machine = machine(store.path());
    let mut refused = 0;
    let mut enough = 0;
    for descriptors in (4..40).step_by(3) {
        let words = if descriptors % 2 == 0 { "push_sqlite" } else { "status" };
        let output = limited(&machine, &format!("ulimit -n {descriptors}"), words).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!text.contains("panicked"), "{descriptors} descriptors: {text}");
        match output.status.code() {
            Some(0) => enough += 1,
            // 127: the shell itself, or the loader, had too few.
            Some(1 | 127) => refused += 1,
            _ => panic!("{descriptors} descriptors: {output:?}"),
        }
    }
    assert!(refused > 0 && enough > 0, "{refused} refused, {enough} enough");
    let few = limited(&machine, "ulimit -n 12", "status").output().unwrap();
    said(&few, 1, "cannot start: Too many open files");
}

#[test]
fn a_user_who_may_have_one_process_gets_an_error() {
    let store = tempfile::tempdir().unwrap();
    let machine = machine(store.path());
    // bash, then dash and ash.
    let binary = open_binary(&machine);
    let mut command =
        limited_at(&binary, &machine, "{ ulimit -u 1 || ulimit -p 1; } 2>/dev/null", "push_sqlite");
    if nix::unistd::getuid().is_root() {
        as_nobody(&mut command, &machine, store.path());
    }
    said(&command.output().unwrap(), 1, "cannot start: Resource temporarily unavailable");
}

#[test]
fn a_file_that_may_not_grow_is_an_error_and_nothing_is_lost() {
    let store = tempfile::tempdir().unwrap();
    let machine = machine(store.path());
    let before = crate::support::claude_mem::titles(machine.db_path());
    let output = limited(&machine, "ulimit -f 8", "push_sqlite").output().unwrap();
    assert_eq!(output.status.signal(), None, "SIGXFSZ would end it without a word: {output:?}");
    said(&output, 1, "ERROR: ");
    assert_eq!(crate::support::claude_mem::titles(machine.db_path()), before);
    machine.cmd("push_sqlite").run().assert_code(0);
}

#[test]
fn without_home_and_name_the_state_directory_is_enough() {
    let store = tempfile::tempdir().unwrap();
    let mut machine = machine(store.path());
    machine.unset("HOME");
    let mut command = machine.bare(open_binary(&machine));
    command.arg("push_sqlite");
    if nix::unistd::getuid().is_root() {
        as_nobody(&mut command, &machine, store.path());
        said(&command.output().unwrap(), 1, "set HOME, or MEMBRIDGE_STATE_DIR");
    }
    let state = machine.path("state");
    std::fs::create_dir(&state).unwrap();
    std::fs::set_permissions(&state, PermissionsExt::from_mode(0o777)).unwrap();
    command.env("MEMBRIDGE_STATE_DIR", &state);
    said(&command.output().unwrap(), 0, "PUSH COMPLETE");
    assert!(state.join("locks").is_dir());
}

#[test]
fn a_home_that_cannot_be_written_is_named_and_the_state_can_lie_elsewhere() {
    let store = tempfile::tempdir().unwrap();
    let mut machine = machine(store.path());
    // A file where our folder would be: what a read-only home is to us, for root as well.
    machine.write(".membridge", "");
    machine.write(".claude-mem-minio", "");
    let refused = machine.cmd("push_sqlite").run();
    refused.assert_code(1).stdout_has("cannot use the state directory").stdout_has("MEMBRIDGE_STATE_DIR=");
    machine.set("MEMBRIDGE_STATE_DIR", machine.path("var/state").as_os_str());
    machine.cmd("push_sqlite").run().assert_code(0);
    machine.cmd("hook stop").stdin("{}").run().assert_code(0);
    crate::hooks::until("the push", || {
        std::fs::read_to_string(machine.path("var/state/last-result.json"))
            .is_ok_and(|text| text.contains("\"stop\""))
    });
    let log = std::fs::read_to_string(machine.path("var/state/hook.log")).unwrap();
    assert!(log.contains("event=stop outcome=up_to_date"), "{log}");
    machine.cmd("hooks status").run().stdout_has("last stop: up_to_date");
    // So do the backups of what a restore replaces.
    machine.write(".claude-mem/backups", "");
    machine.db().add_observations(1);
    machine.cmd("push_sqlite").run().assert_code(0);
    machine.cmd("restore 1 --yes").run().assert_code(0);
    let listed = machine.cmd("restore-backup").run();
    listed.assert_code(0).stdout_has("put one back with");
    let folder = machine.path("var/state/backups/pull-overwrite");
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 1);
}
