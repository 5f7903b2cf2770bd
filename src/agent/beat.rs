//! Heartbeats: one POST per project to the server, less often while it does not answer. Knows nothing of who calls the
//! agent.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::{API_VERSION, Agent};
use crate::database::{self, facts};
use crate::http::log::Level;
use crate::identity::canonical_id;
use crate::watch::Trace;

/// Time for one beat.
const LIMIT: Duration = Duration::from_secs(10);

/// However long a server is away, it hears of us a minute after it is back.
const LONGEST: Duration = Duration::from_mins(1);

const LOGGER: &str = "membridge.agent.heartbeat";

/// How long to wait after so many failures in a row.
fn wait(interval: Duration, failed: u32) -> Duration {
    match failed {
        0 => interval,
        _ => (interval * 2_u32.pow((failed - 1).min(3))).min(LONGEST.max(interval)),
    }
}

/// Beats until the agent ends.
pub async fn beat(agent: Arc<Agent>) {
    let Some((header, key)) = agent.settings.server_key.clone() else {
        let words = "no key for the server: no heartbeats are sent (set MEMBRIDGE_AGENT_KEY)";
        agent.log.line(Level::Warning, LOGGER, words, "-");
        return;
    };
    let url = format!("{}/agent/heartbeat", agent.settings.server_url);
    let mut memory = Memory::default();
    let mut failed = 0;
    loop {
        tokio::select! {
            () = tokio::time::sleep(wait(agent.settings.interval, failed)) => {}
            _ = agent.context.interrupted() => return,
        }
        let observations = memory.observations(&agent).await;
        let address = local_address(&agent.settings.server_url).await;
        let mut problem = None;
        for body in bodies(&agent, observations, address.as_deref()) {
            match agent.client.post(&url, (header, key.reveal()), &body, LIMIT).await {
                Ok(reply) if reply.ok() => {}
                Ok(reply) => problem = Some(format!("status {}", reply.status)),
                Err(error) => problem = Some(error.to_string()),
            }
            if problem.is_some() {
                break;
            }
        }
        failed = tell(&agent, failed, problem.as_deref());
    }
}

/// Says when it begins to fail and when it works again, not each time.
fn tell(agent: &Agent, failed: u32, problem: Option<&str>) -> u32 {
    let server = &agent.settings.server_url;
    let said = match (problem, failed) {
        (Some(problem), 0) => Some((Level::Warning, format!("heartbeat to {server} failed: {problem}"))),
        (None, 1..) => {
            Some((Level::Info, format!("heartbeat to {server} works again after {failed} failures")))
        }
        _ => None,
    };
    if let Some((level, words)) = said {
        agent.log.line(level, LOGGER, &words, "-");
    }
    if problem.is_some() { failed.saturating_add(1) } else { 0 }
}

/// One body per project; without any, one for the node itself.
fn bodies(agent: &Agent, observations: Option<u64>, address: Option<&str>) -> Vec<Value> {
    let body = |project: Option<&str>| {
        let node = &agent.node.id;
        json!({
            "node_id": node,
            "canonical_id": canonical_id(project.unwrap_or(node)),
            "project_id": project,
            "obs_count": observations,
            "last_seen": agent.now(),
            "ip_addrs": address.into_iter().collect::<Vec<_>>(),
            "agent_version": API_VERSION,
            "agent_url": agent.settings.url,
        })
    };
    let projects = agent.projects.all();
    if projects.is_empty() {
        return vec![body(None)];
    }
    projects.iter().map(|entry| body(Some(&entry.project_id))).collect()
}

/// How many observations there are; counted anew only when the database has changed.
#[derive(Debug, Default)]
struct Memory {
    seen: Trace,
    observations: Option<u64>,
}

impl Memory {
    async fn observations(&mut self, agent: &Agent) -> Option<u64> {
        let path = agent.database();
        let trace = Trace::of(&path);
        if trace != self.seen {
            self.seen = trace;
            let counted = database::blocking(move || {
                let connection = database::open_read_only(&path)?;
                facts::counts(&connection, &path)
            });
            self.observations = counted.await.ok().map(|counts| counts.observations);
        }
        self.observations
    }
}

/// The address that the server sees us under, as this machine's routes say; sends nothing.
async fn local_address(server: &str) -> Option<String> {
    let rest = server.split_once("://")?.1;
    let host = rest.split(['/', '?']).next()?;
    let place = if host.rsplit(']').next()?.contains(':') { host.to_owned() } else { format!("{host}:80") };
    let socket = tokio::net::UdpSocket::bind("0.0.0.0:0").await.ok()?;
    socket.connect(place).await.ok()?;
    Some(socket.local_addr().ok()?.ip().to_string())
}

#[cfg(test)]
mod tests {
    use super::{local_address, wait};
    use std::time::Duration;

    #[test]
    fn a_server_that_is_away_is_asked_less_often() {
        let table = [
            (10, 0, 10),
            (10, 1, 10),
            (10, 2, 20),
            (10, 3, 40),
            (10, 4, 60),
            (10, 99, 60),
            (1, 9, 8),
            (300, 5, 300),
        ];
        for (interval, failed, seconds) in table {
            let waited = wait(Duration::from_secs(interval), failed);
            assert_eq!(waited, Duration::from_secs(seconds), "{interval} after {failed}");
        }
    }

    #[tokio::test]
    async fn our_address_is_the_one_on_the_way_to_the_server() {
        assert_eq!(local_address("http://127.0.0.1:8000").await.as_deref(), Some("127.0.0.1"));
        assert_eq!(local_address("http://127.0.0.1/path").await.as_deref(), Some("127.0.0.1"));
        assert_eq!(local_address("nonsense").await, None);
    }
}
