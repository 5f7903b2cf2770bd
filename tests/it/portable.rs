//! `export` and `import`: memory in claude-mem's own form, out of one database and into another, from where it flows on.

use serde_json::{Value, json};

use crate::common::{assert_whole, memory, with_memory};
use crate::support::claude_mem::{self, Version};
use crate::support::machine::Machine;
use crate::support::s3::S3Server;

fn exported(machine: &Machine, words: &str) -> Value {
    let file = machine.path("memory.json");
    let _ = std::fs::remove_file(&file);
    machine.cmd(&format!("export memory.json {words}")).run().assert_code(0);
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

fn lengths(export: &Value) -> [usize; 4] {
    ["observations", "sessions", "summaries", "prompts"].map(|list| export[list].as_array().unwrap().len())
}

#[test]
fn memory_goes_out_in_claude_mems_own_form() {
    let server = S3Server::start();
    let alpha = Machine::new("alpha", &server);
    with_memory(&alpha);
    alpha.db().add_session("other").add_observations(2).execute(
        "UPDATE sdk_sessions SET project = 'garden' WHERE id = 2; UPDATE observations SET project = 'garden' WHERE id > 5;
         UPDATE observations SET narrative = CAST(x'61ff62' AS TEXT) WHERE id = 1;",
    );
    let before = claude_mem::dump(alpha.db_path(), "SELECT * FROM observations");
    let export = exported(&alpha, "");
    assert_eq!(lengths(&export), [7, 2, 1, 2]);
    // The fields that claude-mem's import reads, and the totals that it shows.
    let fields: Vec<&str> = export.as_object().unwrap().keys().map(String::as_str).collect();
    let known = [
        "exportedAt",
        "exportedAtEpoch",
        "query",
        "totalObservations",
        "totalSessions",
        "totalSummaries",
        "totalPrompts",
        "observations",
        "sessions",
        "summaries",
        "prompts",
    ];
    assert_eq!(fields, known);
    assert_eq!(export["totalObservations"], 7);
    let row = &export["observations"][0];
    assert_eq!(row["narrative"], "a\u{fffd}b");
    assert!(row["memory_session_id"].is_string() && row["created_at_epoch"].is_i64(), "{row}");
    assert!(row.get("sync_rev").is_none() && row["facts"].is_string(), "{row}");
    let of_one = exported(&alpha, "--only garden");
    assert_eq!((lengths(&of_one), &of_one["project"]), ([2, 1, 0, 0], &json!("garden")));
    assert_eq!(lengths(&exported(&alpha, "--only nobody")), [0, 0, 0, 0]);
    assert_eq!(claude_mem::dump(alpha.db_path(), "SELECT * FROM observations"), before);
    assert_eq!(server.requests().len(), 0, "the store is not asked");
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&alpha.path("memory.json").metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let again = alpha.cmd("export memory.json").run();
    again.assert_code(1).stdout_has("is there already");
}

#[test]
fn imported_rows_are_rows_like_any_other_and_flow_on() {
    let server = S3Server::start();
    let alpha = Machine::new("alpha", &server);
    with_memory(&alpha);
    let export = exported(&alpha, "");
    // Elsewhere: another release, memory of its own, a session that is known under another name there.
    for version in [Version::V9_1_1, Version::V12_4_9, Version::V13_25_3] {
        let other = S3Server::start();
        let beta = Machine::new("beta", &other);
        beta.create_db(version).add_session("own").add_observations(3);
        let own = memory(&beta.db_path());
        beta.write("memory.json", export.to_string());
        let files = beta.files();
        let dry = beta.cmd("import memory.json --dry-run").run();
        dry.assert_code(0)
            .stdout_has("DRY RUN: would import 5 observations, 1 summary, 2 prompts, 1 session");
        assert_eq!((memory(&beta.db_path()), beta.files()), (own.clone(), files), "{version:?}");

        let done = beta.cmd("import memory.json").run();
        done.assert_code(0).stdout_has("imported 5 observations, 1 summary, 2 prompts, 1 session");
        let mut all = [own, memory(&alpha.db_path())].concat();
        all.sort();
        assert_eq!(memory(&beta.db_path()), all, "{version:?}");
        assert_whole(&beta.db_path());
        let again = beta.cmd("import memory.json --json").run().json();
        assert_eq!((&again["outcome"], &again["here"]["observations"]), (&json!("up_to_date"), &json!(5)));
        assert_eq!(memory(&beta.db_path()), all, "{version:?}");

        // To a third machine, which imports the same file, and nothing is there twice.
        beta.cmd("sync").run().assert_code(0);
        let gamma = Machine::new("gamma", &other);
        gamma.create_db(Version::V13_25_3);
        gamma.write("memory.json", export.to_string());
        gamma.cmd("import memory.json").run().assert_code(0);
        for machine in [&gamma, &beta, &gamma] {
            machine.cmd("sync").run().assert_code(0);
        }
        assert_eq!(memory(&gamma.db_path()), all, "{version:?}");
        assert_eq!(memory(&beta.db_path()), all, "{version:?}");
        assert_whole(&gamma.db_path());
    }
}

#[test]
fn a_deleted_row_comes_back_by_import_everywhere() {
    let server = S3Server::start();
    let alpha = Machine::new("alpha", &server);
    with_memory(&alpha);
    alpha.cmd("push_sqlite").run().assert_code(0);
    let beta = Machine::new("beta", &server);
    beta.cmd("pull_sqlite").run().assert_code(0);
    exported(&alpha, "");
    let all = memory(&alpha.db_path());
    alpha.db().execute("DELETE FROM observations WHERE id = 2");
    for machine in [&alpha, &beta] {
        machine.cmd("sync").run().assert_code(0);
        assert_eq!(machine.db().counts().observations, 4);
    }
    alpha.cmd("import memory.json").run().assert_code(0).stdout_has("imported 1 observation (");
    for machine in [&alpha, &beta] {
        machine.cmd("sync").run().assert_code(0);
        assert_eq!(memory(&machine.db_path()), all, "{}", machine.name);
    }
}

#[test]
fn rows_find_their_session_whatever_it_is_called_here() {
    let server = S3Server::start();
    let alpha = Machine::new("alpha", &server);
    with_memory(&alpha);
    exported(&alpha, "");
    // The worker gave the session another name meanwhile, and the old one to a new session.
    let old = claude_mem::dump(alpha.db_path(), "SELECT memory_session_id FROM sdk_sessions").remove(0);
    alpha.db().execute(&format!(
        "UPDATE sdk_sessions SET memory_session_id = 'resumed' WHERE id = 1; DELETE FROM observations WHERE id > 2;
         INSERT INTO sdk_sessions(content_session_id, memory_session_id, project, started_at, started_at_epoch)
         VALUES('new', '{old}', 'p', '2026-01-01', 1);"
    ));
    alpha.cmd("import memory.json").run().assert_code(0).stdout_has("imported 3 observations (");
    let names = "SELECT DISTINCT memory_session_id FROM observations";
    assert_eq!(claude_mem::dump(alpha.db_path(), names), ["resumed"]);
    alpha.db().execute("DELETE FROM observations; DELETE FROM session_summaries; UPDATE sdk_sessions SET memory_session_id = NULL WHERE id = 1;");
    alpha.cmd("import memory.json").run().assert_code(0).stdout_has("imported 5 observations");
    assert_whole(&alpha.db_path());
}

#[test]
fn what_cannot_be_taken_in_is_named() {
    let server = S3Server::start();
    let alpha = Machine::new("alpha", &server);
    with_memory(&alpha);
    let all = memory(&alpha.db_path());
    let refused = |text: &str, said: &str| {
        alpha.write("file.json", text);
        alpha.cmd("import file.json").run().assert_code(1).stdout_has(said);
        assert_eq!(memory(&alpha.db_path()), all);
    };
    refused("no JSON", "is not an export of claude-mem's");
    refused("[]", "is not an export of claude-mem's");
    refused("{\"rows\": []}", "has neither sessions nor observations");
    refused("{\"sessions\": [{}", "is not an export of claude-mem's");
    let partial = json!({"observations": [{"title": "x"}], "sessions": [], "metadata": {"partial": true}});
    refused(&partial.to_string(), "without --allow-partial");
    alpha.cmd("import nothing.json").run().assert_code(1).stdout_has("cannot read");

    // Rows that do not fit are left out, and the others come.
    let good = json!({"memory_session_id": "m", "project": "p", "type": "bugfix", "title": "good", "facts": ["a", "b"],
        "created_at": "2026-01-01", "created_at_epoch": 7, "a_later_column": {"x": 1}});
    let mut untyped = good.clone();
    untyped.as_object_mut().unwrap().remove("type");
    let mut lost = good.clone();
    lost["memory_session_id"] = "nobody".into();
    let file = json!({"observations": [good, untyped, lost, 7], "sessions": [{"memory_session_id": "m",
        "content_session_id": "c", "project": "p", "started_at": "2026-01-01", "started_at_epoch": 7}, {"project": "q"}]});
    alpha.write("file.json", file.to_string());
    let said = alpha.cmd("import file.json").run();
    said.assert_code(0)
        .stdout_has("imported 1 observation, 1 session")
        .stdout_has("WARNING: 4 rows were left out");
    said.stdout_has("NOT NULL constraint failed: observations.type")
        .stdout_has("is neither here nor in the file");
    let row =
        claude_mem::dump(alpha.db_path(), "SELECT title, facts FROM observations WHERE created_at_epoch = 7");
    assert_eq!(row, ["good | [\"a\",\"b\"]"]);
    Machine::new("beta", &server).cmd("import file.json").run().assert_code(1).stdout_has("no database");
}

#[test]
fn a_worker_goes_on_while_rows_are_imported() {
    let server = S3Server::start();
    let alpha = Machine::new("alpha", &server);
    alpha.create_db(Version::V13_25_3).add_session("one").add_observations(900).add_prompts(300);
    exported(&alpha, "");
    alpha.db().execute("DELETE FROM observations; DELETE FROM user_prompts; DELETE FROM sdk_sessions;");
    let holder = claude_mem::IdleHolder::with_rows(alpha.db_path(), "other", 2);
    alpha
        .cmd("import memory.json")
        .run()
        .assert_code(0)
        .stdout_has("imported 900 observations, 300 prompts, 1 session");
    drop(holder);
    assert_whole(&alpha.db_path());
}
