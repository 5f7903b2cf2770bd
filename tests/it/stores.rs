//! The stores under test, by name: our own server in its modes, a directory, and a live bucket when the environment
//! names one. `make test-servers` starts real servers and names them that way.

use std::sync::Arc;

use membridge::config::{Addressing, Limits, S3Config, Secret, StoreConfig};
use membridge::context::Context;
use membridge::storage::Store as Opened;

use crate::support::machine::Store;
use crate::support::s3::{Fault, S3Server};

/// A store, and what keeps it running.
pub struct Subject {
    pub name: &'static str,
    pub store: Store,
    /// Whether conditional writes work and are atomic; `None`: the probe has to tell.
    pub atomic: Option<bool>,
    _server: Option<S3Server>,
    _folder: Option<tempfile::TempDir>,
}

impl Subject {
    fn served(name: &'static str, fault: Option<Fault>, atomic: bool) -> Subject {
        let server = S3Server::start();
        if let Some(fault) = fault {
            server.fault(fault).forever();
        }
        Subject::on(name, server, atomic)
    }

    fn on(name: &'static str, server: S3Server, atomic: bool) -> Subject {
        Subject {
            name,
            store: Store::from(&server),
            atomic: Some(atomic),
            _server: Some(server),
            _folder: None,
        }
    }

    pub fn conforming() -> Subject {
        Subject::served("conforming server", None, true)
    }

    /// SSE-KMS: etags look like MD5 and are not.
    pub fn encrypting() -> Subject {
        let server = S3Server::start();
        server.encrypt();
        Subject::on("bucket that encrypts", server, true)
    }

    /// Garage, rclone, Oracle: 200 whatever the condition.
    pub fn ignoring() -> Subject {
        Subject::served("server that ignores conditions", Some(Fault::IgnoresConditions), false)
    }

    /// Backblaze B2.
    pub fn refusing() -> Subject {
        Subject::served("server that answers 501 to conditions", Some(Fault::Conditions501), false)
    }

    /// s3s-fs: the condition is checked, and the write comes a moment later.
    pub fn not_atomic() -> Subject {
        let gap = Fault::NotAtomic(std::time::Duration::from_millis(20));
        Subject::served("server that is not atomic", Some(gap), false)
    }

    pub fn directory() -> Subject {
        let folder = tempfile::tempdir().expect("a folder");
        Subject {
            name: "directory",
            store: Store::from(folder.path()),
            atomic: Some(true),
            _server: None,
            _folder: Some(folder),
        }
    }

    /// What MEMBRIDGE_TEST_SUBJECT names, so that `make test-servers` asks our own server's modes and a directory the
    /// same questions; otherwise the bucket of MEMBRIDGE_TEST_S3_ENDPOINT, _BUCKET, _ACCESS_KEY and _SECRET_KEY. `None`
    /// where they are not set, which MEMBRIDGE_TEST_S3_REQUIRED=1 turns into a failure.
    pub fn live() -> Option<Subject> {
        if let Ok(name) = std::env::var("MEMBRIDGE_TEST_SUBJECT") {
            return Some(match name.as_str() {
                "conforming" => Subject::conforming(),
                "ignoring" => Subject::ignoring(),
                "refusing" => Subject::refusing(),
                "not-atomic" => Subject::not_atomic(),
                "directory" => Subject::directory(),
                other => panic!("MEMBRIDGE_TEST_SUBJECT={other} is none of ours"),
            });
        }
        let read = |name: &str| std::env::var(format!("MEMBRIDGE_TEST_S3_{name}")).ok();
        let all = ["ENDPOINT", "BUCKET", "ACCESS_KEY", "SECRET_KEY"].map(read);
        let [Some(endpoint), Some(bucket), Some(access_key), Some(secret_key)] = all else {
            assert!(
                read("REQUIRED").as_deref() != Some("1"),
                "MEMBRIDGE_TEST_S3_REQUIRED=1, but MEMBRIDGE_TEST_S3_ENDPOINT, _BUCKET, _ACCESS_KEY and _SECRET_KEY are not all set"
            );
            return None;
        };
        Some(Subject {
            name: "live bucket",
            store: Store::S3 { endpoint, bucket, access_key, secret_key },
            atomic: None,
            _server: None,
            _folder: None,
        })
    }

    /// Opens it as the library does; each opening has its own connections.
    pub fn open(&self) -> Opened {
        open(&self.store)
    }
}

pub fn open(store: &Store) -> Opened {
    let config = match store {
        Store::S3 { endpoint, bucket, access_key, secret_key } => StoreConfig::S3(Box::new(S3Config {
            endpoint: endpoint.clone(),
            access_key: Secret::new(access_key.clone()),
            secret_key: Secret::new(secret_key.clone()),
            bucket: bucket.clone(),
            region: "us-east-1".to_owned(),
            addressing: Addressing::Auto,
            all_proxy: None,
            http_proxy: None,
            https_proxy: None,
            no_proxy: String::new(),
            ca_bundle: None,
            limits: Limits::default(),
        })),
        Store::Dir(root) => StoreConfig::Dir(root.clone()),
    };
    Opened::open(&config, &Arc::new(Context::default())).expect("open the store")
}

/// A name that no other run uses: live buckets are shared.
pub fn unique(what: &str) -> String {
    let token = Context::default().token().expect("random numbers");
    format!("membridge-test-{what}-{token}")
}
