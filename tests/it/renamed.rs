//! A project gets another name: by `rename-project`, and by a CLAUDE_PROJECT_ID that somebody changed on one machine.

use crate::common::memory;
use crate::support::claude_mem::Version;
use crate::support::machine::Machine;
use crate::support::s3::S3Server;

/// A machine whose settings are in config.env.
fn machine(name: &str, server: &S3Server) -> Machine {
    let mut machine = Machine::new(name, server);
    machine.cmd("config init").run().assert_code(0);
    machine.unset("CLAUDE_PROJECT_ID");
    machine
}

fn config(machine: &Machine) -> String {
    std::fs::read_to_string(machine.path(".claude-mem-minio/config.env")).unwrap()
}

#[test]
fn a_project_goes_on_under_another_name_on_every_machine() {
    let server = S3Server::start();
    let (alpha, beta) = (machine("alpha", &server), machine("beta", &server));
    alpha.create_db(Version::V13_25_3).add_session("one").add_observations(5).add_prompts(2);
    alpha.cmd("push_sqlite").run().assert_code(0);
    beta.cmd("pull_sqlite").run().assert_code(0);
    // Beta has not heard of a deletion, nor alpha of a new row.
    alpha.db().execute("DELETE FROM observations WHERE id = 1");
    beta.db().add_session("two").add_observations(1);
    let (before, files, keys) = (config(&alpha), alpha.files(), server.keys(""));
    let dry = alpha.cmd("rename-project garden --dry-run").run();
    dry.assert_code(0).stdout_has("would sync as 'mem', then go on as 'garden'").stdout_has("config.env");
    assert_eq!((config(&alpha), alpha.files(), server.keys("")), (before.clone(), files, keys));

    let done = alpha.cmd("rename-project garden").run();
    done.assert_code(0).stdout_has("RENAMED from 'mem' to 'garden'");
    done.stdout_has("on every other machine: membridge rename-project 'garden'");
    assert_eq!(config(&alpha), before.replace("CLAUDE_PROJECT_ID='mem'", "CLAUDE_PROJECT_ID='garden'"));
    let kept = std::fs::read_to_string(alpha.path(".claude-mem-minio/config.env.before-rename")).unwrap();
    assert_eq!(kept, before);
    alpha.cmd("print_project").run().assert_code(0).stdout_has("project_name: garden");

    // Beta hears of it, and follows with what it has.
    let sync = beta.cmd("sync").run();
    sync.assert_code(0)
        .stdout_has("has renamed the project 'mem' to 'garden': membridge rename-project garden");
    beta.cmd("doctor").run().stdout_has("has renamed the project 'mem' to 'garden'");
    beta.cmd("rename-project garden").run().assert_code(0);
    for machine in [&alpha, &beta, &alpha] {
        machine.cmd("sync").run().assert_code(0).stdout_lacks("WARNING").stdout_lacks("renamed");
    }
    assert_eq!(memory(&alpha.db_path()), memory(&beta.db_path()));
    assert_eq!(alpha.db().counts().observations, 5, "the deleted one did not come back");
    // A machine that comes new, and what was pushed under the old name.
    let gamma = Machine::new("gamma", &server);
    gamma.cmd("pull_sqlite --project garden").run().assert_code(0);
    assert_eq!(memory(&gamma.db_path()), memory(&alpha.db_path()));
    alpha.cmd("history --project mem").run().assert_code(0).stdout_lacks("no history");
    alpha.cmd("mirror off --project mem").run().assert_code(0);
    let settings = server.text("projects/6fe2e0f6071ac2bb/membridge/settings.json");
    assert!(settings.contains("\"renamed_to\": \"garden\"") && settings.contains("\"off\""), "{settings}");
    beta.cmd("sync --project mem").run().assert_code(0).stdout_lacks("WARNING");
}

#[test]
fn a_name_that_was_changed_on_one_machine_is_noticed() {
    let server = S3Server::start();
    let mut alpha = Machine::new("alpha", &server);
    alpha.create_db(Version::V13_25_3).add_session("one").add_observations(5);
    alpha.cmd("sync").run().assert_code(0);
    let today = jiff::Timestamp::now().strftime("%Y-%m-%d").to_string();
    let notice = format!("this database was synced as 'mem' until {today}, and is now synced as 'memm'");
    alpha.cmd("sync --project once").run().assert_code(0).stdout_lacks("was synced as");
    alpha.set("CLAUDE_PROJECT_ID", "memm");
    alpha.cmd("doctor").run().stdout_has("this database was synced as");
    std::fs::remove_dir_all(alpha.path(".membridge/records")).unwrap();
    alpha.set("CLAUDE_PROJECT_ID", "mem").cmd("sync").run().assert_code(0).stdout_lacks("was synced as");
    alpha.set("CLAUDE_PROJECT_ID", "memm");
    for command in ["sync", "sync", "push_sqlite"] {
        alpha.cmd(command).run().assert_code(0).stdout_has(&notice);
    }
    let said = alpha.cmd("sync --json").run().json();
    assert!(said["matters"]["renamed"].as_str().unwrap().starts_with(&notice), "{said}");
    alpha.cmd("doctor").run().stdout_has(&notice).stdout_has("otherwise set CLAUDE_PROJECT_ID=mem again");

    // A slip is mended by setting the name back, and a wish by saying so.
    alpha.set("CLAUDE_PROJECT_ID", "mem").cmd("sync").run().assert_code(0).stdout_lacks("was synced as");
    alpha.set("CLAUDE_PROJECT_ID", "memm").cmd("sync").run().assert_code(0).stdout_has("was synced as");
    alpha.cmd("rename-project memm").run().assert_code(0).stdout_has("RENAMED from 'mem' to 'memm'");
    alpha.cmd("sync").run().assert_code(0).stdout_lacks("was synced as");
    alpha.cmd("doctor -v").run().stdout_has("renamed: the project is called as it was");
}

#[test]
fn what_cannot_be_renamed_is_named() {
    let server = S3Server::start();
    let alpha = machine("alpha", &server);
    alpha.create_db(Version::V13_25_3).add_session("one").add_observations(5);
    alpha.cmd("sync").run().assert_code(0);
    let before = config(&alpha);
    let refused = |command: &str, said: &str| {
        alpha.cmd(command).run().assert_code(1).stdout_has(said);
        assert_eq!(config(&alpha), before, "{command}");
    };
    refused("rename-project mem", "is called 'mem' already");
    let other = Machine::new("other", &server);
    other.create_db(Version::V13_25_3).add_session("x").add_observations(1);
    other.cmd("sync --project taken").run().assert_code(0);
    refused("rename-project taken", "the store holds a project 'taken' already");
    alpha
        .cmd("rename-project new")
        .env("CLAUDE_PROJECT_ID", "mem")
        .run()
        .assert_code(1)
        .stdout_has("comes from the environment");
    server.drop_bucket();
    refused("rename-project new", "ERROR");
    assert_eq!(config(&alpha), before);
    // On purpose the two become one.
    let server = S3Server::start();
    let (alpha, beta) = (machine("alpha", &server), Machine::new("beta", &server));
    alpha.create_db(Version::V13_25_3).add_session("one").add_observations(5);
    alpha.cmd("sync").run().assert_code(0);
    beta.create_db(Version::V13_25_3).add_session("x").add_observations(1);
    beta.cmd("sync --project taken").run().assert_code(0);
    alpha.cmd("rename-project taken --join").run().assert_code(0);
    assert_eq!(alpha.db().counts().observations, 6);
}
