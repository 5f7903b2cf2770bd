//! A port in front of the server that counts every byte each way, request lines, headers, framing and bodies, of whichever
//! client; as fast as loopback, or as slow as a line that it is told to be.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// What the line is like.
#[derive(Clone, Copy)]
pub struct Speed {
    /// Bytes a second from the client; `None`: as they come.
    pub up: Option<u32>,
    /// Bytes a second to the client.
    pub down: Option<u32>,
    /// How long a byte is under way, each way.
    pub delay: Duration,
}

impl Speed {
    /// Loopback.
    pub const FULL: Speed = Speed { up: None, down: None, delay: Duration::ZERO };
}

#[derive(Default)]
struct Counts {
    up: AtomicU64,
    down: AtomicU64,
}

/// The port; its threads end with the program.
pub struct Link {
    pub port: u16,
    counts: Arc<Counts>,
}

impl Link {
    pub fn to(port: u16, speed: Speed) -> Link {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let own = listener.local_addr().expect("the port").port();
        let counts = Arc::<Counts>::default();
        let shared = Arc::clone(&counts);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let counts = Arc::clone(&shared);
                std::thread::spawn(move || connect(client, port, speed, &counts));
            }
        });
        Link { port: own, counts }
    }

    /// Bytes up and down since the last time.
    pub fn take(&self) -> (u64, u64) {
        let take = |count: &AtomicU64| count.swap(0, Ordering::SeqCst);
        (take(&self.counts.up), take(&self.counts.down))
    }
}

fn connect(client: TcpStream, port: u16, speed: Speed, counts: &Arc<Counts>) {
    // The way there and back of a connection that is being made.
    std::thread::sleep(speed.delay * 2);
    let server = TcpStream::connect(("127.0.0.1", port)).expect("the server");
    for stream in [&client, &server] {
        stream.set_nodelay(true).expect("no delay");
    }
    let clone = |stream: &TcpStream| stream.try_clone().expect("a second handle");
    let (from, to, up) = (clone(&client), clone(&server), Arc::clone(counts));
    std::thread::spawn(move || pass(from, to, &up.up, speed.up, speed.delay));
    pass(server, client, &counts.down, speed.down, speed.delay);
}

fn pass(mut from: TcpStream, to: TcpStream, count: &AtomicU64, rate: Option<u32>, delay: Duration) {
    // A line holds little: whoever sends faster than it passes on has to wait.
    let (queue, arrives) = mpsc::sync_channel(16);
    let sender = std::thread::spawn(move || deliver(to, &arrives));
    let mut chunk = vec![0; 64 << 10];
    let mut free = Instant::now();
    // Whichever side ends first, the other is told; errors are ends too.
    while let Ok(read @ 1..) = from.read(&mut chunk) {
        count.fetch_add(read as u64, Ordering::SeqCst);
        let takes = rate.map_or(Duration::ZERO, |rate| Duration::from_secs(1) * read as u32 / rate);
        free = free.max(Instant::now()) + takes;
        if queue.send((free + delay, chunk[..read].to_vec())).is_err() {
            break;
        }
    }
    drop(queue);
    let _ = sender.join();
}

fn deliver(mut to: TcpStream, arrives: &mpsc::Receiver<(Instant, Vec<u8>)>) {
    while let Ok((at, bytes)) = arrives.recv() {
        std::thread::sleep(at.saturating_duration_since(Instant::now()));
        if to.write_all(&bytes).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
