//! The S3 store, and with its folder the only code that knows the SDK. One attempt per call: trying again is
//! `retry`'s business, deciding what an answer means is `conditional`'s.

mod errors;
mod list;
mod parts;
mod read;
mod request;
mod write;

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    StalledStreamProtectionConfig,
};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use errors::{Wish, certificate_advice, chain, classify, status, wish};
use request::{Bounded, ServerClock, SigningClock};

use super::pace::Pace;
use super::{Etag, Meta, Sink, StoreError, StoreErrorKind, http};
use crate::config::{Addressing, S3Config};
use crate::context::Context;

/// Time to get a connection (F32).
const CONNECT: Duration = Duration::from_secs(5);
/// Time to the head of an answer, for requests without a large body.
const ANSWER: Duration = Duration::from_secs(20);
fn answer() -> Duration {
    crate::failpoint::answer_limit().unwrap_or(ANSWER)
}

/// Time for a small request and its whole answer.
fn small() -> Duration {
    CONNECT + answer() + answer() / 2
}

/// The slowest uplink that we still wait for, in bytes a second.
const SLOWEST: u64 = 8 * 1024;

/// A bucket.
#[derive(Debug)]
pub struct S3Store {
    /// Requests to `ENDPOINT/BUCKET/KEY`.
    by_path: Client,
    /// Requests to `BUCKET.ENDPOINT/KEY`, for stores that take no others.
    by_host: Client,
    addressing: Addressing,
    /// The store has asked for the other address; true as well where the configuration says so.
    hosted: AtomicBool,
    /// The store insists on a checksum in the header of each write (Object Lock).
    checked: AtomicBool,
    bucket: String,
    endpoint: String,
    name: String,
    /// How fast objects come and go.
    download: Pace,
    upload: Pace,
    proxy: Option<&'static str>,
    clock: SigningClock,
    context: Arc<Context>,
}

impl S3Store {
    pub(super) fn new(config: &S3Config, context: &Arc<Context>) -> Result<Self, StoreError> {
        let credentials = Credentials::new(
            config.access_key.reveal(),
            config.secret_key.reveal(),
            None,
            None,
            "membridge configuration",
        );
        let clock = SigningClock::new(context);
        // aws-config's environment chain is not asked: keys come from our own configuration only.
        let shared = aws_config::SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(config.region.clone()))
            .endpoint_url(with_slash(&config.endpoint))
            .credentials_provider(aws_sdk_s3::config::SharedCredentialsProvider::new(credentials))
            .http_client(http::client(config)?)
            .time_source(clock.clone())
            // One correction: the SDK would add its own, of what ours has corrected already.
            .disable_clock_skew_correction(true)
            .retry_config(RetryConfig::disabled())
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .stalled_stream_protection(
                StalledStreamProtectionConfig::enabled().grace_period(Duration::from_secs(30)).build(),
            )
            .timeout_config(TimeoutConfig::builder().connect_timeout(CONNECT).read_timeout(answer()).build())
            .build();
        let client = |by_path: bool| {
            let builder = aws_sdk_s3::config::Builder::from(&shared)
                .force_path_style(by_path)
                .interceptor(ServerClock(Arc::clone(context)))
                .interceptor(Bounded);
            Client::from_conf(builder.build())
        };
        Ok(Self {
            by_path: client(true),
            by_host: client(false),
            addressing: config.addressing,
            hosted: AtomicBool::new(config.addressing == Addressing::Virtual),
            checked: AtomicBool::new(false),
            bucket: config.bucket.clone(),
            endpoint: config.endpoint.clone(),
            name: config.name(),
            download: Pace::new(config.limits.download),
            upload: Pace::new(config.limits.upload),
            proxy: http::proxy_in_use(config),
            clock,
            context: Arc::clone(context),
        })
    }

    fn client(&self) -> &Client {
        if self.hosted.load(Ordering::Relaxed) { &self.by_host } else { &self.by_path }
    }

    /// Sends a request, once more where the store wants it in another form, and waits for its answer no longer than
    /// `limit`: a body that drips is no answer.
    async fn ask<T, E, Fut>(
        &self,
        operation: impl Fn() -> String,
        limit: Duration,
        send: impl Fn() -> Fut,
    ) -> Result<Result<T, SdkError<E, HttpResponse>>, StoreError>
    where
        Fut: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + Error + 'static,
    {
        let in_time = async {
            match send().await {
                Err(error) if self.adapts_to(&error) => send().await,
                other => other,
            }
        };
        let _asking = self.context.asks(format!("{} at {}", operation(), self.name()));
        tokio::time::timeout(limit, in_time).await.map_err(|_| self.late(operation(), limit))
    }

    fn late(&self, operation: String, limit: Duration) -> StoreError {
        let detail = format!("no whole answer within {} s", limit.as_secs().max(1));
        StoreError::new(StoreErrorKind::Interrupted, self.name(), operation, detail)
    }

    /// Whether the store has just said in which other form it wants its requests, and ours have that form from now on.
    fn adapts_to<E: ProvideErrorMetadata>(&self, error: &SdkError<E, HttpResponse>) -> bool {
        match wish(error.code().unwrap_or_default(), error.message().unwrap_or_default()) {
            Some(Wish::VirtualHost) if self.addressing == Addressing::Auto && self.has_name() => {
                !self.hosted.swap(true, Ordering::Relaxed)
            }
            Some(Wish::Checksum) => !self.checked.swap(true, Ordering::Relaxed),
            _ => false,
        }
    }

    /// A bucket can stand before a name only, not before an address.
    fn has_name(&self) -> bool {
        let host = self.endpoint.split("://").nth(1).unwrap_or_default();
        let host = host.split('/').next().unwrap_or_default();
        !host.starts_with('[')
            && host.split(':').next().unwrap_or_default().parse::<std::net::Ipv4Addr>().is_err()
    }

    pub(super) fn name(&self) -> String {
        self.name.clone()
    }

    pub(super) async fn check(&self) -> Result<(), StoreError> {
        let head = || async move { self.client().head_bucket().bucket(&self.bucket).send().await };
        let answer = self.ask(|| "reach the bucket".to_owned(), small(), head).await?;
        match answer {
            Ok(_) => Ok(()),
            // HEAD answers carry no body and so no code: a listing tells a wrong key from a missing bucket.
            Err(error) if status(&error).is_some() => self.glance("projects/").await.map(|_| ()),
            Err(error) => Err(self.error("reach the bucket".to_owned(), &error)),
        }
    }

    /// One attempt at streaming the rest of an object. `version` is the object as first seen: a resumed attempt
    /// asks for the rest of just that, and starts again when the object has changed.
    pub(super) async fn stream(
        &self,
        key: &str,
        sink: &mut Sink,
        version: &mut Option<Meta>,
    ) -> Result<Option<Meta>, StoreError> {
        let operation = || format!("download {key}");
        let local = |error: std::io::Error| {
            StoreError::new(StoreErrorKind::Local, "this machine", operation(), error.to_string())
        };
        let mut request = self.client().get_object().bucket(&self.bucket).key(key);
        let resumed = sink.written() > 0 && version.is_some();
        if let (true, Some(version)) = (resumed, version.as_ref()) {
            request = request.range(format!("bytes={}-", sink.written())).if_match(&version.etag.0);
        }
        let mut output = match request.send().await {
            Ok(output) => output,
            Err(error) if resumed && matches!(status(&error), Some(412 | 416)) => {
                sink.restart().await.map_err(local)?;
                *version = None;
                return Err(StoreError::new(
                    StoreErrorKind::Interrupted,
                    self.name(),
                    operation(),
                    "the object changed during the download",
                ));
            }
            Err(error) => return self.absent(key, operation(), &error).await.map(|()| None),
        };
        self.not_a_page(&operation(), output.content_type.as_deref())?;
        let partial = output.content_range.is_some();
        if resumed && !partial {
            // The server ignored the range and sends everything again.
            sink.restart().await.map_err(local)?;
        }
        let total = sink.written() + size(output.content_length);
        let meta = Meta { etag: etag(output.e_tag), size: total };
        *version = Some(meta.clone());
        sink.expect(total);
        while let Some(chunk) = output.body.next().await {
            let chunk = chunk.map_err(|error| self.cut(operation(), &error))?;
            self.download.wait(chunk.len() as u64).await;
            sink.write(&chunk).await.map_err(local)?;
        }
        if sink.written() < total {
            let detail = format!("the answer ended after {} of {total} bytes", sink.written());
            return Err(StoreError::new(StoreErrorKind::Interrupted, self.name(), operation(), detail));
        }
        Ok(Some(meta))
    }

    fn cut(&self, operation: String, error: &dyn Error) -> StoreError {
        StoreError::new(StoreErrorKind::Interrupted, self.name(), operation, chain(error))
    }

    fn error<E>(&self, operation: String, error: &SdkError<E, HttpResponse>) -> StoreError
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let (mut kind, detail) = classify(error, self.proxy);
        // A HEAD is refused without a word of why.
        if kind == StoreErrorKind::Denied && error.code().is_none() && self.clock.is_off() {
            kind = StoreErrorKind::ClockSkew;
        }
        if kind == StoreErrorKind::ClockSkew {
            self.clock.correct();
        }
        let mut error_of_store = StoreError::new(kind, self.name(), operation, detail);
        error_of_store.wait = retry_after(error);
        error_of_store.advice = certificate_advice(&error_of_store.detail);
        error_of_store
    }
}

/// How long the store asks us to wait, where it says so in seconds.
fn retry_after<E>(error: &SdkError<E, HttpResponse>) -> Option<Duration> {
    let text = error.raw_response()?.headers().get("retry-after")?;
    text.trim().parse().ok().map(Duration::from_secs)
}

/// An endpoint that lies under a path (Supabase: `/storage/v1/s3`) ends with a slash for the SDK, which would glue the
/// bucket to its last word otherwise.
fn with_slash(endpoint: &str) -> String {
    let under_a_path = endpoint.split_once("://").is_some_and(|(_, rest)| rest.contains('/'));
    if under_a_path { format!("{endpoint}/") } else { endpoint.to_owned() }
}

fn etag(etag: Option<String>) -> Etag {
    Etag(etag.unwrap_or_default())
}

fn size(length: Option<i64>) -> u64 {
    length.and_then(|length| u64::try_from(length).ok()).unwrap_or(0)
}
