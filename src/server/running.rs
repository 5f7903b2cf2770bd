//! A server's life: it opens its door, asks about jobs that an earlier run left, writes beats down now and then, and ends
//! when a signal comes.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;

use super::routes;
use super::state::{LOGGER, Server};
use crate::config::Secret;
use crate::fleet::beats;
use crate::http::access::{Keys, Policy, SideDoor};
use crate::http::door::Door;
use crate::http::log::Level;
use crate::http::serve::{Site, serve};

/// How often beats are written down.
const SAVE: Duration = Duration::from_mins(1);

/// How often open streams are kept open.
const KEEP_OPEN: Duration = Duration::from_secs(15);

impl Server {
    /// Serves until a signal comes.
    pub async fn run(self: Arc<Self>, listener: TcpListener) {
        if let Ok(at) = listener.local_addr() {
            self.log.line(Level::Info, LOGGER, &format!("listening on http://{at}"), "-");
        }
        if let Err(why) = &self.surroundings.store {
            let words = format!("no store: roles are not known and cannot be given: {why}");
            self.log.line(Level::Warning, LOGGER, &words, "-");
        }
        let door = Door::new(self.policy(), Arc::clone(&self.context), self.log.clone());
        let site = Site { door: Arc::new(door), routes: routes::routes(Arc::clone(&self)) };
        Arc::clone(&self).ask_about_pending().await;
        tokio::join!(serve(listener, site, &self.context), self.keep());
        self.save();
    }

    fn policy(&self) -> Policy {
        Policy {
            header: "X-MEMBRIDGE-ADMIN",
            variable: "MEMBRIDGE_ADMIN_KEY",
            place: "server",
            keys: Keys::new(self.settings.admin_keys.iter().map(Secret::reveal)),
            dev: self.settings.dev,
            public: &["/health", "/openapi.json", "/ui"],
            public_folder: Some("/static/"),
            local: &[],
            side_door: Some(SideDoor {
                path: "/agent/heartbeat",
                header: "x-membridge-agent",
                keys: Keys::new(self.settings.agent_keys.iter().map(Secret::reveal)),
            }),
        }
    }

    /// What has to be done now and then, until a signal comes.
    async fn keep(&self) {
        let mut saved = self.context.uptime();
        loop {
            tokio::select! {
                () = tokio::time::sleep(KEEP_OPEN) => {}
                _ = self.context.interrupted() => break,
            }
            self.events.beat();
            if self.context.uptime().saturating_sub(saved) >= SAVE {
                saved = self.context.uptime();
                self.save();
            }
        }
        // Streams would never end by themselves.
        self.events.close();
    }

    fn save(&self) {
        let Some(changed) = self.beats().take_changes() else { return };
        if let Err(error) = beats::write(&self.settings.data.join("beats.json"), &changed) {
            self.log.line(
                Level::Warning,
                LOGGER,
                &format!("heartbeats could not be written down: {error}"),
                "-",
            );
        }
    }
}
