//! What each command prints in its main situations, stdout and stderr together, in a home of its own.

use crate::support::claude_mem::Version;
use crate::support::machine::Machine;
use crate::support::s3::S3Server;

/// Two machines and a bucket. alpha has memory, beta has none.
struct Fleet {
    alpha: Machine,
    beta: Machine,
    server: S3Server,
}

impl Fleet {
    fn new() -> Fleet {
        let server = S3Server::start();
        let alpha = Machine::new("alpha", &server);
        alpha
            .create_db(Version::V13_25_3)
            .add_session("one")
            .add_observations(5)
            .add_summaries(1)
            .add_prompts(2);
        let beta = Machine::new("beta", &server);
        Fleet { alpha, beta, server }
    }
}

/// Runs commands one after the other; what a person saw.
fn told(machine: &Machine, commands: &[&str]) -> String {
    let mut all = String::new();
    for command in commands {
        let outcome = machine.cmd(command).run();
        all += &format!("{}$ membridge {command}\n{}", machine.name, outcome.stdout);
        for line in outcome.stderr.lines() {
            all += &format!("(stderr) {line}\n");
        }
        if outcome.code != 0 {
            all += &format!("[exit code {}]\n", outcome.code);
        }
    }
    machine.normalise(&all)
}

macro_rules! assert_told {
    ($said:expr, @$wanted:literal) => {{
        let said = $said;
        insta::with_settings!({
            filters => vec![
                (r"for \d+s", "for [N]s"),
                (r"in \d+s", "in [N]s"),
                (r"\d+\.\d+ [kMG]B", "[SIZE]"),
                (r"\b[0-9a-f]{12}\b", "[SHORT]"),
                (r"for another \d+ min", "for another [N] min"),
                (r"\(free space|free space: [^,\n]*", "free space: [SIZE]"),
            ],
        }, { insta::assert_snapshot!(said, @$wanted); });
    }};
}

#[test]
fn push_first_again_and_after_new_memory() {
    let fleet = Fleet::new();
    let mut said = told(&fleet.alpha, &["push_sqlite", "push_sqlite"]);
    fleet.alpha.db().add_observations(2);
    said += &told(
        &fleet.alpha,
        &["push_sqlite", "push_sqlite --quiet", "push_sqlite --json"],
    );
    assert_told!(said, @"");
}

#[test]
fn pull_first_again_and_after_somebody_pushed() {
    let fleet = Fleet::new();
    let mut said = told(&fleet.beta, &["pull_sqlite"]);
    fleet.alpha.cmd("push_sqlite").run().assert_code(0);
    said += &told(&fleet.beta, &["pull_sqlite", "pull_sqlite"]);
    fleet.alpha.db().add_observations(2);
    fleet.alpha.cmd("push_sqlite").run().assert_code(0);
    said += &told(&fleet.beta, &["pull_sqlite", "restore-backup"]);
    fleet.beta.db().add_observations(1);
    said += &told(&fleet.beta, &["pull_sqlite --json"]);
    assert_told!(said, @"");
}

#[test]
fn sync_on_both_sides() {
    let fleet = Fleet::new();
    let mut said = told(&fleet.alpha, &["sync"]);
    said += &told(&fleet.beta, &["sync", "sync --json"]);
    assert_told!(said, @"");
}

#[test]
fn status_before_and_after() {
    let fleet = Fleet::new();
    let mut said = told(&fleet.alpha, &["status"]);
    fleet.alpha.cmd("push_sqlite").run().assert_code(0);
    said += &told(&fleet.alpha, &["status"]);
    fleet.server.reset_log();
    fleet.alpha.cmd("status").run().assert_code(0);
    assert_eq!(fleet.server.requests().len(), 4, "{:?}", fleet.server.requests());
    said += &told(&fleet.beta, &["status", "status --json"]);
    assert_told!(said, @"");
}

#[test]
fn doctor_on_a_machine_without_a_worker() {
    let fleet = Fleet::new();
    fleet.alpha.cmd("push_sqlite").run().assert_code(0);
    assert_told!(told(&fleet.alpha, &["doctor"]), @"");
}

#[test]
fn leadership_and_project() {
    let fleet = Fleet::new();
    let mut said = told(&fleet.alpha, &["print_project", "leadership_info"]);
    fleet.alpha.cmd("push_sqlite").run().assert_code(0);
    said += &told(
        &fleet.beta,
        &[
            "leadership_info",
            "print_project --json",
            "leadership_info --leadership-enabled 0",
        ],
    );
    assert_told!(said, @"");
}

#[test]
fn config_shows_sources_and_hides_secrets() {
    let fleet = Fleet::new();
    fleet
        .alpha
        .write(".claude-mem-minio/config.env", "PRIMARY_NODE_ID=alpha\n");
    assert_told!(told(&fleet.alpha, &["config --region eu"]), @"");
}

#[test]
fn config_init_asks_for_what_is_missing_and_tests_before_it_writes() {
    use std::os::unix::fs::PermissionsExt;
    let fleet = Fleet::new();
    let mut gamma = Machine::new("gamma", &fleet.server);
    for name in [
        "MINIO_SECRET_KEY",
        "CLAUDE_PROJECT_ID",
        "CLAUDE_MEM_DB",
        "MINIO_BUCKET",
    ] {
        gamma.unset(name);
    }
    let file = gamma.path(".claude-mem-minio/config.env");
    let wrong = gamma
        .cmd("config init")
        .stdin("nonsense\nmembridge-test\nit's mine\n\n")
        .run();
    wrong
        .assert_code(1)
        .stdout_has("SignatureDoesNotMatch")
        .stdout_has("no config.env was written");
    assert!(!file.exists());
    let answers = format!("{}\nmembridge-test\nit's mine\n\n", fleet.server.secret_key);
    let done = gamma
        .cmd("config init --primary-node-id alpha")
        .stdin(answers)
        .run();
    assert_told!(gamma.normalise(&done.stdout), @"");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let text = std::fs::read_to_string(&file).unwrap();
    assert_told!(gamma.normalise(&text), @"");
    // The file alone is enough, for us and for a shell.
    for name in ["MINIO_ENDPOINT", "MINIO_ACCESS_KEY"] {
        gamma.unset(name);
    }
    gamma
        .cmd("print_project")
        .run()
        .assert_code(0)
        .stdout_has("project_name: it's mine");
    gamma.cmd("status").run().assert_code(0);
    gamma
        .program("/bin/sh")
        .arg("-c")
        .arg(". ~/.claude-mem-minio/config.env && printf %s \"$CLAUDE_PROJECT_ID/$MINIO_SECRET_KEY\"")
        .run()
        .assert_code(0)
        .stdout_has(&format!("it's mine/{}", fleet.server.secret_key));
    let again = gamma.cmd("config init").run();
    again.assert_code(1).stdout_has("is never overwritten");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
}

#[test]
fn colours_are_for_those_who_want_them() {
    let fleet = Fleet::new();
    let coloured = |run: crate::support::machine::Run| run.run().stdout.contains('\u{1b}');
    let alpha = &fleet.alpha;
    assert!(!coloured(alpha.cmd("doctor")), "a pipe is no terminal");
    assert!(coloured(alpha.cmd("doctor --color always")));
    assert!(
        coloured(alpha.cmd("doctor --color always").env("NO_COLOR", "1")),
        "a flag beats a variable"
    );
    assert!(!coloured(alpha.cmd("doctor --color never")));
    assert!(!coloured(alpha.cmd("doctor --color always --json")));
}

#[test]
fn verbose_speaks_on_stderr_only() {
    let fleet = Fleet::new();
    let alpha = &fleet.alpha;
    alpha.cmd("push_sqlite").run().assert_code(0).stderr_lacks("INFO");
    alpha.db().add_observations(1);
    let said = alpha.cmd("push_sqlite -v").run();
    said.assert_code(0)
        .stderr_has("INFO")
        .stderr_lacks("DEBUG")
        .stdout_lacks("INFO");
    alpha.cmd("push_sqlite -vv").run().stderr_has("DEBUG");
    let lines = alpha.cmd("push_sqlite -vv --log-format json").run().stderr;
    assert!(lines.lines().count() > 0);
    for line in lines.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    }
}

#[test]
fn the_version_names_revision_target_and_sqlite() {
    let fleet = Fleet::new();
    let said = fleet.alpha.cmd("--version").run();
    let text = said.assert_code(0).stdout.trim().to_owned();
    let inside = text
        .strip_prefix(&format!("membridge {} (", env!("CARGO_PKG_VERSION")))
        .and_then(|rest| rest.strip_suffix(')'))
        .unwrap_or_else(|| panic!("{text}"));
    let parts: Vec<_> = inside.split(", ").collect();
    assert_eq!(parts.len(), 3, "{text}");
    assert!(
        parts[0] == "unknown revision" || parts[0].bytes().all(|byte| byte.is_ascii_hexdigit()),
        "{text}"
    );
    assert!(
        parts[1].contains("linux") || parts[1].contains("darwin"),
        "{text}"
    );
    assert!(parts[2].starts_with("SQLite 3."), "{text}");
}

#[test]
fn completions_and_the_manual_come_out_of_the_binary() {
    let fleet = Fleet::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = fleet.alpha.cmd(&format!("completions {shell}")).run();
        script
            .assert_code(0)
            .stdout_has("push_sqlite")
            .stdout_has("no-network");
    }
    let page = fleet.alpha.cmd("man").run();
    page.assert_code(0)
        .stdout_has(".TH membridge 1")
        .stdout_has("push_sqlite")
        .stdout_has("\\-\\-no\\-network");
    page.stdout_lacks("background");
}
