//! A machine to run membridge on: its own home, host name, node id, database and worker
//! port, an environment that holds nothing else, and a store it shares with others.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::TcpSocket;

use super::claude_mem::{MemDb, Version};
use super::process::{Outcome, Running};
use super::s3;
use super::terminal::{Shown, Terminal};

const DEADLINE: Duration = Duration::from_mins(1);

/// Where a machine keeps its snapshots.
#[derive(Clone, Debug)]
pub enum Store {
    S3 { endpoint: String, bucket: String, access_key: String, secret_key: String },
    Dir(PathBuf),
}

impl From<&s3::Handle> for Store {
    fn from(server: &s3::Handle) -> Store {
        Store::S3 {
            endpoint: server.endpoint(),
            bucket: server.bucket.clone(),
            access_key: server.access_key.clone(),
            secret_key: server.secret_key.clone(),
        }
    }
}

impl From<&s3::S3Server> for Store {
    fn from(server: &s3::S3Server) -> Store {
        Store::from(&**server)
    }
}

impl From<&Store> for Store {
    fn from(store: &Store) -> Store {
        store.clone()
    }
}

impl From<&Path> for Store {
    fn from(folder: &Path) -> Store {
        Store::Dir(folder.to_owned())
    }
}

/// The binary under test. An example is built without cargo's variable and passes a path
/// to `Machine::with_binary`, or sets MEMBRIDGE_BINARY.
fn built_binary() -> PathBuf {
    let built = option_env!("CARGO_BIN_EXE_membridge").map(PathBuf::from);
    let told = || std::env::var_os("MEMBRIDGE_BINARY").map(PathBuf::from);
    built.or_else(told).expect("the path of the membridge binary")
}

/// One machine; its files vanish with it.
pub struct Machine {
    pub name: String,
    home: PathBuf,
    binary: PathBuf,
    environment: BTreeMap<OsString, OsString>,
    /// Bound and never listened on: the port is ours, and whoever connects is refused.
    _closed_port: TcpSocket,
    _folder: TempDir,
}

impl Machine {
    pub fn new(name: &str, store: impl Into<Store>) -> Machine {
        Machine::with_binary(built_binary(), name, store)
    }

    pub fn with_binary(binary: PathBuf, name: &str, store: impl Into<Store>) -> Machine {
        let folder = TempDir::with_prefix(format!("machine-{name}-")).expect("a folder");
        Machine::in_folder(binary, name, store, folder)
    }

    /// Below a folder that is there: on another disk, or in memory.
    pub fn below(parent: &Path, name: &str, store: impl Into<Store>) -> Machine {
        let folder = TempDir::with_prefix_in(format!("machine-{name}-"), parent).expect("a folder");
        Machine::in_folder(built_binary(), name, store, folder)
    }

    fn in_folder(binary: PathBuf, name: &str, store: impl Into<Store>, folder: TempDir) -> Machine {
        let home = folder.path().canonicalize().expect("the folder's path").join("home");
        std::fs::create_dir_all(home.join("tmp")).expect("make the home");
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(([127, 0, 0, 1], 0).into()).expect("bind a port");
        let port = socket.local_addr().expect("the port").port();

        let mut machine = Machine {
            name: name.to_owned(),
            home,
            binary,
            environment: BTreeMap::new(),
            _closed_port: socket,
            _folder: folder,
        };
        let (home, database) = (machine.home.clone(), machine.db_path());
        machine.set("HOME", home.as_os_str());
        machine.set("TMPDIR", home.join("tmp"));
        machine.set("PATH", "/usr/local/bin:/usr/bin:/bin");
        machine.set("TZ", "UTC");
        machine.set("MEMBRIDGE_HOSTNAME", name);
        machine.set("MEMBRIDGE_NODE_ID", name);
        machine.set("CLAUDE_PROJECT_ID", "mem");
        machine.set("CLAUDE_MEM_DB", database);
        machine.set("CLAUDE_MEM_WORKER_PORT", port.to_string());
        if let Some(file) = std::env::var_os("LLVM_PROFILE_FILE") {
            machine.set("LLVM_PROFILE_FILE", file);
        }
        machine.use_store(store);
        machine
    }

    /// Sets a variable for every later run.
    pub fn set(&mut self, name: &str, value: impl Into<OsString>) -> &mut Machine {
        self.environment.insert(name.into(), value.into());
        self
    }

    pub fn unset(&mut self, name: &str) -> &mut Machine {
        self.environment.remove(&OsString::from(name));
        self
    }

    /// Points the machine at another store.
    pub fn use_store(&mut self, store: impl Into<Store>) -> &mut Machine {
        match store.into() {
            Store::S3 { endpoint, bucket, access_key, secret_key } => {
                self.set("MINIO_ENDPOINT", endpoint).set("MINIO_BUCKET", bucket);
                self.set("MINIO_ACCESS_KEY", access_key).set("MINIO_SECRET_KEY", secret_key)
            }
            Store::Dir(folder) => {
                self.unset("MINIO_ACCESS_KEY").unset("MINIO_SECRET_KEY");
                self.set("MINIO_ENDPOINT", format!("file://{}", folder.display()));
                self.set("MINIO_BUCKET", s3::BUCKET)
            }
        }
    }

    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The binary that it runs.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// A path below the home.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.home.join(relative)
    }

    /// The canonical place of the database, whether it exists or not.
    pub fn db_path(&self) -> PathBuf {
        self.path(".claude-mem/claude-mem.db")
    }

    /// Makes the database; its rows carry the machine's name.
    pub fn create_db(&self, version: Version) -> MemDb {
        MemDb::create_as(self.db_path(), version, &self.name)
    }

    /// The database that is there, for rows that carry the machine's name.
    pub fn db(&self) -> MemDb {
        MemDb::open(self.db_path(), &self.name)
    }

    /// Writes a file below the home, making its folders.
    pub fn write(&self, relative: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(relative);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("make the folder");
        std::fs::write(&path, text).expect("write a file");
        path
    }

    /// Writes a program below the home. A child does: a file that is open for writing here stays open in whatever another
    /// test starts meanwhile, and nothing runs a file that somebody has open for writing (ETXTBSY).
    pub fn write_program(&self, relative: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let text = self.write(&format!("{relative}.text"), text);
        let program = self.copy_program(relative, &text);
        std::fs::remove_file(text).expect("remove the text");
        program
    }

    /// Copies a program below the home, likewise.
    pub fn copy_program(&self, relative: &str, from: &Path) -> PathBuf {
        let path = self.path(relative);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("make the folder");
        let copied = Command::new("/bin/sh")
            .args(["-c", "cp \"$1\" \"$2\" && chmod 755 \"$2\"", "sh"])
            .args([from, &path])
            .status();
        assert!(copied.expect("run cp").success(), "copy {}", from.display());
        path
    }

    /// All files below the home, relative and sorted.
    pub fn files(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut folders = vec![self.home.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("a folder") {
                let entry = entry.expect("an entry");
                if entry.file_type().expect("a file type").is_dir() {
                    folders.push(entry.path());
                } else {
                    let path = entry.path();
                    let relative = path.strip_prefix(&self.home).expect("below the home");
                    found.push(relative.display().to_string());
                }
            }
        }
        found.sort();
        found
    }

    /// `membridge COMMAND`; words separated by spaces.
    pub fn cmd(&self, words: &str) -> Run {
        let mut command = Command::new(&self.binary);
        command.args(words.split_whitespace());
        self.prepare(command)
    }

    /// Any other program, in this machine's environment.
    pub fn program(&self, program: impl AsRef<Path>) -> Run {
        self.prepare(Command::new(program.as_ref()))
    }

    /// A bare command in this machine's environment, for what a `Run` does not measure or must not end.
    pub fn bare(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command.env_clear().envs(&self.environment).current_dir(&self.home);
        command
    }

    fn prepare(&self, mut command: Command) -> Run {
        command.env_clear().envs(&self.environment).current_dir(&self.home);
        Run { command, stdin: None, timeout: DEADLINE }
    }

    /// Replaces what differs from run to run: paths, ports, times, hashes.
    pub fn normalise(&self, text: &str) -> String {
        super::normalise::normalise(&text.replace(&self.home.display().to_string(), "[HOME]"))
    }
}

/// A run being prepared.
#[must_use = "call run or spawn"]
pub struct Run {
    command: Command,
    stdin: Option<Vec<u8>>,
    timeout: Duration,
}

impl Run {
    pub fn arg(mut self, arg: impl Into<OsString>) -> Run {
        self.command.arg(arg.into());
        self
    }

    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Run {
        self.command.env(name, value.into());
        self
    }

    pub fn env_remove(mut self, name: &str) -> Run {
        self.command.env_remove(name);
        self
    }

    pub fn current_dir(mut self, folder: impl AsRef<Path>) -> Run {
        self.command.current_dir(folder);
        self
    }

    /// Standard input; without it, /dev/null.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Run {
        self.stdin = Some(bytes.into());
        self
    }

    /// The deadline at which the run is killed and the test fails; 60 s unless told.
    pub fn timeout(mut self, timeout: Duration) -> Run {
        self.timeout = timeout;
        self
    }

    /// Runs to the end.
    #[track_caller]
    pub fn run(self) -> Outcome {
        self.spawn().wait()
    }

    /// Starts it at a terminal with so many columns, where a person would sit.
    #[must_use = "a run that is dropped is killed"]
    pub fn at_terminal(self, columns: u16, shown: Shown) -> Terminal {
        Terminal::start(&self.command, columns, shown, self.timeout)
    }

    /// Starts it and returns at once.
    #[must_use = "a run that is dropped is killed"]
    pub fn spawn(self) -> Running {
        Running::start(self.command, self.stdin, self.timeout)
    }
}
