//! What a request brings: its query, and its body as a JSON object or one of the contract's refusals. Knows no field.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Path};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Request, StatusCode, header};
use serde_json::{Map, Value, json};

use super::access::By;
use super::answer::Refusal;
use super::fields::problem;

/// No body of the contract comes near it.
const MAX_BODY: usize = 1 << 20;

/// A body has to be here within this time.
const BODY_TIME: Duration = Duration::from_secs(10);

/// A body that was asked for: a JSON object.
#[derive(Debug)]
pub struct Given(pub Map<String, Value>);

impl<S: Send + Sync> FromRequest<S> for Given {
    type Rejection = Refusal;

    async fn from_request(request: Request<Body>, _state: &S) -> Result<Self, Refusal> {
        let (parts, body) = request.into_parts();
        let bytes = tokio::time::timeout(BODY_TIME, axum::body::to_bytes(body, MAX_BODY))
            .await
            .map_err(|_| Refusal::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time"))?
            .map_err(|_| {
                Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large, or broke off")
            })?;
        // Without the header a page of a stranger may have sent it; a key shows that it was none (docs/leadership.md
        // of the original taught a curl without it).
        let trusted = parts.extensions.get::<By>() == Some(&By::Key);
        object(&bytes, is_json(&parts.headers) || trusted).map(Self)
    }
}

/// The query as an object of texts.
#[derive(Debug)]
pub struct Query(pub Map<String, Value>);

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Refusal> {
        Ok(Self(query(parts.uri.query().unwrap_or_default())))
    }
}

/// The one part of a path that is a name.
#[derive(Debug)]
pub struct Name(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let name = Path::<String>::from_request_parts(parts, state).await;
        name.map(|Path(name)| Self(name)).map_err(|_| Refusal::not_found("Not Found"))
    }
}

/// Whether the body is declared as JSON.
pub fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
}

fn object(bytes: &[u8], declared: bool) -> Result<Map<String, Value>, Refusal> {
    let not_an_object = |input: Value| {
        let message = "Input should be a valid dictionary or object to extract fields from";
        Refusal::Fields(vec![problem("model_attributes_type", &json!(["body"]), message, &input)])
    };
    if bytes.is_empty() {
        return Err(Refusal::Fields(vec![problem(
            "missing",
            &json!(["body"]),
            "Field required",
            &Value::Null,
        )]));
    }
    if !declared {
        return Err(not_an_object(String::from_utf8_lossy(bytes).into()));
    }
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(other) => Err(not_an_object(other)),
        Err(error) => {
            let mut problem = problem(
                "json_invalid",
                &json!(["body", position(bytes, &error)]),
                "JSON decode error",
                &json!({}),
            );
            if let Some(fields) = problem.as_object_mut() {
                fields.insert("ctx".to_owned(), json!({"error": error.to_string()}));
            }
            Err(Refusal::Fields(vec![problem]))
        }
    }
}

/// The byte at which the text stops being JSON.
fn position(bytes: &[u8], error: &serde_json::Error) -> usize {
    let lines = bytes.split_inclusive(|byte| *byte == b'\n').take(error.line().saturating_sub(1));
    lines.map(<[u8]>::len).sum::<usize>() + error.column().saturating_sub(1)
}

/// The last value of a name counts.
fn query(text: &str) -> Map<String, Value> {
    let plain = |text: &str| {
        let spaced = text.replace('+', " ");
        percent_encoding::percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
    };
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (plain(name), Value::String(plain(value))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Refusal, object, query};
    use serde_json::json;

    #[test]
    fn bodies_that_are_no_objects() {
        let table: [(&[u8], bool, &str, serde_json::Value); 6] = [
            (b"", true, "missing", json!(["body"])),
            (b"{bad", true, "json_invalid", json!(["body", 1])),
            (b"{\n \"a\": x}", true, "json_invalid", json!(["body", 8])),
            (b"[1]", true, "model_attributes_type", json!(["body"])),
            (b"{\"a\":1}", false, "model_attributes_type", json!(["body"])),
            (b"\xff", false, "model_attributes_type", json!(["body"])),
        ];
        for (bytes, declared, kind, place) in table {
            let Err(Refusal::Fields(wrong)) = object(bytes, declared) else { panic!("{bytes:?} was taken") };
            assert_eq!((wrong[0]["type"].as_str(), &wrong[0]["loc"]), (Some(kind), &place), "{bytes:?}");
        }
        assert_eq!(object(b"{\"a\":1}", true).unwrap()["a"], 1);
    }

    #[test]
    fn depth_has_a_bound() {
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(object(deep.as_bytes(), true).is_err());
    }

    #[test]
    fn queries_are_texts() {
        let values = query("project=a+b&project=%D1%81%D0%B0%D0%B4&flag&&x=%ff");
        assert_eq!(values["project"], "сад");
        assert_eq!(values["flag"], "");
        assert_eq!(values["x"], "\u{fffd}");
    }
}
