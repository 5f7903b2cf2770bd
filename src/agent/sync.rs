//! Pull, push and doctor as the agent's callers see them: which process a wish becomes, and the answer that its end
//! becomes. One per project at a time. Knows no route.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use super::child::{self, Done, Job};
use super::settings::{AgentSettings, KEPT_FROM_CHILDREN};
use crate::identity::canonical_id;
use crate::jobs::redact;
use crate::platform;

/// A job's time.
pub const LIMIT: Duration = Duration::from_mins(2);

/// What can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Bring in what other machines recorded.
    Pull,
    /// Send what this one recorded.
    Push,
    /// Look.
    Doctor,
}

impl Action {
    /// As answers say it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
            Self::Doctor => "doctor",
        }
    }

    fn command(self) -> &'static str {
        match self {
            Self::Pull => "pull_sqlite",
            Self::Push => "push_sqlite",
            Self::Doctor => "doctor",
        }
    }
}

/// What somebody asked for.
#[derive(Debug, Clone)]
pub struct Wish {
    /// What.
    pub action: Action,
    /// Of which project.
    pub project: String,
    /// Leave claude-mem's worker stopped.
    pub no_restart_worker: bool,
}

/// The script that a wish needs is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoScript(pub PathBuf);

/// The process that a wish becomes: this binary, or the wrapper script of a fleet that has its own.
///
/// # Errors
/// The script is not there.
pub fn job(settings: &AgentSettings, wish: &Wish) -> Result<Job, NoScript> {
    let mut arguments: Vec<OsString> = Vec::new();
    let program = if settings.scripts {
        let script = settings.hooks_bin.join(format!("claude-mem-{}", wish.action.word()));
        if !script.is_file() {
            return Err(NoScript(script));
        }
        arguments.extend(["--project".into(), wish.project.clone().into()]);
        script
    } else {
        arguments.push(wish.action.command().into());
        // In one word: a name may begin with a dash.
        arguments.push(format!("--project={}", wish.project).into());
        if settings.config_env.is_file() {
            arguments.extend(["--config".into(), settings.config_env.clone().into()]);
        }
        platform::own_program()
    };
    let mut set = settings.for_children.clone();
    set.push(("CLAUDE_PROJECT_ID".to_owned(), wish.project.clone()));
    if wish.no_restart_worker {
        set.push(("MEMBRIDGE_NO_RESTART_WORKER".to_owned(), "1".to_owned()));
    }
    Ok(Job { program, arguments, set, unset: &KEPT_FROM_CHILDREN })
}

/// How a wish ended.
#[derive(Debug)]
pub enum End {
    /// Nothing was run: dry run.
    Dry,
    /// It ran.
    Ran(Done),
    /// It could not be started.
    NotStarted(io::Error),
}

/// The answer that an end becomes.
pub fn answer(wish: &Wish, host: &str, end: &End, secrets: &[String]) -> Value {
    let word = wish.action.word();
    let cid = canonical_id(&wish.project);
    let (ok, detail) = match end {
        End::Dry => (
            true,
            format!("[DRYRUN] Would execute {word} for project '{}' (canonical_id={cid})", wish.project),
        ),
        End::Ran(done) if done.timed_out => (false, format!("{word} timed out after {}s", LIMIT.as_secs())),
        End::Ran(done) if done.code == 0 => (true, format!("{word} completed")),
        End::Ran(_) => (false, format!("{word} failed")),
        End::NotStarted(error) => (false, format!("Failed to execute {word}: {error}")),
    };
    let done = match end {
        End::Ran(done) => Some(done),
        End::Dry | End::NotStarted(_) => None,
    };
    let shown = |text: &String| (!text.is_empty()).then(|| redact(text.clone(), secrets));
    json!({
        "ok": ok,
        "action": word,
        "project": wish.project,
        "canonical_id": cid,
        "hostname": host,
        "detail": detail,
        "dryrun": matches!(end, End::Dry),
        "stdout": done.and_then(|done| shown(&done.stdout)),
        "stderr": done.and_then(|done| shown(&done.stderr)),
        "returncode": done.filter(|done| !done.timed_out).map(|done| done.code),
    })
}

/// Whose turn it is: one job per project.
#[derive(Debug, Default)]
pub struct Turns(Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>);

impl Turns {
    /// Runs a job when its project is free.
    ///
    /// # Errors
    /// It cannot be started.
    pub async fn run(&self, cid: &str, job: &Job) -> io::Result<Done> {
        let place = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // Nobody waits for those.
            all.retain(|_, place| Arc::strong_count(place) > 1);
            Arc::clone(all.entry(cid.to_owned()).or_default())
        };
        let _turn = place.lock().await;
        child::run(job, LIMIT).await
    }
}

#[cfg(test)]
mod tests {
    use super::{Action, Done, End, NoScript, Turns, Wish, answer, job};
    use crate::agent::child::Job;
    use crate::agent::settings::AgentSettings;
    use crate::config::Environment;
    use std::collections::BTreeMap;

    fn wish(project: &str) -> Wish {
        Wish { action: Action::Push, project: project.to_owned(), no_restart_worker: false }
    }

    #[test]
    fn a_wish_becomes_this_binary_or_a_script() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().to_str().unwrap().to_owned();
        let environment = |scripts: &str| {
            Environment::from_values([
                ("HOME".to_owned(), home.clone()),
                ("MEMBRIDGE_AGENT_SCRIPTS".to_owned(), scripts.to_owned()),
            ])
        };
        let own = AgentSettings::new(&environment("0"), None, folder.path(), &BTreeMap::new()).unwrap();
        let planned = job(&own, &wish("--help")).unwrap();
        assert_eq!(planned.arguments, ["push_sqlite", "--project=--help"]);
        assert!(planned.unset.contains(&"MEMBRIDGE_ADMIN_KEY"));
        let scripts = AgentSettings::new(&environment("1"), None, folder.path(), &BTreeMap::new()).unwrap();
        let script = folder.path().join(".claude-mem-minio/bin/claude-mem-push");
        assert_eq!(job(&scripts, &wish("mem")).unwrap_err(), NoScript(script.clone()));
        std::fs::create_dir_all(script.parent().unwrap()).unwrap();
        std::fs::write(&script, "").unwrap();
        let planned = job(&scripts, &Wish { no_restart_worker: true, ..wish("$(x)") }).unwrap();
        assert_eq!((planned.program, planned.arguments), (script, vec!["--project".into(), "$(x)".into()]));
        assert!(planned.set.contains(&("MEMBRIDGE_NO_RESTART_WORKER".to_owned(), "1".to_owned())));
    }

    #[test]
    fn how_ends_are_told() {
        let done = |code, timed_out| {
            let stdout = "the key is hunter22\n".to_owned();
            End::Ran(Done { code, timed_out, stdout, stderr: String::new() })
        };
        let table = [
            (End::Dry, true, "[DRYRUN] Would execute push for project 'mem' (canonical_id=6fe2e0f6071ac2bb)"),
            (done(0, false), true, "push completed"),
            (done(3, false), false, "push failed"),
            (done(143, true), false, "push timed out after 120s"),
            (End::NotStarted(std::io::Error::other("no")), false, "Failed to execute push: no"),
        ];
        for (end, ok, detail) in table {
            let answer = answer(&wish("mem"), "desk", &end, &["hunter22".to_owned()]);
            assert_eq!((answer["ok"].as_bool(), answer["detail"].as_str()), (Some(ok), Some(detail)));
            assert!(answer["stderr"].is_null());
            assert!(!answer.to_string().contains("hunter22"));
        }
    }

    #[tokio::test]
    async fn jobs_of_one_project_wait_for_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let script = format!("echo begin >> {0}; /bin/sleep 0.1; echo end >> {0}", log.display());
        let job = Job {
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
            set: Vec::new(),
            unset: &[],
        };
        let turns = Turns::default();
        let (a, b) = tokio::join!(turns.run("one", &job), turns.run("one", &job));
        assert_eq!((a.unwrap().code, b.unwrap().code), (0, 0));
        assert_eq!(std::fs::read_to_string(&log).unwrap(), "begin\nend\nbegin\nend\n");
    }
}
