//! `membridge agent`: what a node says and does for its fleet over HTTP. The routes are the Python agent's 0.4.0; work
//! is done by the ordinary commands, each in a process of its own.

mod beat;
mod child;
mod facts;
mod projects;
mod results;
mod routes;
mod settings;
mod state;
mod sync;

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;

use crate::config::Secret;
use crate::fleet::presence::Presence;
use crate::http::access::{Keys, Policy};
use crate::http::door::Door;
use crate::http::log::Level;
use crate::http::serve::{Site, serve};

pub use settings::AgentSettings;
pub use state::{API_VERSION, Agent, LONGEST_JOB};

use state::JOBS;

/// How long a restart waits for jobs that run.
const PATIENCE: Duration = Duration::from_mins(1);

impl Agent {
    /// Serves and beats until a signal comes, and waits for the jobs that run.
    pub async fn run(self: Arc<Self>, listener: TcpListener) {
        if let Ok(at) = listener.local_addr() {
            self.log.line(Level::Info, "membridge.agent", &format!("listening on http://{at}"), "-");
        }
        let door = Door::new(self.policy(), Arc::clone(&self.context), self.log.clone());
        let site = Site { door: Arc::new(door), routes: routes::routes(Arc::clone(&self)) };
        let _presence = self.declare();
        tokio::join!(serve(listener, site, &self.context), beat::beat(Arc::clone(&self)));
        let idle = self.jobs.acquire_many(JOBS);
        if tokio::time::timeout(PATIENCE, idle).await.is_err() {
            let words = "ends while a job runs; the job goes on, its result is not kept";
            self.log.line(Level::Warning, "membridge.agent", words, "-");
        }
    }

    /// Lets the syncs of this machine write into its record where we can be asked.
    fn declare(&self) -> Option<Presence> {
        let declared = Presence::declare(&self.settings.state, self.settings.url.as_deref()?);
        if let Err(error) = &declared {
            let words = format!("MEMBRIDGE_AGENT_URL is not told to the bucket: {error}");
            self.log.line(Level::Warning, "membridge.agent", &words, "-");
        }
        declared.ok()
    }

    fn policy(&self) -> Policy {
        Policy {
            header: "X-MEMBRIDGE-AGENT",
            variable: "MEMBRIDGE_AGENT_KEY",
            place: "agent",
            keys: Keys::new(self.settings.keys.iter().map(Secret::reveal)),
            dev: self.settings.dev,
            public: &["/health", "/openapi.json", "/ui"],
            public_folder: None,
            local: &["/register_project", "/projects"],
            side_door: None,
        }
    }
}
