//! What else could be sent: the whole file, the whole file compressed, restic's chunks.

use std::path::Path;

use rusqlite::Connection;

use super::Traffic;
use super::proxy::Proxy;
use super::support::machine::Machine;
use super::support::s3::Handle;

/// The file that the Python script uploads, and its size with zstd -3.
pub fn whole_file(database: &Path, folder: &Path) -> (u64, u64) {
    let copy = folder.join("whole.db");
    let _ = std::fs::remove_file(&copy);
    Connection::open(database)
        .and_then(|db| db.execute("VACUUM INTO ?1", [copy.to_str().expect("a path")]))
        .expect("VACUUM INTO");
    let file = std::fs::File::open(&copy).expect("the copy");
    let size = file.metadata().expect("its size").len();
    let mut counted = Counted(0);
    zstd::stream::copy_encode(file, &mut counted, 3).expect("zstd -3");
    (size, counted.0)
}

struct Counted(u64);

impl std::io::Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Debian's restic on the same server, through the same counting port, with its cache.
pub struct Restic<'a> {
    machine: &'a Machine,
    server: &'a Handle,
    proxy: &'a Proxy,
}

impl<'a> Restic<'a> {
    /// Makes the repository; `None` where restic is not installed.
    pub fn new(machine: &'a Machine, server: &'a Handle, proxy: &'a Proxy) -> Option<Restic<'a>> {
        let restic = Restic { machine, server, proxy };
        Path::new("/usr/bin/restic").exists().then(|| {
            restic.run(&["init"]);
            restic
        })
    }

    fn run(&self, words: &[&str]) -> Traffic {
        self.proxy.take();
        self.server.reset_log();
        let repository = format!("s3:http://127.0.0.1:{}/{}/restic", self.proxy.port, self.server.bucket);
        let mut run = self
            .machine
            .program("/usr/bin/restic")
            .env("RESTIC_REPOSITORY", repository)
            .env("RESTIC_PASSWORD", "bench")
            .env("AWS_ACCESS_KEY_ID", &self.server.access_key)
            .env("AWS_SECRET_ACCESS_KEY", &self.server.secret_key)
            .env("AWS_DEFAULT_REGION", "us-east-1")
            .timeout(std::time::Duration::from_mins(10));
        for word in words {
            run = run.arg(word);
        }
        run.run().assert_code(0);
        Traffic::since(self.proxy, self.server)
    }

    /// Backs up the database file, which nobody has open: page for page what it was, the best case for chunks.
    pub fn backup(&self, database: &Path) -> Traffic {
        self.run(&["backup", "--quiet", database.to_str().expect("a path")])
    }

    /// Restores the newest snapshot, as a second machine would.
    pub fn restore(&self) -> Traffic {
        let to = self.machine.path("restored");
        let _ = std::fs::remove_dir_all(&to);
        self.run(&["restore", "latest", "--target", to.to_str().expect("a path")])
    }
}
