//! An agent that runs on this machine says to the syncs beside it where it can be asked: a file in our state directory,
//! held locked for as long as the agent lives, however it ends. Knows neither agents nor syncs.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::private_files::make_private_folder;

/// Longer addresses are none.
const LONGEST: u64 = 256;

/// Held by the agent.
#[derive(Debug)]
pub struct Presence(Flock<File>);

impl Presence {
    /// Says that an agent can be asked at `url`, until this is dropped.
    ///
    /// # Errors
    /// The file cannot be written, or another agent of this machine has said so already
    /// ([`io::ErrorKind::WouldBlock`]).
    pub fn declare(state: &Path, url: &str) -> io::Result<Self> {
        make_private_folder(state)?;
        let path = file(state);
        let file =
            File::options().create(true).truncate(false).read(true).write(true).mode(0o600).open(path)?;
        let mut file = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| error)?;
        file.set_len(0)?;
        file.write_all(url.as_bytes())?;
        Ok(Self(file))
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        // The lock is what counts; an empty file only looks better.
        let _ = self.0.set_len(0);
    }
}

/// Where the agent of this machine can be asked; `None` where none runs, or none said so.
pub fn agent_url(state: &Path) -> Option<String> {
    let file = File::open(file(state)).ok()?;
    let mut file = match Flock::lock(file, FlockArg::LockSharedNonblock) {
        // Whoever wrote it is gone.
        Ok(_) => return None,
        Err((file, Errno::EWOULDBLOCK)) => file,
        Err(_) => return None,
    };
    let mut url = String::new();
    Read::by_ref(&mut file).take(LONGEST + 1).read_to_string(&mut url).ok()?;
    let length = u64::try_from(url.len()).unwrap_or(u64::MAX);
    (1..=LONGEST).contains(&length).then_some(url)
}

fn file(state: &Path) -> PathBuf {
    state.join("agent-url")
}

#[cfg(test)]
mod tests {
    use super::{Presence, agent_url, file};

    #[test]
    fn an_address_is_known_for_as_long_as_its_agent_runs() {
        let state = tempfile::tempdir().unwrap();
        assert_eq!(agent_url(state.path()), None, "no agent has ever run");
        let agent = Presence::declare(state.path(), "http://pi:8001").unwrap();
        assert_eq!(agent_url(state.path()).as_deref(), Some("http://pi:8001"));
        let second = Presence::declare(state.path(), "http://other:8001").unwrap_err();
        assert_eq!(second.kind(), std::io::ErrorKind::WouldBlock);
        assert_eq!(agent_url(state.path()).as_deref(), Some("http://pi:8001"));
        drop(agent);
        assert_eq!(agent_url(state.path()), None);
        // Killed: the file stays, the lock does not.
        std::fs::write(file(state.path()), "http://pi:8001").unwrap();
        assert_eq!(agent_url(state.path()), None);
        drop(Presence::declare(state.path(), &"x".repeat(300)).unwrap());
        let _long = Presence::declare(state.path(), &"x".repeat(300)).unwrap();
        assert_eq!(agent_url(state.path()), None, "no address is that long");
    }
}
