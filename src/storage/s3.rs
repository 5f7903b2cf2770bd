//! The S3 store, and with its folder the only code that knows the SDK. One attempt per call: trying again is
//! `retry`'s business, deciding what an answer means is `conditional`'s.

mod errors;
mod read;
mod request;

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    StalledStreamProtectionConfig,
};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use errors::{chain, classify, status};
use request::{ServerClock, SignedPayload, SigningClock, counted};

use super::{Body, Condition, Entry, Etag, Meta, PutAnswer, Sink, StoreError, StoreErrorKind, http};
use crate::config::S3Config;
use crate::context::Context;
use crate::progress::Progress;

/// Time to get a connection (F32).
const CONNECT: Duration = Duration::from_secs(5);
/// Time to the head of an answer, for requests without a large body.
const ANSWER: Duration = Duration::from_secs(20);
fn answer() -> Duration {
    crate::failpoint::answer_limit().unwrap_or(ANSWER)
}

/// The slowest uplink that we still wait for, in bytes a second.
const SLOWEST: u64 = 8 * 1024;

/// A bucket.
#[derive(Debug)]
pub struct S3Store {
    client: Client,
    bucket: String,
    endpoint: String,
    clock: SigningClock,
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
            .endpoint_url(&config.endpoint)
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
        let config_s3 = aws_sdk_s3::config::Builder::from(&shared)
            .force_path_style(true)
            .interceptor(ServerClock(Arc::clone(context)))
            .build();
        Ok(Self {
            client: Client::from_conf(config_s3),
            bucket: config.bucket.clone(),
            endpoint: config.endpoint.clone(),
            clock,
        })
    }

    pub(super) fn name(&self) -> String {
        format!("{}/{}", self.endpoint, self.bucket)
    }

    pub(super) async fn check(&self) -> Result<(), StoreError> {
        let answer = self.client.head_bucket().bucket(&self.bucket).send().await;
        match answer {
            Ok(_) => Ok(()),
            // HEAD answers carry no body and so no code: a listing tells a wrong key from a missing bucket.
            Err(error) if status(&error).is_some() => self.list_page("projects/", None, 1).await.map(|_| ()),
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
        let mut request = self.client.get_object().bucket(&self.bucket).key(key);
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
        while let Some(chunk) = output.body.next().await {
            let chunk = chunk.map_err(|error| self.cut(operation(), &error))?;
            sink.write(&chunk).await.map_err(local)?;
        }
        if sink.written() < total {
            let detail = format!("the answer ended after {} of {total} bytes", sink.written());
            return Err(StoreError::new(StoreErrorKind::Interrupted, self.name(), operation(), detail));
        }
        Ok(Some(meta))
    }

    pub(super) async fn put(
        &self,
        key: &str,
        body: Body<'_>,
        condition: Condition<'_>,
        progress: &Progress,
    ) -> Result<PutAnswer, StoreError> {
        let operation = || format!("put {key}");
        let local = |error: &dyn std::fmt::Display| {
            StoreError::new(StoreErrorKind::Local, "this machine", operation(), error.to_string())
        };
        let mut request = self.client.put_object().bucket(&self.bucket).key(key);
        request = match condition {
            Condition::None => request,
            Condition::IfAbsent => request.if_none_match("*"),
            Condition::IfMatch(etag) => request.if_match(&etag.0),
        };
        let (request, length) = match body {
            Body::Bytes(bytes) => {
                let request = request.content_type("application/json").body(ByteStream::from(bytes.to_vec()));
                (request.customize(), bytes.len() as u64)
            }
            Body::File(path, digests) => {
                progress.set(0);
                let stream = ByteStream::read_from()
                    .path(path)
                    .buffer_size(64 * 1024)
                    .build()
                    .await
                    .map_err(|error| local(&error))?;
                let progress = progress.clone();
                let stream = stream.map(move |body| counted(body, progress.clone()));
                let request = request.content_type("application/octet-stream").body(stream).customize();
                (request.interceptor(SignedPayload(digests.clone())), digests.size)
            }
        };
        let whole = answer() + CONNECT + Duration::from_secs(length / SLOWEST);
        let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT).read_timeout(whole).build();
        let sent = request
            .config_override(aws_sdk_s3::config::Builder::default().timeout_config(timeouts))
            .send()
            .await;
        match sent {
            Ok(output) => Ok(PutAnswer::Written(Meta { etag: etag(output.e_tag), size: length })),
            Err(error) => match (condition, status(&error)) {
                // 304 is what MinIO answered until 2024-04; 404 is If-Match on a vanished key.
                (Condition::IfAbsent | Condition::IfMatch(_), Some(412 | 409 | 304)) => {
                    Ok(PutAnswer::Refused)
                }
                (Condition::IfMatch(_), Some(404)) if error.code() != Some("NoSuchBucket") => {
                    Ok(PutAnswer::Refused)
                }
                _ => Err(self.error(operation(), &error)),
            },
        }
    }

    pub(super) async fn list(&self, prefix: &str) -> Result<Vec<Entry>, StoreError> {
        let mut entries = Vec::new();
        let mut token = None;
        loop {
            let page = self.list_page(prefix, token.take(), 1000).await?;
            for object in page.contents.unwrap_or_default() {
                entries.push(Entry {
                    key: object.key.unwrap_or_default(),
                    size: size(object.size),
                    modified: object.last_modified.map_or(0, |at| at.secs()),
                });
            }
            token = page.next_continuation_token;
            if token.is_none() || page.is_truncated != Some(true) {
                return Ok(entries);
            }
        }
    }

    async fn list_page(
        &self,
        prefix: &str,
        token: Option<String>,
        max: i32,
    ) -> Result<aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output, StoreError> {
        let request = self.client.list_objects_v2().bucket(&self.bucket).prefix(prefix).max_keys(max);
        let sent = request.set_continuation_token(token).send().await;
        sent.map_err(|error| self.error(format!("list {prefix}"), &error))
    }

    pub(super) async fn copy(&self, from: &str, to: &str) -> Result<(), StoreError> {
        let source = format!("{}/{from}", self.bucket);
        let source = percent_encoding::utf8_percent_encode(&source, COPY_SOURCE).to_string();
        let sent = self.client.copy_object().bucket(&self.bucket).key(to).copy_source(source).send().await;
        sent.map(|_| ()).map_err(|error| self.error(format!("copy {from} to {to}"), &error))
    }

    fn cut(&self, operation: String, error: &dyn Error) -> StoreError {
        StoreError::new(StoreErrorKind::Interrupted, self.name(), operation, chain(error))
    }

    fn error<E>(&self, operation: String, error: &SdkError<E, HttpResponse>) -> StoreError
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let (mut kind, detail) = classify(error);
        // A HEAD is refused without a word of why.
        if kind == StoreErrorKind::Denied && error.code().is_none() && self.clock.is_off() {
            kind = StoreErrorKind::ClockSkew;
        }
        if kind == StoreErrorKind::ClockSkew {
            self.clock.correct();
        }
        StoreError::new(kind, self.name(), operation, detail)
    }
}

const COPY_SOURCE: &percent_encoding::AsciiSet =
    &percent_encoding::NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'-').remove(b'_');

fn etag(etag: Option<String>) -> Etag {
    Etag(etag.unwrap_or_default())
}

fn size(length: Option<i64>) -> u64 {
    length.and_then(|length| u64::try_from(length).ok()).unwrap_or(0)
}
