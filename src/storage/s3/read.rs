//! Small objects, facts about objects, deletion — and what it takes to believe that there is no object: a proxy's 404
//! is not the store's word (F06). Knows no record.

use std::error::Error;

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use super::errors::{Missing, missing};
use super::{S3Store, etag, size, small};
use crate::storage::{Meta, RECORD_LIMIT, StoreError, StoreErrorKind};

impl S3Store {
    pub(in crate::storage) async fn get(&self, key: &str) -> Result<Option<(Vec<u8>, Meta)>, StoreError> {
        let whole = tokio::time::timeout(small(), self.get_whole(key)).await;
        whole.unwrap_or_else(|_| Err(self.late(format!("get {key}"), small())))
    }

    async fn get_whole(&self, key: &str) -> Result<Option<(Vec<u8>, Meta)>, StoreError> {
        let operation = || format!("get {key}");
        let request = || async move { self.client().get_object().bucket(&self.bucket).key(key).send().await };
        let mut output = match self.ask(operation, small(), request).await? {
            Ok(output) => output,
            Err(error) => return self.absent(key, operation(), &error).await.map(|()| None),
        };
        self.not_a_page(&operation(), output.content_type.as_deref())?;
        let mut bytes = Vec::new();
        while let Some(chunk) = output.body.next().await {
            let chunk = chunk.map_err(|error| self.cut(operation(), &error))?;
            if (bytes.len() + chunk.len()) as u64 > RECORD_LIMIT {
                return Err(StoreError::new(
                    StoreErrorKind::NotARecord,
                    self.name(),
                    operation(),
                    "the object is larger than any record should be (1 MiB)",
                ));
            }
            bytes.extend_from_slice(&chunk);
        }
        if bytes.is_empty() && output.e_tag.is_none() {
            return Err(self.not_s3(operation(), "answered with neither content nor an etag"));
        }
        let meta = Meta { etag: etag(output.e_tag), size: bytes.len() as u64 };
        Ok(Some((bytes, meta)))
    }

    pub(in crate::storage) async fn head(&self, key: &str) -> Result<Option<Meta>, StoreError> {
        let operation = || format!("look at {key}");
        let request =
            || async move { self.client().head_object().bucket(&self.bucket).key(key).send().await };
        match self.ask(operation, small(), request).await? {
            Ok(output) => {
                self.not_a_page(&operation(), output.content_type.as_deref())?;
                Ok(Some(Meta { etag: etag(output.e_tag), size: size(output.content_length) }))
            }
            Err(error) => self.absent(key, operation(), &error).await.map(|()| None),
        }
    }

    pub(in crate::storage) async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let request =
            || async move { self.client().delete_object().bucket(&self.bucket).key(key).send().await };
        match self.ask(|| format!("delete {key}"), small(), request).await? {
            Ok(_) => Ok(()),
            Err(error) => self.absent(key, format!("delete {key}"), &error).await,
        }
    }

    /// Whether an error is the store's word that there is no such object; otherwise it stays one. HEAD answers carry no
    /// code, and gateways and proxies have 404s of their own: what does not say NoSuchKey counts only where a listing
    /// of the bucket, whose answer cannot be mistaken, does not have the key either.
    pub(super) async fn absent<E>(
        &self,
        key: &str,
        operation: String,
        error: &SdkError<E, HttpResponse>,
    ) -> Result<(), StoreError>
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        match missing(error) {
            Missing::Key => return Ok(()),
            Missing::Something => {}
            Missing::Nothing => return Err(self.error(operation, error)),
        }
        let listed = match self.glance(key).await {
            Ok(page) => page
                .contents
                .is_some_and(|objects| objects.iter().any(|object| object.key.as_deref() == Some(key))),
            Err(error) if error.kind == StoreErrorKind::NotS3 => true,
            Err(error) => return Err(error),
        };
        if !listed {
            return Ok(());
        }
        Err(StoreError::new(
            StoreErrorKind::Ambiguous,
            self.name(),
            operation,
            "answered 404 without saying NoSuchKey",
        ))
    }

    /// A sign-in page or a web server's own page, sent with a status as if all were well.
    pub(super) fn not_a_page(&self, operation: &str, content_type: Option<&str>) -> Result<(), StoreError> {
        let html = content_type.is_some_and(|kind| kind.to_ascii_lowercase().starts_with("text/html"));
        if html {
            return Err(self.not_s3(operation.to_owned(), "answered with a web page"));
        }
        Ok(())
    }

    fn not_s3(&self, operation: String, detail: &str) -> StoreError {
        StoreError::new(StoreErrorKind::NotS3, self.name(), operation, detail)
    }
}
