//! What comes in from outside and is not what it should be: settings with a carriage return, answers of something that
//! is not the S3 endpoint, locks of nobody we know, command lines that clap does not understand.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use crate::support::claude_mem::{self, Version};
use crate::support::machine::Machine;
use crate::support::python_node;
use crate::support::s3::{Fault, Op, S3Server};

fn key(name: &str) -> String {
    python_node::key("mem", name)
}

fn pushed(server: &S3Server) -> Machine {
    let alpha = Machine::new("alpha", server);
    alpha.create_db(Version::V13_25_3).add_session("one").add_observations(5);
    alpha.cmd("push_sqlite").run().assert_code(0);
    alpha.db().add_observations(1);
    alpha
}

#[test]
fn a_control_character_in_a_setting_is_an_error_that_names_it() {
    let server = S3Server::start();
    let machine = pushed(&server);
    for (name, value) in [
        ("MINIO_ACCESS_KEY", "hunter2\r"),
        ("MINIO_ACCESS_KEY", "hunter2\u{1b}"),
        ("MINIO_SECRET_KEY", "hunter2\n"),
        ("MINIO_REGION", "hunter2\u{7f}"),
        ("MINIO_BUCKET", "hunter2\r"),
        ("CLAUDE_PROJECT_ID", "mem\r"),
        ("MEMBRIDGE_NODE_ID", "alpha\r"),
        ("PRIMARY_NODE_ID", "alpha\r"),
    ] {
        let end = machine.cmd("push_sqlite").env(name, value).run();
        end.assert_code(1).stdout_has(&format!("ERROR: {name} holds ")).never_says("hunter2");
        let end = machine.cmd("doctor").env(name, value).run();
        end.assert_code(0).stdout_has(&format!("{name} holds ")).stdout_lacks("settings: complete");
    }
}

#[test]
fn an_endpoint_that_cannot_be_one_is_refused_before_anything_is_tried() {
    let server = S3Server::start();
    let machine = pushed(&server);
    for endpoint in ["http://h:99999", "http://[::1", "https://h:x"] {
        let end = machine.cmd("push_sqlite").env("MINIO_ENDPOINT", endpoint).run();
        end.assert_code(1).stdout_has("ERROR: MINIO_ENDPOINT=").stdout_lacks("try again");
    }
}

#[test]
fn f06_a_404_that_does_not_say_what_is_missing_is_checked_against_the_listing() {
    let server = S3Server::start();
    let alpha = pushed(&server);
    let objects = || {
        let keys = server.keys("projects/").into_iter();
        // Rows travel before the archive is looked at.
        keys.filter(|key| !["/locks/", "/nodes/", "/rows/"].iter().any(|part| key.contains(part)))
            .map(|key| (server.etag(&key), key))
            .collect::<Vec<_>>()
    };
    // Each takes the seconds of its retries: a page of either kind for each object, and for each command.
    for (page, name, command) in [
        ("", "sqlite/", "push_sqlite"),
        ("<html>not here</html>", "sqlite/", "pull_sqlite"),
        ("<html>not here</html>", "leadership/lease.json", "push_sqlite"),
        ("", "leadership/lease.json", "promote --force"),
    ] {
        let before = objects();
        let _proxy = server.fault(Fault::Page(404, page).on(Op::GetObject).key(name));
        alpha
            .cmd(command)
            .run()
            .assert_code(1)
            .stdout_has("answered 404 without saying NoSuchKey")
            .stdout_has("is MINIO_ENDPOINT the S3 endpoint itself?")
            .stdout_lacks("promote NODE --force")
            .stdout_lacks("FORCE_PUSH");
        assert_eq!(objects(), before, "{command}, {name}, {page}");
    }
    // Everything answers so, the listing first.
    let proxy = server.fault(Fault::Page(404, ""));
    let refused = alpha.cmd("push_sqlite").run();
    refused.assert_code(1).stdout_has("ERROR: list ").stdout_has("answered 404");
    refused.stdout_has("that was not the S3 service of this bucket");
    drop(proxy);
    // A gateway whose every missing key is a bare 404, and whose listing says the same, is believed.
    let empty = S3Server::start();
    let fresh = Machine::new("fresh", &empty);
    fresh.create_db(Version::V13_25_3).add_session("two").add_observations(2);
    let _gateway = empty.fault(Fault::Page(404, "").on(Op::GetObject).key("leadership/lease.json").next(1));
    fresh.cmd("push_sqlite").run().assert_code(0);
}

#[test]
fn f06_a_wrong_region_or_endpoint_is_no_reason_to_force_anything() {
    let server = S3Server::start();
    let alpha = pushed(&server);
    let lease = server.text(&key("leadership/lease.json"));
    let faults = [
        Fault::Status(400, "AuthorizationHeaderMalformed"),
        Fault::Status(301, "PermanentRedirect"),
        Fault::Page(301, ""),
        Fault::Page(400, ""),
        Fault::Page(200, "<html>sign in</html>"),
        Fault::Page(204, ""),
    ];
    for fault in faults {
        for (name, command) in [
            ("leadership/lease.json", "push_sqlite"),
            ("leadership/lease.json", "promote beta --force"),
            ("locks/active.lock", "push_sqlite"),
            ("locks/active.lock", "push_sqlite --force-push"),
            ("sqlite/manifest.json", "push_sqlite"),
            ("sqlite/manifest.json", "pull_sqlite"),
        ] {
            let what = format!("{fault:?} on {name}, {command}");
            // Somebody holds the lock, so that whoever steps over it is seen.
            if name.starts_with("locks/") {
                let now = jiff::Timestamp::now().as_second();
                let lock = serde_json::json!({"hostname": "gamma", "timestamp": now});
                server.put(&key(name), lock.to_string());
            }
            let manifest = server.etag(&key("sqlite/manifest.json"));
            let switched = server.fault(fault.clone().on(Op::GetObject).key(name));
            let end = alpha.cmd(command).run();
            drop(switched);
            assert_eq!(end.code, 1, "{what}: {end:?}");
            end.stdout_has("check MINIO_ENDPOINT and MINIO_REGION")
                .stdout_lacks("--force")
                .stdout_lacks("FORCE_PUSH=1");
            assert_eq!(server.text(&key("leadership/lease.json")), lease, "{what}");
            assert_eq!(server.etag(&key("sqlite/manifest.json")), manifest, "{what}");
            server.remove(&key("locks/active.lock"));
        }
    }
    alpha.cmd("push_sqlite").run().assert_code(0);
}

#[test]
fn an_empty_flag_is_no_value() {
    let server = S3Server::start();
    let machine = Machine::new("alpha", &server);
    machine.create_db(Version::V13_25_3).add_session("one").add_observations(5);
    machine
        .cmd("push_sqlite")
        .arg("--project")
        .arg("")
        .arg("--node-id")
        .arg("")
        .run()
        .assert_code(0)
        .stdout_has("(primary: alpha)");
    assert!(server.keys("projects/").iter().all(|name| name.starts_with(&key(""))));
    machine
        .cmd("print_project")
        .env_remove("CLAUDE_PROJECT_ID")
        .arg("--project")
        .arg("")
        .run()
        .assert_code(1)
        .stdout_has("CLAUDE_PROJECT_ID not set");
}

#[test]
fn a_lock_is_judged_by_its_host_and_time_alone() {
    let server = S3Server::start();
    let alpha = pushed(&server);
    let now = jiff::Timestamp::now().as_second();
    for other in [r#""expires_at": 9223372036854775807"#, r#""project": null, "pid": -1, "owner": 5"#] {
        let put = |age: i64| {
            let lock = format!(r#"{{"hostname": "gamma", "timestamp": {}, {other}}}"#, now - age);
            server.put(&key("locks/active.lock"), lock);
        };
        alpha.db().add_observations(1);
        put(30);
        alpha.cmd("push_sqlite").run().assert_code(1).stdout_has("LOCK ACTIVE — held by gamma");
        put(100_000);
        alpha.cmd("push_sqlite").run().assert_code(0).stdout_has("PUSH COMPLETE");
    }
}

#[test]
fn bad_usage_is_said_where_callers_look() {
    let server = S3Server::start();
    let machine = Machine::new("alpha", &server);
    for (words, said, command) in [
        ("psuh_sqlite", "unrecognized subcommand", "membridge"),
        ("push_sqlite --fource", "unexpected argument", "push_sqlite"),
        ("push --fource", "unexpected argument", "push_sqlite"),
        ("restore", "required arguments", "restore"),
        ("history --limit many", "invalid value", "history"),
    ] {
        let end = machine.cmd(words).run();
        end.assert_code(1).stdout_has("ERROR: ").stdout_has(said);
        assert_eq!(end.stderr, "", "{words}");
        let end = machine.cmd(&format!("{words} --json")).run();
        end.assert_code(1);
        let object = end.json();
        assert_eq!(object["command"], command, "{words}");
        assert_eq!((&object["outcome"], &object["exit_code"]), (&"error".into(), &1.into()));
        assert!(object["error"].as_str().unwrap().contains(said), "{object}");
    }
    machine.cmd("").run().assert_code(1).stdout_has("Usage:");
    let end = machine.cmd("--json").run();
    end.assert_code(1);
    assert_eq!(end.json()["outcome"], "error");
}

#[test]
fn f12_a_hook_called_with_flags_it_does_not_have_leaves_a_line() {
    let server = S3Server::start();
    let machine = Machine::new("alpha", &server);
    for (words, event) in [
        ("hook stop --bogus", "stop"),
        ("hook session-start --bogus", "session-start"),
        ("hook nothing", "unknown"),
        ("hook", "unknown"),
    ] {
        let end = machine.cmd(words).stdin("{}").run();
        end.assert_code(0);
        assert_eq!((end.stdout.as_str(), end.stderr.as_str()), ("", ""), "{words}");
        let log = std::fs::read_to_string(machine.path(".claude-mem-minio/hook.log")).unwrap();
        let last = log.lines().last().unwrap();
        assert!(
            last.contains(&format!("event={event} outcome=failed code=1")) && last.contains("bad usage"),
            "{last}"
        );
    }
}

#[test]
fn a_config_env_that_is_no_file_is_an_error_at_once() {
    let server = S3Server::start();
    let machine = Machine::new("alpha", &server);
    machine.write("membridge/config.env", "CLAUDE_PROJECT_ID=other\n");
    let file = machine.path(".claude-mem-minio/config.env");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink("/nonexistent/config.env", &file).unwrap();
    let run = || machine.cmd("print_project").env_remove("CLAUDE_PROJECT_ID").run();
    run().assert_code(1).stdout_has("cannot read").stdout_has(".claude-mem-minio/config.env");
    std::fs::remove_file(&file).unwrap();
    run().assert_code(0).stdout_has("project_name: other");
    let made = std::process::Command::new("mkfifo").arg(&file).status().unwrap();
    assert!(made.success());
    run().assert_code(1).stdout_has("not a regular file");
    std::fs::remove_file(&file).unwrap();
    machine.write(".claude-mem-minio/config.env", b"# caf\xe9\nCLAUDE_PROJECT_ID=mem\n");
    run().assert_code(0).stdout_has("project_name: mem");
    machine.write(".claude-mem-minio/config.env", b"\nCLAUDE_PROJECT_ID=caf\xe9\n");
    run().assert_code(1).stdout_has("config.env line 2: holds bytes that are not UTF-8");
    // How one says: no file at all.
    let end = machine.cmd("print_project --config /dev/null").run();
    end.assert_code(0).stdout_has("project_name: mem");
}

#[test]
fn a_missing_setting_is_sent_to_the_file_that_is_read() {
    let server = S3Server::start();
    let machine = Machine::new("alpha", &server);
    let run = |words: &str| machine.cmd(words).env_remove("MINIO_BUCKET");
    run("push_sqlite").run().assert_code(1).stdout_has(
        "set MINIO_BUCKET in the environment or in ~/.claude-mem-minio/config.env; to make that file: membridge config init",
    );
    run("push_sqlite")
        .env("MEMBRIDGE_DIR", "/nonexistent/dir")
        .run()
        .assert_code(1)
        .stdout_has("or in /nonexistent/dir/config.env; to make that file");
    machine.write("mine.env", "MINIO_REGION=eu\n");
    let mine = machine.path("mine.env");
    let end = run("push_sqlite").arg("--config").arg(mine.as_os_str()).run();
    end.assert_code(1).stdout_has("or in ~/mine.env\n").stdout_lacks("claude-mem-minio");
}

#[test]
fn the_interval_of_the_hooks_is_checked_with_the_other_settings() {
    let server = S3Server::start();
    let machine = pushed(&server);
    for command in ["push_sqlite", "status"] {
        machine
            .cmd(command)
            .env("MEMBRIDGE_PUSH_INTERVAL_SECONDS", "abc")
            .run()
            .assert_code(1)
            .stdout_has("MEMBRIDGE_PUSH_INTERVAL_SECONDS='abc' is not a whole number");
    }
    machine
        .cmd("doctor")
        .env("MEMBRIDGE_PUSH_INTERVAL_SECONDS", "abc")
        .run()
        .assert_code(0)
        .stdout_has("settings: MEMBRIDGE_PUSH_INTERVAL_SECONDS='abc'")
        .stdout_lacks("settings: complete");
}

#[test]
fn other_peoples_folders_in_path_may_have_any_name() {
    let server = S3Server::start();
    let machine = pushed(&server);
    let path = OsString::from_vec(b"/usr/bin:/opt/caf\xe9:/bin".to_vec());
    machine.cmd("push_sqlite").env("PATH", path).run().assert_code(0).stdout_has("PUSH COMPLETE");
    assert_eq!(claude_mem::counts(machine.db_path()).observations, 6);
}

#[test]
fn a_folder_of_a_group_is_the_groups_in_all_its_files_and_one_of_everybody_is_a_warning() {
    use std::os::unix::fs::PermissionsExt;
    let store = tempfile::tempdir().unwrap();
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    std::fs::set_permissions(store.path(), PermissionsExt::from_mode(0o2770)).unwrap();
    let alpha = Machine::new("alpha", store.path());
    alpha.create_db(Version::V13_25_3).add_session("one").add_observations(2);
    let told = format!("umask 022; exec {} push_sqlite", env!("CARGO_BIN_EXE_membridge"));
    alpha.program("/bin/sh").arg("-c").arg(told).run().assert_code(0);
    let mut folders = vec![store.path().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let wanted = if path.is_dir() { 0o770 } else { 0o660 };
            assert_eq!(mode(&path), wanted, "{}", path.display());
            folders.extend(path.is_dir().then_some(path));
        }
    }
    alpha.cmd("doctor").run().stdout_lacks("every user of this machine may write");
    std::fs::set_permissions(store.path(), PermissionsExt::from_mode(0o1777)).unwrap();
    alpha.cmd("doctor").run().stdout_has("every user of this machine may write").stdout_has("chmod o-w /");
}

#[test]
fn http_in_the_clear_is_named_by_doctor() {
    let mut alpha = Machine::new("alpha", tempfile::tempdir().unwrap().path());
    alpha
        .set("MINIO_ENDPOINT", "http://192.0.2.1:9000")
        .set("MINIO_ACCESS_KEY", "a")
        .set("MINIO_SECRET_KEY", "b");
    let told = alpha.cmd("doctor --no-network").run();
    told.stdout_has("plain http: whoever sees the network sees the memory").stdout_has("tunnel");
}
