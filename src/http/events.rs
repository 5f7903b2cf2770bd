//! Live events for pages: server-sent events to a few listeners, each with a bounded queue. A listener that falls behind
//! is told to read everything anew. Knows not what the events mean.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use bytes::Bytes;
use http_body::Frame;
use tokio::sync::mpsc;

use super::answer::{Answer, Handled, Refusal};

/// Open streams at once.
const STREAMS: usize = 16;

/// Events that wait for one listener.
const QUEUE: usize = 32;

/// What a listener is told that has missed some.
const RESYNC: &[u8] = b"event: resync\ndata: {}\n\n";

/// Who listens.
#[derive(Debug, Clone, Default)]
pub struct Events(Arc<Mutex<Vec<Listener>>>);

#[derive(Debug)]
struct Listener {
    queue: mpsc::Sender<Bytes>,
    behind: bool,
}

impl Events {
    /// Tells everybody; nobody is waited for.
    pub fn tell(&self, kind: &str, data: &serde_json::Value) {
        self.send(&Bytes::from(format!("event: {kind}\ndata: {data}\n\n")));
    }

    /// Keeps connections open through proxies, and finds out who is gone.
    pub fn beat(&self) {
        self.send(&Bytes::from_static(b": still here\n\n"));
    }

    /// Ends all streams: the server goes.
    pub fn close(&self) {
        self.listeners().clear();
    }

    /// A new stream.
    ///
    /// # Errors
    /// 503 when there are too many.
    pub fn listen(&self) -> Handled {
        let mut listeners = self.listeners();
        listeners.retain(|listener| !listener.queue.is_closed());
        if listeners.len() >= STREAMS {
            return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "Too many open event streams"));
        }
        let (queue, waiting) = mpsc::channel(QUEUE);
        // The first word: from here on nothing is missed.
        let _ = queue.try_send(Bytes::from_static(RESYNC));
        listeners.push(Listener { queue, behind: false });
        Ok(answer(Body::new(Stream(waiting))))
    }

    fn send(&self, event: &Bytes) {
        self.listeners().retain_mut(|listener| {
            if listener.behind && listener.queue.try_send(Bytes::from_static(RESYNC)).is_ok() {
                listener.behind = false;
            }
            match listener.queue.try_send(event.clone()) {
                Ok(()) => true,
                Err(mpsc::error::TrySendError::Full(_)) => {
                    listener.behind = true;
                    true
                }
                Err(mpsc::error::TrySendError::Closed(_)) => false,
            }
        });
    }

    fn listeners(&self) -> std::sync::MutexGuard<'_, Vec<Listener>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn answer(body: Body) -> Answer {
    let mut answer = Response::new(body);
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// A body that ends when its queue does.
struct Stream(mpsc::Receiver<Bytes>);

impl http_body::Body for Stream {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(cx).map(|event| event.map(|event| Ok(Frame::data(event))))
    }
}

#[cfg(test)]
mod tests {
    use super::{Events, QUEUE, STREAMS};
    use http_body::Body;
    use serde_json::json;
    use std::pin::pin;

    #[tokio::test]
    async fn who_falls_behind_is_told_to_read_anew() {
        let events = Events::default();
        let body = events.listen().unwrap().into_body();
        for n in 0..QUEUE + 10 {
            events.tell("job", &json!({"n": n}));
        }
        let mut body = pin!(body);
        let mut next = async || {
            let frame = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await.unwrap().unwrap();
            String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap()
        };
        assert!(next().await.starts_with("event: resync"));
        for n in 0..QUEUE - 1 {
            assert_eq!(next().await, format!("event: job\ndata: {{\"n\":{n}}}\n\n"));
        }
        events.tell("job", &json!({"n": "later"}));
        assert!(next().await.starts_with("event: resync"));
        assert!(next().await.contains("later"));
    }

    #[test]
    fn streams_are_few_and_those_that_left_make_room() {
        let events = Events::default();
        let open: Vec<_> = (0..STREAMS).map(|_| events.listen().unwrap()).collect();
        assert!(events.listen().is_err());
        drop(open);
        assert!(events.listen().is_ok());
    }
}
