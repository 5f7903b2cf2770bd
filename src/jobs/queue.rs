//! One push out of many: at most one runs and one waits per database, however often a turn ends. Whoever finds one
//! waiting may leave: it has not read the database yet, so the caller's rows are in it. Of the pulls of starting
//! sessions one waits too, and no longer than its session does. File locks, which the system frees when a process dies.
//! Knows nothing of what is pushed and pulled.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::net::UnixDatagram;

use crate::private_files::make_private_folder;

/// The queue of one database.
#[derive(Debug, Clone)]
pub struct Queue {
    waiting: PathBuf,
    pulling: PathBuf,
    running: PathBuf,
    bell: PathBuf,
    interval: Duration,
}

/// The right to run; given back when dropped.
#[derive(Debug)]
pub struct Turn(#[expect(dead_code, reason = "its lock is what counts")] File);

/// What a session that starts gets.
#[derive(Debug)]
pub enum PullTurn {
    /// It may pull.
    Granted(Turn),
    /// Another pull waits, and will see whatever this one would have seen.
    Waited,
    /// Somebody else ran for so long that the session has begun without its pull.
    Late,
}

impl Queue {
    /// The queue of a database (by any stable name of it), with this much time between two pushes.
    ///
    /// # Errors
    /// The state directory cannot be made.
    pub fn of(state: &Path, database: &str, interval: Duration) -> io::Result<Self> {
        let folder = state.join("hooks");
        make_private_folder(&folder)?;
        let id = crate::identity::canonical_id(database);
        Ok(Self {
            waiting: folder.join(format!("{id}.waiting")),
            pulling: folder.join(format!("{id}.pulling")),
            running: folder.join(format!("{id}.running")),
            bell: folder.join(format!("{id}.bell")),
            interval,
        })
    }

    /// Waits for a turn to push: until the interval since the last push is over, and until nobody runs. `None` when
    /// somebody waits already. `hurry` does not wait for the interval, and makes the one who waits not wait for it.
    ///
    /// # Errors
    /// A lock file cannot be used.
    pub async fn turn(&self, hurry: bool) -> io::Result<Option<Turn>> {
        let Some(place) = free_place(&self.waiting)? else {
            if hurry {
                self.ring();
            }
            return Ok(None);
        };
        let mut hurry = hurry;
        let bell = self.hang_bell();
        loop {
            let left = wait_for(self.last_start()?, SystemTime::now(), self.interval);
            if !hurry && !left.is_zero() {
                hurry = rung_within(bell.as_ref(), left).await;
            }
            let mut turn = self.run().await?;
            // While we waited for the one who ran, its start became the last one.
            let left = wait_for(read_time(&mut turn)?, SystemTime::now(), self.interval);
            if hurry || left.is_zero() {
                write_time(&mut turn, SystemTime::now())?;
                // From here on the next one may wait: what it wrote after this moment may be missed by us.
                drop(place);
                return Ok(Some(Turn(turn)));
            }
        }
    }

    /// Waits until nobody runs, for work that is not debounced.
    ///
    /// # Errors
    /// The lock file cannot be used.
    pub async fn alone(&self) -> io::Result<Turn> {
        self.run().await.map(Turn)
    }

    /// Waits for a turn to pull, at most this long: when the session no longer waits for it, its memory must not change
    /// under it (F13). At most one waits.
    ///
    /// # Errors
    /// A lock file cannot be used.
    pub async fn turn_to_pull(&self, patience: Duration) -> io::Result<PullTurn> {
        let Some(_place) = free_place(&self.pulling)? else {
            return Ok(PullTurn::Waited);
        };
        match tokio::time::timeout(patience, self.run()).await {
            Ok(turn) => Ok(PullTurn::Granted(Turn(turn?))),
            Err(_) => Ok(PullTurn::Late),
        }
    }

    async fn run(&self) -> io::Result<File> {
        let file = open(&self.running)?;
        tokio::task::spawn_blocking(move || file.lock().map(|()| file)).await.map_err(io::Error::other)?
    }

    fn last_start(&self) -> io::Result<Option<SystemTime>> {
        read_time(&mut open(&self.running)?)
    }

    /// The bell by which a hurried process shortens the wait. Without one (a path that is too long) the wait is as
    /// long as it is.
    fn hang_bell(&self) -> Option<UnixDatagram> {
        let _ = std::fs::remove_file(&self.bell);
        UnixDatagram::bind(&self.bell).ok()
    }

    fn ring(&self) {
        if let Ok(socket) = std::os::unix::net::UnixDatagram::unbound() {
            let _ = socket.set_nonblocking(true);
            let _ = socket.send_to(&[1], &self.bell);
        }
    }
}

/// Waits for the bell, at most this long; whether it rang.
async fn rung_within(bell: Option<&UnixDatagram>, time: Duration) -> bool {
    let ring = async {
        if let Some(bell) = bell
            && bell.recv(&mut [0]).await.is_ok()
        {
            return;
        }
        std::future::pending::<()>().await;
    };
    tokio::time::timeout(time, ring).await.is_ok()
}

/// How long to wait: the rest of the interval since the last start. A last start in the future (a clock that was set
/// back) costs one interval at most.
fn wait_for(last: Option<SystemTime>, now: SystemTime, interval: Duration) -> Duration {
    let Some(last) = last else {
        return Duration::ZERO;
    };
    let passed = now.duration_since(last).unwrap_or_default();
    interval.saturating_sub(passed)
}

/// A place that nobody has, taken; `None` when somebody has it.
fn free_place(path: &Path) -> io::Result<Option<File>> {
    let place = open(path)?;
    match place.try_lock() {
        Ok(()) => Ok(Some(place)),
        Err(std::fs::TryLockError::WouldBlock) => Ok(None),
        Err(std::fs::TryLockError::Error(error)) => Err(error),
    }
}

fn open(path: &Path) -> io::Result<File> {
    File::options().create(true).truncate(false).read(true).write(true).mode(0o600).open(path)
}

/// When the last push started: milliseconds since 1970 in the lock file itself.
fn read_time(file: &mut File) -> io::Result<Option<SystemTime>> {
    let mut text = String::new();
    file.rewind()?;
    file.take(32).read_to_string(&mut text)?;
    let millis = text.trim().parse().ok();
    Ok(millis.and_then(|millis| UNIX_EPOCH.checked_add(Duration::from_millis(millis))))
}

fn write_time(file: &mut File, time: SystemTime) -> io::Result<()> {
    let millis = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    file.rewind()?;
    file.set_len(0)?;
    file.write_all(millis.to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::{PullTurn, Queue, wait_for};
    use std::time::{Duration, UNIX_EPOCH};

    const HOUR: Duration = Duration::from_hours(1);

    #[test]
    fn the_wait_is_the_rest_of_the_interval() {
        // Not the clock of this machine, which may say 1970.
        let now = UNIX_EPOCH + Duration::from_hours(24);
        let seconds = Duration::from_secs;
        let table = [
            (None, seconds(0)),
            (Some(now), seconds(60)),
            (Some(now - seconds(20)), seconds(40)),
            (Some(now - seconds(60)), seconds(0)),
            (Some(now - seconds(600)), seconds(0)),
            (Some(now + seconds(600)), seconds(60)),
        ];
        for (last, expected) in table {
            assert_eq!(wait_for(last, now, seconds(60)), expected, "{last:?}");
        }
    }

    #[tokio::test]
    async fn one_runs_one_waits_and_the_others_leave() {
        let state = tempfile::tempdir().unwrap();
        let queue = Queue::of(state.path(), "db", Duration::ZERO).unwrap();
        let first = queue.turn(false).await.unwrap().unwrap();
        let waiting = {
            let queue = queue.clone();
            tokio::spawn(async move { queue.turn(false).await })
        };
        // It hangs its bell when it has its place.
        std::fs::remove_file(&queue.bell).unwrap();
        while !queue.bell.exists() {
            tokio::task::yield_now().await;
        }
        for _ in 0..5 {
            assert!(queue.turn(false).await.unwrap().is_none());
        }
        assert!(!waiting.is_finished());
        drop(first);
        let second = waiting.await.unwrap().unwrap().unwrap();
        // Its place is free again while it runs.
        assert!(super::open(&queue.waiting).unwrap().try_lock().is_ok());
        drop(second);
    }

    #[tokio::test]
    async fn another_database_does_not_wait() {
        let state = tempfile::tempdir().unwrap();
        let one = Queue::of(state.path(), "one", HOUR).unwrap();
        let two = Queue::of(state.path(), "two", HOUR).unwrap();
        let _one = one.turn(false).await.unwrap().unwrap();
        assert!(two.turn(false).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn the_end_of_a_session_does_not_wait_and_wakes_the_one_who_does() {
        let state = tempfile::tempdir().unwrap();
        let queue = Queue::of(state.path(), "db", HOUR).unwrap();
        drop(queue.turn(false).await.unwrap().unwrap());
        drop(queue.turn(true).await.unwrap().unwrap());
        std::fs::remove_file(&queue.bell).unwrap();
        let waiting = {
            let queue = queue.clone();
            tokio::spawn(async move { queue.turn(false).await })
        };
        while !queue.bell.exists() {
            tokio::task::yield_now().await;
        }
        assert!(queue.turn(false).await.unwrap().is_none());
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        assert!(queue.turn(true).await.unwrap().is_none());
        assert!(waiting.await.unwrap().unwrap().is_some());
    }
    #[tokio::test]
    async fn f13_one_pull_waits_and_not_for_ever() {
        let state = tempfile::tempdir().unwrap();
        let queue = Queue::of(state.path(), "db", Duration::ZERO).unwrap();
        let push = queue.turn(false).await.unwrap().unwrap();
        let waiting = {
            let queue = queue.clone();
            tokio::spawn(async move { queue.turn_to_pull(HOUR).await })
        };
        while super::free_place(&queue.pulling).unwrap().is_some() {
            tokio::task::yield_now().await;
        }
        let second = queue.turn_to_pull(HOUR).await.unwrap();
        assert!(matches!(second, PullTurn::Waited), "{second:?}");
        drop(push);
        let granted = waiting.await.unwrap().unwrap();
        let PullTurn::Granted(granted) = granted else { panic!("{granted:?}") };
        // It runs beside nothing.
        let late = queue.turn_to_pull(Duration::from_millis(1)).await.unwrap();
        assert!(matches!(late, PullTurn::Late), "{late:?}");
        drop(granted);
        assert!(queue.turn(false).await.unwrap().is_some());
    }
}
