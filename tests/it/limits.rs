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

/// What programs get from a file system without locks, below the folders that WHERE is a part of.
const WITHOUT_LOCKS: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static int inside(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return strstr(path, getenv("WHERE")) != 0;
}
static int is_lock(int command) { return command == F_SETLK || command == F_SETLKW || command == F_GETLK; }
int flock(int fd, int operation) {
    int (*real)(int, int) = dlsym(RTLD_NEXT, "flock");
    if (inside(fd)) { errno = ENOLCK; return -1; }
    return real(fd, operation);
}
#define CONTROL(name) int name(int fd, int command, ...) { \
    va_list all; va_start(all, command); void *argument = va_arg(all, void *); va_end(all); \
    int (*real)(int, int, ...) = dlsym(RTLD_NEXT, #name); \
    if (is_lock(command) && inside(fd)) { errno = ENOLCK; return -1; } \
    return real(fd, command, argument); }
CONTROL(fcntl)
CONTROL(fcntl64)
"#;

#[test]
fn a_file_system_without_locks_is_named_wherever_they_are_missing() {
    let folder = tempfile::tempdir().unwrap();
    let (source, library) = (folder.path().join("locks.c"), folder.path().join("locks.so"));
    std::fs::write(&source, WITHOUT_LOCKS).unwrap();
    // The C compiler that SQLite is built with.
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-o"]).args([&library, &source]).arg("-ldl");
    assert!(compiler.status().unwrap().success());
    for place in ["/the-store/", "/.membridge", "claude-mem.db"] {
        let store = folder.path().join("the-store");
        std::fs::create_dir(&store).unwrap();
        let machine = machine(&store);
        let before = crate::support::claude_mem::titles(machine.db_path());
        let end = machine.cmd("push_sqlite").env("LD_PRELOAD", &library).env("WHERE", place).run();
        end.assert_code(1).says("this file system has no locks between processes");
        for wrong in ["free space", "another program", "folder of yours"] {
            end.never_says(wrong);
        }
        assert_eq!(crate::support::claude_mem::titles(machine.db_path()), before);
        machine.cmd("push_sqlite").run().assert_code(0);
        std::fs::remove_dir_all(store).unwrap();
    }
}

#[test]
fn on_a_mount_that_may_only_be_read_the_mount_is_named() {
    let store = tempfile::tempdir().unwrap();
    let machine = machine(store.path());
    let database = machine.db_path();
    let mut command = machine.bare(open_binary(&machine));
    command.arg("push_sqlite");
    if nix::unistd::getuid().is_root() {
        as_nobody(&mut command, &machine, store.path());
    }
    // A write-ahead log that was closed, and nobody who may make its index, as on a read-only mount.
    for suffix in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{suffix}", database.display()));
    }
    std::fs::set_permissions(&database, PermissionsExt::from_mode(0o444)).unwrap();
    std::fs::set_permissions(database.parent().unwrap(), PermissionsExt::from_mode(0o555)).unwrap();
    let output = command.output().unwrap();
    std::fs::set_permissions(database.parent().unwrap(), PermissionsExt::from_mode(0o755)).unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(!text.contains("attempt to write"), "{text}");
    said(&output, 1, "a mount with :ro has no room for them");
}
