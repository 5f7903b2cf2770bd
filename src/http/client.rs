//! The client with which agent and server talk to each other: JSON over http or https, one time limit for all of a
//! request, bounded answers, never through a proxy, never to another place than was named. Knows no path.

use std::pin::Pin;
use std::sync::OnceLock;
use std::time::Duration;

use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_http_client::{Connector, ConnectorBuilder};
use aws_smithy_runtime_api::client::http::HttpConnector;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use http_body::Body;
use serde_json::Value;

/// More than this is no answer that we asked for.
const MAX_ANSWER: usize = 4 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens there, or the name leads nowhere.
    #[error("{0}")]
    Unreachable(String),
    /// No address that we can ask.
    #[error("{0}")]
    Address(String),
    /// The connection broke, or what came is no answer.
    #[error("{0}")]
    Broken(String),
    /// It took too long.
    #[error("no answer within {} s", .0.as_secs())]
    Timeout(Duration),
}

/// An answer, whatever its status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// The body as text.
    pub body: String,
}

impl Reply {
    /// Whether the status is 2xx.
    pub fn ok(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The body as JSON, when it is.
    pub fn json(&self) -> Option<Value> {
        serde_json::from_str(&self.body).ok()
    }
}

/// The client.
#[derive(Debug)]
pub struct Client {
    plain: Connector,
    /// Made when it is first needed: reading the certificate authorities takes a megabyte.
    secure: OnceLock<Connector>,
}

impl Default for Client {
    fn default() -> Self {
        Self { plain: unpooled(Connector::builder()).build_http(), secure: OnceLock::new() }
    }
}

/// A connection that is kept would be closed by the other side between two requests, and fail the second.
fn unpooled<T>(builder: ConnectorBuilder<T>) -> ConnectorBuilder<T> {
    let mut builder = builder;
    builder.set_pool_max_idle_per_host(Some(0));
    builder
}

/// By the system's certificate authorities; a bundle of one's own goes through SSL_CERT_FILE.
fn secure() -> Connector {
    unpooled(Connector::builder().tls_provider(Provider::Rustls(CryptoMode::Ring))).build()
}

impl Client {
    /// GET.
    ///
    /// # Errors
    /// See [`ClientError`]; a status of 4xx or 5xx is an answer.
    pub async fn get(
        &self,
        url: &str,
        key: (&'static str, &str),
        limit: Duration,
    ) -> Result<Reply, ClientError> {
        self.ask("GET", url, key, SdkBody::empty(), limit).await
    }

    /// POST of a JSON body.
    ///
    /// # Errors
    /// As for [`Client::get`].
    pub async fn post(
        &self,
        url: &str,
        key: (&'static str, &str),
        body: &Value,
        limit: Duration,
    ) -> Result<Reply, ClientError> {
        self.ask("POST", url, key, SdkBody::from(body.to_string()), limit).await
    }

    async fn ask(
        &self,
        method: &str,
        url: &str,
        key: (&'static str, &str),
        body: SdkBody,
        limit: Duration,
    ) -> Result<Reply, ClientError> {
        let connector = match url.split_once("://") {
            Some(("http", _)) => &self.plain,
            Some(("https", _)) => self.secure.get_or_init(secure),
            // The words of the client that the Python server used.
            _ => {
                let words = "Request URL is missing an 'http://' or 'https://' protocol.";
                return Err(ClientError::Address(words.to_owned()));
            }
        };
        let request = request(method, url, key, body).map_err(ClientError::Address)?;
        let exchange = async {
            let answer = connector.call(request).await.map_err(|error| {
                let words = sources(&error);
                if error.is_io() || error.is_timeout() {
                    ClientError::Unreachable(words)
                } else {
                    ClientError::Broken(words)
                }
            })?;
            let status = answer.status().as_u16();
            Ok(Reply { status, body: read(answer.into_body()).await? })
        };
        tokio::time::timeout(limit, exchange).await.unwrap_or(Err(ClientError::Timeout(limit)))
    }
}

fn request(method: &str, url: &str, key: (&'static str, &str), body: SdkBody) -> Result<HttpRequest, String> {
    let mut request = HttpRequest::new(body);
    request.set_uri(url).map_err(|error| error.to_string())?;
    request.set_method(method).map_err(|error| error.to_string())?;
    let headers = request.headers_mut();
    headers.insert("accept", "application/json");
    headers.insert("content-type", "application/json");
    // A key that no header can carry opens nothing; the answer says so.
    if !key.1.is_empty() && headers.try_insert(key.0, key.1.to_owned()).is_err() {
        return Err(format!("the key for {} cannot be sent: it holds control characters", key.0));
    }
    Ok(request)
}

async fn read(mut body: SdkBody) -> Result<String, ClientError> {
    let mut bytes = Vec::new();
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(|error| ClientError::Broken(error.to_string()))?;
        bytes.extend_from_slice(frame.data_ref().map(AsRef::as_ref).unwrap_or_default());
        if bytes.len() > MAX_ANSWER {
            return Err(ClientError::Broken("the answer is too large".to_owned()));
        }
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// An error with its causes, on one line.
fn sources(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !words.contains(&more) {
            words = format!("{words}: {more}");
        }
        source = cause.source();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::{Client, ClientError};
    use std::time::Duration;

    #[tokio::test]
    async fn addresses_that_lead_nowhere() {
        let client = Client::default();
        let limit = Duration::from_secs(5);
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let table = [("not a url", "Address"), ("ftp://x", "Address"), ("http://", "Address")];
        for (url, kind) in table {
            let error = client.get(url, ("x-key", ""), limit).await.unwrap_err();
            assert!(format!("{error:?}").starts_with(kind), "{url}: {error:?}");
        }
        let error = client.get(&format!("http://{free}/"), ("x-key", ""), limit).await.unwrap_err();
        assert!(matches!(error, ClientError::Unreachable(_)), "{error:?}");
    }
}
