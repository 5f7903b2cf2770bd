//! Answers that a test makes up: S3's error documents, and pages that are not S3's at all.

use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};

/// What AWS says to a write without an integrity header where the bucket has Object Lock.
pub const WANTS_INTEGRITY: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>InvalidRequest</Code><Message>Content-MD5 \
    OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock parameters</Message></Error>";

/// An error in S3's words; without them to a HEAD.
pub fn error(status: u16, code: &str, head: bool) -> Response<s3s::Body> {
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code>\
         <Message>switched on by a test</Message><RequestId>0</RequestId></Error>"
    );
    made_up(status, "application/xml", if head { String::new() } else { text })
}

/// What a proxy or a web server in between says.
pub fn page(status: u16, html: &str, head: bool) -> Response<s3s::Body> {
    let body = if head { "" } else { html };
    let mut response = made_up(status, "text/html", body.to_owned());
    if html.is_empty() {
        response.headers_mut().remove(CONTENT_TYPE);
    }
    response
}

fn made_up(status: u16, kind: &'static str, body: String) -> Response<s3s::Body> {
    let mut response = Response::new(s3s::Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).expect("a status code");
    let kind = HeaderValue::from_static(kind);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
