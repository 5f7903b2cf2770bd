//! The S3 server's faults, hook and clock, seen by the AWS SDK.

use std::time::Duration;

use super::server::{BUCKET, client, create, put, status, swap};
use crate::support::s3::{Fault, Op, S3Server};

#[tokio::test]
async fn faults_do_what_they_say() {
    let server = S3Server::start();
    let s3 = client(&server);
    {
        let _lost = server.fault(Fault::LostReply.next(1));
        assert_eq!(put(&s3, "lost", b"written").await, Err((500, "InternalError".into())));
        assert_eq!(server.text("lost"), "written");
        put(&s3, "lost", b"again").await.expect("only the next one");
    }
    {
        let _lost = server.fault(Fault::LostConnection);
        assert_eq!(put(&s3, "silent", b"written").await.expect_err("no answer").0, 0);
        assert_eq!(server.text("silent"), "written");
    }
    {
        let _ignores = server.fault(Fault::IgnoresConditions);
        create(&s3, "lost", b"overwritten").await.expect("ignored");
        assert_eq!(server.text("lost"), "overwritten");
    }
    {
        let _none = server.fault(Fault::Conditions501);
        assert_eq!(create(&s3, "new", b"x").await, Err((501, "NotImplemented".into())));
        put(&s3, "plain", b"x").await.expect("no condition, no fault");
    }
    {
        let _conflict = server.fault(Fault::Conflict409.on(Op::PutObject));
        assert_eq!(create(&s3, "new", b"x").await, Err((409, "ConditionalRequestConflict".into())));
    }
    {
        let _slow = server.fault(Fault::SlowDown.key("locks/").after(1).next(1));
        let mut answers = Vec::new();
        for _ in 0..3 {
            answers.push(put(&s3, "locks/a", b"x").await.map_err(|refused| refused.0).err());
        }
        assert_eq!(answers, [None, Some(503), None]);
    }
    {
        let _denied = server.fault(Fault::Status(403, "AccessDenied").on(Op::HeadObject));
        assert_eq!(status(&s3.head_object().bucket(BUCKET).key("plain").send().await.expect_err("403")), 403);
        s3.get_object().bucket(BUCKET).key("plain").send().await.expect("another operation");
    }
    assert_eq!(server.get("new"), None);
}

#[tokio::test]
async fn connections_are_really_cut() {
    let server = S3Server::start();
    let s3 = client(&server);
    let large: Vec<u8> = (0..1_000_000_u32).map(|n| n as u8).collect();
    server.put("large", &large);
    let get = || s3.get_object().bucket(BUCKET).key("large").send();
    {
        let _cut = server.fault(Fault::CutConnection(1000));
        let answer = get().await.expect("headers");
        assert_eq!(answer.content_length(), Some(1_000_000));
        answer.body.collect().await.expect_err("the body breaks off");
        assert_eq!(put(&s3, "up", &large).await.expect_err("cut").0, 0);
        assert_eq!(server.get("up"), None);
    }
    {
        let _short = server.fault(Fault::TruncatedBody(1000));
        let body = get().await.expect("headers").body.collect().await.expect("whole as far as HTTP goes");
        assert_eq!(body.to_vec(), large[..1000]);
    }
    {
        let _refused = server.fault(Fault::Disconnect);
        assert_eq!(put(&s3, "up", b"x").await.expect_err("dropped").0, 0);
    }
    {
        let _hole = server.fault(Fault::BlackHole.on(Op::PutObject));
        let request = put(&s3, "hole", b"x");
        tokio::time::timeout(Duration::from_millis(200), request).await.expect_err("no answer ever");
        assert_eq!(server.requests().last().map(|seen| seen.status), Some(0));
    }
    put(&s3, "up", b"x").await.expect("all faults are over");
}

#[tokio::test]
async fn hooks_inject_races_and_the_clock_moves() {
    let server = S3Server::start();
    let s3 = client(&server);
    let etag = put(&s3, "k", b"one").await.expect("put");
    let other = server.handle();
    server.before_next(Op::PutObject, "k", move || other.put("k", b"theirs"));
    assert_eq!(swap(&s3, "k", &etag, b"ours").await, Err((412, "PreconditionFailed".into())));
    assert_eq!(server.text("k"), "theirs");
    server.clear_hook();

    server.set_clock_offset(-7200);
    let answer = s3.get_object().bucket(BUCKET).key("missing").send().await.expect_err("404");
    let date = answer.raw_response().expect("an answer").headers().get("date").expect("a date").to_owned();
    let server_time = jiff::fmt::rfc2822::parse(&date).expect("an HTTP date").timestamp();
    let behind = jiff::Timestamp::now().duration_since(server_time).as_secs();
    assert!((7190..7260).contains(&behind), "{date} is {behind} s behind");
}
