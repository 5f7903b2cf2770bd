//! What people's habits and scripts depend on: the names of variables and their order, where settings come from, what
//! is a bad one, exit codes of bad usage, and that no secret is said.

use crate::contract::machine;
use crate::support::machine::Machine;
use crate::support::s3::S3Server;

#[test]
fn the_first_missing_variable_is_named_in_the_order_of_the_contract() {
    let server = S3Server::start();
    let mut alpha = machine("alpha", &server);
    let all = [
        "MINIO_ENDPOINT",
        "MINIO_ACCESS_KEY",
        "MINIO_SECRET_KEY",
        "MINIO_BUCKET",
        "CLAUDE_PROJECT_ID",
        "CLAUDE_MEM_DB",
    ];
    for name in all.iter().rev() {
        // Set but empty counts as unset.
        alpha.set(name, "");
        for command in ["push_sqlite", "pull_sqlite", "leadership_info", "sync"] {
            let out = alpha.cmd(command).run();
            out.assert_code(1);
            assert_eq!(out.stdout.lines().next(), Some(format!("ERROR: {name} not set").as_str()), "{out:?}");
        }
    }
}

#[test]
fn print_project_needs_the_name_only() {
    let server = S3Server::start();
    let mut alpha = Machine::new("alpha", &server);
    alpha.unset("MINIO_ENDPOINT").set("CLAUDE_PROJECT_ID", "сад").set("CLAUDE_CANONICAL_PROJECT_ID", "ffff");
    let out = alpha.cmd("print_project").run();
    out.assert_code(0);
    assert_eq!(out.stdout, "project_name: сад\ncanonical_project_id: e4b16ee4be9e8cde\n");
    for name in ["it's \"quoted\" $(x) `y`", "a\\b", "-n"] {
        let out = alpha.cmd("print-project").env("CLAUDE_PROJECT_ID", name).run();
        out.assert_code(0).stdout_has(&format!("project_name: {name}\n"));
    }
}

#[test]
fn bad_usage_is_exit_1_and_help_is_exit_0() {
    let server = S3Server::start();
    let alpha = Machine::new("alpha", &server);
    for words in ["", "nonsense", "push_sqlite --nonsense", "push_sqlite extra"] {
        alpha.cmd(words).run().assert_code(1);
    }
    for words in ["--help", "--version", "push_sqlite --help"] {
        alpha.cmd(words).run().assert_code(0);
    }
}

#[test]
fn settings_come_from_flag_environment_file_default_in_this_order() {
    let server = S3Server::start();
    let mut alpha = machine("alpha", &server);
    let id = |out: crate::support::process::Outcome| {
        out.assert_code(0).stdout.lines().next().unwrap().trim_start_matches("project_name: ").to_owned()
    };
    alpha.write(".claude-mem-minio/config.env", "# my machine\nexport CLAUDE_PROJECT_ID=\"from file\"\n");
    assert_eq!(id(alpha.cmd("print_project").run()), "mem");
    alpha.unset("CLAUDE_PROJECT_ID");
    assert_eq!(id(alpha.cmd("print_project").run()), "from file");
    assert_eq!(id(alpha.cmd("print_project --project flag").env("CLAUDE_PROJECT_ID", "env").run()), "flag");
    let other = alpha.write("other.env", "CLAUDE_PROJECT_ID=other");
    assert_eq!(id(alpha.cmd("print_project").env("MEMBRIDGE_CONFIG_ENV", &other).run()), "other");
    let third = alpha.write("dir/config.env", "CLAUDE_PROJECT_ID=third");
    assert_eq!(id(alpha.cmd("print_project").env("MEMBRIDGE_DIR", third.parent().unwrap()).run()), "third");
    assert_eq!(
        id(alpha.cmd("print_project").arg("--config").arg(&third).env("MEMBRIDGE_CONFIG_ENV", &other).run()),
        "third"
    );
    // The shipped example holds $HOME unexpanded.
    alpha.unset("CLAUDE_MEM_DB");
    alpha.write(
        ".claude-mem-minio/config.env",
        "CLAUDE_PROJECT_ID=mem\nCLAUDE_MEM_DB=$HOME/.claude-mem/claude-mem.db\n",
    );
    alpha.cmd("push_sqlite").run().assert_code(0);
    alpha.write(".claude-mem-minio/config.env", "CLAUDE_PROJECT_ID=mem\n\nCLAUDE_MEM_DB=$(echo /tmp/x)\n");
    alpha
        .cmd("push_sqlite")
        .run()
        .assert_code(1)
        .stdout_has("config.env line 3")
        .stdout_has("command substitution");
    alpha
        .cmd("push_sqlite")
        .env("MEMBRIDGE_CONFIG_ENV", "/nonexistent/x.env")
        .run()
        .assert_code(1)
        .stdout_has("/nonexistent/x.env");
}

#[test]
fn bad_values_name_their_variable() {
    let server = S3Server::start();
    let alpha = machine("alpha", &server);
    let table = [
        ("LOCK_TTL_SECONDS", "two hours"),
        ("LOCK_TTL_SECONDS", "0"),
        ("LOCK_TTL_SECONDS", "99999999999999999999"),
        ("STALE_LOCK_GRACE_SECONDS", "-1"),
        ("LEADERSHIP_LEASE_SECONDS", "1.5"),
        ("PULL_BACKUP_MAX_DAYS", "x"),
        ("PULL_BACKUP_MAX_COUNT", "0"),
        ("CLAUDE_MEM_WORKER_PORT", "70000"),
        ("FORCE_PUSH", "maybe"),
        ("LEADERSHIP_ENABLED", "2"),
        ("ALLOW_SECONDARY_PUSH", "ja"),
        ("MINIO_ENDPOINT", "ftp://x"),
        ("MINIO_ENDPOINT", "https://"),
        ("MINIO_ENDPOINT", "file://relative"),
        ("CLAUDE_MEM_DB", "/"),
    ];
    for (name, value) in table {
        let out = alpha.cmd("push_sqlite").env(name, value).run();
        out.assert_code(1).stdout_has(&format!("ERROR: {name}='{value}'"));
    }
    for yes in ["1", "true", "YES", "On"] {
        alpha.cmd("push_sqlite").env("FORCE_PUSH", yes).run().assert_code(0);
    }
    let bytes: std::ffi::OsString = std::os::unix::ffi::OsStringExt::from_vec(vec![0xff, 0xfe]);
    alpha
        .cmd("push_sqlite")
        .env("CLAUDE_PROJECT_ID", bytes)
        .run()
        .assert_code(1)
        .stdout_has("CLAUDE_PROJECT_ID")
        .stdout_has("UTF-8");
}

#[test]
fn secrets_are_in_no_output() {
    let server = S3Server::start();
    let mut alpha = machine("alpha", &server);
    let secret = "sEcReT-very-long-0123456789";
    alpha.set("MINIO_SECRET_KEY", secret);
    for command in ["push_sqlite", "pull_sqlite", "doctor", "leadership_info", "push_sqlite --json"] {
        let out = alpha.cmd(command).env("MEMBRIDGE_LOG", "trace").run();
        out.never_says(secret);
    }
    alpha
        .cmd("push_sqlite")
        .run()
        .assert_code(1)
        .stdout_has("SignatureDoesNotMatch")
        .stdout_has("MINIO_SECRET_KEY");
    alpha
        .cmd("push_sqlite")
        .env("MINIO_ACCESS_KEY", "nobody")
        .run()
        .assert_code(1)
        .stdout_has("InvalidAccessKeyId");
}
