//! An in-process S3 server: the real protocol on a random local port, signatures checked,
//! faults switchable while it runs. Tests and the demo share it. It knows nothing of
//! membridge; it has its own thread pool, so synchronous tests can use it, and any
//! process on this host can reach it.

mod answers;
mod faults;
mod front;
mod listing;
mod objects;
mod service;

use std::net::TcpListener;
use std::ops::Deref;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use hyper_util::rt::TokioIo;
use s3s::service::S3ServiceBuilder;
use tokio::runtime::Runtime;

pub use self::faults::{Fault, FaultGuard, Meeting, Op, Rule};
use self::front::{Connection, Front};
use self::objects::{Bucket, Objects, Stored};
use self::service::{KeyPair, Service};

pub const BUCKET: &str = "membridge-test";
pub const ACCESS_KEY: &str = "TESTACCESSKEY";
pub const SECRET_KEY: &str = "test-secret/with+signs=";

/// One request as the server saw it. `status` 0: dropped, or not answered yet.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestLog {
    pub method: String,
    pub op: Op,
    /// The object key; for a listing, its prefix.
    pub key: String,
    pub status: u16,
    /// A write with If-Match or If-None-Match.
    pub conditional: bool,
    /// Body bytes received and sent.
    pub bytes_in: u64,
    pub bytes_out: u64,
}

/// A running server; dropping it stops it.
pub struct S3Server {
    handle: Handle,
    runtime: Option<Runtime>,
}

/// The controls of a server, to clone into threads and hooks.
#[derive(Clone)]
pub struct Handle {
    pub bucket: String,
    pub access_key: String,
    pub secret_key: String,
    port: u16,
    objects: Arc<Objects>,
    front: Arc<Front>,
}

impl S3Server {
    /// Starts a server with the bucket [`BUCKET`] on a port that the system picks.
    pub fn start() -> S3Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind a local port");
        listener.set_nonblocking(true).expect("nonblocking listener");
        let port = listener.local_addr().expect("local address").port();
        let objects = Arc::new(Objects::default());
        objects.lock().buckets.insert(BUCKET.to_owned(), Bucket::new());
        let front = Arc::new(Front::default());

        let mut builder = S3ServiceBuilder::new(Service { objects: Arc::clone(&objects) });
        // The front checks the requests' times, by the clock that a test can move.
        let mut limits = s3s::config::S3Config::default();
        limits.presigned_url_max_skew_time_secs = u32::MAX;
        builder.set_config(Arc::new(s3s::config::StaticConfigProvider::new(Arc::new(limits))));
        builder.set_auth(KeyPair { access_key: ACCESS_KEY.to_owned(), secret_key: SECRET_KEY.to_owned() });
        let connection = Connection { front: Arc::clone(&front), s3: builder.build() };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("s3-server")
            .enable_all()
            .build()
            .expect("a runtime for the server");
        runtime.spawn(accept(listener, connection));
        let handle = Handle {
            bucket: BUCKET.to_owned(),
            access_key: ACCESS_KEY.to_owned(),
            secret_key: SECRET_KEY.to_owned(),
            port,
            objects,
            front,
        };
        S3Server { handle, runtime: Some(runtime) }
    }

    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }
}

async fn accept(listener: TcpListener, connection: Connection) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("an async listener");
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        // Without this, small answers wait for the client's delayed acknowledgement.
        let _ = stream.set_nodelay(true);
        let connection = connection.clone();
        tokio::spawn(async move {
            let mut http = hyper::server::conn::http1::Builder::new();
            // A connection that a fault drops ends with an error here; that is its purpose.
            let _ = http.auto_date_header(false).serve_connection(TokioIo::new(stream), connection).await;
        });
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // In the background, so that an async test may drop the server too.
            runtime.shutdown_background();
        }
    }
}

impl Deref for S3Server {
    type Target = Handle;

    fn deref(&self) -> &Handle {
        &self.handle
    }
}

impl Handle {
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    fn with_bucket<T>(&self, change: impl FnOnce(&mut Bucket) -> T) -> T {
        change(self.objects.lock().buckets.entry(self.bucket.clone()).or_default())
    }

    /// Stores an object behind the protocol's back, without faults or log.
    pub fn put(&self, key: &str, bytes: impl AsRef<[u8]>) {
        let stored = Stored::from_bytes(bytes.as_ref());
        self.with_bucket(|bucket| bucket.insert(key.to_owned(), stored));
    }

    pub fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.with_bucket(|bucket| bucket.get(key).cloned()).map(|stored| stored.read_all())
    }

    /// An object as text; panics when it is absent or not UTF-8.
    pub fn text(&self, key: &str) -> String {
        let bytes =
            self.get(key).unwrap_or_else(|| panic!("no object {key}; there are {:#?}", self.keys("")));
        String::from_utf8(bytes).expect("an object of text")
    }

    pub fn size(&self, key: &str) -> Option<u64> {
        self.with_bucket(|bucket| bucket.get(key).map(|stored| stored.size))
    }

    pub fn etag(&self, key: &str) -> Option<String> {
        self.with_bucket(|bucket| bucket.get(key).map(|stored| format!("\"{}\"", stored.etag)))
    }

    /// True when there was such an object.
    pub fn remove(&self, key: &str) -> bool {
        self.with_bucket(|bucket| bucket.remove(key)).is_some()
    }

    /// The keys that start with `prefix`, sorted.
    pub fn keys(&self, prefix: &str) -> Vec<String> {
        self.with_bucket(|bucket| bucket.keys().filter(|key| key.starts_with(prefix)).cloned().collect())
    }

    /// Makes every object look as if it had been stored so many seconds earlier.
    pub fn age(&self, seconds: u64) {
        let by = std::time::Duration::from_secs(seconds);
        for stored in self.objects.lock().buckets.values_mut().flat_map(Bucket::values_mut) {
            stored.modified -= by;
        }
    }

    /// Removes every object; buckets stay.
    pub fn clear(&self) {
        self.objects.lock().buckets.values_mut().for_each(Bucket::clear);
    }

    /// Multipart uploads that were begun and neither completed nor aborted.
    pub fn open_uploads(&self) -> usize {
        self.objects.lock().uploads.len()
    }

    /// Forgets uploads that are under way, as stores do after some days.
    pub fn forget_uploads(&self) {
        self.objects.lock().uploads.clear();
    }

    /// From here on etags look like MD5 and are not, as in buckets that encrypt with keys of their own (SSE-KMS).
    pub fn encrypt(&self) {
        self.objects.encrypts.store(true, Ordering::SeqCst);
    }

    /// From here on the first answer to a GET of an object is repeated, as by a cache in front that keeps it too long.
    pub fn cache(&self) {
        *self.objects.cached.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(std::collections::HashMap::new());
    }

    /// Removes the bucket itself, so that requests meet NoSuchBucket.
    pub fn drop_bucket(&self) {
        self.objects.lock().buckets.remove(&self.bucket);
    }

    pub fn requests(&self) -> Vec<RequestLog> {
        let log = self.front.log.lock().unwrap_or_else(PoisonError::into_inner);
        let view = log.iter().map(|entry| RequestLog {
            method: entry.method.clone(),
            op: entry.op,
            key: entry.key.clone(),
            status: entry.status.load(Ordering::SeqCst),
            conditional: entry.conditional,
            bytes_in: entry.bytes_in.load(Ordering::SeqCst),
            bytes_out: entry.bytes_out.load(Ordering::SeqCst),
        });
        view.collect()
    }

    /// How many logged requests did `op` on a key that contains `part`.
    pub fn count(&self, op: Op, part: &str) -> usize {
        self.requests().iter().filter(|seen| seen.op == op && seen.key.contains(part)).count()
    }

    pub fn reset_log(&self) {
        self.front.log.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Switches a fault on until the guard is dropped:
    /// `let _slow = server.fault(Fault::SlowDown.on(Op::PutObject).key("locks/").next(2));`
    pub fn fault(&self, rule: impl Into<Rule>) -> FaultGuard {
        let id = self.front.faults.add(rule.into());
        FaultGuard { faults: Arc::clone(&self.front.faults), id }
    }

    pub fn clear_faults(&self) {
        self.front.faults.clear();
    }

    /// Runs `hook` before each request is served. Requests that come while the hook runs
    /// pass without it. The hook may use a clone of this handle.
    pub fn on_request(&self, hook: impl FnMut(Op, &str) + Send + 'static) {
        *self.front.hook.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(hook));
    }

    /// Runs `action` once, before the next request that does `op` on a key containing `part`.
    pub fn before_next(&self, op: Op, part: &str, action: impl FnOnce() + Send + 'static) {
        let (part, mut action) = (part.to_owned(), Some(action));
        self.on_request(move |seen, key| {
            if seen == op
                && key.contains(&part)
                && let Some(action) = action.take()
            {
                action();
            }
        });
    }

    pub fn clear_hook(&self) {
        *self.front.hook.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Moves the server's clock ahead of the real time (negative is behind): its Date header, and the times of
    /// requests that it accepts, fifteen minutes to either side as on AWS.
    pub fn set_clock_offset(&self, seconds: i64) {
        self.front.clock_offset.store(seconds, Ordering::SeqCst);
    }
}
