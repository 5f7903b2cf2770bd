//! What the commands about a machine and the program itself print: doctor, config, versions, colours, completions.

use crate::output::{Fleet, assert_told, told};
use crate::support::machine::Machine;

#[test]
fn doctor_on_a_machine_without_a_worker() {
    let fleet = Fleet::new();
    fleet.alpha.cmd("push_sqlite").run().assert_code(0);
    assert_told!(told(&fleet.alpha, &["doctor"]), @r#"
    alpha$ membridge doctor
    2 things to look at:
      WARNING  SessionStart: [HOME]/.claude/settings.json is not there
      WARNING  Stop: [HOME]/.claude/settings.json is not there
               → membridge hooks install --write-settings

    [1/5] Project identity
      ok       project_name: mem; canonical_project_id: 6fe2e0f6071ac2bb; node_id: alpha; 2 more
    [2/5] MinIO connectivity
      ok       reachable: yes, the bucket answers; 4 more
    [3/5] Lock status
      ok       lock: free (last held by alpha)
    [4/5] SQLite DB health
      ok       observations: 5 (1 summary, 2 prompts, 1 session); 4 more
    [5/5] Worker health
      ok       3 checks
      info     worker: not running
    [+] Hooks
      WARNING  SessionStart: [HOME]/.claude/settings.json is not there
      WARNING  Stop: [HOME]/.claude/settings.json is not there
      info     last hooks: none has run yet
    [+] Leadership
      ok       role: primary; primary: alpha, by default; epoch: 1; 1 more
    [+] Sync
      ok       sync: safe: all 5 observations are in the store; no other machine has synced; 9 more
    [+] Configuration
      ok       settings: complete; 2 more
    STATUS: DEGRADED — 2 warnings above
    "#);
}

#[test]
fn config_shows_sources_and_hides_secrets() {
    let fleet = Fleet::new();
    fleet.alpha.write(".claude-mem-minio/config.env", "PRIMARY_NODE_ID=alpha\n");
    assert_told!(told(&fleet.alpha, &["config --region eu"]), @r#"
    alpha$ membridge config --region eu
    config.env: [HOME]/.claude-mem-minio/config.env
    MINIO_ENDPOINT=http://127.0.0.1:[PORT] (environment)
    MINIO_ACCESS_KEY=set (environment)
    MINIO_SECRET_KEY=set (environment)
    MINIO_BUCKET=membridge-test (environment)
    CLAUDE_PROJECT_ID=mem (environment)
    CLAUDE_MEM_DB=[HOME]/.claude-mem/claude-mem.db (environment)
    MINIO_REGION=eu (flag)
    MINIO_ADDRESSING=auto (default)
    MEMBRIDGE_LIMIT_UPLOAD is not set
    MEMBRIDGE_LIMIT_DOWNLOAD is not set
    LOCK_TTL_SECONDS=7200 (default)
    STALE_LOCK_GRACE_SECONDS=60 (default)
    FORCE_PUSH=0 (default)
    PULL_BACKUP_MAX_DAYS=14 (default)
    PULL_BACKUP_MAX_COUNT=50 (default)
    HISTORY_MAX_COUNT=50 (default)
    HISTORY_MAX_DAYS=30 (default)
    MEMBRIDGE_NODE_ID=alpha (environment)
    PRIMARY_NODE_ID=alpha (config.env)
    MEMBRIDGE_HOSTNAME=alpha (environment)
    ALLOW_SECONDARY_PUSH=0 (default)
    ALLOW_PRIMARY_PULL_OVERRIDE=0 (default)
    LEADERSHIP_ENABLED=1 (default)
    LEADERSHIP_LEASE_SECONDS=3600 (default)
    MEMBRIDGE_NO_RESTART_WORKER=0 (default)
    CLAUDE_MEM_WORKER_PORT=[PORT] (environment)
    CLAUDE_MEM_WORKER_HOST=127.0.0.1 (default)
    CLAUDE_MEM_DATA_DIR is not set
    CLAUDE_MEM_WORKER_SCRIPT_PATH is not set
    CLAUDE_CONFIG_DIR is not set
    BUN is not set
    BUN_PATH is not set
    MEMBRIDGE_SYNC_TOOL_USES=0 (default)
    MEMBRIDGE_EXCLUDE_PROJECTS is not set
    MEMBRIDGE_HOOK_MESSAGES=1 (default)
    MEMBRIDGE_KEY_FILE is not set
    MEMBRIDGE_PUSH_INTERVAL_SECONDS=60 (default)
    MEMBRIDGE_STATE_DIR is not set
    HTTP_PROXY is not set
    HTTPS_PROXY is not set
    ALL_PROXY is not set
    NO_PROXY is not set
    AWS_CA_BUNDLE is not set
    SSL_CERT_FILE is not set
    CLAUDE_CANONICAL_PROJECT_ID is not set
    "#);
}

#[test]
fn config_init_asks_for_what_is_missing_and_tests_before_it_writes() {
    use std::os::unix::fs::PermissionsExt;
    let fleet = Fleet::new();
    let mut gamma = Machine::new("gamma", &fleet.server);
    for name in ["MINIO_SECRET_KEY", "CLAUDE_PROJECT_ID", "CLAUDE_MEM_DB", "MINIO_BUCKET"] {
        gamma.unset(name);
    }
    let file = gamma.path(".claude-mem-minio/config.env");
    let wrong = gamma.cmd("config init").stdin("nonsense\nmembridge-test\nit's mine\n\n").run();
    wrong.assert_code(1).stdout_has("SignatureDoesNotMatch").stdout_has("no config.env was written");
    assert!(!file.exists());
    let answers = format!("{}\nmembridge-test\nit's mine\n\n", fleet.server.secret_key);
    let done = gamma.cmd("config init --primary-node-id alpha").stdin(answers).run();
    assert_told!(gamma.normalise(&done.stdout), @r#"
    connected: http://127.0.0.1:[PORT]/membridge-test
    written: [HOME]/.claude-mem-minio/config.env
    the bucket holds nothing yet for project it's mine
    there is no database at [HOME]/.claude-mem/claude-mem.db yet: claude-mem makes it in the first Claude session, so start one first
    next: membridge push_sqlite
    "#);
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let text = std::fs::read_to_string(&file).unwrap();
    assert_told!(gamma.normalise(&text), @r#"
    # membridge settings. A flag beats the environment, the environment beats this file: membridge config
    MINIO_ENDPOINT='http://127.0.0.1:[PORT]'
    MINIO_ACCESS_KEY='TESTACCESSKEY'
    MINIO_SECRET_KEY='test-secret/with+signs='
    MINIO_BUCKET='membridge-test'
    CLAUDE_PROJECT_ID='it'\''s mine'
    CLAUDE_MEM_DB="$HOME/.claude-mem/claude-mem.db"
    MEMBRIDGE_NODE_ID='gamma'
    PRIMARY_NODE_ID='alpha'
    MEMBRIDGE_HOSTNAME='gamma'
    CLAUDE_MEM_WORKER_PORT='[PORT]'
    "#);
    // The file alone is enough, for us and for a shell.
    for name in ["MINIO_ENDPOINT", "MINIO_ACCESS_KEY"] {
        gamma.unset(name);
    }
    gamma.cmd("print_project").run().assert_code(0).stdout_has("project_name: it's mine");
    gamma.cmd("status").run().assert_code(0);
    gamma
        .program("/bin/sh")
        .arg("-c")
        .arg(". ~/.claude-mem-minio/config.env && printf %s \"$CLAUDE_PROJECT_ID/$MINIO_SECRET_KEY\"")
        .run()
        .assert_code(0)
        .stdout_has(&format!("it's mine/{}", fleet.server.secret_key));
    let again = gamma.cmd("config init").run();
    again.assert_code(1).stdout_has("is never overwritten").stdout_has("config init --edit");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
}

#[test]
fn a_finished_file_is_edited_and_what_else_stands_in_it_stays() {
    use std::os::unix::fs::PermissionsExt;
    let folders = tempfile::tempdir().unwrap();
    let mut gamma = Machine::new("gamma", folders.path());
    for name in ["MINIO_ENDPOINT", "CLAUDE_PROJECT_ID", "CLAUDE_MEM_DB"] {
        gamma.unset(name);
    }
    std::fs::create_dir(gamma.path("nas")).unwrap();
    let text = "# the old folder\nMINIO_ENDPOINT=file:///gone\nexport CLAUDE_PROJECT_ID=mem\nMINE=1 # kept\n";
    let file = gamma.write(".claude-mem-minio/config.env", text);
    let refused = gamma.cmd("config init --edit").stdin("~/nowhere\n").run();
    refused.assert_code(1).stdout_has("there is no folder").stdout_has("no config.env was written");
    let done = gamma.cmd("config init --edit").stdin("~/nas\n\n\n").run();
    assert_told!(gamma.normalise(&done.stdout), @r#"
    connected: file://[HOME]/nas
    changed: CLAUDE_MEM_DB, MINIO_ENDPOINT in [HOME]/.claude-mem-minio/config.env
    as it was: [HOME]/.claude-mem-minio/config.env.before
    the bucket holds nothing yet for project mem
    there is no database at [HOME]/.claude-mem/claude-mem.db yet: claude-mem makes it in the first Claude session, so start one first
    next: membridge push_sqlite
    "#);
    assert_told!(gamma.normalise(&std::fs::read_to_string(&file).unwrap()), @r#"
    # the old folder
    MINIO_ENDPOINT='file://[HOME]/nas'
    export CLAUDE_PROJECT_ID=mem
    MINE=1 # kept
    CLAUDE_MEM_DB="$HOME/.claude-mem/claude-mem.db"
    "#);
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_to_string(gamma.path(".claude-mem-minio/config.env.before")).unwrap(), text);
    gamma.cmd("status").run().assert_code(0);
    gamma.cmd("config init --edit").stdin("\n\n\n").run().assert_code(0).stdout_has("unchanged: ");
}

#[test]
fn colours_are_for_those_who_want_them() {
    let fleet = Fleet::new();
    let coloured = |run: crate::support::machine::Run| run.run().stdout.contains('\u{1b}');
    let alpha = &fleet.alpha;
    assert!(!coloured(alpha.cmd("doctor")), "a pipe is no terminal");
    assert!(coloured(alpha.cmd("doctor --color always")));
    assert!(coloured(alpha.cmd("doctor --color always").env("NO_COLOR", "1")), "a flag beats a variable");
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
    said.assert_code(0).stderr_has("INFO").stderr_lacks("DEBUG").stdout_lacks("INFO");
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
    assert!(parts[1].contains("linux") || parts[1].contains("darwin"), "{text}");
    assert!(parts[2].starts_with("SQLite 3."), "{text}");
}

#[test]
fn completions_and_the_manual_come_out_of_the_binary() {
    let fleet = Fleet::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = fleet.alpha.cmd(&format!("completions {shell}")).run();
        script.assert_code(0).stdout_has("push_sqlite").stdout_has("no-network");
    }
    let page = fleet.alpha.cmd("man").run();
    page.assert_code(0)
        .stdout_has(".TH membridge 1")
        .stdout_has("push_sqlite")
        .stdout_has("\\-\\-no\\-network");
    page.stdout_lacks("background\\-start");
    assert_eq!(page.stdout.matches(".SH NAME").count(), 1);
}
