//! The page: one file, compiled in. Browsers may run the script and use the style that it holds, and nothing else: their
//! hashes stand in the header. Knows not what the page shows.

use std::sync::LazyLock;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use sha2::{Digest, Sha256};

use crate::context::hex;
use crate::http::answer::{Answer, Refusal, empty, redirect};

const PAGE: &str = include_str!("page.html");

/// The strong etag of the page.
static ETAG: LazyLock<String> =
    LazyLock::new(|| format!("\"{}\"", hex(Sha256::digest(PAGE).get(..16).unwrap_or_default())));

static POLICY: LazyLock<String> = LazyLock::new(|| {
    format!(
        "default-src 'none'; script-src {}; style-src {}; connect-src 'self'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
        hash(between(PAGE, "<script>", "</script>")),
        hash(between(PAGE, "<style>", "</style>")),
    )
});

/// `/ui` leads to it.
pub(super) async fn ui() -> Answer {
    redirect("/static/ui.html")
}

pub(super) async fn page(headers: HeaderMap) -> Result<Answer, Refusal> {
    let known = headers.get(header::IF_NONE_MATCH).and_then(|etag| etag.to_str().ok());
    let mut answer = if known == Some(ETAG.as_str()) {
        empty(StatusCode::NOT_MODIFIED)
    } else {
        Response::new(Body::from(PAGE))
    };
    let fixed = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-cache"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (header::ETAG, ETAG.as_str()),
        (header::CONTENT_SECURITY_POLICY, POLICY.as_str()),
    ];
    for (name, value) in fixed {
        let value = HeaderValue::from_str(value).map_err(|_| Refusal::internal("a header of the page"))?;
        answer.headers_mut().insert(name, value);
    }
    Ok(answer)
}

fn between<'a>(text: &'a str, open: &str, close: &str) -> &'a str {
    let inner = text.split_once(open).and_then(|(_, rest)| rest.split_once(close));
    inner.map_or("", |(inner, _)| inner)
}

fn hash(text: &str) -> String {
    format!("'sha256-{}'", aws_smithy_types::base64::encode(Sha256::digest(text)))
}

#[cfg(test)]
mod tests {
    use super::{ETAG, PAGE, POLICY, between, hash};

    #[test]
    fn browsers_run_what_the_page_holds_and_nothing_else() {
        assert!(between(PAGE, "<script>", "</script>").len() > 1_000);
        assert!(between(PAGE, "<style>", "</style>").len() > 500);
        assert_eq!((PAGE.matches("<script").count(), PAGE.matches("<style").count()), (1, 1));
        assert!(!POLICY.contains("unsafe") && POLICY.starts_with("default-src 'none'"));
        assert_eq!(hash(""), "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='");
        assert_eq!(ETAG.len(), 34);
    }

    #[test]
    fn the_page_asks_nobody_else_and_makes_no_markup_of_text() {
        for foreign in [
            "http://",
            "https://",
            "@import",
            "url(",
            "innerHTML",
            "insertAdjacent",
            "document.write",
            "eval(",
            " style=",
            " onclick=",
        ] {
            assert!(!PAGE.contains(foreign), "the page holds {foreign}");
        }
    }
}
