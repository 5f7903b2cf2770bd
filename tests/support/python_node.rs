//! A node of the old Python script, as far as the bucket sees it: writes the objects in
//! its formats and order without conditions, reads by its rules. Works on the server's
//! map directly; written from the script's behaviour, shares no code with membridge.

use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::claude_mem;
use super::s3::Handle;

const SQLITE: &str = "sqlite/claude-mem.db";

/// One node. Change the fields to configure it.
#[derive(Clone)]
pub struct PythonNode {
    pub server: Handle,
    pub project: String,
    pub host: String,
    pub node_id: String,
    /// PRIMARY_NODE_ID; empty when not configured.
    pub primary_node_id: String,
    pub lock_ttl: i64,
    pub stale_grace: i64,
    pub lease_seconds: i64,
    pub leadership: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Primary,
    Secondary,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lock {
    Free,
    Ours,
    /// Another host's, within TTL or grace.
    Held(String),
    Stale,
}

/// After which object a push stops, as if the script had been killed there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub enum Stop {
    AfterLock,
    AfterDb,
    AfterSha256,
    Never,
}

/// First 16 hex digits of the SHA-256 of the name.
pub fn canonical_id(project: &str) -> String {
    sha256(project.as_bytes())[..16].to_owned()
}

/// Key of an object of a project.
pub fn key(project: &str, name: &str) -> String {
    format!("projects/{}/{name}", canonical_id(project))
}

impl PythonNode {
    pub fn new(server: &Handle, project: &str, host: &str) -> PythonNode {
        PythonNode {
            server: server.clone(),
            project: project.to_owned(),
            host: host.to_owned(),
            node_id: host.to_owned(),
            primary_node_id: String::new(),
            lock_ttl: 7200,
            stale_grace: 60,
            lease_seconds: 3600,
            leadership: true,
        }
    }

    pub fn key(&self, name: &str) -> String {
        key(&self.project, name)
    }

    fn put(&self, name: &str, bytes: impl AsRef<[u8]>) {
        self.server.put(&self.key(name), bytes);
    }

    fn json(&self, name: &str) -> Option<Value> {
        let bytes = self.server.get(&self.key(name))?;
        Some(serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{name} is no JSON: {error}")))
    }

    /// `push_sqlite` at `now` (Unix seconds); the exit code.
    pub fn push(&self, database: &Path, now: i64) -> i32 {
        if self.leadership && self.role(now) == Role::Secondary {
            return 3;
        }
        if matches!(self.lock(now), Lock::Held(_)) {
            return 1;
        }
        self.write(database, now, Stop::Never);
        0
    }

    /// Only the writing part of a push: lock, db, sha256, manifest.
    pub fn write(&self, database: &Path, now: i64, stop: Stop) {
        let snapshot = snapshot(database);
        self.write_lock(now);
        if stop == Stop::AfterLock {
            return;
        }
        let digest = sha256(&snapshot);
        self.put(SQLITE, &snapshot);
        if stop == Stop::AfterDb {
            return;
        }
        self.put("sqlite/claude-mem.db.sha256", format!("{digest}  claude-mem.db\n"));
        if stop == Stop::AfterSha256 {
            return;
        }
        let counts = claude_mem::counts(database);
        let tables = "SELECT name FROM sqlite_master WHERE type='table' ORDER BY name";
        self.put(
            "sqlite/manifest.json",
            python_json(&json!({
                "project": self.project,
                "canonical_id": canonical_id(&self.project),
                "timestamp": iso(now),
                "source_host": self.host,
                "db_size": snapshot.len(),
                "sha256": digest,
                "observations": counts.observations,
                "session_summaries": counts.session_summaries,
                "user_prompts": counts.user_prompts,
                "tables": claude_mem::dump(database, tables),
            })),
        );
    }

    /// Takes the lock, as the script does: by overwriting. It is never removed.
    pub fn write_lock(&self, now: i64) {
        let lock = json!({
            "hostname": self.host,
            "timestamp": now,
            "project": self.project,
            "canonical_id": canonical_id(&self.project),
        });
        self.put("locks/active.lock", python_json(&lock));
    }

    /// What the script makes of the lock.
    pub fn lock(&self, now: i64) -> Lock {
        let Some(lock) = self.json("locks/active.lock") else {
            return Lock::Free;
        };
        let host = lock["hostname"].as_str().unwrap_or("unknown");
        let age = now - lock["timestamp"].as_i64().unwrap_or(0);
        if host == self.host {
            return Lock::Ours;
        }
        if age <= self.lock_ttl + self.stale_grace {
            return Lock::Held(host.to_owned());
        }
        Lock::Stale
    }

    /// Writes a lease and its audit entry.
    pub fn write_lease(&self, primary: &str, epoch: i64, now: i64, needs_selection: bool) {
        let mut lease = json!({
            "canonical_id": canonical_id(&self.project),
            "primary_node_id": primary,
            "issued_at": now,
            "expires_at": now + self.lease_seconds,
            "lease_seconds": self.lease_seconds,
            "epoch": epoch,
            "policy": "primary_authoritative",
            "issued_by": self.node_id,
        });
        if needs_selection {
            lease["needs_ui_selection"] = json!(true);
        }
        self.put("leadership/lease.json", python_json(&lease));
        lease["event"] = json!("lease_written");
        lease["timestamp"] = json!(iso(now));
        let time = jiff::Timestamp::from_second(now).expect("a time").strftime("%Y%m%dT%H%M%SZ");
        let node = self.node_id.replace(['/', ':'], "_");
        self.put(&format!("leadership/audit/{time}-{node}.json"), python_json(&lease));
    }

    /// The script's role rule, with what it writes.
    pub fn role(&self, now: i64) -> Role {
        let Some(lease) = self.json("leadership/lease.json") else {
            let configured = !self.primary_node_id.is_empty();
            let primary = if configured { &self.primary_node_id } else { &self.node_id };
            self.write_lease(primary, 1, now, !configured);
            return role_if(primary == &self.node_id);
        };
        let named = lease["primary_node_id"] == self.node_id.as_str();
        if lease["expires_at"].as_i64().unwrap_or(0) > now {
            return role_if(named);
        }
        if self.primary_node_id == self.node_id {
            self.write_lease(&self.node_id, lease["epoch"].as_i64().unwrap_or(0) + 1, now, false);
            return Role::Primary;
        }
        Role::Secondary
    }

    /// The transfer part of `pull_sqlite`: sha256 first, then the database, and both must
    /// agree. The script ends with exit code 1 where this is an error.
    pub fn read(&self) -> Result<Vec<u8>, String> {
        let get = |name: &str| self.server.get(&self.key(name)).ok_or(format!("{name} is absent"));
        let text =
            String::from_utf8(get("sqlite/claude-mem.db.sha256")?).map_err(|error| error.to_string())?;
        let wanted = text.split_whitespace().next().ok_or("the sha256 object is empty")?;
        let database = get(SQLITE)?;
        let found = sha256(&database);
        if found != wanted {
            return Err(format!("SHA256 mismatch: expected {wanted}, got {found}"));
        }
        Ok(database)
    }

    /// `read`, the integrity check, and the new file in place of the old one.
    pub fn pull(&self, database: &Path) -> Result<(), String> {
        let bytes = self.read()?;
        if bytes.get(18..20) != Some(&[1, 1]) {
            return Err("the snapshot does not have a rollback-journal header".to_owned());
        }
        if let Some(folder) = database.parent() {
            std::fs::create_dir_all(folder).map_err(|error| error.to_string())?;
        }
        let fresh = database.with_extension("db.new");
        std::fs::write(&fresh, bytes).map_err(|error| error.to_string())?;
        let integrity = claude_mem::integrity(&fresh);
        if integrity != "ok" {
            return Err(integrity);
        }
        std::fs::rename(&fresh, database).map_err(|error| error.to_string())
    }

    /// The observations that the manifest speaks of, the only field that readers use.
    pub fn remote_observations(&self) -> Option<i64> {
        self.json("sqlite/manifest.json")?["observations"].as_i64()
    }
}

fn role_if(primary: bool) -> Role {
    if primary { Role::Primary } else { Role::Secondary }
}

/// Pushes at `timestamp` without asking for role or lock.
pub fn push(server: &Handle, project: &str, host: &str, database: &Path, timestamp: i64) -> PythonNode {
    let node = PythonNode::new(server, project, host);
    node.write(database, timestamp, Stop::Never);
    node
}

/// Reads as any Python node does.
pub fn read(server: &Handle, project: &str) -> Result<Vec<u8>, String> {
    PythonNode::new(server, project, "reader").read()
}

/// What the script uploads: a compacted copy.
pub fn snapshot(database: &Path) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    let copy = folder.path().join("snapshot.db");
    let db = rusqlite::Connection::open(database).expect("open the database");
    db.execute("VACUUM INTO ?1", [copy.to_str().expect("a path")]).expect("VACUUM INTO");
    std::fs::read(&copy).expect("read the snapshot")
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn iso(now: i64) -> String {
    let time = jiff::Timestamp::from_second(now).expect("a time");
    time.strftime("%Y-%m-%dT%H:%M:%S+00:00").to_string()
}

/// `json.dumps(value, indent=2)`: everything beyond ASCII is escaped.
fn python_json(value: &Value) -> String {
    let text = serde_json::to_string_pretty(value).expect("JSON");
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_ascii() {
            out.push(character);
        } else {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                out += &format!("\\u{unit:04x}");
            }
        }
    }
    out
}
