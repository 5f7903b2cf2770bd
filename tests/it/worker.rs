//! Stopping the claude-mem worker without harm: who is asked, who is signalled, who is left alone.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use membridge::config::{Environment, Paths, Settings, worker as worker_settings};
use membridge::context::Context;
use membridge::worker::{Site, WorkerState, probe_site, quiesce_site};
use tempfile::TempDir;

use crate::support::fake_worker::{Behaviour, FakeWorker, named};

/// A home whose claude-mem is found through these variables.
struct Home(TempDir);

impl Home {
    fn new() -> Home {
        let home = Home(TempDir::new().unwrap());
        std::fs::create_dir(home.data()).unwrap();
        std::fs::write(home.database(), "").unwrap();
        home
    }

    fn data(&self) -> std::path::PathBuf {
        self.0.path().join(".claude-mem")
    }

    fn database(&self) -> std::path::PathBuf {
        self.data().join("claude-mem.db")
    }

    fn pid_file(&self, text: &str) {
        std::fs::write(self.data().join("worker.pid"), text).unwrap();
    }

    /// claude-mem as files tell, with the worker on this port and little patience.
    fn site(&self, port: u16) -> Site {
        let values =
            [("HOME", self.0.path().display().to_string()), ("CLAUDE_MEM_WORKER_PORT", port.to_string())];
        let values = values.map(|(name, value)| (name.to_owned(), value));
        let settings = Settings::load(&BTreeMap::new(), &Environment::from_values(values), None).unwrap();
        let worker = worker_settings(&settings).unwrap();
        let mut site = Site::new(&Paths::new(&settings), &worker, &self.database());
        site.patience.shutdown = Duration::from_millis(200);
        site.patience.terminate = Duration::from_millis(200);
        site.patience.spawn_lock = Duration::from_millis(300);
        site
    }
}

/// A port that nobody listens on, for as long as the socket lives.
fn closed_port() -> (tokio::net::TcpSocket, u16) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, port)
}

fn sleeper(name: &str) -> Child {
    named(Command::new("/bin/sleep").arg0(name).arg("600").spawn().unwrap())
}

fn end(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test]
async fn f10_a_worker_is_stopped_and_claude_mem_kept_from_starting_another() {
    let home = Home::new();
    let worker = FakeWorker::start(Behaviour::default());
    let mut site = home.site(worker.port());
    site.patience.shutdown = Duration::from_secs(15);
    let quiesced = quiesce_site(site, &Context::default()).await.unwrap();
    let was = quiesced.was_running.as_ref().unwrap();
    assert_eq!((was.pid, was.version.as_deref(), was.ready), (worker.pid(), Some("13.25.3"), true));
    assert!(quiesced.drained);
    worker.wait_gone();
    assert!(worker.was_asked("POST /api/admin/shutdown"));
    assert!(home.data().join("spawn.lock").exists());
    assert!(!quiesced.recheck());
    drop(quiesced);
    assert!(!home.data().join("spawn.lock").exists());
}

#[tokio::test]
async fn f10_a_worker_that_comes_back_is_noticed() {
    let home = Home::new();
    let (_socket, port) = closed_port();
    let quiesced = quiesce_site(home.site(port), &Context::default()).await.unwrap();
    assert!(quiesced.was_running.is_none());
    let worker = named(
        Command::new("/bin/sleep")
            .arg0("worker-service.cjs")
            .arg("600")
            .stdin(std::fs::File::open(home.database()).unwrap())
            .spawn()
            .unwrap(),
    );
    assert!(quiesced.recheck());
    end(worker);
    assert!(!quiesced.recheck());
    assert!(!quiesced.resume(true).await.unwrap().restarted);
}

#[tokio::test]
async fn a_worker_that_ignores_requests_and_sigterm_is_killed() {
    let home = Home::new();
    let worker =
        FakeWorker::start(Behaviour { obeys_shutdown: false, ignores_sigterm: true, ..Behaviour::default() });
    let quiesced = quiesce_site(home.site(worker.port()), &Context::default()).await.unwrap();
    assert!(quiesced.was_running.is_some());
    worker.wait_gone();
}

#[tokio::test]
async fn queued_events_are_waited_for_but_not_for_ever() {
    let home = Home::new();
    let worker = FakeWorker::start(Behaviour { queue: 4, ..Behaviour::default() });
    let quiesced = quiesce_site(home.site(worker.port()), &Context::default()).await.unwrap();
    assert!(quiesced.drained);
    let asked = worker.requests();
    let looks = asked.iter().filter(|request| request.contains("processing-status"));
    assert!(looks.count() >= 5, "{asked:?}");
    drop(quiesced);

    let stuck = FakeWorker::start(Behaviour { queue: 4, drains: false, ..Behaviour::default() });
    let mut site = home.site(stuck.port());
    site.patience.drain = Duration::from_millis(300);
    let quiesced = quiesce_site(site, &Context::default()).await.unwrap();
    assert!(!quiesced.drained);
}

#[tokio::test]
async fn f34_a_stale_pid_file_gets_nobody_killed() {
    let home = Home::new();
    let (_socket, port) = closed_port();
    let mut stranger = sleeper("stranger");
    let contents = [
        format!("{{\"pid\": {}, \"port\": {port}}}", stranger.id()),
        format!("{{\"pid\": {}}}", std::process::id()),
        "{\"pid\": 1}".to_owned(),
        "{\"pid\": -1}".to_owned(),
        "-1".to_owned(),
        "\"x\"".to_owned(),
        "[]".to_owned(),
        String::new(),
    ];
    for text in contents {
        home.pid_file(&text);
        let quiesced = quiesce_site(home.site(port), &Context::default()).await.unwrap();
        assert!(quiesced.was_running.is_none(), "{text}");
        assert!(stranger.try_wait().unwrap().is_none(), "{text}");
    }
    end(stranger);
}

#[tokio::test]
async fn f34_a_pid_that_was_given_to_another_worker_is_not_ours() {
    let home = Home::new();
    let (_socket, port) = closed_port();
    let mut other = sleeper("worker-service.cjs");
    // The start ticks are those of the process that wrote the file.
    home.pid_file(&format!("{{\"pid\": {}, \"startToken\": \"1\"}}", other.id()));
    let quiesced = quiesce_site(home.site(port), &Context::default()).await.unwrap();
    assert!(quiesced.was_running.is_none());
    assert!(other.try_wait().unwrap().is_none());
    end(other);
}

#[tokio::test]
async fn a_worker_that_does_not_answer_is_found_by_its_pid_file() {
    let home = Home::new();
    let worker = FakeWorker::start(Behaviour { mute: true, ..Behaviour::default() });
    home.pid_file(&format!("{{\"pid\": {}}}", worker.pid()));
    let quiesced = quiesce_site(home.site(worker.port()), &Context::default()).await.unwrap();
    let was = quiesced.was_running.as_ref().unwrap();
    assert_eq!((was.pid, was.ready), (worker.pid(), false));
    worker.wait_gone();
}

#[tokio::test]
async fn a_worker_of_another_database_is_left_alone() {
    let (home, other) = (Home::new(), Home::new());
    crate::support::claude_mem::MemDb::create(
        other.data().join("other.db"),
        crate::support::claude_mem::Version::V13_25_3,
    );
    let worker = FakeWorker::start(Behaviour {
        database: Some(other.data().join("other.db")),
        ..Behaviour::default()
    });
    let site = home.site(worker.port());
    match probe_site(&site).await {
        WorkerState::Foreign { port, database } => {
            assert_eq!(port, worker.port());
            assert_eq!(database, other.data().join("other.db"));
        }
        state => panic!("{state:?}"),
    }
    let quiesced = quiesce_site(site, &Context::default()).await.unwrap();
    assert!(quiesced.was_running.is_none() && worker.alive());
    assert!(!worker.was_asked("POST /api/admin/shutdown"));
}

#[tokio::test]
async fn a_fresh_spawn_lock_of_claude_mem_is_respected() {
    let home = Home::new();
    let (_socket, port) = closed_port();
    let lock = home.data().join("spawn.lock");
    std::fs::write(&lock, "{\"pid\": 4242, \"startedAt\": \"x\"}").unwrap();
    let error = quiesce_site(home.site(port), &Context::default()).await.unwrap_err();
    assert!(error.to_string().contains("is starting its worker"), "{error}");
    assert!(lock.exists());
    std::fs::remove_file(&lock).unwrap();
    assert!(quiesce_site(home.site(port), &Context::default()).await.is_ok());
    assert!(!Path::new(&lock).exists());
}

#[tokio::test]
async fn a_probe_reports_and_changes_nothing() {
    let home = Home::new();
    let database = home.0.path().join("counted.db");
    let rows =
        crate::support::claude_mem::MemDb::create(&database, crate::support::claude_mem::Version::V13_25_3);
    rows.add_session("one").add_observations(7).add_summaries(2);
    let worker = FakeWorker::start(Behaviour {
        ready: false,
        queue: 3,
        drains: false,
        database: Some(database.clone()),
        ..Behaviour::default()
    });
    let mut site = home.site(worker.port());
    site.database = database;
    let state = probe_site(&site).await;
    let seen = state.running().unwrap();
    assert_eq!((seen.ready, seen.queue_depth), (false, Some(3)));
    let counts = seen.counts.unwrap();
    assert_eq!((counts.observations, counts.summaries), (Some(7), Some(2)));
    assert!(worker.alive() && !home.data().join("spawn.lock").exists());
}
