//! A server that means harm: what it answers is one function of the request line, written to the wire byte by byte, so
//! that it can be endless, slow, or no HTTP at all.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::machine::Store;

/// What came: method and target.
pub struct Asked<'a> {
    pub method: &'a str,
    pub target: &'a str,
    /// How many requests came before, on all connections.
    pub earlier: usize,
}

impl Asked<'_> {
    pub fn is_listing(&self) -> bool {
        self.target.contains("list-type=2")
    }
}

/// An answer, written by hand. An error ends the connection.
pub type Answer = dyn Fn(&Asked<'_>, &mut TcpStream) -> std::io::Result<()> + Send + Sync;

/// The server; its threads end with the process.
pub struct HostileServer {
    pub at: SocketAddr,
    requests: Arc<AtomicUsize>,
    targets: Arc<Mutex<Vec<String>>>,
}

/// So many targets are remembered.
const TARGETS: usize = 1_000;

impl HostileServer {
    pub fn start(answer: Arc<Answer>) -> HostileServer {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let at = listener.local_addr().expect("the port");
        let requests = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&requests);
        let targets: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = Arc::clone(&targets);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, counted, seen) = (Arc::clone(&answer), Arc::clone(&counted), Arc::clone(&seen));
                std::thread::spawn(move || serve(stream, &*answer, &counted, &seen));
            }
        });
        HostileServer { at, requests, targets }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.at)
    }

    /// As a store: any bucket, any key.
    pub fn store(&self) -> Store {
        Store::S3 {
            endpoint: self.url(),
            bucket: "b".to_owned(),
            access_key: "ak".to_owned(),
            secret_key: "sksksksk".to_owned(),
        }
    }

    /// What was asked for, in its order.
    pub fn targets(&self) -> Vec<String> {
        self.targets.lock().expect("the list").clone()
    }

    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

fn serve(
    mut stream: TcpStream,
    answer: &Answer,
    requests: &AtomicUsize,
    targets: &Mutex<Vec<String>>,
) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    loop {
        let (mut line, mut length) = (String::new(), 0);
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).ok()?;
            let Some((name, value)) = header.trim_end().split_once(':') else { break };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().ok()?;
            }
        }
        std::io::copy(&mut reader.by_ref().take(length), &mut std::io::sink()).ok()?;
        let mut words = line.split(' ');
        let (method, target) = (words.next()?, words.next()?);
        let earlier = requests.fetch_add(1, Ordering::SeqCst);
        if earlier < TARGETS {
            targets.lock().ok()?.push(target.to_owned());
        }
        answer(&Asked { method, target, earlier }, &mut stream).ok()?;
    }
}

/// An ordinary answer with such headers beside the necessary ones.
pub fn send(stream: &mut TcpStream, status: u16, headers: &str, body: &str) -> std::io::Result<()> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} X\r\nContent-Type: application/xml\r\nContent-Length: {length}\r\n{headers}\r\n"
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())
}

/// What an empty bucket answers.
pub fn nothing(asked: &Asked<'_>, stream: &mut TcpStream) -> std::io::Result<()> {
    nothing_with(asked, stream, "")
}

/// The same with such headers.
pub fn nothing_with(asked: &Asked<'_>, stream: &mut TcpStream, headers: &str) -> std::io::Result<()> {
    match asked.method {
        "HEAD" if asked.target.matches('/').count() <= 2 => send(stream, 200, headers, ""),
        _ if asked.is_listing() => send(stream, 200, headers, &listing(&[], None)),
        "HEAD" => send(stream, 404, headers, ""),
        "GET" => send(stream, 404, headers, &refusal("NoSuchKey", "m")),
        _ => send(stream, 200, &format!("{headers}ETag: \"x\"\r\n"), ""),
    }
}

pub fn refusal(code: &str, message: &str) -> String {
    format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>{message}</Message></Error>")
}

/// One page of a listing; `more` is the token of the next.
pub fn listing(keys: &[String], more: Option<&str>) -> String {
    let mut text = "<?xml version=\"1.0\"?><ListBucketResult><Name>b</Name>".to_owned();
    for key in keys {
        text += &format!(
            "<Contents><Key>{key}</Key><Size>10</Size><LastModified>2026-01-01T00:00:00.000Z</LastModified>\
             <ETag>&quot;a&quot;</ETag></Contents>"
        );
    }
    text += &format!("<IsTruncated>{}</IsTruncated>", more.is_some());
    if let Some(token) = more {
        text += &format!("<NextContinuationToken>{token}</NextContinuationToken>");
    }
    text + "</ListBucketResult>"
}

/// The beginning of an answer in chunks, which need not end.
pub fn begin_chunks(stream: &mut TcpStream, status: u16, first: &str) -> std::io::Result<()> {
    let head =
        format!("HTTP/1.1 {status} X\r\nContent-Type: application/xml\r\nTransfer-Encoding: chunked\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    chunk(stream, first)
}

pub fn chunk(stream: &mut TcpStream, text: &str) -> std::io::Result<()> {
    stream.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes())
}
