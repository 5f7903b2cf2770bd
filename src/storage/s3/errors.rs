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

/// In which other form a store wants its requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// With the bucket in the host name (Aliyun OSS, some IBM and Tencent regions).
    VirtualHost,
    /// With a checksum of the body in a header (buckets with Object Lock).
    Checksum,
}

/// What a refusal asks for, if anything.
pub(super) fn wish(code: &str, message: &str) -> Option<Wish> {
    let message = message.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
    if code == "SecondLevelDomainForbidden"
        || code == "PathStyleDomainForbidden"
        || says(&[
            "virtual hosted",
            "virtual-hosted",
            "virtual host style",
            "path-style access",
            "path style access",
        ])
    {
        return Some(Wish::VirtualHost);
    }
    let demands = matches!(code, "InvalidRequest" | "MissingContentMD5" | "MissingDigest" | "InvalidDigest")
        && says(&["content-md5", "x-amz-checksum"]);
    demands.then_some(Wish::Checksum)
}

/// What an error answer means, by S3's code (empty where there is none) and the status.
fn kind_of(code: &str, status: u16, said: &str) -> StoreErrorKind {
    use StoreErrorKind as Kind;
    if wish(code, said) == Some(Wish::VirtualHost) {
        return Kind::Addressing;
    }
    match (code, status) {
        (_, 407) => Kind::Proxy,
        ("EntityTooLarge", _) | (_, 413) => Kind::TooLarge,
        (
            "QuotaExceeded" | "XMinioAdminBucketQuotaExceeded" | "XMinioStorageFull" | "InsufficientStorage",
            _,
        )
        | (_, 507) => Kind::Full,
        (_, 401..=403) if is_about_quota(said) || is_about_quota(code) => Kind::Full,
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

/// Providers say in a 403 that a quota, a cap or a bill stands in the way (Backblaze: "cap exceeded").
fn is_about_quota(said: &str) -> bool {
    let said = said.to_ascii_lowercase();
    ["quota", "cap exceeded", "storage cap", "limit exceeded", "payment", "billing"]
        .iter()
        .any(|word| said.contains(word))
}

/// What kind of trouble an SDK error is, and one line about it. `proxy`: the variable that names the proxy on the way.
pub(super) fn classify<E>(error: &SdkError<E, HttpResponse>, proxy: Option<&str>) -> (StoreErrorKind, String)
where
    E: ProvideErrorMetadata + Error + 'static,
{
    use StoreErrorKind as Kind;
    match error {
        SdkError::ServiceError(service) => {
            let status = service.raw().status().as_u16();
            let code = service.err().code().unwrap_or("");
            let said = service.err().message().unwrap_or("");
            let kind = kind_of(code, status, said);
            (kind, format!("answered {status} {code} {said}").trim_end().to_owned())
        }
        SdkError::TimeoutError(_) => (Kind::Interrupted, "no answer within the time limit".to_owned()),
        SdkError::DispatchFailure(failure) => {
            let text =
                failure.as_connector_error().map_or_else(|| "no connection".to_owned(), |error| chain(error));
            let lower = text.to_ascii_lowercase();
            let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
            let refused =
                has(&["connection refused", "connect timeout", "unreachable", "no route", "dns error"]);
            let kind = if proxy.is_some() && (has(&["tunnel", "proxy"]) || refused) {
                // With a proxy on the way it is the proxy that we connect to.
                Kind::Proxy
            } else if has(&["dns error", "failed to lookup"]) {
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
            let kind = if status == 407 {
                Kind::Proxy
            } else if status == 413 {
                Kind::TooLarge
            } else if status == 429 || status >= 500 {
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

/// What makes a good certificate, for each reason that the TLS library (rustls, webpki) gives for refusing one.
const CERTIFICATES: [(&str, &str); 9] = [
    (
        "causedasendentity",
        "the store shows an authority's own certificate (CA:TRUE): give it one made for the server, with CA:FALSE, signed by that authority",
    ),
    (
        "unsupportedcertversion",
        "the store's certificate, or its authority's, is of version 1: make it anew as version 3 (openssl x509 -extfile with subjectAltName)",
    ),
    (
        "expired",
        "the store's certificate has expired: renew it there; or this machine's clock is wrong (date)",
    ),
    ("notvalidyet", "the store's certificate is not valid yet: is this machine's clock right? (date)"),
    (
        "notvalidforname",
        "the certificate was made for another name: use that name in MINIO_ENDPOINT, or make one whose subjectAltName holds this one",
    ),
    (
        "unknownissuer",
        "an authority that this machine does not know has signed it: set AWS_CA_BUNDLE to that authority's PEM file",
    ),
    (
        "badsignature",
        "the authority in AWS_CA_BUNDLE has not signed the store's certificate: take the PEM file of the one that has",
    ),
    (
        "unsupportedsignaturealgorithm",
        "the store's certificate is signed with an algorithm that is not taken: make one with an RSA (2048 bits or more) or a P-256 or P-384 key",
    ),
    (
        "handshakefailure",
        "both sides have no cipher or key type in common: give the store a certificate with an RSA or a P-256 or P-384 key, and TLS 1.2 or newer",
    ),
];

/// The advice for a certificate that was refused, by what the library says of it.
pub(super) fn certificate_advice(detail: &str) -> Option<&'static str> {
    let plain: String =
        detail.chars().filter(char::is_ascii_alphabetic).collect::<String>().to_ascii_lowercase();
    let found = CERTIFICATES.iter().find(|(reason, _)| plain.contains(reason) && is_about_tls(&plain));
    found.map(|(_, advice)| *advice)
}

fn is_about_tls(plain: &str) -> bool {
    ["certificate", "handshake", "tls"].iter().any(|word| plain.contains(word))
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
    use super::{Wish, certificate_advice, kind_of, wish};
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
            ("EntityTooLarge", 400, Kind::TooLarge),
            ("", 413, Kind::TooLarge),
            ("", 407, Kind::Proxy),
            ("QuotaExceeded", 403, Kind::Full),
            ("", 507, Kind::Full),
            ("SecondLevelDomainForbidden", 403, Kind::Addressing),
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
            assert_eq!(kind_of(code, status, ""), kind, "{status} {code}");
        }
    }

    #[test]
    fn what_a_refusal_asks_for() {
        let table = [
            ("SecondLevelDomainForbidden", "", Some(Wish::VirtualHost)),
            ("InvalidRequest", "Path-style access is not supported here", Some(Wish::VirtualHost)),
            ("AccessDenied", "Please use virtual hosted style to access.", Some(Wish::VirtualHost)),
            (
                "InvalidRequest",
                "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock parameters",
                Some(Wish::Checksum),
            ),
            ("InvalidRequest", "no", None),
            ("AccessDenied", "Access Denied", None),
        ];
        for (code, message, expected) in table {
            assert_eq!(wish(code, message), expected, "{code} {message}");
        }
    }

    #[test]
    fn each_reason_for_refusing_a_certificate_has_its_advice() {
        let table = [
            ("invalid peer certificate: Other(OtherError(CaUsedAsEndEntity))", Some("CA:TRUE")),
            ("invalid peer certificate: Other(OtherError(UnsupportedCertVersion))", Some("version 1")),
            ("invalid peer certificate: certificate expired: verification time 2", Some("renew it there")),
            ("invalid peer certificate: NotValidYet", Some("clock right")),
            ("invalid peer certificate: certificate not valid for name \"minio\"", Some("subjectAltName")),
            ("invalid peer certificate: UnknownIssuer", Some("AWS_CA_BUNDLE")),
            ("invalid peer certificate: BadSignature", Some("take the PEM file of the one that has")),
            ("received fatal alert: HandshakeFailure", Some("no cipher")),
            ("the session has expired", None),
            ("connection reset by peer", None),
        ];
        for (said, expected) in table {
            let advice = certificate_advice(said);
            assert_eq!(advice.is_some(), expected.is_some(), "{said}: {advice:?}");
            assert!(advice.unwrap_or_default().contains(expected.unwrap_or_default()), "{said}: {advice:?}");
        }
    }

    #[test]
    fn a_quota_in_a_403_is_no_matter_of_rights() {
        for said in
            ["Cannot upload files, storage cap exceeded. See the Caps & Alerts page", "Bucket quota exceeded"]
        {
            assert_eq!(kind_of("AccessDenied", 403, said), Kind::Full, "{said}");
        }
    }
}
