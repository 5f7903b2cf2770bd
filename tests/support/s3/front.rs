//! The HTTP face of the server: names the operation, keeps the request log, runs the
//! test's hook, and carries out the faults that live on the wire. Real work goes to s3s.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::SystemTime;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, DATE, HeaderValue};
use hyper::{HeaderMap, Method, Request, Response};
use s3s::service::S3Service;

use super::answers;
use super::faults::{Fault, Faults, Op};
use super::service::Conditions;

pub type Hook = Box<dyn FnMut(Op, &str) + Send>;
type BoxError = s3s::StdError;

/// A request as it is being counted; `status` 0 means not answered.
pub struct Entry {
    pub method: String,
    pub op: Op,
    pub key: String,
    pub conditional: bool,
    pub status: AtomicU16,
    pub bytes_in: AtomicU64,
    pub bytes_out: AtomicU64,
}

/// What every connection shares.
#[derive(Default)]
pub struct Front {
    pub faults: Arc<Faults>,
    pub log: Mutex<Vec<Arc<Entry>>>,
    pub hook: Mutex<Option<Hook>>,
    /// Seconds by which the server's clock is ahead.
    pub clock_offset: AtomicI64,
}

impl Front {
    fn now(&self) -> jiff::Timestamp {
        let now = jiff::Timestamp::try_from(SystemTime::now()).expect("a time");
        now + jiff::SignedDuration::from_secs(self.clock_offset.load(Ordering::SeqCst))
    }

    fn date(&self) -> HeaderValue {
        let text = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&self.now());
        HeaderValue::from_str(&text.expect("a date")).expect("a header")
    }

    /// Signed at a time that is too far from ours.
    fn too_skewed(&self, headers: &HeaderMap) -> bool {
        let signed = headers
            .get("x-amz-date")
            .and_then(|value| value.to_str().ok())
            .and_then(|text| jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", text).ok())
            .and_then(|at| at.to_zoned(jiff::tz::TimeZone::UTC).ok());
        signed.is_some_and(|at| at.timestamp().duration_since(self.now()).as_secs().abs() > 15 * 60)
    }

    /// Runs the hook off the async threads. It is taken out meanwhile, so that a hook which
    /// makes requests of its own does not meet itself.
    async fn run_hook(self: &Arc<Self>, op: Op, key: &str) {
        let taken = self.hook.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut hook) = taken else { return };
        let key = key.to_owned();
        let ran = tokio::task::spawn_blocking(move || {
            hook(op, &key);
            hook
        });
        let hook = ran.await.expect("the on_request hook panicked");
        let mut place = self.hook.lock().unwrap_or_else(PoisonError::into_inner);
        place.get_or_insert(hook);
    }

    async fn answer(
        self: Arc<Self>,
        s3: S3Service,
        request: Request<Incoming>,
    ) -> Result<Response<Outgoing>, BoxError> {
        let (op, key) = name(&request);
        let headers = request.headers();
        let conditional =
            op.writes() && (headers.contains_key("if-match") || headers.contains_key("if-none-match"));
        let entry = Arc::new(Entry {
            method: request.method().to_string(),
            op,
            key,
            conditional,
            status: AtomicU16::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
        });
        self.log.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&entry));
        let head = request.method() == Method::HEAD;
        let request = request.map(|body| Arriving { body, entry: Arc::clone(&entry) });
        self.run_hook(op, &entry.key).await;

        let mut faults = self.faults.meet(op, &entry.key, conditional);
        if self.too_skewed(request.headers()) {
            faults = vec![Fault::Status(403, "RequestTimeTooSkewed")];
        }
        let served = self.serve(s3, request, &entry, &faults).await?;
        let mut response = match served {
            Served::Real(response) => response,
            Served::Error(status, code) => answers::error(status, code, head),
            Served::Page(status, html) => answers::page(status, html, head),
        };
        response.headers_mut().insert(DATE, self.date());
        entry.status.store(response.status().as_u16(), Ordering::SeqCst);

        let mut cut = None;
        let mut truncate = None;
        for fault in &faults {
            match fault {
                Fault::CutConnection(after) if op == Op::GetObject => cut = Some(*after),
                Fault::TruncatedBody(after) if response.status().is_success() => truncate = Some(*after),
                _ => {}
            }
        }
        if let Some(limit) = truncate {
            shorten(response.headers_mut(), limit);
        }
        Ok(response.map(|body| Outgoing { body, entry, cut, truncate, flushed: false }))
    }

    async fn serve(
        &self,
        s3: S3Service,
        request: Request<Arriving>,
        entry: &Entry,
        faults: &[Fault],
    ) -> Result<Served, BoxError> {
        let mut conditions = Conditions::Honoured;
        let mut lost_reply = false;
        let mut lost_connection = false;
        let mut unreadable = false;
        let mut refusal = None;
        for fault in faults {
            match fault {
                Fault::Latency(time) => tokio::time::sleep(*time).await,
                Fault::Together(meeting) => {
                    meeting.0.wait().await;
                }
                Fault::BlackHole => std::future::pending().await,
                Fault::Disconnect => return Err(dropped()),
                Fault::CutConnection(after) if entry.op.writes() => {
                    read_up_to(request.into_body(), *after).await?;
                    return Err(dropped());
                }
                Fault::WantsIntegrity if !has_integrity(request.headers()) => {
                    read_up_to(request.into_body(), u64::MAX).await?;
                    return Ok(Served::Page(400, answers::WANTS_INTEGRITY));
                }
                Fault::WantsIntegrity => {}
                Fault::SlowDown => refusal = Some((503, "SlowDown")),
                Fault::Conditions501 => refusal = Some((501, "NotImplemented")),
                Fault::Conflict409 => refusal = Some((409, "ConditionalRequestConflict")),
                Fault::Status(status, code) => refusal = Some((*status, *code)),
                Fault::Page(status, html) => {
                    read_up_to(request.into_body(), u64::MAX).await?;
                    return Ok(Served::Page(*status, html));
                }
                Fault::IgnoresConditions => conditions = Conditions::Ignored,
                Fault::NotAtomic(gap) => conditions = Conditions::NotAtomic(*gap),
                Fault::LostReply => lost_reply = true,
                Fault::Unreadable => unreadable = true,
                Fault::LostConnection => lost_connection = true,
                Fault::CutConnection(_) | Fault::TruncatedBody(_) => {}
            }
        }
        if let Some((status, code)) = refusal {
            // A server that answers before it has the body makes clients see a reset instead.
            read_up_to(request.into_body(), u64::MAX).await?;
            return Ok(Served::Error(status, code));
        }
        let mut request = request.map(s3s::Body::http_body_unsync);
        request.extensions_mut().insert(conditions);
        let response = s3.call(request).await?;
        if unreadable {
            return Ok(Served::Page(200, "<Answer/>"));
        }
        if lost_connection {
            return Err(dropped());
        }
        if lost_reply {
            return Ok(Served::Error(500, "InternalError"));
        }
        Ok(Served::Real(response))
    }
}

enum Served {
    Real(Response<s3s::Body>),
    Error(u16, &'static str),
    Page(u16, &'static str),
}

/// Whether a request says what the sum of its body is, in a header of its own.
fn has_integrity(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| name == "content-md5" || name.as_str().starts_with("x-amz-checksum-"))
}

/// An error that a hyper service returns drops the connection without an answer.
fn dropped() -> BoxError {
    Box::new(io::Error::from(io::ErrorKind::ConnectionReset))
}

fn shorten(headers: &mut HeaderMap, limit: u64) {
    let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if let Some(length) = length {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length.min(limit)));
    }
}

async fn read_up_to(body: Arriving, limit: u64) -> Result<(), BoxError> {
    let mut body = std::pin::pin!(body);
    let mut read = 0;
    while read < limit {
        let Some(frame) = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await else {
            break;
        };
        read += frame?.data_ref().map_or(0, |data| data.len() as u64);
    }
    Ok(())
}

/// The operation and the key, from a path-style request.
fn name(request: &Request<Incoming>) -> (Op, String) {
    let path = percent_decoded(request.uri().path());
    let query = request.uri().query().unwrap_or_default();
    let has = |name: &str| {
        query.split('&').any(|pair| pair == name || pair.split_once('=').is_some_and(|(key, _)| key == name))
    };
    let (_, key) = path.trim_start_matches('/').split_once('/').unwrap_or_default();
    let copies = request.headers().contains_key("x-amz-copy-source");
    let op = match (request.method().as_str(), key.is_empty()) {
        ("HEAD", true) => Op::HeadBucket,
        ("PUT", true) => Op::CreateBucket,
        ("GET", true) if has("list-type") || has("prefix") => Op::ListObjects,
        ("GET", false) => Op::GetObject,
        ("HEAD", false) => Op::HeadObject,
        ("PUT", false) if has("partNumber") => Op::UploadPart,
        ("PUT", false) if copies => Op::CopyObject,
        ("PUT", false) => Op::PutObject,
        ("POST", false) if has("uploads") => Op::CreateMultipartUpload,
        ("POST", false) if has("uploadId") => Op::CompleteMultipartUpload,
        ("DELETE", false) if has("uploadId") => Op::AbortMultipartUpload,
        ("DELETE", false) => Op::DeleteObject,
        _ => Op::Other,
    };
    let prefix = query.split('&').find_map(|pair| pair.strip_prefix("prefix="));
    let key =
        if op == Op::ListObjects { percent_decoded(prefix.unwrap_or_default()) } else { key.to_owned() };
    (op, key)
}

fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        out.push(escaped.unwrap_or(bytes[at]));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// A request body, counted as it comes in.
struct Arriving {
    body: Incoming,
    entry: Arc<Entry>,
}

impl http_body::Body for Arriving {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame {
            let len = frame.data_ref().map_or(0, |data| data.len() as u64);
            self.entry.bytes_in.fetch_add(len, Ordering::SeqCst);
        }
        Poll::Ready(frame.map(|frame| frame.map_err(BoxError::from)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A response body, counted as it goes out, cut or shortened when a fault says so.
pub struct Outgoing {
    body: s3s::Body,
    entry: Arc<Entry>,
    cut: Option<u64>,
    truncate: Option<u64>,
    flushed: bool,
}

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if this.truncate == Some(0) {
            return Poll::Ready(None);
        }
        if this.cut == Some(0) {
            if !this.flushed {
                // One pause lets hyper send what it holds; an error at once would drop it.
                this.flushed = true;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            return Poll::Ready(Some(Err(dropped())));
        }
        let Some(frame) = ready!(Pin::new(&mut this.body).poll_frame(cx)) else {
            return Poll::Ready(None);
        };
        let Ok(mut data) = frame?.into_data() else {
            return Poll::Ready(None);
        };
        for limit in [&mut this.cut, &mut this.truncate].into_iter().flatten() {
            data.truncate((*limit).min(usize::MAX as u64) as usize);
            *limit -= data.len() as u64;
        }
        this.entry.bytes_out.fetch_add(data.len() as u64, Ordering::SeqCst);
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.cut.is_none() && (self.truncate == Some(0) || self.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        match (self.truncate, self.body.size_hint().exact()) {
            (Some(limit), Some(size)) => SizeHint::with_exact(limit.min(size)),
            _ => self.body.size_hint(),
        }
    }
}

/// One connection's view of the server.
#[derive(Clone)]
pub struct Connection {
    pub front: Arc<Front>,
    pub s3: S3Service,
}

impl hyper::service::Service<Request<Incoming>> for Connection {
    type Response = Response<Outgoing>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Outgoing>, BoxError>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        Box::pin(Arc::clone(&self.front).answer(self.s3.clone(), request))
    }
}
