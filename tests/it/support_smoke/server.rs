//! The S3 server, exercised with the AWS SDK.

use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{
    BehaviorVersion, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    retry::RetryConfig,
};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;

use crate::support::s3::{Fault, Op, S3Server};

fn client_with(server: &S3Server, access_key: &str, secret_key: &str) -> Client {
    let http = aws_smithy_http_client::Builder::new().build_http();
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(http)
        .endpoint_url(server.endpoint())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new(access_key, secret_key, None, None, "test"))
        .force_path_style(true)
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .retry_config(RetryConfig::disabled())
        .build();
    Client::from_conf(config)
}

pub fn client(server: &S3Server) -> Client {
    client_with(server, &server.access_key, &server.secret_key)
}

pub fn status<E>(error: &SdkError<E>) -> u16 {
    error.raw_response().map_or(0, |response| response.status().as_u16())
}

fn refusal<T: std::fmt::Debug, E>(answer: Result<T, SdkError<E>>) -> (u16, String)
where
    E: ProvideErrorMetadata,
{
    let error = answer.expect_err("a refusal");
    let code = match &error {
        SdkError::ServiceError(inner) => inner.err().code().unwrap_or_default().to_owned(),
        _ => String::new(),
    };
    (status(&error), code)
}

pub async fn put(client: &Client, key: &str, bytes: &[u8]) -> Result<String, (u16, String)> {
    let body = ByteStream::from(bytes.to_vec());
    let answer = client.put_object().bucket(BUCKET).key(key).body(body).send().await;
    match answer {
        Ok(output) => Ok(output.e_tag.expect("an etag")),
        Err(error) => Err(refusal::<(), _>(Err(error))),
    }
}

pub async fn create(client: &Client, key: &str, bytes: &[u8]) -> Result<String, (u16, String)> {
    let body = ByteStream::from(bytes.to_vec());
    let request = client.put_object().bucket(BUCKET).key(key).body(body).if_none_match("*");
    match request.send().await {
        Ok(output) => Ok(output.e_tag.expect("an etag")),
        Err(error) => Err(refusal::<(), _>(Err(error))),
    }
}

pub async fn swap(client: &Client, key: &str, etag: &str, bytes: &[u8]) -> Result<String, (u16, String)> {
    let body = ByteStream::from(bytes.to_vec());
    let request = client.put_object().bucket(BUCKET).key(key).body(body).if_match(etag);
    match request.send().await {
        Ok(output) => Ok(output.e_tag.expect("an etag")),
        Err(error) => Err(refusal::<(), _>(Err(error))),
    }
}

pub const BUCKET: &str = crate::support::s3::BUCKET;

#[tokio::test]
async fn stores_reads_ranges_heads_copies_and_deletes() {
    let server = S3Server::start();
    let s3 = client(&server);
    let etag = put(&s3, "a b/ü+1", b"0123456789").await.expect("put");
    assert_eq!(etag, "\"781e5e245d69b566979b86e28d23f2c7\"");
    assert_eq!(server.get("a b/ü+1").as_deref(), Some(&b"0123456789"[..]));

    let get = || s3.get_object().bucket(BUCKET).key("a b/ü+1");
    let part = get().range("bytes=2-4").send().await.expect("a range");
    assert_eq!(part.content_range(), Some("bytes 2-4/10"));
    assert_eq!(part.body.collect().await.expect("body").to_vec(), b"234");
    let (code, _) = refusal(get().if_match("\"other\"").send().await);
    assert_eq!(code, 412);
    get().if_match(&etag).send().await.expect("a matching read");

    let head = s3.head_object().bucket(BUCKET).key("a b/ü+1").send().await.expect("head");
    assert_eq!((head.content_length(), head.e_tag()), (Some(10), Some(etag.as_str())));
    s3.copy_object()
        .bucket(BUCKET)
        .key("copy")
        .copy_source(format!("{BUCKET}/a%20b/%C3%BC%2B1"))
        .send()
        .await
        .expect("copy");
    assert_eq!(server.text("copy"), "0123456789");
    s3.delete_object().bucket(BUCKET).key("copy").send().await.expect("delete");
    assert_eq!(refusal(s3.get_object().bucket(BUCKET).key("copy").send().await), (404, "NoSuchKey".into()));
    assert_eq!(status(&s3.head_object().bucket(BUCKET).key("copy").send().await.expect_err("gone")), 404);
    assert_eq!(
        refusal(s3.get_object().bucket("elsewhere").key("copy").send().await),
        (404, "NoSuchBucket".into())
    );
    s3.head_bucket().bucket(BUCKET).send().await.expect("the bucket");

    let seen = server.requests();
    assert_eq!((seen[0].op, seen[0].status, seen[0].bytes_in), (Op::PutObject, 200, 10));
    assert_eq!((seen[1].op, seen[1].status, seen[1].bytes_out), (Op::GetObject, 206, 3));
    assert_eq!(seen[0].key, "a b/ü+1");
}

#[tokio::test]
async fn lists_in_pages_and_folders() {
    let server = S3Server::start();
    let s3 = client(&server);
    for number in 0..7 {
        server.put(&format!("p/{number}"), b"x");
        server.put(&format!("p/dir{number}/x"), b"x");
    }
    server.put("q", b"x");
    let mut names = Vec::new();
    let mut token = None;
    loop {
        let page = s3.list_objects_v2().bucket(BUCKET).prefix("p/").delimiter("/").max_keys(3);
        let page = page.set_continuation_token(token).send().await.expect("a page");
        assert!(page.key_count().expect("a count") <= 3);
        names.extend(page.contents().iter().filter_map(|object| object.key().map(str::to_owned)));
        names.extend(page.common_prefixes().iter().filter_map(|folder| folder.prefix().map(str::to_owned)));
        token = page.next_continuation_token().map(str::to_owned);
        if token.is_none() {
            break;
        }
    }
    names.sort();
    let mut wanted: Vec<String> = (0..7).flat_map(|n| [format!("p/{n}"), format!("p/dir{n}/")]).collect();
    wanted.sort();
    assert_eq!(names, wanted);
}

#[tokio::test]
async fn refuses_wrong_keys() {
    let server = S3Server::start();
    let wrong_secret = client_with(&server, &server.access_key, "wrong");
    assert_eq!(put(&wrong_secret, "k", b"x").await, Err((403, "SignatureDoesNotMatch".into())));
    let wrong_key = client_with(&server, "NOBODY", &server.secret_key);
    assert_eq!(put(&wrong_key, "k", b"x").await, Err((403, "InvalidAccessKeyId".into())));
    assert_eq!(server.keys(""), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_twenty_creators_wins() {
    let server = S3Server::start();
    let s3 = client(&server);
    for round in 0..5 {
        let key = format!("race/{round}");
        let racers: Vec<_> = (0..20)
            .map(|racer: u32| {
                let (s3, key) = (s3.clone(), key.clone());
                tokio::spawn(async move { create(&s3, &key, racer.to_string().as_bytes()).await })
            })
            .collect();
        let mut winners = 0;
        for racer in racers {
            match racer.await.expect("a racer") {
                Ok(_) => winners += 1,
                Err(refused) => assert_eq!(refused, (412, "PreconditionFailed".into())),
            }
        }
        assert_eq!(winners, 1);
    }
    let gap = Fault::NotAtomic(Duration::from_millis(50)).key("sloppy");
    let _gap = server.fault(gap);
    let racers: Vec<_> = (0..20)
        .map(|_| {
            let s3 = s3.clone();
            tokio::spawn(async move { create(&s3, "sloppy", b"x").await.is_ok() })
        })
        .collect();
    let mut winners = 0;
    for racer in racers {
        winners += usize::from(racer.await.expect("a racer"));
    }
    assert!(winners > 1, "a store that is not atomic lets several through, not {winners}");
}

#[tokio::test(flavor = "multi_thread")]
async fn compare_and_swap_loses_no_increment() {
    let server = S3Server::start();
    server.put("n", b"0");
    let workers: Vec<_> = (0..5)
        .map(|_| {
            let s3 = client(&server);
            tokio::spawn(async move {
                let mut done = 0;
                while done < 10 {
                    let read = s3.get_object().bucket(BUCKET).key("n").send().await.expect("read");
                    let etag = read.e_tag().expect("an etag").to_owned();
                    let bytes = read.body.collect().await.expect("body").to_vec();
                    let next = String::from_utf8(bytes).expect("text").parse::<u32>().expect("a number") + 1;
                    done += u32::from(swap(&s3, "n", &etag, next.to_string().as_bytes()).await.is_ok());
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.expect("a worker");
    }
    assert_eq!(server.text("n"), "50");
    let s3 = client(&server);
    assert_eq!(swap(&s3, "missing", "\"x\"", b"1").await, Err((404, "NoSuchKey".into())));
}

#[tokio::test]
async fn large_bodies_and_parts_are_spilled_and_served() {
    let server = S3Server::start();
    let s3 = client(&server);
    let large: Vec<u8> = (0..9_000_000_u32).map(|n| (n / 7) as u8).collect();
    put(&s3, "large", &large).await.expect("put");
    let get = s3.get_object().bucket(BUCKET).key("large").range("bytes=5000000-5000099").send();
    let part = get.await.expect("a range").body.collect().await.expect("body").to_vec();
    assert_eq!(part, large[5_000_000..5_000_100]);
    assert!(server.get("large").expect("the object") == large);

    let begun = s3.create_multipart_upload().bucket(BUCKET).key("parts").send().await.expect("begin");
    let id = begun.upload_id().expect("an id");
    let mut parts = aws_sdk_s3::types::CompletedMultipartUpload::builder();
    for (number, bytes) in (1..).zip(large.chunks(5 << 20)) {
        let upload = s3.upload_part().bucket(BUCKET).key("parts").upload_id(id).part_number(number);
        let sent = upload.body(ByteStream::from(bytes.to_vec())).send().await.expect("a part");
        let part = aws_sdk_s3::types::CompletedPart::builder().part_number(number);
        parts = parts.parts(part.set_e_tag(sent.e_tag).build());
    }
    assert_eq!(server.open_uploads(), 1);
    let complete = s3.complete_multipart_upload().bucket(BUCKET).key("parts").upload_id(id);
    let done = complete.multipart_upload(parts.build()).send().await.expect("complete");
    assert!(done.e_tag().expect("an etag").ends_with("-2\""));
    assert!(server.get("parts").expect("the object") == large);
    assert_eq!(server.open_uploads(), 0);
}
