//! How a worker that we stopped is started again: with the program, script and environment that it had, without
//! anything of ours in it.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use super::WorkerError;
use super::find::Site;
use super::probe::RunningWorker;
use crate::config::settings::SETTINGS;
use crate::jobs::background;

/// Everything that a start needs.
#[derive(Debug, Clone)]
pub(super) struct Launch {
    runtime: PathBuf,
    script: PathBuf,
    environment: Vec<(OsString, OsString)>,
    directory: PathBuf,
}

impl Launch {
    /// For the worker that ran. Its environment is the one it had: a person's keys and proxies are in it, ours are
    /// taken out.
    ///
    /// # Errors
    /// The script or the runtime is nowhere to be found.
    pub(super) fn of(site: &Site, ran: &RunningWorker) -> Result<Self, WorkerError> {
        let script = site.script(ran.script.as_deref()).ok_or(WorkerError::NoScript)?;
        let runtime = site.runtime(ran.program.as_deref()).ok_or(WorkerError::NoRuntime)?;
        let kept = |(name, value): &(OsString, OsString)| keeps(name, value, &site.secrets);
        Ok(Self {
            runtime,
            script,
            environment: ran.environment.iter().filter(|pair| kept(pair)).cloned().collect(),
            directory: site.data_dir.clone(),
        })
    }

    /// Starts it and returns when the process runs; whether it works is for readiness to say.
    pub(super) async fn start(self) -> Result<(), WorkerError> {
        let started = tokio::task::spawn_blocking(move || {
            let arguments = [self.script.as_os_str(), OsStr::new("--daemon")];
            background::start(&self.runtime, &arguments, &self.environment, &self.directory)
        });
        match started.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(WorkerError::Start(error.to_string())),
            Err(error) => Err(WorkerError::Start(error.to_string())),
        }
    }
}

/// Whether a variable may be in the worker's environment: nothing of ours, nothing of S3's (F40). What people set
/// for claude-mem itself, and what any program needs to reach the network, stays.
fn keeps(name: &OsStr, value: &OsStr, secrets: &[String]) -> bool {
    let name = name.to_string_lossy();
    let value = value.to_string_lossy();
    let of_claude_mem = name.starts_with("CLAUDE_MEM_") && name != "CLAUDE_MEM_DB";
    let shared = [
        "PATH",
        "BUN",
        "BUN_PATH",
        "CLAUDE_CONFIG_DIR",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "NO_PROXY",
        "SSL_CERT_FILE",
    ];
    let ours = SETTINGS.iter().any(|setting| setting.name == name && !shared.contains(&setting.name));
    let foreign = ["MINIO_", "AWS_", "MEMBRIDGE_"].iter().any(|prefix| name.starts_with(prefix));
    let secret = secrets.iter().any(|secret| !secret.is_empty() && value.contains(secret.as_str()));
    !secret && (of_claude_mem || !(ours || foreign))
}

#[cfg(test)]
mod tests {
    use super::keeps;
    use std::ffi::OsStr;

    #[test]
    fn f40_the_worker_gets_what_it_had_and_nothing_of_ours() {
        let secrets = ["hunter22".to_owned()];
        let table = [
            ("HOME", "/home/ann", true),
            ("PATH", "/bin", true),
            ("LC_ALL", "C.UTF-8", true),
            ("CLAUDE_MEM_WORKER_PORT", "37777", true),
            ("CLAUDE_MEM_DATA_DIR", "/srv/mem", true),
            ("CLAUDE_CONFIG_DIR", "/home/ann/.claude", true),
            ("HTTPS_PROXY", "http://proxy:3128", true),
            ("ANTHROPIC_BASE_URL", "https://x", true),
            ("CLAUDE_MEM_DB", "/db", false),
            ("MINIO_SECRET_KEY", "x", false),
            ("MINIO_ANYTHING", "x", false),
            ("AWS_SECRET_ACCESS_KEY", "x", false),
            ("AWS_CA_BUNDLE", "/x", false),
            ("MEMBRIDGE_NODE_ID", "x", false),
            ("FORCE_PUSH", "1", false),
            ("PRIMARY_NODE_ID", "x", false),
            ("CLAUDE_PROJECT_ID", "x", false),
            ("BACKUP_KEY", "prefix-hunter22", false),
        ];
        for (name, value, kept) in table {
            assert_eq!(keeps(OsStr::new(name), OsStr::new(value), &secrets), kept, "{name}");
        }
    }
}
