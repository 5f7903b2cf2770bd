//! Writing objects, whole or from another object of the bucket, one attempt a call. Decides nothing about what an answer
//! means for its caller.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::operation::put_object::PutObjectOutput;
use aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder;
use aws_sdk_s3::primitives::ByteStream;

use super::errors::status;
use super::request::{SignedPayload, counted};
use super::{CONNECT, S3Store, SLOWEST, answer, etag, small};
use crate::progress::Progress;
use crate::storage::{Body, Condition, Digests, Meta, PutAnswer, StoreError, StoreErrorKind};
use crate::sum::Sum;

/// What an attempt at a write came to.
type Sent = Result<
    PutObjectOutput,
    aws_sdk_s3::error::SdkError<
        aws_sdk_s3::operation::put_object::PutObjectError,
        aws_smithy_runtime_api::client::orchestrator::HttpResponse,
    >,
>;

impl S3Store {
    pub(in crate::storage) async fn put(
        &self,
        key: &str,
        body: Body<'_>,
        condition: Condition<'_>,
        progress: &Progress,
    ) -> Result<PutAnswer, StoreError> {
        let operation = || format!("put {key}");
        let length = match body {
            Body::Bytes(bytes) => bytes.len() as u64,
            Body::File(_, digests) => digests.size,
        };
        let whole = answer() + CONNECT + Duration::from_secs(length / SLOWEST);
        let sent = match body {
            Body::Bytes(bytes) => {
                let request = || async move { self.send_bytes(key, bytes, condition, whole).await };
                self.ask(operation, whole.saturating_mul(2), request).await?
            }
            Body::File(path, digests) => {
                // A file that cannot be read is our own trouble, not an answer.
                let readable = tokio::fs::File::open(path).await;
                readable.map_err(|error| local(operation(), &error))?;
                let request =
                    || async move { self.send_file(key, path, digests, condition, progress, whole).await };
                self.ask(operation, whole.saturating_mul(2), request).await?
            }
        };
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

    fn request(
        &self,
        key: &str,
        condition: Condition<'_>,
        sha256: impl Fn() -> Sum,
    ) -> PutObjectFluentBuilder {
        let request = self.client().put_object().bucket(&self.bucket).key(key);
        let request = match condition {
            Condition::None => request,
            Condition::IfAbsent => request.if_none_match("*"),
            Condition::IfMatch(etag) => request.if_match(&etag.0),
        };
        if self.checked.load(Ordering::Relaxed) {
            return request.checksum_sha256(aws_smithy_types::base64::encode(sha256().bytes()));
        }
        request
    }

    async fn send_bytes(&self, key: &str, bytes: &[u8], condition: Condition<'_>, whole: Duration) -> Sent {
        let request = self
            .request(key, condition, || Sum::of(bytes))
            .content_type("application/json")
            .body(ByteStream::from(bytes.to_vec()));
        request.customize().config_override(within(whole)).send().await
    }

    async fn send_file(
        &self,
        key: &str,
        path: &Path,
        digests: &Digests,
        condition: Condition<'_>,
        progress: &Progress,
        whole: Duration,
    ) -> Sent {
        progress.set(0);
        let stream = ByteStream::read_from().path(path).buffer_size(64 * 1024).build().await;
        let stream = stream.map_err(aws_sdk_s3::error::SdkError::construction_failure)?;
        let (progress, pace) = (progress.clone(), self.upload.clone());
        let stream = stream.map(move |body| counted(body, progress.clone(), pace.clone()));
        let request = self
            .request(key, condition, || digests.sha256)
            .content_type("application/octet-stream")
            .body(stream);
        let request = request.customize().interceptor(SignedPayload(digests.sha256));
        request.config_override(within(whole)).send().await
    }

    pub(in crate::storage) async fn copy(&self, from: &str, to: &str) -> Result<(), StoreError> {
        let source = format!("{}/{from}", self.bucket);
        let source = percent_encoding::utf8_percent_encode(&source, COPY_SOURCE).to_string();
        let source = source.as_str();
        let operation = || format!("copy {from} to {to}");
        let request = || async move {
            self.client().copy_object().bucket(&self.bucket).key(to).copy_source(source).send().await
        };
        // A server copies gigabytes before it answers.
        let answered = self.ask(operation, small().saturating_mul(10), request).await?;
        answered.map(|_| ()).map_err(|error| self.error(operation(), &error))
    }
}

const COPY_SOURCE: &percent_encoding::AsciiSet =
    &percent_encoding::NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'-').remove(b'_');

pub(super) fn within(whole: Duration) -> aws_sdk_s3::config::Builder {
    let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT).read_timeout(whole).build();
    aws_sdk_s3::config::Builder::default().timeout_config(timeouts)
}

fn local(operation: String, error: &dyn std::fmt::Display) -> StoreError {
    StoreError::new(StoreErrorKind::Local, "this machine", operation, error.to_string())
}
