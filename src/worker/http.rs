//! The HTTP/1.1 that talks to the worker: one request per connection, one second, a bounded answer, never a proxy.
//! A held connection blocks the worker's boot, so each is closed at once. Knows no paths.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A request takes at most this long, from connecting to the last byte.
pub const TIMEOUT: Duration = Duration::from_secs(1);

/// More than this is no answer of a worker.
const MAX_ANSWER: usize = 1 << 20;

/// Where the worker listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Host name or address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// Nobody listens there, or the connection broke.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// Somebody listens there and does not answer.
    #[error("no answer within {} s", TIMEOUT.as_secs())]
    Timeout,
    /// What came back is not HTTP, or too much of it.
    #[error("the answer is not HTTP: {0}")]
    Malformed(&'static str),
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// The body, decoded.
    pub body: Vec<u8>,
}

impl Answer {
    /// Whether the status is 2xx.
    pub fn ok(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The body as JSON, when it is.
    pub fn json(&self) -> Option<serde_json::Value> {
        serde_json::from_slice(&self.body).ok()
    }
}

impl Endpoint {
    /// GET.
    ///
    /// # Errors
    /// See [`HttpError`]. A status of 4xx or 5xx is an answer.
    pub async fn get(&self, path: &str) -> Result<Answer, HttpError> {
        self.ask("GET", path, None).await
    }

    /// POST of a JSON body.
    ///
    /// # Errors
    /// As for [`Endpoint::get`].
    pub async fn post(&self, path: &str, body: &serde_json::Value) -> Result<Answer, HttpError> {
        self.ask("POST", path, Some(body.to_string())).await
    }

    async fn ask(&self, method: &str, path: &str, body: Option<String>) -> Result<Answer, HttpError> {
        let exchange = async {
            let mut stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
            stream.write_all(self.request(method, path, body).as_bytes()).await?;
            let mut raw = Vec::new();
            let mut chunk = [0_u8; 8192];
            loop {
                let count = stream.read(&mut chunk).await?;
                raw.extend_from_slice(chunk.get(..count).unwrap_or_default());
                match parse(&raw, count == 0)? {
                    Some(answer) => return Ok(answer),
                    None if raw.len() > MAX_ANSWER => return Err(HttpError::Malformed("it does not end")),
                    None => {}
                }
            }
        };
        tokio::time::timeout(TIMEOUT, exchange).await.unwrap_or(Err(HttpError::Timeout))
    }

    fn request(&self, method: &str, path: &str, body: Option<String>) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}:{}\r\nConnection: close\r\nAccept: application/json\r\n",
            self.port
        );
        match body {
            Some(body) => format!(
                "{head}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            ),
            None => format!("{head}\r\n"),
        }
    }
}

/// The answer, once `raw` holds all of it; `ended` says that no more will come.
fn parse(raw: &[u8], ended: bool) -> Result<Option<Answer>, HttpError> {
    let Some((head, rest)) = split(raw, b"\r\n\r\n") else {
        return if ended { Err(HttpError::Malformed("it ends within the head")) } else { Ok(None) };
    };
    let head = std::str::from_utf8(head).map_err(|_| HttpError::Malformed("head"))?;
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .filter(|line| line.starts_with("HTTP/1."))
        .and_then(|line| line.split(' ').nth(1)?.parse().ok())
        .ok_or(HttpError::Malformed("status line"))?;
    let header = |name: &str| {
        head.split("\r\n")
            .filter_map(|line| line.split_once(':'))
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
    };
    let chunked = header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
    let body = if chunked {
        unchunk(rest)?
    } else if let Some(length) = header("content-length") {
        let length: usize = length.parse().map_err(|_| HttpError::Malformed("content-length"))?;
        rest.get(..length).map(<[u8]>::to_vec)
    } else {
        ended.then(|| rest.to_vec())
    };
    match body {
        Some(body) => Ok(Some(Answer { status, body })),
        None if ended => Err(HttpError::Malformed("it ends within the body")),
        None => Ok(None),
    }
}

/// The decoded body, once the last chunk is there.
fn unchunk(mut rest: &[u8]) -> Result<Option<Vec<u8>>, HttpError> {
    let mut body = Vec::new();
    loop {
        let Some((line, after)) = split(rest, b"\r\n") else {
            return Ok(None);
        };
        let size = std::str::from_utf8(line)
            .ok()
            .and_then(|line| usize::from_str_radix(line.split(';').next()?.trim(), 16).ok())
            .filter(|size| *size <= MAX_ANSWER)
            .ok_or(HttpError::Malformed("chunk size"))?;
        if size == 0 {
            return Ok(Some(body));
        }
        let (Some(chunk), Some(next)) = (after.get(..size), after.get(size + 2..)) else {
            return Ok(None);
        };
        body.extend_from_slice(chunk);
        rest = next;
    }
}

fn split<'a>(bytes: &'a [u8], at: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let start = bytes.windows(at.len()).position(|window| window == at)?;
    Some((bytes.get(..start)?, bytes.get(start + at.len()..)?))
}

#[cfg(test)]
mod tests {
    use super::{Endpoint, HttpError, parse};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[test]
    fn answers_are_read_to_their_end_and_no_further() {
        let table: [(&str, bool, Option<(u16, &str)>); 8] = [
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", false, Some((200, "ok"))),
            ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\no", false, None),
            ("HTTP/1.1 503 No\r\n\r\nlater", true, Some((503, "later"))),
            ("HTTP/1.1 503 No\r\n\r\nlater", false, None),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n",
                false,
                Some((200, "abcde")),
            ),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab", false, None),
            ("HTTP/1.1 204 None\r\nContent-Length: 0\r\n\r\n", false, Some((204, ""))),
            ("HTTP/1.1 200", false, None),
        ];
        for (raw, ended, expected) in table {
            let answer = parse(raw.as_bytes(), ended).unwrap();
            let seen = answer.map(|answer| (answer.status, String::from_utf8(answer.body).unwrap()));
            let expected = expected.map(|(status, body)| (status, body.to_owned()));
            assert_eq!(seen, expected, "{raw}");
        }
    }

    #[test]
    fn what_is_not_http_is_refused() {
        let table = [
            "",
            "SSH-2.0-OpenSSH\r\n\r\n",
            "HTTP/1.1 abc\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
        ];
        for raw in table {
            assert!(parse(raw.as_bytes(), true).is_err(), "{raw}");
        }
    }

    #[tokio::test]
    async fn a_request_goes_out_and_its_answer_comes_back() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut seen = vec![0; 4096];
            let mut length = 0;
            while !String::from_utf8_lossy(&seen[..length]).ends_with("{\"a\":1}") {
                length += stream.read(&mut seen[length..]).await.unwrap();
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n{\"b\": 2}").await.unwrap();
            // Held open: the client must not wait for the end.
            (String::from_utf8_lossy(&seen[..length]).into_owned(), stream)
        });
        let endpoint = Endpoint { host: "127.0.0.1".into(), port };
        let answer = endpoint.post("/x", &serde_json::json!({"a": 1})).await.unwrap();
        assert_eq!(answer.json().unwrap()["b"], 2);
        let (request, _stream) = server.await.unwrap();
        assert!(request.starts_with("POST /x HTTP/1.1\r\n") && request.contains("Connection: close\r\n"));
    }

    #[tokio::test]
    async fn a_server_that_never_answers_costs_one_second() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = Endpoint { host: "127.0.0.1".into(), port: listener.local_addr().unwrap().port() };
        assert!(matches!(endpoint.get("/").await, Err(HttpError::Timeout)));
    }
}
