//! What can go wrong between us and a store, so that callers can decide and people can act.

use crate::error::{Code, Failure};

/// The kinds of trouble that callers tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreErrorKind {
    /// The endpoint's name could not be resolved.
    NameNotFound,
    /// Nobody listens there.
    Refused,
    /// No connection within the time limit.
    ConnectTimeout,
    /// The certificate was not accepted, or the other side speaks no TLS.
    Tls,
    /// The connection broke, or no answer came in time, after the request was sent.
    Interrupted,
    /// The server said that it is busy or broken (429, 5xx).
    ServerBusy,
    /// The server does not know the access key, or the signature does not match.
    WrongKey,
    /// Our clock is too far from the server's for a signature.
    ClockSkew,
    /// The key may not do this.
    Denied,
    /// There is no such bucket, or no such directory.
    MissingBucket,
    /// The server does not support the request (501).
    NotSupported,
    /// The answer is no S3 service's, or that of one which does not serve this bucket: endpoint or region is wrong.
    NotS3,
    /// A 404 that may be a proxy's, where the store's listing does not confirm it.
    Ambiguous,
    /// The proxy on the way refuses, or cannot be reached.
    Proxy,
    /// The store has no room left for this key: a quota, a cap, a full disk.
    Full,
    /// The object is larger than the store, or something on the way, takes.
    TooLarge,
    /// The store takes requests with the bucket in the host name only.
    Addressing,
    /// A listing that cannot be completed.
    Incomplete,
    /// Another process holds the directory's lock for longer than any write takes.
    Locked,
    /// Something on the way answers with what it has kept of earlier answers.
    Cached,
    /// The object was read whole, and is not what its name promises.
    NotARecord,
    /// The service refused the request in words that callers do not tell apart, or made no sense.
    Unexpected,
    /// Our own side: a file that cannot be read or written, a bad certificate file.
    Local,
}

/// Something that was asked of a store and not got.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{operation} at {store}: {detail}")]
pub struct StoreError {
    /// What kind it is.
    pub kind: StoreErrorKind,
    /// Endpoint and bucket, or the directory.
    pub store: String,
    /// What was asked: `get projects/…/manifest.json`.
    pub operation: String,
    /// What came back.
    pub detail: String,
    /// How long the store asks us to wait.
    pub wait: Option<std::time::Duration>,
    /// What to do, where that is known better than by the kind.
    pub advice: Option<&'static str>,
}

impl StoreError {
    /// An error of that kind.
    pub fn new(
        kind: StoreErrorKind,
        store: impl Into<String>,
        operation: impl Into<String>,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            store: store.into(),
            operation: operation.into(),
            detail: detail.into(),
            wait: None,
            advice: None,
        }
    }

    /// Whether the same request may go through a moment later.
    pub fn retryable(&self) -> bool {
        matches!(
            self.kind,
            StoreErrorKind::NameNotFound
                | StoreErrorKind::Refused
                | StoreErrorKind::Interrupted
                | StoreErrorKind::ServerBusy
                // The object may have come between the answer and the listing.
                | StoreErrorKind::Ambiguous
                // The refusal told us the server's time, and the next request is signed with it.
                | StoreErrorKind::ClockSkew
        )
    }

    /// Whether the store said that requests come too fast, which says nothing about anything else.
    pub fn is_limit(&self) -> bool {
        self.kind == StoreErrorKind::ServerBusy
            && (self.wait.is_some()
                || ["429", "SlowDown", "TooManyRequests"].iter().any(|word| self.detail.contains(word)))
    }

    /// Whether a write that ended so may have been done all the same.
    pub fn may_have_happened(&self) -> bool {
        matches!(
            self.kind,
            StoreErrorKind::Interrupted
                | StoreErrorKind::ServerBusy
                | StoreErrorKind::NotS3
                | StoreErrorKind::Unexpected
        )
    }

    fn code(&self) -> Code {
        match self.kind {
            StoreErrorKind::NameNotFound
            | StoreErrorKind::Refused
            | StoreErrorKind::ConnectTimeout
            | StoreErrorKind::Interrupted => Code::StoreUnreachable,
            StoreErrorKind::Tls => Code::StoreTls,
            StoreErrorKind::ServerBusy => Code::StoreBusy,
            StoreErrorKind::WrongKey => Code::StoreCredentials,
            StoreErrorKind::ClockSkew => Code::StoreClock,
            StoreErrorKind::Denied => Code::StoreDenied,
            StoreErrorKind::MissingBucket => Code::StoreMissing,
            StoreErrorKind::Proxy => Code::StoreProxy,
            StoreErrorKind::Full | StoreErrorKind::TooLarge => Code::StoreFull,
            StoreErrorKind::Locked => Code::StoreBusy,
            StoreErrorKind::NotSupported | StoreErrorKind::Addressing => Code::StoreUnsupported,
            StoreErrorKind::NotS3 | StoreErrorKind::Ambiguous | StoreErrorKind::Cached => Code::StoreForeign,
            StoreErrorKind::NotARecord => Code::BadObject,
            StoreErrorKind::Unexpected | StoreErrorKind::Incomplete => Code::StoreUnexpected,
            StoreErrorKind::Local => Code::LocalFile,
        }
    }

    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        if let Some(advice) = self.advice {
            return advice;
        }
        match self.kind {
            StoreErrorKind::NameNotFound => "check the host name in MINIO_ENDPOINT and this machine's DNS",
            StoreErrorKind::Refused => "check host and port in MINIO_ENDPOINT and that the store is running",
            StoreErrorKind::ConnectTimeout => {
                "check MINIO_ENDPOINT, the network and firewalls between here and the store"
            }
            StoreErrorKind::Tls => {
                "check http:// against https:// in MINIO_ENDPOINT; for a private authority set AWS_CA_BUNDLE to its PEM file"
            }
            StoreErrorKind::Interrupted | StoreErrorKind::ServerBusy => {
                "try again; when it stays so, look at the store's own log"
            }
            StoreErrorKind::Proxy => {
                "that is the proxy, not the store: check HTTP_PROXY or HTTPS_PROXY with its user and password, or name the store's host in NO_PROXY"
            }
            StoreErrorKind::Full => "make room or raise the quota at the store's provider, then try again",
            StoreErrorKind::TooLarge => {
                "raise the limit for uploads of the store, or of the web server before it (nginx: client_max_body_size)"
            }
            StoreErrorKind::Addressing => {
                "the store takes virtual hosted requests only (the bucket in the host name): set MINIO_ADDRESSING=virtual, and the store's name, not its address, in MINIO_ENDPOINT"
            }
            StoreErrorKind::Incomplete => "that is a fault of the store: update it, or use another one",
            StoreErrorKind::Locked => {
                "a process that was stopped may hold it: find it with fuser -v on the store's .membridge-lock (on the machine that runs it), and end it"
            }
            StoreErrorKind::Cached => {
                "let no cache answer for the store: switch it off for MINIO_ENDPOINT, or reach the store directly"
            }
            StoreErrorKind::WrongKey => "check MINIO_ACCESS_KEY and MINIO_SECRET_KEY",
            StoreErrorKind::ClockSkew => "set this machine's clock (timedatectl set-ntp true, or ntpd -q)",
            StoreErrorKind::Denied if self.store.starts_with("file://") => {
                "the folder and all in it must belong to this user, or to a group of all users of it: chgrp -R GROUP, chmod -R g+rwX, chmod g+s on the folders"
            }
            StoreErrorKind::Denied => "give this key read, write and list rights on the bucket",
            StoreErrorKind::MissingBucket if self.store.starts_with("file://") => {
                "mount the disk, or make the folder that MINIO_ENDPOINT names (mkdir -p)"
            }
            StoreErrorKind::MissingBucket => "check MINIO_BUCKET, or make the bucket (mc mb ALIAS/BUCKET)",
            StoreErrorKind::NotS3 => {
                "check MINIO_ENDPOINT and MINIO_REGION: that was not the S3 service of this bucket"
            }
            StoreErrorKind::Ambiguous => {
                "is MINIO_ENDPOINT the S3 endpoint itself? a proxy or a web server answers so"
            }
            StoreErrorKind::NotSupported | StoreErrorKind::NotARecord | StoreErrorKind::Unexpected => {
                "run: membridge doctor"
            }
            StoreErrorKind::Local => "check the path, its rights and the free space",
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let remedy = error.remedy();
        Self::from_error(error.code(), error).hint(remedy)
    }
}
