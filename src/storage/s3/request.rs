//! What is done to every request on its way: the time that it is signed with, the checksum of its body, the bytes that
//! are counted as they leave, and the server's time that is read off the answer. Knows no operation.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::Poll;
use std::time::SystemTime;

use aws_runtime::auth::PayloadSigningOverride;
use aws_sdk_s3::config::interceptors::{
    BeforeDeserializationInterceptorContextMut, BeforeDeserializationInterceptorContextRef,
    BeforeTransmitInterceptorContextMut,
};
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_smithy_async::time::TimeSource;
use aws_smithy_types::body::SdkBody;

use crate::context::Context;
use crate::progress::Progress;
use crate::storage::pace::Pace;
use crate::sum::Sum;

/// What stores tolerate between their time and that of a signature (seconds; Amazon's documented limit, MinIO's too).
const ALLOWED_SKEW: i64 = 900;

/// The time that requests are signed with: ours, corrected once the store has refused it, because a board without a
/// clock battery could not talk to it at all otherwise (F48). The SDK measures the flow of bodies with it too, so it
/// moves between two requests only, never during one.
#[derive(Debug, Clone)]
pub(super) struct SigningClock {
    context: Arc<Context>,
    correction: Arc<AtomicI64>,
}

impl SigningClock {
    /// Ours, until the store refuses it.
    pub(super) fn new(context: &Arc<Context>) -> Self {
        Self { context: Arc::clone(context), correction: Arc::new(AtomicI64::new(0)) }
    }

    /// Whether the store's last answer was further from the time that we sign with than any store allows (S3: 15 minutes).
    pub(super) fn is_off(&self) -> bool {
        let correction = self.correction.load(Ordering::Relaxed);
        (self.context.skew_seconds() - correction).abs() > ALLOWED_SKEW
    }

    /// Takes the store's word for it from now on.
    pub(super) fn correct(&self) {
        self.correction.store(self.context.skew_seconds(), Ordering::Relaxed);
    }
}

impl TimeSource for SigningClock {
    fn now(&self) -> SystemTime {
        let now = self.context.now();
        let correction = jiff::SignedDuration::from_secs(self.correction.load(Ordering::Relaxed));
        now.checked_add(correction).unwrap_or(now).into()
    }
}

/// Learns the server's time from each answer (F48).
#[derive(Debug)]
pub(super) struct ServerClock(pub(super) Arc<Context>);

impl Intercept for ServerClock {
    fn name(&self) -> &'static str {
        "ServerClock"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date");
        if let Some(date) = date.and_then(|text| jiff::fmt::rfc2822::parse(text).ok()) {
            self.0.learn_server_time(date.timestamp());
        }
        Ok(())
    }
}

/// The largest answer that is believed (bytes): an error says a few words, a page of a listing has 1,000 keys of at most
/// 1,024 bytes, each of which XML can write six times as long.
fn largest(operation: &str, refused: bool) -> Option<u64> {
    match operation {
        _ if refused => Some(64 << 10),
        // The readers of objects count for themselves.
        "GetObject" => None,
        "ListObjectsV2" => Some(16 << 20),
        _ => Some(1 << 20),
    }
}

/// Bounds the body of each answer before anything reads it whole, and asks caches on the way for the store's own word.
#[derive(Debug)]
pub(super) struct Bounded;

impl Intercept for Bounded {
    fn name(&self) -> &'static str {
        "Bounded"
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request_mut();
        if matches!(request.method(), "GET" | "HEAD") {
            request.headers_mut().insert("cache-control", "no-cache");
        }
        Ok(())
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let operation = bag.load::<aws_smithy_runtime_api::client::orchestrator::Metadata>();
        let operation = operation.map_or("", |metadata| metadata.name());
        let response = context.response_mut();
        if let Some(mut left) = largest(operation, !response.status().is_success()) {
            let body = std::mem::replace(response.body_mut(), SdkBody::taken());
            let each = move |bytes| {
                left =
                    u64::checked_sub(left, bytes).ok_or("the answer is longer than any answer should be")?;
                Ok(())
            };
            *response.body_mut() = SdkBody::from_body_1_x(Watched { body, each });
        }
        Ok(())
    }
}

/// Signs a streamed body with the SHA-256 that we know already, so that the server checks what it stores (F22).
#[derive(Debug)]
pub(super) struct SignedPayload(pub(super) Sum);

impl Intercept for SignedPayload {
    fn name(&self) -> &'static str {
        "SignedPayload"
    }

    fn modify_before_signing(
        &self,
        _: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        bag.interceptor_state().store_put(PayloadSigningOverride::Precomputed(self.0.to_string()));
        Ok(())
    }
}

/// Counts bytes into a progress bar as they leave, at the pace that they may have.
pub(super) fn counted(body: SdkBody, progress: Progress, pace: Pace) -> SdkBody {
    let each = move |bytes| {
        progress.add(bytes);
        Ok(())
    };
    let watched = SdkBody::from_body_1_x(Watched { body, each });
    SdkBody::from_body_1_x(Paced { body: watched, pace, rest: None })
}

/// A body that leaves no faster than it may.
struct Paced {
    body: SdkBody,
    pace: Pace,
    /// Until then nothing more leaves.
    rest: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl http_body::Body for Paced {
    type Data = bytes::Bytes;
    type Error = aws_smithy_types::body::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
        if let Some(rest) = &mut self.rest {
            if rest.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            self.rest = None;
        }
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            let owed = self.pace.owed(data.len() as u64);
            self.rest = (!owed.is_zero()).then(|| Box::pin(tokio::time::sleep(owed)));
        }
        polled
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::Body::size_hint(&self.body)
    }
}

/// A body of which somebody hears how many bytes each piece has; who does not like them ends it.
struct Watched<F> {
    body: SdkBody,
    each: F,
}

impl<F: FnMut(u64) -> Result<(), &'static str> + Unpin> http_body::Body for Watched<F> {
    type Data = bytes::Bytes;
    type Error = aws_smithy_types::body::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
            && let Err(problem) = (self.each)(data.len() as u64)
        {
            return Poll::Ready(Some(Err(problem.into())));
        }
        polled
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::Body::size_hint(&self.body)
    }
}
