//! What people meet where the memory is not what it should be, in the bucket or on the machine, and where a role
//! forbids a command: exact words and exit codes, as in errors.rs.

use crate::errors::assert_transcript;
use crate::support::claude_mem::{MemDb, Version};
use crate::support::machine::Machine;
use crate::support::python_node::{PythonNode, Stop, key};

#[test]
fn a_bucket_that_holds_something_else_than_it_should() {
    let count = assert_transcript!(
        "errors_bucket",
        &[
            ("nothing to pull", "pull_sqlite", 1, |g| _ = g.alpha.set("CLAUDE_PROJECT_ID", "Mem")),
            ("a lease that is none", "push_sqlite", 1, |g| g.put("leadership/lease.json", "[]")),
            ("a manifest that is none", "pull_sqlite", 1, |g| g.put("sqlite/manifest.json", "<html>")),
            ("f35 an empty checksum object", "pull_sqlite", 1, |g| g.put("sqlite/claude-mem.db.sha256", "")),
            ("a checksum that is none", "pull_sqlite", 1, |g| g
                .put("sqlite/claude-mem.db.sha256", "zz  claude-mem.db\n")),
            ("a newest commit that is none", "pull_sqlite", 1, |g| g
                .put("membridge/commits/0000000001.json", "{}")),
            ("a newest commit of a newer membridge", "push_sqlite", 1, |g| {
                g.alpha.db().add_observations(1);
                g.put("membridge/commits/0000000001.json", "{\"schema\": 99}");
            }),
            ("the announced database is gone", "pull_sqlite", 1, |g| {
                g.go_to_beta();
                g.server.remove(&key("mem", "sqlite/claude-mem.db"));
                for pack in g.server.keys(&key("mem", "membridge/packs/")) {
                    g.server.remove(&pack);
                }
            }),
            ("f21 the database is not the announced one", "pull_sqlite", 1, |g| {
                g.go_to_beta();
                g.forget_history();
                g.put("sqlite/claude-mem.db", "something else");
            }),
            ("f09 the database is no database", "pull_sqlite", 1, |g| {
                g.go_to_beta();
                g.announce(b"hello", |_| {});
            }),
            ("f09 the database is another program's", "pull_sqlite", 1, |g| {
                let path = g.alpha.path("tmp/other.db");
                rusqlite::Connection::open(&path).unwrap().execute_batch("CREATE TABLE t(x)").unwrap();
                let bytes = std::fs::read(&path).unwrap();
                g.go_to_beta();
                g.announce(&bytes, |_| {});
            }),
            ("f44 a database of a newer claude-mem", "pull_sqlite", 1, |g| {
                let path = g.alpha.path("tmp/new.db");
                MemDb::create(&path, Version::V13_25_3).add_session("s").add_observations(9);
                let db = rusqlite::Connection::open(&path).unwrap();
                db.execute_batch("PRAGMA journal_mode=DELETE; INSERT INTO schema_versions(version, applied_at) VALUES(99, 't')").unwrap();
                drop(db);
                let bytes = std::fs::read(&path).unwrap();
                g.announce(&bytes, |manifest| {
                    manifest["membridge"]["claude_mem_version"] = "14.0.0".into();
                });
                g.go_to_beta();
                let folder = ".claude/plugins/cache/thedotmack/claude-mem/10.6.3";
                g.alpha.write(&format!("{folder}/package.json"), "{\"version\": \"10.6.3\"}");
                g.alpha.write(&format!("{folder}/scripts/worker-service.cjs"), "");
                g.expired_lease("alpha", 1);
            }),
            ("the lock is held", "push_sqlite", 1, |g| {
                g.alpha.db().add_observations(1);
                g.lock("gamma", 30);
            }),
            ("the lock is in its grace period", "push_sqlite", 1, |g| {
                g.alpha.db().add_observations(1);
                g.lock("gamma", 7230);
            }),
            ("a lock whose holder's name would clear the screen", "push_sqlite", 1, |g| {
                g.alpha.db().add_observations(1);
                g.lock("pi\n\u{1b}[2JSTATUS: OK", 30);
            }),
            ("a lock that is none", "push_sqlite", 1, |g| {
                g.alpha.db().add_observations(1);
                g.put("locks/active.lock", "locked");
            }),
            ("f24 a bucket that was written under a later term", "push_sqlite", 1, |g| {
                g.alpha.db().add_observations(1);
                let bytes = g.server.get(&key("mem", "sqlite/claude-mem.db")).unwrap();
                g.announce(&bytes, |manifest| manifest["membridge"]["epoch"] = 9.into());
            }),
        ]
    );
    assert_eq!(count, 17);
}

#[test]
fn roles_rows_and_local_trouble() {
    let count = assert_transcript!(
        "errors_here",
        &[
            ("a secondary pushes", "push_sqlite", 3, |g| {
                g.alpha.db().add_observations(1);
                g.expired_lease("gamma", 3);
            }),
            ("a primary pulls what a Python node pushed", "pull_sqlite", 2, |g| {
                let beta = Machine::new("beta", &g.server);
                beta.cmd("pull_sqlite").run().assert_code(0);
                beta.db().add_observations(4);
                let then = jiff::Timestamp::now().as_second() - 8000;
                PythonNode::new(&g.server, "mem", "beta").write(&beta.db_path(), then, Stop::Never);
            }),
            ("f45 most of the memory is gone", "push_sqlite", 1, |g| {
                g.alpha.db().execute("DELETE FROM observations WHERE id > 2");
            }),
            ("no database", "push_sqlite", 1, |g| std::fs::remove_file(g.alpha.db_path()).unwrap()),
            ("the database is a folder", "push_sqlite", 1, |g| {
                std::fs::remove_file(g.alpha.db_path()).unwrap();
                std::fs::create_dir(g.alpha.db_path()).unwrap();
            }),
            ("the database is no database", "push_sqlite", 1, |g| {
                std::fs::write(g.alpha.db_path(), "hello, this is a text and no database at all").unwrap();
            }),
            ("the database is no database, status", "status", 1, |g| {
                std::fs::write(g.alpha.db_path(), "hello, this is a text and no database at all").unwrap();
            }),
            ("the database is another program's", "push_sqlite", 1, |g| {
                std::fs::remove_file(g.alpha.db_path()).unwrap();
                let other = rusqlite::Connection::open(g.alpha.db_path()).unwrap();
                other.execute_batch("CREATE TABLE t(x)").unwrap();
            }),
            ("claude-mem's own Cloud Sync is on", "push_sqlite", 1, |g| {
                g.alpha.write(
                ".claude-mem/settings.json",
                r#"{"CLAUDE_MEM_CLOUD_SYNC_TOKEN": "hunter2", "CLAUDE_MEM_CLOUD_SYNC_USER_ID": "u", "CLAUDE_MEM_CLOUD_SYNC_HUB_URL": "h"}"#,
            );
            }),
            ("claude-mem's memory is on a server", "pull_sqlite", 1, |g| {
                g.alpha.write(".claude-mem/settings.json", r#"{"CLAUDE_MEM_RUNTIME": "server"}"#);
            }),
            ("the state directory is a file", "push_sqlite", 1, |g| {
                std::fs::remove_dir_all(g.alpha.path(".membridge")).unwrap();
                g.alpha.write(".membridge", "x");
            }),
            ("a backup that is not there", "restore-backup 20200101-000000", 1, |_| {}),
        ]
    );
    assert_eq!(count, 12);
}
