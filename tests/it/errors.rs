//! What people meet: each broken situation with its exact words and exit code, in the snapshots beside this file. After
//! each, both sides hold exactly what they held, and no temporary file is left.

use std::fmt::Write;

use membridge::context::hex;
use serde_json::json;

use crate::common::assert_no_leftovers;
use crate::support::claude_mem::{self, MemDb, Version};
use crate::support::machine::{Machine, Run, Store};
use crate::support::python_node::key;
use crate::support::s3::{Fault, Op, S3Server};

/// A bucket that alpha pushed into, and the machine that is about to run into trouble.
struct Ground {
    server: S3Server,
    alpha: Machine,
}

type Prepare = fn(&mut Ground);

/// Name, command, exit code, how the trouble is made.
type Case = (&'static str, &'static str, i32, Prepare);

impl Ground {
    fn new() -> Ground {
        let server = S3Server::start();
        let alpha = Machine::new("alpha", &server);
        alpha
            .create_db(Version::V13_25_3)
            .add_session("one")
            .add_observations(6)
            .add_prompts(2);
        alpha.cmd("push_sqlite").run().assert_code(0);
        Ground { server, alpha }
    }

    fn put(&self, name: &str, bytes: impl AsRef<[u8]>) {
        self.server.put(&key("mem", name), bytes);
    }

    /// Puts a database into the bucket with everything that announces it.
    fn announce(&self, bytes: &[u8], change: impl FnOnce(&mut serde_json::Value)) {
        use sha2::{Digest, Sha256};
        let sha256 = hex(&Sha256::digest(bytes));
        let mut manifest: serde_json::Value =
            serde_json::from_slice(&self.server.get(&key("mem", "sqlite/manifest.json")).unwrap()).unwrap();
        manifest["sha256"] = sha256.clone().into();
        change(&mut manifest);
        self.forget_history();
        self.put("sqlite/claude-mem.db", bytes);
        self.put(
            "sqlite/claude-mem.db.sha256",
            format!("{sha256}  claude-mem.db\n"),
        );
        self.put("sqlite/manifest.json", manifest.to_string());
    }

    /// As if only nodes without a history had written here.
    fn forget_history(&self) {
        for folder in ["membridge/commits/", "membridge/packs/"] {
            for object in self.server.keys(&key("mem", folder)) {
                self.server.remove(&object);
            }
        }
    }

    /// Another machine takes alpha's place in front of the screen; it has no database.
    fn go_to_beta(&mut self) {
        self.alpha = Machine::new("beta", &self.server);
    }

    fn expired_lease(&self, primary: &str, epoch: i64) {
        let lease = json!({"canonical_id": "6fe2e0f6071ac2bb", "primary_node_id": primary, "issued_at": 1, "expires_at": 4_000_000_000_i64,
            "lease_seconds": 3600, "epoch": epoch, "policy": "primary_authoritative", "issued_by": primary});
        self.put("leadership/lease.json", lease.to_string());
    }

    fn lock(&self, host: &str, age: i64) {
        let now = jiff::Timestamp::now().as_second();
        let lock = json!({"hostname": host, "timestamp": now - age, "project": "mem", "canonical_id": "6fe2e0f6071ac2bb"});
        self.put("locks/active.lock", lock.to_string());
    }

    /// The memory on both sides: rows, the database's bytes, every object that holds memory.
    fn memory(&self) -> (Vec<String>, Option<Vec<u8>>, Vec<(String, Option<Vec<u8>>)>) {
        let database = self.alpha.db_path();
        let readable = database.is_file()
            && std::fs::read(&database)
                .unwrap()
                .starts_with(b"SQLite format 3\0")
            && std::panic::catch_unwind(|| claude_mem::integrity(&database))
                .is_ok_and(|answer| answer == "ok");
        let rows = if readable {
            claude_mem::dump(&database, "SELECT name, sql FROM sqlite_schema ORDER BY 1")
        } else {
            Vec::new()
        };
        let objects = self.server.keys("");
        let memory = objects
            .into_iter()
            .filter(|name| name.contains("/sqlite/") || name.contains("/membridge/"));
        let memory = memory
            .map(|name| (name.clone(), self.server.get(&name)))
            .collect();
        (rows, std::fs::read(&database).ok(), memory)
    }
}

/// Runs each case on a ground of its own; the transcript of all of them.
fn transcript(cases: &[Case]) -> String {
    let mut all = String::new();
    for (name, command, code, prepare) in cases {
        let mut ground = Ground::new();
        prepare(&mut ground);
        let before = ground.memory();
        let run: Run = ground.alpha.cmd(command);
        let outcome = run.run();
        assert!(outcome.code == *code, "{name}: wanted {code}\n{outcome:?}");
        assert!(
            outcome.stdout.len() + outcome.stderr.len() > 0,
            "{name} says nothing"
        );
        assert!(ground.memory() == before, "{name} changed something\n{outcome:?}");
        assert_no_leftovers(&ground.alpha);
        for secret in ["test-secret/with+signs=", "hunter2"] {
            outcome.never_says(secret);
        }
        let said = ground
            .alpha
            .normalise(&format!("{}{}", outcome.stdout, outcome.stderr));
        let said = said.trim_end();
        writeln!(all, "## {name}\n$ membridge {command}\n{said}\n[{code}]\n").unwrap();
    }
    all
}

macro_rules! assert_transcript {
    ($name:literal, $cases:expr) => {{
        let cases: &[Case] = $cases;
        let said = transcript(cases);
        insta::with_settings!({
            filters => vec![
                (r"for \d+s", "for [N]s"),
                (r"in \d+s", "in [N]s"),
                (r"\(\d+\.\d+ [kMG]B\)", "([SIZE])"),
                (r"Upload: \d+\.\d+ [kMG]B", "Upload: [SIZE]"),
                (r"\b[0-9a-f]{12}\b", "[SHORT]"),
            ],
            prepend_module_to_snapshot => false,
            omit_expression => true,
        }, { insta::assert_snapshot!($name, said); });
        cases.len()
    }};
}

#[test]
fn settings_that_are_missing_or_malformed() {
    let count = assert_transcript!(
        "errors_settings",
        &[
            ("no endpoint", "push_sqlite", 1, |g| _ =
                g.alpha.unset("MINIO_ENDPOINT")),
            ("no access key", "push_sqlite", 1, |g| _ =
                g.alpha.unset("MINIO_ACCESS_KEY")),
            ("no secret key", "pull_sqlite", 1, |g| _ =
                g.alpha.unset("MINIO_SECRET_KEY")),
            ("no bucket", "pull_sqlite", 1, |g| _ =
                g.alpha.unset("MINIO_BUCKET")),
            ("no project", "print_project", 1, |g| _ =
                g.alpha.unset("CLAUDE_PROJECT_ID")),
            ("no database path", "sync", 1, |g| _ =
                g.alpha.unset("CLAUDE_MEM_DB")),
            ("an empty endpoint counts as unset", "push_sqlite", 1, |g| _ =
                g.alpha.set("MINIO_ENDPOINT", "")),
            ("an endpoint that is no URL", "push_sqlite", 1, |g| _ =
                g.alpha.set("MINIO_ENDPOINT", "minio:9000")),
            ("an endpoint with keys in it", "push_sqlite", 1, |g| _ =
                g.alpha.set("MINIO_ENDPOINT", "http://me:hunter2@host")),
            ("an endpoint without a host", "push_sqlite", 1, |g| _ =
                g.alpha.set("MINIO_ENDPOINT", "https://")),
            ("a relative directory", "push_sqlite", 1, |g| _ =
                g.alpha.set("MINIO_ENDPOINT", "file://store")),
            ("a database path that is no file name", "push_sqlite", 1, |g| _ =
                g.alpha.set("CLAUDE_MEM_DB", "/")),
            ("a number that is none", "push_sqlite", 1, |g| _ =
                g.alpha.set("LOCK_TTL_SECONDS", "2h")),
            ("a number out of bounds", "push_sqlite", 1, |g| _ =
                g.alpha.set("LEADERSHIP_LEASE_SECONDS", "-1")),
            ("a switch that is none", "push_sqlite", 1, |g| _ =
                g.alpha.set("FORCE_PUSH", "maybe")),
            ("a port that is none", "pull_sqlite", 1, |g| _ =
                g.alpha.set("CLAUDE_MEM_WORKER_PORT", "70000")),
            ("text that is not UTF-8", "push_sqlite", 1, |g| {
                use std::os::unix::ffi::OsStringExt;
                g.alpha.set(
                    "CLAUDE_PROJECT_ID",
                    std::ffi::OsString::from_vec(vec![b'm', 0xff]),
                );
            }),
            (
                "a config.env that is not there",
                "push_sqlite --config nowhere.env",
                1,
                |_| {}
            ),
            ("a config.env that runs a command", "push_sqlite", 1, |g| {
                g.alpha.write(
                    ".claude-mem-minio/config.env",
                    "# mine\nMINIO_BUCKET=$(cat bucket)\n",
                );
            }),
            ("a config.env with an open quote", "push_sqlite", 1, |g| {
                g.alpha
                    .write(".claude-mem-minio/config.env", "MINIO_BUCKET=\"mem\nX=1\n");
            }),
            (
                "a config.env with spaces around the equals sign",
                "status",
                1,
                |g| {
                    g.alpha
                        .write(".claude-mem-minio/config.env", "MINIO_BUCKET = mem\n");
                }
            ),
            ("a command that is none", "psuh_sqlite", 1, |_| {}),
            ("a flag that is none", "push_sqlite --fource", 1, |_| {}),
            ("a config.env is there already", "config init", 1, |g| {
                g.alpha.write(".claude-mem-minio/config.env", "MINIO_REGION=eu\n");
            }),
            (
                "config init with an open question and no answer",
                "config init",
                1,
                |g| _ = g.alpha.unset("MINIO_BUCKET")
            ),
            (
                "config init with a key that does not work",
                "config init",
                1,
                |g| _ = g.alpha.set("MINIO_ACCESS_KEY", "nobody")
            ),
        ]
    );
    assert_eq!(count, 26);
}

#[test]
fn a_store_that_does_not_answer_or_does_not_like_us() {
    let count = assert_transcript!(
        "errors_store",
        &[
            ("nobody listens", "push_sqlite", 1, |g| _ =
                g.alpha.set("MINIO_ENDPOINT", "http://127.0.0.1:1")),
            ("nobody listens, status", "status", 1, |g| _ =
                g.alpha.set("MINIO_ENDPOINT", "http://127.0.0.1:1")),
            ("a server that speaks no TLS", "pull_sqlite", 1, |g| {
                let url = g.server.endpoint().replace("http:", "https:");
                g.alpha.set("MINIO_ENDPOINT", url);
            }),
            ("an unknown access key", "push_sqlite", 1, |g| _ =
                g.alpha.set("MINIO_ACCESS_KEY", "nobody")),
            ("a wrong secret key", "push_sqlite", 1, |g| _ =
                g.alpha.set("MINIO_SECRET_KEY", "hunter2")),
            ("no such bucket", "pull_sqlite", 1, |g| _ =
                g.alpha.set("MINIO_BUCKET", "elsewhere")),
            ("f06 the lease is forbidden", "push_sqlite", 1, |g| {
                g.server
                    .fault(Fault::Status(403, "AccessDenied").key("lease.json"))
                    .forever();
            }),
            ("f06 the lease answers 500", "leadership_info", 1, |g| {
                g.server
                    .fault(Fault::Status(500, "InternalError").key("lease.json"))
                    .forever();
            }),
            ("a clock that the server refuses", "pull_sqlite", 1, |g| {
                g.server
                    .fault(Fault::Status(403, "RequestTimeTooSkewed"))
                    .forever();
            }),
            ("a server that is busy", "pull_sqlite", 1, |g| g
                .server
                .fault(Fault::SlowDown)
                .forever()),
            ("a server that drops every connection", "pull_sqlite", 1, |g| g
                .server
                .fault(Fault::Disconnect)
                .forever()),
            ("uploads are forbidden", "push_sqlite", 1, |g| {
                g.alpha.db().add_observations(1);
                g.server
                    .fault(
                        Fault::Status(403, "AccessDenied")
                            .on(Op::PutObject)
                            .key("membridge/packs/"),
                    )
                    .forever();
            }),
            ("a certificate file that is not there", "push_sqlite", 1, |g| {
                g.alpha
                    .set("MINIO_ENDPOINT", "https://127.0.0.1:1")
                    .set("AWS_CA_BUNDLE", "/nonexistent/ca.pem");
            }),
            ("a proxy that is none", "push_sqlite", 1, |g| {
                g.alpha
                    .set("MINIO_ENDPOINT", "http://store.example:9000")
                    .set("HTTP_PROXY", "::me:hunter2@::");
            }),
            ("a directory store that is not mounted", "push_sqlite", 1, |g| {
                g.alpha.use_store(Store::Dir("/nonexistent/disk".into()));
            }),
            ("a directory store that is a file", "pull_sqlite", 1, |g| {
                let file = g.alpha.write("store", "x");
                g.alpha.use_store(Store::Dir(file));
            }),
        ]
    );
    assert_eq!(count, 16);
}

#[test]
fn a_bucket_that_holds_something_else_than_it_should() {
    let count = assert_transcript!(
        "errors_bucket",
        &[
            ("nothing to pull", "pull_sqlite", 1, |g| _ =
                g.alpha.set("CLAUDE_PROJECT_ID", "Mem")),
            ("a lease that is none", "push_sqlite", 1, |g| g
                .put("leadership/lease.json", "[]")),
            ("a manifest that is none", "pull_sqlite", 1, |g| g
                .put("sqlite/manifest.json", "<html>")),
            ("f35 an empty checksum object", "pull_sqlite", 1, |g| g
                .put("sqlite/claude-mem.db.sha256", "")),
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
            (
                "f21 the database is not the announced one",
                "pull_sqlite",
                1,
                |g| {
                    g.go_to_beta();
                    g.forget_history();
                    g.put("sqlite/claude-mem.db", "something else");
                }
            ),
            ("f09 the database is no database", "pull_sqlite", 1, |g| {
                g.go_to_beta();
                g.announce(b"hello", |_| {});
            }),
            ("f09 the database is another program's", "pull_sqlite", 1, |g| {
                let path = g.alpha.path("tmp/other.db");
                rusqlite::Connection::open(&path)
                    .unwrap()
                    .execute_batch("CREATE TABLE t(x)")
                    .unwrap();
                let bytes = std::fs::read(&path).unwrap();
                g.go_to_beta();
                g.announce(&bytes, |_| {});
            }),
            ("f44 a database of a newer claude-mem", "pull_sqlite", 1, |g| {
                let path = g.alpha.path("tmp/new.db");
                MemDb::create(&path, Version::V13_25_3)
                    .add_session("s")
                    .add_observations(9);
                let db = rusqlite::Connection::open(&path).unwrap();
                db.execute_batch("PRAGMA journal_mode=DELETE; INSERT INTO schema_versions(version, applied_at) VALUES(99, 't')").unwrap();
                drop(db);
                let bytes = std::fs::read(&path).unwrap();
                g.announce(&bytes, |manifest| {
                    manifest["membridge"]["claude_mem_version"] = "14.0.0".into();
                });
                g.go_to_beta();
                g.alpha.create_db(Version::V10_6_3).add_session("b");
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
            (
                "a lock whose holder's name would clear the screen",
                "push_sqlite",
                1,
                |g| {
                    g.alpha.db().add_observations(1);
                    g.lock("pi\n\u{1b}[2JSTATUS: OK", 30);
                }
            ),
            ("a lock that is none", "push_sqlite", 1, |g| {
                g.alpha.db().add_observations(1);
                g.put("locks/active.lock", "locked");
            }),
            (
                "f24 a bucket that was written under a later term",
                "push_sqlite",
                1,
                |g| {
                    g.alpha.db().add_observations(1);
                    let bytes = g.server.get(&key("mem", "sqlite/claude-mem.db")).unwrap();
                    g.announce(&bytes, |manifest| manifest["membridge"]["epoch"] = 9.into());
                }
            ),
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
            ("a primary pulls", "pull_sqlite", 2, |g| {
                let beta = Machine::new("beta", &g.server);
                beta.cmd("pull_sqlite").run().assert_code(0);
                beta.db().add_observations(4);
                beta.cmd("push_sqlite --allow-secondary-push")
                    .run()
                    .assert_code(0);
            }),
            (
                "diverged without roles",
                "push_sqlite --leadership-enabled 0",
                4,
                |g| {
                    let beta = Machine::new("beta", &g.server);
                    beta.cmd("pull_sqlite").run().assert_code(0);
                    beta.db().add_observations(4);
                    beta.cmd("push_sqlite --allow-secondary-push")
                        .run()
                        .assert_code(0);
                    g.alpha.db().add_observations(1);
                }
            ),
            (
                "diverged without roles, pulled",
                "pull_sqlite --leadership-enabled 0",
                4,
                |g| {
                    let beta = Machine::new("beta", &g.server);
                    beta.cmd("pull_sqlite").run().assert_code(0);
                    beta.db().add_observations(4);
                    beta.cmd("push_sqlite --allow-secondary-push")
                        .run()
                        .assert_code(0);
                    g.alpha.db().add_observations(1);
                }
            ),
            ("f45 most of the memory is gone", "push_sqlite", 1, |g| {
                g.alpha.db().execute("DELETE FROM observations WHERE id > 2");
            }),
            ("no database", "push_sqlite", 1, |g| std::fs::remove_file(
                g.alpha.db_path()
            )
            .unwrap()),
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
                g.alpha
                    .write(".claude-mem/settings.json", r#"{"CLAUDE_MEM_RUNTIME": "server"}"#);
            }),
            ("the state directory is a file", "push_sqlite", 1, |g| {
                std::fs::remove_dir_all(g.alpha.path(".membridge")).unwrap();
                g.alpha.write(".membridge", "x");
            }),
            (
                "a backup that is not there",
                "restore-backup 20200101-000000",
                1,
                |_| {}
            ),
        ]
    );
    assert_eq!(count, 14);
}
