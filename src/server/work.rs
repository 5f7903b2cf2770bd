//! Jobs: an agent is asked for a push or a pull, and what came of it is written down, whoever still waits for it. A job
//! whose end nobody saw is asked about; none stays pending.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::state::{AgentView, LOGGER, Server};
use crate::agent::LONGEST_JOB;
use crate::context::hex;
use crate::fleet::book::AgentStatus;
use crate::fleet::jobs::{Ending, Job, JobsError};
use crate::http::answer::Refusal;
use crate::http::client::{ClientError, Reply};
use crate::http::log::Level;

/// We wait longer than any job takes [3].
const SYNC: Duration = LONGEST_JOB.saturating_add(Duration::from_secs(15));

/// Time for a question about a job.
const QUESTION: Duration = Duration::from_secs(10);

/// How often one asks, and between two times how long one waits: together longer than a job can take.
const QUESTIONS: u32 = 60;
const BETWEEN: Duration = Duration::from_secs(3);

/// The header with which agents are asked.
const AGENT_HEADER: &str = "x-membridge-agent";

/// What somebody asked for.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    /// `pull` or `push`.
    pub(super) action: &'static str,
    pub(super) project: String,
    pub(super) canonical_id: String,
    pub(super) agent: AgentView,
    pub(super) request_id: String,
}

/// What an agent's answer, or its silence, means.
#[derive(Debug, Clone, PartialEq)]
enum Outcome {
    /// The job has ended so.
    Ended(Ending),
    /// The agent could not be asked, or refused: nothing runs.
    Refused(AgentStatus, String),
    /// It may run still.
    LostSight(String),
}

/// Pure: from an answer to its meaning.
fn outcome(agent: &AgentView, reply: Result<Reply, ClientError>) -> Outcome {
    match reply {
        Ok(reply) if reply.ok() => match reply.json() {
            Some(answer) => Outcome::Ended(ending(&answer)),
            None => Outcome::LostSight("Agent communication error: the answer is not JSON".to_owned()),
        },
        Ok(reply) => {
            Outcome::Refused(AgentStatus::Error, format!("Agent error: {} {}", reply.status, reply.body))
        }
        Err(ClientError::Unreachable(_)) => {
            let words = format!("Agent '{}' unreachable at {}", agent.name, agent.url);
            Outcome::Refused(AgentStatus::Offline, words)
        }
        Err(error @ ClientError::Address(_)) => {
            Outcome::Refused(AgentStatus::Error, format!("Agent communication error: {error}"))
        }
        Err(error @ (ClientError::Broken(_) | ClientError::Timeout(_))) => {
            Outcome::LostSight(format!("Agent communication error: {error}"))
        }
    }
}

/// How a job ended by what the agent says.
fn ending(answer: &Value) -> Ending {
    let text = |name: &str| answer.get(name).and_then(Value::as_str).map(str::to_owned);
    let ok = answer.get("ok").and_then(Value::as_bool).unwrap_or(false);
    Ending {
        status: if ok { "completed" } else { "failed" },
        detail: text("detail").unwrap_or_default(),
        stdout: text("stdout"),
        stderr: text("stderr"),
        returncode: answer.get("returncode").and_then(Value::as_i64),
        dryrun: answer.get("dryrun").and_then(Value::as_bool).unwrap_or(false),
    }
}

fn error(detail: &str) -> Ending {
    Ending { status: "error", detail: format!("502: {detail}"), ..Ending::default() }
}

impl Server {
    /// Has an agent do what was asked for; goes on to the end also when whoever asked has hung up.
    pub(super) async fn fulfil(self: &Arc<Self>, wish: Wish) -> Result<Value, Refusal> {
        let job = self.new_job(&wish)?;
        let id = job.id.clone();
        self.jobs.add(job.clone()).await.map_err(|error| refusal(&error))?;
        crate::failpoint::reach("fleet.job_added");
        self.tell_job(&id).await;
        let server = Arc::clone(self);
        let work = tokio::spawn(async move { server.work(wish, job).await });
        work.await.unwrap_or_else(|_| Err(Refusal::internal("interrupted")))
    }

    fn new_job(&self, wish: &Wish) -> Result<Job, Refusal> {
        let mut bytes = [0_u8; 8];
        getrandom::fill(&mut bytes)
            .map_err(|error| Refusal::internal(format!("no random numbers: {error}")))?;
        Ok(Job {
            id: hex(&bytes),
            action: wish.action.to_owned(),
            project: wish.project.clone(),
            agent: wish.agent.name.clone(),
            canonical_id: wish.canonical_id.clone(),
            status: "pending".to_owned(),
            detail: None,
            stdout: None,
            stderr: None,
            returncode: None,
            dryrun: false,
            created_at: self.now(),
            finished_at: None,
            request_id: Some(wish.request_id.clone()),
        })
    }

    async fn work(self: Arc<Self>, wish: Wish, job: Job) -> Result<Value, Refusal> {
        self.saw(&wish.agent.name, AgentStatus::Syncing, None);
        let body = json!({"project": wish.project, "job_id": job.id});
        let url = format!("{}/sync/{}", wish.agent.url, wish.action);
        let reply = self.client.post(&url, self.key(), &body, SYNC).await;
        let ending = match outcome(&wish.agent, reply) {
            Outcome::Ended(ending) => {
                self.saw(&wish.agent.name, AgentStatus::Online, Some(self.now()));
                ending
            }
            Outcome::Refused(status, detail) => {
                self.saw(&wish.agent.name, status, None);
                self.conclude(&job.id, error(&detail)).await?;
                return Err(Refusal::new(StatusCode::BAD_GATEWAY, detail));
            }
            Outcome::LostSight(detail) => {
                let Some(ending) = self.ask_about(&job, &wish.agent).await else {
                    self.saw(&wish.agent.name, AgentStatus::Error, None);
                    self.conclude(&job.id, error(&detail)).await?;
                    return Err(Refusal::new(StatusCode::BAD_GATEWAY, detail));
                };
                ending
            }
        };
        let answer = json!({
            "ok": ending.status == "completed",
            "project": wish.project,
            "agent": wish.agent.name,
            "canonical_id": wish.canonical_id,
            "detail": ending.detail,
            "job_id": job.id,
        });
        self.conclude(&job.id, ending).await?;
        Ok(answer)
    }

    /// Asks about each job that an earlier run of this server left pending.
    pub(super) async fn ask_about_pending(self: Arc<Self>) {
        let pending = match self.jobs.pending().await {
            Ok(pending) => pending,
            Err(error) => {
                self.log.line(Level::Error, LOGGER, &error.to_string(), "-");
                return;
            }
        };
        for job in pending {
            let server = Arc::clone(&self);
            tokio::spawn(async move {
                let agent = server.agents().into_iter().find(|agent| agent.name == job.agent);
                let ending = match agent {
                    Some(agent) => server.ask_about(&job, &agent).await,
                    None => None,
                };
                let ending = ending.unwrap_or_else(|| Ending {
                    status: "error",
                    detail: "interrupted: the server was restarted, and nobody knows how it ended".to_owned(),
                    ..Ending::default()
                });
                let _ = server.conclude(&job.id, ending).await;
            });
        }
    }

    /// How a job ended, by the agent that had it. `None`: it does not know, or is not there for as long as a job can
    /// take.
    async fn ask_about(&self, job: &Job, agent: &AgentView) -> Option<Ending> {
        let url = format!("{}/jobs/{}", agent.url, job.id);
        for _ in 0..QUESTIONS {
            match self.client.get(&url, self.key(), QUESTION).await {
                Ok(reply) if reply.ok() => {
                    let answer = reply.json()?;
                    match answer.get("result").filter(|result| result.is_object()) {
                        Some(result) => return Some(ending(result)),
                        None if answer.get("status").and_then(Value::as_str) != Some("running") => {
                            return None;
                        }
                        None => {}
                    }
                }
                // An agent of the Python product has no such route.
                Ok(_) | Err(ClientError::Address(_)) => return None,
                Err(_) => {}
            }
            tokio::time::sleep(BETWEEN).await;
        }
        None
    }

    async fn conclude(&self, id: &str, ending: Ending) -> Result<(), Refusal> {
        let ended = self.jobs.end(id, ending, self.now()).await;
        self.tell_job(id).await;
        ended.map_err(|error| {
            self.log.line(Level::Error, LOGGER, &format!("job {id}: {error}"), "-");
            refusal(&error)
        })
    }

    /// Pages hear of a job without what it printed: that they ask for.
    async fn tell_job(&self, id: &str) {
        if let Ok(Some(job)) = self.jobs.get(id).await {
            let short = Job { stdout: None, stderr: None, ..job };
            self.events.tell("job", &json!(short));
        }
    }

    fn key(&self) -> (&'static str, &str) {
        (AGENT_HEADER, self.settings.agent_key.reveal())
    }

    /// Notes how an agent was. One that only heartbeats name is in no book.
    fn saw(&self, name: &str, status: AgentStatus, answered: Option<f64>) {
        if let Err(error) = self.book.saw_agent(name, status, answered) {
            self.log.line(Level::Warning, LOGGER, &format!("agent {name}: {error}"), "-");
        }
        self.events.tell("agent", &json!({"name": name, "status": status}));
    }
}

/// A fault of our own database.
pub(super) fn refusal(error: &JobsError) -> Refusal {
    Refusal::internal(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::{
        AgentStatus, AgentView, BETWEEN, ClientError, LONGEST_JOB, Outcome, QUESTIONS, Reply, SYNC, ending,
        outcome,
    };
    use serde_json::json;
    use std::time::Duration;

    fn agent() -> AgentView {
        AgentView {
            name: "a1".to_owned(),
            url: "http://127.0.0.1:1".to_owned(),
            status: AgentStatus::Unknown,
            registered_at: 0.0,
            last_seen: None,
            source: "manual",
        }
    }

    #[test]
    fn what_an_answer_means() {
        let reply = |status, body: &str| Ok(Reply { status, body: body.to_owned() });
        let refused = |status, words: &str| Outcome::Refused(status, words.to_owned());
        let lost = |words: &str| Outcome::LostSight(words.to_owned());
        let table = [
            (reply(200, "{\"ok\": true}"), Outcome::Ended(ending(&json!({"ok": true})))),
            (reply(500, "{}"), refused(AgentStatus::Error, "Agent error: 500 {}")),
            (reply(200, "<html>"), lost("Agent communication error: the answer is not JSON")),
            (
                Err(ClientError::Unreachable("refused".into())),
                refused(AgentStatus::Offline, "Agent 'a1' unreachable at http://127.0.0.1:1"),
            ),
            (
                Err(ClientError::Address("no".into())),
                refused(AgentStatus::Error, "Agent communication error: no"),
            ),
            (
                Err(ClientError::Timeout(Duration::from_secs(150))),
                lost("Agent communication error: no answer within 150 s"),
            ),
        ];
        for (reply, expected) in table {
            let shown = format!("{reply:?}");
            assert_eq!(outcome(&agent(), reply), expected, "{shown}");
        }
    }

    #[test]
    fn f03_of_the_fleet_a_server_outlasts_every_job() {
        assert!(SYNC > LONGEST_JOB && BETWEEN * QUESTIONS > LONGEST_JOB);
        // And if an answer does not come all the same, the agent is asked how the job ended.
        let late = outcome(&agent(), Err(ClientError::Timeout(SYNC)));
        assert!(matches!(late, Outcome::LostSight(_)), "{late:?}");
    }

    #[test]
    fn endings_are_what_the_agent_says() {
        let table = [
            (json!({"ok": true, "detail": "push completed", "returncode": 0}), "completed", Some(0)),
            (json!({"ok": false, "stderr": "oops\n", "returncode": 3}), "failed", Some(3)),
            (json!({"ok": "yes", "returncode": "3"}), "failed", None),
            (json!([]), "failed", None),
        ];
        for (answer, status, code) in table {
            let ending = ending(&answer);
            assert_eq!((ending.status, ending.returncode), (status, code), "{answer}");
        }
    }
}
