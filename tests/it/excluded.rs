//! MEMBRIDGE_EXCLUDE_PROJECTS: what is recorded in these projects stays on its machine, by whatever way.

use crate::common::{assert_whole, memory};
use crate::support::claude_mem::{self, Version};
use crate::support::machine::Machine;
use crate::support::s3::S3Server;

/// A machine whose second session, with a prompt, a summary and two observations, is of the project `secret-garden`.
fn keeper(server: &S3Server) -> Machine {
    let mut alpha = Machine::new("alpha", server);
    let db = alpha.create_db(Version::V13_25_3);
    db.add_session("open").add_observations(3).add_prompts(1);
    db.add_session("closed").add_observations(2).add_prompts(1).add_summaries(1).add_tool_uses(1);
    db.execute(
        "UPDATE sdk_sessions SET project = 'secret-garden', user_prompt = 'xyzzy' WHERE id = 2;
         UPDATE observations SET project = 'secret-garden', title = 'xyzzy ' || id WHERE id > 3;
         UPDATE session_summaries SET project = 'secret-garden', request = 'xyzzy';
         UPDATE user_prompts SET prompt_text = 'xyzzy' WHERE id = 2;",
    );
    alpha.set("MEMBRIDGE_EXCLUDE_PROJECTS", "other, secret*");
    alpha.set("MEMBRIDGE_SYNC_TOOL_USES", "1");
    alpha
}

/// What another machine gets of it.
fn seen_elsewhere(server: &S3Server) -> Vec<String> {
    let beta = Machine::new("beta", server);
    beta.create_db(Version::V13_25_3);
    beta.cmd("sync").run().assert_code(0);
    assert_whole(&beta.db_path());
    memory(&beta.db_path())
}

/// The same rows; what one side lacks is named.
#[track_caller]
fn assert_same(theirs: &[String], ours: &[String]) {
    let lacks = |left: &[String], right: &[String]| -> Vec<String> {
        left.iter().filter(|row| !right.contains(row)).map(|row| row.chars().take(60).collect()).collect()
    };
    assert_eq!((lacks(ours, theirs), lacks(theirs, ours)), (Vec::new(), Vec::new()));
}

#[test]
fn what_stays_here_leaves_by_no_way() {
    let server = S3Server::start();
    let alpha = keeper(&server);
    let all = memory(&alpha.db_path());
    let open: Vec<String> = all.iter().filter(|row| !row.contains("xyzzy")).cloned().collect();
    assert_eq!((open.len(), all.len()), (5, 10));
    // An observation of such a project in a session of another one stays too.
    alpha.db().execute("UPDATE observations SET project = 'secret' WHERE id = 3");
    let elsewhere = open.iter().filter(|row| !row.contains(&claude_mem::titles(alpha.db_path())[2])).cloned();
    let elsewhere: Vec<String> = elsewhere.collect();
    assert_eq!(elsewhere.len(), 4);

    for command in ["push_sqlite", "sync", "push_sqlite --force-push", "sync --for turn", "sync --for whole"]
    {
        alpha.cmd(command).run().assert_code(0);
        alpha.db().execute("UPDATE observations SET narrative = 'xyzzy ' || hex(randomblob(8)) WHERE id > 2");
        let keys = server.keys("projects/");
        assert!(
            keys.iter().all(|key| !key.contains("/commits/") && !key.contains("/sqlite/")),
            "{command}: {keys:?}"
        );
    }
    assert_eq!(seen_elsewhere(&server), elsewhere);
    // Through claude-mem's own hands, what was deleted and recorded there.
    alpha.db().execute("DELETE FROM observations WHERE id = 4");
    alpha.cmd("sync").run().assert_code(0);
    assert_eq!(seen_elsewhere(&server), elsewhere);
    assert_eq!(alpha.db().counts().observations, 4, "here it stays");
    assert_whole(&alpha.db_path());
}

#[test]
fn a_machine_that_keeps_projects_leaves_archiving_to_others() {
    let server = S3Server::start();
    let alpha = keeper(&server);
    let push = alpha.cmd("push_sqlite").run();
    push.assert_code(0).stdout_has("Archive: off here").stdout_has("PUSH COMPLETE");
    alpha.cmd("push_sqlite").run().assert_code(0).stdout_has("already up to date");
    let doctor = alpha.cmd("doctor").run();
    doctor.stdout_has("other, secret* stays on this machine; it neither archives nor mirrors");
    doctor.stdout_lacks("so nobody archives");
    assert!(
        server.keys("projects/").iter().all(|key| !key.contains("/leadership/")),
        "nobody is primary yet"
    );

    // The next machine is primary and archives what it has.
    let beta = Machine::new("beta", &server);
    beta.create_db(Version::V13_25_3);
    beta.cmd("sync").run().assert_code(0);
    beta.cmd("push_sqlite").run().assert_code(0).stdout_has("role=primary");
    assert!(server.keys("projects/").iter().any(|key| key.contains("/commits/")));
    alpha.db().add_session("third").add_observations(1);
    alpha
        .cmd("push_sqlite")
        .run()
        .assert_code(3)
        .stdout_has("push refused")
        .stdout_has("its rows are shared");
    beta.cmd("push_sqlite").run().assert_code(0);
    let gamma = Machine::new("gamma", &server);
    gamma.cmd("pull_sqlite").run().assert_code(0);
    assert_eq!(gamma.db().counts().observations, 4);
    assert!(memory(&gamma.db_path()).iter().all(|row| !row.contains("xyzzy")));

    // Made primary all the same, it says that nobody archives.
    alpha.cmd("promote").run().assert_code(0);
    let doctor = alpha.cmd("doctor").run();
    doctor.stdout_has("this machine is primary, so nobody archives").stdout_has("membridge promote NODE");
}

#[test]
fn a_project_that_stays_here_no_longer_is_shared_from_then_on() {
    let server = S3Server::start();
    let mut alpha = keeper(&server);
    alpha.cmd("sync").run().assert_code(0);
    alpha.db().add_session("later").add_observations(1);
    alpha.cmd("sync").run().assert_code(0);
    assert_eq!(seen_elsewhere(&server).len(), 7);
    alpha.set("MEMBRIDGE_EXCLUDE_PROJECTS", "nothing");
    let sync = alpha.cmd("sync").run();
    sync.assert_code(0).stdout_lacks("older file");
    assert_same(&seen_elsewhere(&server), &memory(&alpha.db_path()));

    // And the other way round: what was shared stays shared as it was, and nothing more of it leaves.
    alpha.set("MEMBRIDGE_EXCLUDE_PROJECTS", "secret*");
    let shared = memory(&alpha.db_path());
    alpha.db().execute("UPDATE observations SET narrative = 'plugh', subtitle = 'plugh' WHERE id IN (4, 5)");
    alpha.cmd("sync").run().assert_code(0).stdout_lacks("older file");
    alpha.cmd("sync").run().assert_code(0).stdout_has("already up to date");
    assert_same(&seen_elsewhere(&server), &shared);
}
