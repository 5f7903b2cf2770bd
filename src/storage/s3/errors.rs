//! What an error of the SDK means: its kind, on which callers decide, and one line about it. Asks nothing.

use std::error::Error;

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use crate::storage::StoreErrorKind;

pub(super) fn status<E>(error: &SdkError<E, HttpResponse>) -> Option<u16> {
    error.raw_response().map(|response| response.status().as_u16())
}

/// What an error says is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// The object, in the store's own words.
    Key,
    /// A 404 that does not say what is missing, or who says so.
    Something,
    /// It is another error.
    Nothing,
}

pub(super) fn missing<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> Missing {
    match (status(error), error.code()) {
        (Some(404), Some("NoSuchKey")) => Missing::Key,
        (Some(404), Some("NoSuchBucket")) => Missing::Nothing,
        (Some(404), _) => Missing::Something,
        _ => Missing::Nothing,
    }
}

/// What an error answer means, by S3's code (empty where there is none) and the status.
fn kind_of(code: &str, status: u16) -> StoreErrorKind {
    use StoreErrorKind as Kind;
    match (code, status) {
        ("NoSuchBucket" | "InvalidBucketName", _) => Kind::MissingBucket,
        ("InvalidAccessKeyId" | "SignatureDoesNotMatch", _) => Kind::WrongKey,
        ("RequestTimeTooSkewed", _) => Kind::ClockSkew,
        ("NotImplemented", _) | (_, 501) => Kind::NotSupported,
        // Signed for another region, or sent to an endpoint that does not serve the bucket.
        ("AuthorizationHeaderMalformed" | "PermanentRedirect" | "TemporaryRedirect" | "Redirect", _)
        | (_, 300..=399) => Kind::NotS3,
        (_, 401 | 403) => Kind::Denied,
        ("SlowDown" | "RequestTimeout", _) | (_, 408 | 429 | 500..) => Kind::ServerBusy,
        // An S3 service says in a code what it refuses; the SDK itself calls a 404 without a body NotFound.
        ("" | "NotFound", _) => Kind::NotS3,
        _ => Kind::Unexpected,
    }
}

/// What kind of trouble an SDK error is, and one line about it.
pub(super) fn classify<E>(error: &SdkError<E, HttpResponse>) -> (StoreErrorKind, String)
where
    E: ProvideErrorMetadata + Error + 'static,
{
    use StoreErrorKind as Kind;
    match error {
        SdkError::ServiceError(service) => {
            let status = service.raw().status().as_u16();
            let code = service.err().code().unwrap_or("");
            let said = service.err().message().unwrap_or("");
            let kind = kind_of(code, status);
            (kind, format!("answered {status} {code} {said}").trim_end().to_owned())
        }
        SdkError::TimeoutError(_) => (Kind::Interrupted, "no answer within the time limit".to_owned()),
        SdkError::DispatchFailure(failure) => {
            let text =
                failure.as_connector_error().map_or_else(|| "no connection".to_owned(), |error| chain(error));
            let lower = text.to_ascii_lowercase();
            let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
            let kind = if has(&["dns error", "failed to lookup"]) {
                Kind::NameNotFound
            } else if has(&["connection refused"]) {
                Kind::Refused
            } else if has(&["certificate", "tls", "handshake", "invalidcontenttype", "corrupt message"]) {
                Kind::Tls
            } else if has(&["connect timeout", "connecttimeout", "unreachable", "no route"]) {
                Kind::ConnectTimeout
            } else {
                Kind::Interrupted
            };
            (kind, text)
        }
        SdkError::ResponseError(response) => {
            let status = response.raw().status().as_u16();
            let kind = if status >= 500 {
                // A gateway's or a small server's own error page: as passing as one in S3's words.
                Kind::ServerBusy
            } else {
                Kind::NotS3
            };
            (kind, format!("answered {status} with something that is not S3"))
        }
        _ => (Kind::Local, chain(error)),
    }
}

/// An error and its causes on one line, without repetitions and without the wrappings that say nothing to a person.
pub(super) fn chain(error: &dyn Error) -> String {
    const WRAPPINGS: [&str; 3] = ["dispatch failure", "io error", "client error (Connect)"];
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let line = error.to_string();
        next = error.source();
        if text.contains(&line) || (next.is_some() && WRAPPINGS.contains(&line.as_str())) {
            continue;
        }
        let between = if text.is_empty() { "" } else { ": " };
        text = format!("{text}{between}{line}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::kind_of;
    use crate::storage::StoreErrorKind as Kind;

    #[test]
    fn what_is_not_the_buckets_service_is_told_from_what_it_refuses() {
        let table = [
            ("AuthorizationHeaderMalformed", 400, Kind::NotS3),
            ("PermanentRedirect", 301, Kind::NotS3),
            ("TemporaryRedirect", 307, Kind::NotS3),
            ("", 302, Kind::NotS3),
            ("", 400, Kind::NotS3),
            ("NotFound", 404, Kind::NotS3),
            ("", 405, Kind::NotS3),
            ("InvalidRequest", 400, Kind::Unexpected),
            ("EntityTooLarge", 400, Kind::Unexpected),
            ("MethodNotAllowed", 405, Kind::Unexpected),
            ("NoSuchBucket", 404, Kind::MissingBucket),
            ("InvalidBucketName", 400, Kind::MissingBucket),
            ("AccessDenied", 403, Kind::Denied),
            ("", 403, Kind::Denied),
            ("InvalidAccessKeyId", 403, Kind::WrongKey),
            ("SlowDown", 503, Kind::ServerBusy),
            ("", 429, Kind::ServerBusy),
            ("", 502, Kind::ServerBusy),
            ("NotImplemented", 501, Kind::NotSupported),
            ("RequestTimeTooSkewed", 403, Kind::ClockSkew),
        ];
        for (code, status, kind) in table {
            assert_eq!(kind_of(code, status), kind, "{status} {code}");
        }
    }
}
