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

/// Beside them, for /health alone: more than come in the time in which a request follows its connection. One that says
/// nothing costs a descriptor and a kilobyte.
const NARROW: usize = 256;

/// A request's headers have to be here within this time; an idle connection is closed after it.
const HEADERS: Duration = Duration::from_secs(10);

/// The same for a narrow connection.
const NARROW_HEADERS: Duration = Duration::from_secs(2);

/// Headers larger than this are refused.
const MAX_HEADERS: usize = 32 * 1024;

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
        narrow.0.push_back(open.spawn(once_it_speaks(stream, peer, site.clone())));
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

/// A narrow connection: it gets no buffers before it says something.
async fn once_it_speaks(stream: TcpStream, peer: SocketAddr, site: Site) {
    if let Ok(Ok(())) = tokio::time::timeout(NARROW_HEADERS, stream.readable()).await {
        connection(stream, peer, site, NARROW_HEADERS, true).await;
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
