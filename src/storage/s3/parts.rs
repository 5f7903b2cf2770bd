//! An object that goes up in parts: begun, sent part by part, joined at the end or given up, one attempt a call. Which parts
//! the store has is remembered elsewhere.

use std::error::Error;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::{ByteStream, Length};
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use super::errors::status;
use super::request::{SignedPayload, counted};
use super::write::within;
use super::{CONNECT, S3Store, SLOWEST, answer, small};
use crate::progress::Progress;
use crate::storage::object::{Known, Piece};
use crate::storage::{StoreError, StoreErrorKind};
use crate::sum::Sum;

impl S3Store {
    /// Whether the store insists on a checksum in the header of each write: then parts would have to be joined with theirs.
    pub(in crate::storage) fn wants_checksums(&self) -> bool {
        self.checked.load(Ordering::Relaxed)
    }

    /// Begins an upload: its name.
    pub(in crate::storage) async fn begin_parts(&self, key: &str) -> Result<String, StoreError> {
        let operation = || format!("begin {key}");
        let request = || async move {
            let begin = self.client().create_multipart_upload().bucket(&self.bucket).key(key);
            begin.content_type("application/octet-stream").send().await
        };
        let answer = self.ask(operation, small(), request).await?;
        let output = answer.map_err(|error| self.error(operation(), &error))?;
        output.upload_id.ok_or_else(|| {
            let detail = "the store gave the upload no name";
            StoreError::new(StoreErrorKind::Unexpected, self.name(), operation(), detail)
        })
    }

    /// Sends a part of a file, whose SHA-256 is known; its etag.
    pub(in crate::storage) async fn put_part(
        &self,
        (key, upload): (&str, &str),
        path: &Path,
        (piece, sha256): (&Piece, Sum),
        progress: &Progress,
    ) -> Result<Known<String>, StoreError> {
        let operation = || format!("put part {} of {key}", piece.number);
        let whole = answer() + CONNECT + Duration::from_secs(piece.length / SLOWEST);
        let request = || async move {
            progress.set(piece.offset);
            let part = ByteStream::read_from().path(path).offset(piece.offset).buffer_size(64 * 1024);
            let part = match part.length(Length::Exact(piece.length)).build().await {
                Ok(part) => part,
                Err(error) => return Err(SdkError::construction_failure(error)),
            };
            let (progress, pace) = (progress.clone(), self.upload.clone());
            let part = part.map(move |body| counted(body, progress.clone(), pace.clone()));
            let request = self.client().upload_part().bucket(&self.bucket).key(key).upload_id(upload);
            let request = request.part_number(piece.number).body(part).customize();
            request.interceptor(SignedPayload(sha256)).config_override(within(whole)).send().await
        };
        match self.ask(operation, whole.saturating_mul(2), request).await? {
            Ok(output) => Ok(Known::Done(output.e_tag.unwrap_or_default())),
            Err(error) => self.unknown(operation(), &error),
        }
    }

    /// Makes one object of the parts with these etags, in their order; its etag.
    pub(in crate::storage) async fn join_parts(
        &self,
        (key, upload): (&str, &str),
        etags: &[String],
    ) -> Result<Known<String>, StoreError> {
        let operation = || format!("join the parts of {key}");
        let request = || async move {
            let parts = (1..).zip(etags);
            let parts =
                parts.map(|(number, etag)| CompletedPart::builder().part_number(number).e_tag(etag).build());
            let whole = CompletedMultipartUpload::builder().set_parts(Some(parts.collect())).build();
            let request = self.client().complete_multipart_upload().bucket(&self.bucket).key(key);
            request.upload_id(upload).multipart_upload(whole).send().await
        };
        // A server copies gigabytes before it answers.
        match self.ask(operation, small().saturating_mul(10), request).await? {
            // In quotes, as a look at the object says it; some stores leave them out here.
            Ok(output) => {
                let etag = output.e_tag.unwrap_or_default();
                Ok(Known::Done(format!("\"{}\"", etag.trim_matches('"'))))
            }
            Err(error) => self.unknown(operation(), &error),
        }
    }

    /// Gives an upload up: the store keeps its parts, and may ask money for them, until then.
    pub(in crate::storage) async fn drop_parts(&self, (key, upload): (&str, &str)) -> Result<(), StoreError> {
        let operation = || format!("give up the parts of {key}");
        let request = || async move {
            let request = self.client().abort_multipart_upload().bucket(&self.bucket).key(key);
            request.upload_id(upload).send().await
        };
        match self.ask(operation, small(), request).await? {
            Ok(_) => Ok(()),
            Err(error) => self.unknown::<(), _>(operation(), &error).map(drop),
        }
    }

    /// Whether an error says that there is no such upload, or not all of its parts; otherwise it stays one.
    fn unknown<T, E>(
        &self,
        operation: String,
        error: &SdkError<E, HttpResponse>,
    ) -> Result<Known<T>, StoreError>
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        match (status(error), error.code()) {
            (_, Some("NoSuchUpload" | "InvalidPart" | "InvalidPartOrder")) => Ok(Known::Nothing),
            (Some(404), code) if code != Some("NoSuchBucket") => Ok(Known::Nothing),
            _ => Err(self.error(operation, error)),
        }
    }
}
