//! What every request passes on its way in and out: its id, the key, the rate of wrong keys, the contract's redirect of
//! a trailing slash, headers that browsers obey, and the access log. Knows no route.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use axum::response::IntoResponse;

use super::access::{Ask, Policy, Verdict};
use super::answer::{Answer, Refusal, redirect};
use super::given::is_json;
use super::limit::WrongKeys;
use super::log::{Level, Log};
use crate::context::{Context, hex};

/// The id of a request, for handlers that keep it.
#[derive(Debug, Clone)]
pub struct RequestId(pub String);

const REQUEST_ID: &str = "x-request-id";

/// Headers by which a proxy or a browser's page gives itself away.
const RELAYED: [&str; 5] = ["origin", "x-forwarded-for", "forwarded", "x-real-ip", "sec-fetch-site"];

/// The way in.
#[derive(Debug)]
pub struct Door {
    policy: Policy,
    wrong: Mutex<WrongKeys>,
    context: Arc<Context>,
    log: Log,
}

impl Door {
    /// A door with this policy.
    pub fn new(policy: Policy, context: Arc<Context>, log: Log) -> Self {
        Self { policy, wrong: Mutex::default(), context, log }
    }

    /// Lets a request in to `routes`, or answers it.
    pub async fn pass(&self, mut request: Request<Body>, peer: IpAddr, routes: Router) -> Answer {
        let began = self.context.uptime();
        let id = id_of(request.headers());
        let line = format!("{} {}", request.method(), request.uri().path());
        request.extensions_mut().insert(RequestId(id.clone()));
        let mut answer = match self.admit(&mut request, peer) {
            Some(answer) => answer,
            None => call(routes, request).await,
        };
        if let Ok(value) = HeaderValue::from_str(&id) {
            answer.headers_mut().insert(REQUEST_ID, value);
        }
        answer.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        let took = self.context.uptime().saturating_sub(began);
        let said = format!("{line} {} {}", answer.status().as_u16(), milliseconds(took));
        self.log.line(Level::Info, "membridge.access", &said, &id);
        answer
    }

    /// `None` lets it in.
    fn admit(&self, request: &mut Request<Body>, peer: IpAddr) -> Option<Answer> {
        let headers = request.headers();
        let ask = Ask {
            path: request.uri().path(),
            changes: !matches!(*request.method(), Method::GET | Method::HEAD),
            key: headers.get(self.policy.header).map(HeaderValue::as_bytes),
            side_key: self
                .policy
                .side_door
                .as_ref()
                .and_then(|door| headers.get(door.header))
                .map(HeaderValue::as_bytes),
            peer,
            host: headers.get(header::HOST).and_then(|host| host.to_str().ok()),
            relayed: RELAYED.iter().any(|name| headers.contains_key(*name)),
            json: is_json(headers),
        };
        let tries_a_key = ask.key.is_some() || ask.side_key.is_some();
        let now = self.context.uptime();
        let wait = if tries_a_key && !self.policy.dev { self.wrong().wait(peer, now) } else { None };
        if let Some(seconds) = wait {
            return Some(too_many(seconds));
        }
        match self.policy.judge(ask) {
            Verdict::Pass(by) => {
                let slash = slashless(request);
                request.extensions_mut().insert(by);
                slash.map(|place| redirect(&place))
            }
            verdict => {
                if tries_a_key {
                    self.wrong().note(peer, now);
                }
                let status = match verdict {
                    Verdict::NoKeyHere => StatusCode::INTERNAL_SERVER_ERROR,
                    _ => StatusCode::UNAUTHORIZED,
                };
                Some(Refusal::new(status, self.policy.words(verdict)).into_response())
            }
        }
    }

    fn wrong(&self) -> std::sync::MutexGuard<'_, WrongKeys> {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The caller's id, when it can be printed and kept; else a new one.
fn id_of(headers: &HeaderMap) -> String {
    let given = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok());
    given.filter(|id| !id.is_empty() && id.len() <= 128).map_or_else(new_id, str::to_owned)
}

fn new_id() -> String {
    let mut bytes = [0_u8; 6];
    // Without random numbers the id is all zeros; the request is still answered.
    let _ = getrandom::fill(&mut bytes);
    hex(&bytes)
}

/// axum's router cannot fail.
async fn call(routes: Router, request: Request<Body>) -> Answer {
    use hyper::service::Service;
    let answer = hyper_util::service::TowerToHyperService::new(routes).call(request).await;
    answer.unwrap_or_else(|never| match never {})
}

fn too_many(seconds: u64) -> Answer {
    let words = "Too many wrong keys, please try again later";
    let mut answer = Refusal::new(StatusCode::TOO_MANY_REQUESTS, words).into_response();
    answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    answer
}

/// Where a path with a slash too many leads.
fn slashless(request: &Request<Body>) -> Option<String> {
    let uri = request.uri();
    let path = uri.path().strip_suffix('/').filter(|path| !path.is_empty() && !path.ends_with('/'))?;
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    Some(match request.headers().get(header::HOST).and_then(|host| host.to_str().ok()) {
        Some(host) => format!("http://{host}{path}{query}"),
        None => format!("{path}{query}"),
    })
}

fn milliseconds(took: Duration) -> String {
    format!("{:.1}ms", took.as_secs_f64() * 1e3)
}
