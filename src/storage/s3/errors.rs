//! What an error of the SDK means: its kind, on which callers decide, and one line about it. Asks nothing.

use std::error::Error;

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use crate::storage::StoreErrorKind;

pub(super) fn status<E>(error: &SdkError<E, HttpResponse>) -> Option<u16> {
    error.raw_response().map(|response| response.status().as_u16())
}

pub(super) fn is_missing_key<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    // A gateway's bare 404 page is not the store's word that the key is absent (F06).
    status(error) == Some(404) && matches!(error.code(), Some("NoSuchKey" | "NotFound"))
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
            let kind = match (code, status) {
                ("NoSuchBucket", _) => Kind::MissingBucket,
                ("InvalidAccessKeyId" | "SignatureDoesNotMatch", _) => Kind::WrongKey,
                ("RequestTimeTooSkewed", _) => Kind::ClockSkew,
                ("NotImplemented", _) | (_, 501) => Kind::NotSupported,
                (_, 401 | 403) => Kind::Denied,
                ("SlowDown" | "RequestTimeout", _) | (_, 408 | 429 | 500..) => Kind::ServerBusy,
                _ => Kind::Unexpected,
            };
            (
                kind,
                format!("answered {status} {code} {said}").trim_end().to_owned(),
            )
        }
        SdkError::TimeoutError(_) => (Kind::Interrupted, "no answer within the time limit".to_owned()),
        SdkError::DispatchFailure(failure) => {
            let text = failure
                .as_connector_error()
                .map_or_else(|| "no connection".to_owned(), |error| chain(error));
            let lower = text.to_ascii_lowercase();
            let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
            let kind = if has(&["dns error", "failed to lookup"]) {
                Kind::NameNotFound
            } else if has(&["connection refused"]) {
                Kind::Refused
            } else if has(&[
                "certificate",
                "tls",
                "handshake",
                "invalidcontenttype",
                "corrupt message",
            ]) {
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
                Kind::Unexpected
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
