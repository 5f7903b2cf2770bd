//! What people meet: each broken situation with its exact words and exit code, in the snapshots beside this file; both
//! sides hold what they held, and no temporary file is left. Here settings and stores, in errors_memory.rs the memory.

use std::fmt::Write;

use membridge::context::hex;
use serde_json::json;

use crate::common::{assert_no_leftovers, pushed};
use crate::support::claude_mem;
use crate::support::machine::{Machine, Run, Store};
use crate::support::python_node::key;
use crate::support::s3::{Fault, Op, S3Server};

/// A bucket that alpha pushed into, and the machine that is about to run into trouble.
pub(super) struct Ground {
    pub(super) server: S3Server,
    pub(super) alpha: Machine,
}

type Prepare = fn(&mut Ground);

/// Name, command, exit code, how the trouble is made.
pub(super) type Case = (&'static str, &'static str, i32, Prepare);

impl Ground {
    fn new() -> Ground {
        let server = S3Server::start();
        let alpha = pushed(&server, 6);
        Ground { server, alpha }
    }

    pub(super) fn put(&self, name: &str, bytes: impl AsRef<[u8]>) {
        self.server.put(&key("mem", name), bytes);
    }

    /// Puts a database into the bucket with everything that announces it.
    pub(super) fn announce(&self, bytes: &[u8], change: impl FnOnce(&mut serde_json::Value)) {
        use sha2::{Digest, Sha256};
        let sha256 = hex(&Sha256::digest(bytes));
        let mut manifest: serde_json::Value =
            serde_json::from_slice(&self.server.get(&key("mem", "sqlite/manifest.json")).unwrap()).unwrap();
        manifest["sha256"] = sha256.clone().into();
        change(&mut manifest);
        self.forget_history();
        self.put("sqlite/claude-mem.db", bytes);
        self.put("sqlite/claude-mem.db.sha256", format!("{sha256}  claude-mem.db\n"));
        self.put("sqlite/manifest.json", manifest.to_string());
    }

    /// As if only nodes without a history had written here.
    pub(super) fn forget_history(&self) {
        for folder in ["membridge/commits/", "membridge/packs/"] {
            for object in self.server.keys(&key("mem", folder)) {
                self.server.remove(&object);
            }
        }
    }

    /// Another machine takes alpha's place in front of the screen; it has no database.
    pub(super) fn go_to_beta(&mut self) {
        self.alpha = Machine::new("beta", &self.server);
    }

    pub(super) fn expired_lease(&self, primary: &str, epoch: i64) {
        let lease = json!({"canonical_id": "6fe2e0f6071ac2bb", "primary_node_id": primary, "issued_at": 1, "expires_at": 4_000_000_000_i64,
            "lease_seconds": 3600, "epoch": epoch, "policy": "primary_authoritative", "issued_by": primary});
        self.put("leadership/lease.json", lease.to_string());
    }

    pub(super) fn lock(&self, host: &str, age: i64) {
        let now = jiff::Timestamp::now().as_second();
        let lock = json!({"hostname": host, "timestamp": now - age, "project": "mem", "canonical_id": "6fe2e0f6071ac2bb"});
        self.put("locks/active.lock", lock.to_string());
    }

    /// The memory on both sides: rows, the database's bytes, every object that holds memory.
    fn memory(&self) -> (Vec<String>, Option<Vec<u8>>, Vec<(String, Option<Vec<u8>>)>) {
        let database = self.alpha.db_path();
        let readable = database.is_file()
            && std::fs::read(&database).unwrap().starts_with(b"SQLite format 3\0")
            && std::panic::catch_unwind(|| claude_mem::integrity(&database))
                .is_ok_and(|answer| answer == "ok");
        let rows = if readable {
            claude_mem::dump(&database, "SELECT name, sql FROM sqlite_schema ORDER BY 1")
        } else {
            Vec::new()
        };
        let objects = self.server.keys("");
        // Rows are added to the log whatever becomes of the archive.
        let kept = ["/sqlite/", "/commits/", "/packs/"];
        let memory = objects.into_iter().filter(|name| kept.iter().any(|part| name.contains(part)));
        let memory = memory.map(|name| (name.clone(), self.server.get(&name))).collect();
        (rows, std::fs::read(&database).ok(), memory)
    }
}

/// Runs each case on a ground of its own; the transcript of all of them.
pub(super) fn transcript(cases: &[Case]) -> String {
    let mut all = String::new();
    for (name, command, code, prepare) in cases {
        let mut ground = Ground::new();
        prepare(&mut ground);
        let before = ground.memory();
        let run: Run = ground.alpha.cmd(command);
        let outcome = run.run();
        assert!(outcome.code == *code, "{name}: wanted {code}\n{outcome:?}");
        assert!(outcome.stdout.len() + outcome.stderr.len() > 0, "{name} says nothing");
        assert!(ground.memory() == before, "{name} changed something\n{outcome:?}");
        assert_no_leftovers(&ground.alpha);
        for secret in ["test-secret/with+signs=", "hunter2"] {
            outcome.never_says(secret);
        }
        let said = ground.alpha.normalise(&format!("{}{}", outcome.stdout, outcome.stderr));
        let said = said.trim_end();
        writeln!(all, "## {name}\n$ membridge {command}\n{said}\n[{code}]\n").unwrap();
    }
    all
}

macro_rules! assert_transcript {
    ($name:literal, $cases:expr) => {{
        let cases: &[$crate::errors::Case] = $cases;
        let said = $crate::errors::transcript(cases);
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
pub(super) use assert_transcript;

#[test]
fn settings_that_are_missing_or_malformed() {
    let count = assert_transcript!(
        "errors_settings",
        &[
            ("no endpoint", "push_sqlite", 1, |g| _ = g.alpha.unset("MINIO_ENDPOINT")),
            ("no access key", "push_sqlite", 1, |g| _ = g.alpha.unset("MINIO_ACCESS_KEY")),
            ("no secret key", "pull_sqlite", 1, |g| _ = g.alpha.unset("MINIO_SECRET_KEY")),
            ("no bucket", "pull_sqlite", 1, |g| _ = g.alpha.unset("MINIO_BUCKET")),
            ("no project", "print_project", 1, |g| _ = g.alpha.unset("CLAUDE_PROJECT_ID")),
            ("no database path", "sync", 1, |g| _ = g.alpha.unset("CLAUDE_MEM_DB")),
            ("an empty endpoint counts as unset", "push_sqlite", 1, |g| _ =
                g.alpha.set("MINIO_ENDPOINT", "")),
            ("an endpoint that is no URL", "push_sqlite", 1, |g| _ =
                g.alpha.set("MINIO_ENDPOINT", "minio:9000")),
            ("an endpoint with keys in it", "push_sqlite", 1, |g| _ =
                g.alpha.set("MINIO_ENDPOINT", "http://me:hunter2@host")),
            ("an endpoint without a host", "push_sqlite", 1, |g| _ =
                g.alpha.set("MINIO_ENDPOINT", "https://")),
            ("a relative directory", "push_sqlite", 1, |g| _ = g.alpha.set("MINIO_ENDPOINT", "file://store")),
            ("a database path that is no file name", "push_sqlite", 1, |g| _ =
                g.alpha.set("CLAUDE_MEM_DB", "/")),
            ("a number that is none", "push_sqlite", 1, |g| _ = g.alpha.set("LOCK_TTL_SECONDS", "2h")),
            ("a number out of bounds", "push_sqlite", 1, |g| _ =
                g.alpha.set("LEADERSHIP_LEASE_SECONDS", "-1")),
            ("a switch that is none", "push_sqlite", 1, |g| _ = g.alpha.set("FORCE_PUSH", "maybe")),
            ("a port that is none", "pull_sqlite", 1, |g| _ = g.alpha.set("CLAUDE_MEM_WORKER_PORT", "70000")),
            ("text that is not UTF-8", "push_sqlite", 1, |g| {
                use std::os::unix::ffi::OsStringExt;
                g.alpha.set("CLAUDE_PROJECT_ID", std::ffi::OsString::from_vec(vec![b'm', 0xff]));
            }),
            ("a config.env that is not there", "push_sqlite --config nowhere.env", 1, |_| {}),
            ("a config.env that runs a command", "push_sqlite", 1, |g| {
                g.alpha.write(".claude-mem-minio/config.env", "# mine\nMINIO_BUCKET=$(cat bucket)\n");
            }),
            ("a config.env with an open quote", "push_sqlite", 1, |g| {
                g.alpha.write(".claude-mem-minio/config.env", "MINIO_BUCKET=\"mem\nX=1\n");
            }),
            ("a config.env with spaces around the equals sign", "status", 1, |g| {
                g.alpha.write(".claude-mem-minio/config.env", "MINIO_BUCKET = mem\n");
            }),
            ("a command that is none", "psuh_sqlite", 1, |_| {}),
            ("a flag that is none", "push_sqlite --fource", 1, |_| {}),
            ("a config.env is there already", "config init", 1, |g| {
                g.alpha.write(".claude-mem-minio/config.env", "MINIO_REGION=eu\n");
            }),
            ("config init with an open question and no answer", "config init", 1, |g| _ =
                g.alpha.unset("MINIO_BUCKET")),
            ("config init with a key that does not work", "config init", 1, |g| _ =
                g.alpha.set("MINIO_ACCESS_KEY", "nobody")),
        ]
    );
    assert_eq!(count, 26);
}

#[test]
fn a_store_that_does_not_answer_or_does_not_like_us() {
    let count = assert_transcript!(
        "errors_store",
        &[
            ("nobody listens", "push_sqlite", 1, |g| _ = g.alpha.set("MINIO_ENDPOINT", "http://127.0.0.1:1")),
            ("nobody listens, status", "status", 1, |g| _ =
                g.alpha.set("MINIO_ENDPOINT", "http://127.0.0.1:1")),
            ("a server that speaks no TLS", "pull_sqlite", 1, |g| {
                let url = g.server.endpoint().replace("http:", "https:");
                g.alpha.set("MINIO_ENDPOINT", url);
            }),
            ("an unknown access key", "push_sqlite", 1, |g| _ = g.alpha.set("MINIO_ACCESS_KEY", "nobody")),
            ("a wrong secret key", "push_sqlite", 1, |g| _ = g.alpha.set("MINIO_SECRET_KEY", "hunter2")),
            ("no such bucket", "pull_sqlite", 1, |g| _ = g.alpha.set("MINIO_BUCKET", "elsewhere")),
            ("f06 the lease is forbidden", "push_sqlite", 1, |g| {
                g.server.fault(Fault::Status(403, "AccessDenied").key("lease.json")).forever();
            }),
            ("f06 the lease answers 500", "leadership_info", 1, |g| {
                g.server.fault(Fault::Status(500, "InternalError").key("lease.json")).forever();
            }),
            ("a clock that the server refuses", "pull_sqlite", 1, |g| {
                g.server.fault(Fault::Status(403, "RequestTimeTooSkewed")).forever();
            }),
            ("a server that is busy", "pull_sqlite", 1, |g| g.server.fault(Fault::SlowDown).forever()),
            ("a server that drops every connection", "pull_sqlite", 1, |g| g
                .server
                .fault(Fault::Disconnect)
                .forever()),
            ("uploads are forbidden", "push_sqlite", 1, |g| {
                g.alpha.db().add_observations(1);
                g.server
                    .fault(Fault::Status(403, "AccessDenied").on(Op::PutObject).key("membridge/packs/"))
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
