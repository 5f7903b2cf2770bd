//! Answers and refusals in the shapes of the contract: JSON, and `{"detail": …}`. Knows no route.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use serde::Serialize;
use serde_json::{Value, json};

/// An answer on its way.
pub type Answer = Response<Body>;

/// A request that is not done.
#[derive(Debug, Clone, PartialEq)]
pub enum Refusal {
    /// A status and one line of text.
    Detail(StatusCode, String),
    /// 422: what is wrong with which fields.
    Fields(Vec<Value>),
}

impl Refusal {
    /// A status and one line of text.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self::Detail(status, detail.into())
    }

    /// 404.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    /// 500: it is our fault.
    pub fn internal(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
    }

    /// 501: the route is known and comes later.
    pub fn later(what: &str) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, format!("{what} is not part of this version of membridge"))
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Answer {
        match self {
            Self::Detail(status, detail) => json(status, &json!({"detail": detail})),
            Self::Fields(fields) => json(StatusCode::UNPROCESSABLE_ENTITY, &json!({"detail": fields})),
        }
    }
}

/// What handlers return.
pub type Handled = Result<Answer, Refusal>;

/// A JSON answer.
pub fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(bytes) => {
            let mut answer = Response::new(Body::from(bytes));
            *answer.status_mut() = status;
            answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            answer
        }
        Err(_) => empty(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

/// 200 with JSON.
pub fn ok(value: &impl Serialize) -> Handled {
    Ok(json(StatusCode::OK, value))
}

/// A status and nothing else.
pub fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = status;
    answer
}

/// 307 to another place.
pub fn redirect(to: &str) -> Answer {
    let mut answer = empty(StatusCode::TEMPORARY_REDIRECT);
    if let Ok(place) = HeaderValue::from_str(to) {
        answer.headers_mut().insert(header::LOCATION, place);
    }
    answer
}

/// The fallback of every router: no such path.
pub async fn nothing() -> Refusal {
    Refusal::not_found("Not Found")
}

/// The fallback where a path has other methods; the router adds Allow.
pub async fn wrong_method() -> Refusal {
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed")
}
