//! The floor: what it costs to read a database, hash it, pack it as a full pack is packed and write it to a socket; and to
//! take the same bytes from a socket, unpack, hash and write them. No protocol, no check, no transaction.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::ExitCode;

use sha2::{Digest, Sha256};

use super::Bucket;
use super::samples::Cost;
use super::support::machine::Machine;
use super::support::usage;

pub const NAME: &str = "the floor";

/// As full packs are packed (src/history/pack/write.rs).
const LEVEL: i32 = 3;

pub struct Floor<'a> {
    bucket: &'a Bucket,
    machine: &'a Machine,
}

impl<'a> Floor<'a> {
    pub fn new(bucket: &'a Bucket, machine: &'a Machine) -> Self {
        Self { bucket, machine }
    }

    /// The database up.
    pub fn up(&self) -> Cost {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let port = listener.local_addr().expect("the port").port();
        let packed = self.machine.path("floor.packed");
        let taking = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            io::copy(&mut stream, &mut File::create(packed).expect("a file")).expect("take it")
        });
        let usage = self.child("--floor-up", port);
        Cost { up: taking.join().expect("the bytes"), requests: 1, ..self.bucket.cost(usage) }
    }

    /// What went up, down.
    pub fn down(&self) -> Cost {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let port = listener.local_addr().expect("the port").port();
        let packed = self.machine.path("floor.packed");
        let giving = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            let sent = io::copy(&mut File::open(packed).expect("the file"), &mut stream).expect("give it");
            stream.shutdown(Shutdown::Write).expect("end");
            sent
        });
        let usage = self.child("--floor-down", port);
        Cost { down: giving.join().expect("the bytes"), requests: 1, ..self.bucket.cost(usage) }
    }

    fn child(&self, verb: &str, port: u16) -> usage::Usage {
        let program = std::env::current_exe().expect("this program");
        let path = if verb == "--floor-up" { self.machine.db_path() } else { self.machine.path("floor.db") };
        self.bucket.reset();
        let words = [verb, path.to_str().expect("a path"), &port.to_string()];
        usage::of_program(self.machine, &program, &words, &[]).0
    }

    /// The measured side, when the arguments say so.
    pub fn measured() -> Option<ExitCode> {
        let words: Vec<String> = std::env::args().skip(1).collect();
        let [verb, path, port] = words.as_slice() else { return None };
        let up = match verb.as_str() {
            "--floor-up" => true,
            "--floor-down" => false,
            _ => return None,
        };
        let stream = TcpStream::connect(("127.0.0.1", port.parse().ok()?)).expect("the other side");
        let done = if up { send(path, stream) } else { receive(path, stream) };
        done.expect("move the bytes");
        Some(ExitCode::SUCCESS)
    }
}

fn send(path: &str, stream: TcpStream) -> io::Result<()> {
    let mut from = File::open(path)?;
    let mut to = zstd::stream::write::Encoder::new(stream, LEVEL)?;
    let mut sha256 = Sha256::new();
    each_chunk(&mut from, |chunk| {
        sha256.update(chunk);
        to.write_all(chunk)
    })?;
    to.finish()?.shutdown(Shutdown::Write)
}

fn receive(path: &str, stream: TcpStream) -> io::Result<()> {
    let mut from = zstd::stream::read::Decoder::new(stream)?;
    let mut to = File::create(path)?;
    let mut sha256 = Sha256::new();
    each_chunk(&mut from, |chunk| {
        sha256.update(chunk);
        to.write_all(chunk)
    })?;
    to.sync_all()
}

fn each_chunk(from: &mut impl Read, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut chunk = vec![0; 64 << 10];
    loop {
        match from.read(&mut chunk)? {
            0 => return Ok(()),
            read => take(&chunk[..read])?,
        }
    }
}
