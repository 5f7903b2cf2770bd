//! A port in front of the server that counts every byte each way: request lines, headers, framing and bodies, of
//! whichever client.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Default)]
struct Counts {
    up: AtomicU64,
    down: AtomicU64,
}

/// The port; its threads end with the program.
pub struct Proxy {
    pub port: u16,
    counts: Arc<Counts>,
}

impl Proxy {
    pub fn before(port: u16) -> Proxy {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let own = listener.local_addr().expect("the port").port();
        let counts = Arc::<Counts>::default();
        let shared = Arc::clone(&counts);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let server = TcpStream::connect(("127.0.0.1", port)).expect("the server");
                for stream in [&client, &server] {
                    stream.set_nodelay(true).expect("no delay");
                }
                let clone = |stream: &TcpStream| stream.try_clone().expect("a second handle");
                let (up, down) = (Arc::clone(&shared), Arc::clone(&shared));
                let (from, to) = (clone(&client), clone(&server));
                std::thread::spawn(move || pass(from, to, &up.up));
                std::thread::spawn(move || pass(server, client, &down.down));
            }
        });
        Proxy { port: own, counts }
    }

    /// Bytes up and down since the last time.
    pub fn take(&self) -> (u64, u64) {
        let take = |count: &AtomicU64| count.swap(0, Ordering::SeqCst);
        (take(&self.counts.up), take(&self.counts.down))
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, count: &AtomicU64) {
    let mut chunk = vec![0; 64 << 10];
    // Whichever side ends first, the other is told; errors are ends too.
    while let Ok(read @ 1..) = from.read(&mut chunk) {
        count.fetch_add(read as u64, Ordering::SeqCst);
        if to.write_all(&chunk[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
