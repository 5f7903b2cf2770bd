//! The listening socket: a bounded number of connections, each with a time for its headers, and a few narrow ones that
//! answer /health while all others are taken. Knows no other route.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use axum::response::IntoResponse;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};

use super::answer::{Answer, Refusal};
use super::door::Door;
use crate::context::Context;

/// Connections at once.
const CONNECTIONS: usize = 64;

/// Beside them, for /health alone: more than come in the time in which a request follows its connection.
const NARROW: usize = 128;

/// How a request on a narrow connection has to begin. Whatever begins otherwise is refused before it costs a buffer.
const NARROW_BEGINS: [&[u8]; 2] = [b"GET /health", b"HEAD /health"];

/// What others are told there.
const BUSY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: 33\r\n\
    Connection: close\r\n\r\n{\"detail\":\"Too many connections\"}";

/// A request's headers have to be here within this time; an idle connection is closed after it.
const HEADERS: Duration = Duration::from_secs(10);

/// The same for a narrow connection.
const NARROW_HEADERS: Duration = Duration::from_secs(2);

/// Headers larger than this are refused.
const MAX_HEADERS: usize = 16 * 1024;

/// How long requests in flight may take to end when we are told to.
const GRACE: Duration = Duration::from_secs(5);

/// A door and what lies behind it.
#[derive(Debug, Clone)]
pub struct Site {
    /// The door.
    pub door: Arc<Door>,
    /// The routes.
    pub routes: Router,
}

/// Serves until a signal comes.
pub async fn serve(listener: TcpListener, site: Site, context: &Context) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let mut open = JoinSet::new();
    let mut narrow = Narrow::default();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = open.join_next(), if !open.is_empty() => continue,
            _ = context.interrupted() => break,
        };
        let Ok((stream, peer)) = accepted else {
            // Out of descriptors: those that are open will end, and the silent ones at once.
            narrow.make_room(0);
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        if let Ok(slot) = Arc::clone(&slots).try_acquire_owned() {
            let site = site.clone();
            open.spawn(async move {
                connection(stream, peer, site, HEADERS, false).await;
                drop(slot);
            });
            continue;
        }
        narrow.make_room(NARROW - 1);
        narrow.0.push_back(open.spawn(narrow_connection(stream, peer, site.clone())));
        // Whoever has just come is heard before the next one can push him out.
        tokio::task::yield_now().await;
    }
    drop(listener);
    let ended = async { while open.join_next().await.is_some() {} };
    // What does not end by then is cut off; jobs do not depend on their connections.
    let _ = tokio::time::timeout(GRACE, ended).await;
}

/// The narrow connections, the oldest first.
#[derive(Debug, Default)]
struct Narrow(VecDeque<AbortHandle>);

impl Narrow {
    /// Leaves at most so many: those that have been silent for longest go.
    fn make_room(&mut self, leave: usize) {
        if self.0.len() <= leave {
            return;
        }
        self.0.retain(|handle| !handle.is_finished());
        let surplus = self.0.len().saturating_sub(leave);
        for oldest in self.0.drain(..surplus) {
            oldest.abort();
        }
    }
}

/// A narrow connection: it gets no buffers before it has begun to ask for /health.
async fn narrow_connection(stream: TcpStream, peer: SocketAddr, site: Site) {
    let mut begins = [0; 12];
    let seen = tokio::time::timeout(NARROW_HEADERS, stream.peek(&mut begins)).await;
    match seen {
        Ok(Ok(1..)) if NARROW_BEGINS.iter().any(|wanted| begins.starts_with(wanted)) => {
            Box::pin(connection(stream, peer, site, NARROW_HEADERS, true)).await;
        }
        Ok(Ok(1..)) => {
            // Unread bytes would make the system take back the answer.
            let _ = stream.try_read(&mut [0; 1024]);
            let _ = stream.try_write(BUSY);
        }
        _ => {}
    }
}

async fn connection(stream: TcpStream, peer: SocketAddr, site: Site, headers: Duration, narrow: bool) {
    let answer = service_fn(move |request: Request<Incoming>| {
        let site = site.clone();
        async move { Ok::<_, std::convert::Infallible>(respond(request.map(Body::new), peer, site, narrow).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(headers)
        .keep_alive(!narrow)
        .max_buf_size(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), answer)
        .await;
    if let Err(error) = served {
        tracing::debug!(%peer, %error, "a connection ended early");
    }
}

async fn respond(request: Request<Body>, peer: SocketAddr, site: Site, narrow: bool) -> Answer {
    if narrow && request.uri().path() != "/health" {
        return Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "Too many connections").into_response();
    }
    site.door.pass(request, peer.ip(), site.routes).await
}

#[cfg(test)]
mod tests {
    use super::BUSY;

    #[test]
    fn the_answer_of_a_narrow_connection_says_its_length() {
        let (head, body) = std::str::from_utf8(BUSY).unwrap().split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(body).unwrap()["detail"],
            "Too many connections"
        );
    }
}
