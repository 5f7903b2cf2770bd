//! The S3 operations over `Objects`. Faults reach it only as `Conditions`, attached to
//! the request by front.rs.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use s3s::auth::{S3Auth, SecretKey};
use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};

use super::objects::{Bucket, Contents, Objects, Sink, Stored, Upload, take_in};

/// How this request's conditional headers are treated.
#[derive(Clone, Copy, Debug, Default)]
pub enum Conditions {
    #[default]
    Honoured,
    Ignored,
    NotAtomic(Duration),
}

/// The one key pair the server knows.
pub struct KeyPair {
    pub access_key: String,
    pub secret_key: String,
}

#[async_trait::async_trait]
impl S3Auth for KeyPair {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        if access_key == self.access_key {
            return Ok(SecretKey::from(self.secret_key.as_str()));
        }
        Err(s3_error!(InvalidAccessKeyId, "The AWS Access Key Id you provided does not exist."))
    }
}

pub struct Service {
    pub objects: Arc<Objects>,
}

fn bucket<'a>(contents: &'a mut Contents, name: &str) -> S3Result<&'a mut Bucket> {
    contents
        .buckets
        .get_mut(name)
        .ok_or_else(|| s3_error!(NoSuchBucket, "The specified bucket does not exist"))
}

fn no_such_key() -> s3s::S3Error {
    s3_error!(NoSuchKey, "The specified key does not exist.")
}

fn matches(condition: &ETagCondition, etag: &str) -> bool {
    match condition {
        ETagCondition::Any => true,
        ETagCondition::ETag(wanted) => wanted.value() == etag,
    }
}

fn check_write(
    found: Option<&Stored>,
    if_match: Option<&IfMatch>,
    if_none_match: Option<&IfNoneMatch>,
) -> S3Result<()> {
    let failed = || s3_error!(PreconditionFailed, "At least one of the conditions did not hold");
    if let Some(condition) = if_match {
        let stored = found.ok_or_else(no_such_key)?;
        if !matches(condition, &stored.etag) {
            return Err(failed());
        }
    }
    match (if_none_match, found) {
        (Some(condition), Some(stored)) if matches(condition, &stored.etag) => Err(failed()),
        _ => Ok(()),
    }
}

fn check_read(
    stored: &Stored,
    if_match: Option<&IfMatch>,
    if_none_match: Option<&IfNoneMatch>,
) -> S3Result<()> {
    if if_match.is_some_and(|condition| !matches(condition, &stored.etag)) {
        return Err(s3_error!(PreconditionFailed));
    }
    if if_none_match.is_some_and(|condition| matches(condition, &stored.etag)) {
        return Err(s3_error!(NotModified));
    }
    Ok(())
}

fn conditions<T>(request: &S3Request<T>) -> Conditions {
    request.extensions.get::<Conditions>().copied().unwrap_or_default()
}

fn etag(stored: &Stored) -> ETag {
    ETag::Strong(stored.etag.clone())
}

impl Service {
    fn find(&self, bucket_name: &str, key: &str) -> S3Result<Stored> {
        let mut contents = self.objects.lock();
        bucket(&mut contents, bucket_name)?.get(key).cloned().ok_or_else(no_such_key)
    }

    /// Checks and writes in one step, unless a fault says otherwise.
    async fn commit(
        &self,
        at: (&str, &str),
        stored: Stored,
        when: (Option<&IfMatch>, Option<&IfNoneMatch>),
        conditions: Conditions,
    ) -> S3Result<()> {
        let (bucket_name, key) = at;
        if let Conditions::NotAtomic(gap) = conditions {
            {
                let mut contents = self.objects.lock();
                check_write(bucket(&mut contents, bucket_name)?.get(key), when.0, when.1)?;
            }
            tokio::time::sleep(gap).await;
        }
        let mut contents = self.objects.lock();
        let bucket = bucket(&mut contents, bucket_name)?;
        if matches!(conditions, Conditions::Honoured) {
            check_write(bucket.get(key), when.0, when.1)?;
        }
        bucket.insert(key.to_owned(), stored);
        Ok(())
    }
}

async fn receive(body: Option<StreamingBlob>, expected: Option<i64>) -> S3Result<Stored> {
    let mut sink = Sink::new();
    if let Some(body) = body {
        let taken = take_in(s3s::Body::from(body), &mut sink).await;
        taken.map_err(|error| s3_error!(IncompleteBody, "The body did not arrive: {error}"))?;
    }
    let stored = sink.finish();
    if expected.is_some_and(|expected| expected != stored.size as i64) {
        return Err(s3_error!(IncompleteBody));
    }
    Ok(stored)
}

fn selected(range: Option<s3s::dto::Range>, size: u64) -> S3Result<Range<u64>> {
    match range {
        None => Ok(0..size),
        Some(range) => range.check(size).map_err(|_| s3_error!(InvalidRange)),
    }
}

#[async_trait::async_trait]
impl S3 for Service {
    async fn create_bucket(
        &self,
        req: S3Request<CreateBucketInput>,
    ) -> S3Result<S3Response<CreateBucketOutput>> {
        let mut contents = self.objects.lock();
        if contents.buckets.contains_key(&req.input.bucket) {
            return Err(s3_error!(BucketAlreadyOwnedByYou));
        }
        contents.buckets.insert(req.input.bucket, Bucket::new());
        Ok(S3Response::new(CreateBucketOutput::default()))
    }

    async fn head_bucket(&self, req: S3Request<HeadBucketInput>) -> S3Result<S3Response<HeadBucketOutput>> {
        bucket(&mut self.objects.lock(), &req.input.bucket)?;
        Ok(S3Response::new(HeadBucketOutput::default()))
    }

    async fn get_object(&self, req: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let input = req.input;
        let there = self.find(&input.bucket, &input.key);
        let stored = match (input.range, there) {
            (None, there) => {
                let code = there.as_ref().err().map(|error| error.code().clone());
                let missing = || s3s::S3Error::new(code.unwrap_or(s3s::S3ErrorCode::NoSuchKey));
                self.objects.answered(&input.key, there.ok()).ok_or_else(missing)?
            }
            (Some(_), there) => there?,
        };
        check_read(&stored, input.if_match.as_ref(), input.if_none_match.as_ref())?;
        let part = selected(input.range, stored.size)?;
        let content_range =
            input.range.map(|_| format!("bytes {}-{}/{}", part.start, part.end - 1, stored.size));
        let body = stored.stream(part.start, part.end).map_err(s3s::S3Error::internal_error)?;
        Ok(S3Response::new(GetObjectOutput {
            accept_ranges: Some("bytes".to_owned()),
            body: Some(StreamingBlob::from(body)),
            content_length: Some((part.end - part.start) as i64),
            content_range,
            content_type: stored.content_type.clone(),
            e_tag: Some(etag(&stored)),
            last_modified: Some(stored.modified.into()),
            metadata: stored.metadata,
            ..Default::default()
        }))
    }

    async fn head_object(&self, req: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = req.input;
        let stored = self.find(&input.bucket, &input.key)?;
        check_read(&stored, input.if_match.as_ref(), input.if_none_match.as_ref())?;
        Ok(S3Response::new(HeadObjectOutput {
            accept_ranges: Some("bytes".to_owned()),
            content_length: Some(stored.size as i64),
            content_type: stored.content_type.clone(),
            e_tag: Some(etag(&stored)),
            last_modified: Some(stored.modified.into()),
            metadata: stored.metadata,
            ..Default::default()
        }))
    }

    async fn put_object(&self, req: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let conditions = conditions(&req);
        let input = req.input;
        bucket(&mut self.objects.lock(), &input.bucket)?;
        let mut stored = self.objects.sealed(receive(input.body, input.content_length).await?);
        stored.content_type = input.content_type;
        stored.metadata = input.metadata;
        let e_tag = Some(etag(&stored));
        let when = (input.if_match.as_ref(), input.if_none_match.as_ref());
        self.commit((&input.bucket, &input.key), stored, when, conditions).await?;
        Ok(S3Response::new(PutObjectOutput { e_tag, ..Default::default() }))
    }

    async fn delete_object(
        &self,
        req: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        let honoured = matches!(conditions(&req), Conditions::Honoured);
        let mut contents = self.objects.lock();
        let bucket = bucket(&mut contents, &req.input.bucket)?;
        if honoured {
            check_write(bucket.get(&req.input.key), req.input.if_match.as_ref(), None)?;
        }
        bucket.remove(&req.input.key);
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    async fn copy_object(&self, req: S3Request<CopyObjectInput>) -> S3Result<S3Response<CopyObjectOutput>> {
        let input = req.input;
        let CopySource::Bucket { bucket: from_bucket, key: from_key, .. } = &input.copy_source else {
            return Err(s3_error!(NotImplemented));
        };
        let mut copy = self.find(from_bucket, from_key)?;
        let if_match = input.copy_source_if_match.as_ref();
        check_write(Some(&copy), if_match, input.copy_source_if_none_match.as_ref())?;
        copy = self.objects.sealed(copy);
        copy.modified = std::time::SystemTime::now();
        let result = CopyObjectResult {
            e_tag: Some(etag(&copy)),
            last_modified: Some(copy.modified.into()),
            ..Default::default()
        };
        let mut contents = self.objects.lock();
        bucket(&mut contents, &input.bucket)?.insert(input.key, copy);
        let copy_object_result = Some(result);
        Ok(S3Response::new(CopyObjectOutput { copy_object_result, ..Default::default() }))
    }

    async fn list_objects_v2(
        &self,
        req: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        super::listing::list(&self.objects, req.input).map(S3Response::new)
    }

    async fn create_multipart_upload(
        &self,
        req: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let input = req.input;
        let mut contents = self.objects.lock();
        bucket(&mut contents, &input.bucket)?;
        contents.last_upload += 1;
        let id = format!("upload-{}", contents.last_upload);
        let upload = Upload {
            bucket: input.bucket.clone(),
            key: input.key.clone(),
            content_type: input.content_type,
            metadata: input.metadata,
            parts: BTreeMap::default(),
        };
        contents.uploads.insert(id.clone(), upload);
        Ok(S3Response::new(CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(id),
            ..Default::default()
        }))
    }

    async fn upload_part(&self, req: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        let input = req.input;
        let stored = receive(input.body, input.content_length).await?;
        let e_tag = Some(etag(&stored));
        let mut contents = self.objects.lock();
        let upload = contents.uploads.get_mut(&input.upload_id);
        let upload = upload.ok_or_else(|| s3_error!(NoSuchUpload))?;
        upload.parts.insert(input.part_number, stored);
        Ok(S3Response::new(UploadPartOutput { e_tag, ..Default::default() }))
    }

    async fn complete_multipart_upload(
        &self,
        req: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let conditions = conditions(&req);
        let input = req.input;
        let wanted = input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default();
        let (parts, content_type, metadata) = {
            let contents = self.objects.lock();
            let upload = contents.uploads.get(&input.upload_id);
            let upload = upload
                .filter(|upload| upload.bucket == input.bucket && upload.key == input.key)
                .ok_or_else(|| s3_error!(NoSuchUpload))?;
            let chosen = wanted.iter().map(|part| {
                let found = upload.parts.get(&part.part_number.unwrap_or_default());
                let same =
                    |stored: &&Stored| part.e_tag.as_ref().is_none_or(|etag| etag.value() == stored.etag);
                found.filter(same).cloned().ok_or_else(|| s3_error!(InvalidPart))
            });
            let parts = chosen.collect::<S3Result<Vec<_>>>()?;
            (parts, upload.content_type.clone(), upload.metadata.clone())
        };
        let mut stored = Stored::join(&parts).map_err(s3s::S3Error::internal_error)?;
        stored.content_type = content_type;
        stored.metadata = metadata;
        let e_tag = Some(etag(&stored));
        let when = (input.if_match.as_ref(), input.if_none_match.as_ref());
        self.commit((&input.bucket, &input.key), stored, when, conditions).await?;
        self.objects.lock().uploads.remove(&input.upload_id);
        Ok(S3Response::new(CompleteMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            e_tag,
            ..Default::default()
        }))
    }

    async fn abort_multipart_upload(
        &self,
        req: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let removed = self.objects.lock().uploads.remove(&req.input.upload_id);
        removed.ok_or_else(|| s3_error!(NoSuchUpload))?;
        Ok(S3Response::new(AbortMultipartUploadOutput::default()))
    }
}
