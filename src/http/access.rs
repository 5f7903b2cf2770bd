//! Who may pass: a decision over what a request shows of itself, pure but for the keys that it compares. Knows no
//! route but those that it is told are open.

use std::net::IpAddr;

use sha2::{Digest, Sha256};

/// The keys that open a door: one, or two while they are exchanged. Only their SHA-256 is kept.
#[derive(Clone, Default)]
pub struct Keys(Vec<[u8; 32]>);

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} keys", self.0.len())
    }
}

impl Keys {
    /// These keys; empty ones count as not there.
    pub fn new<'a>(keys: impl IntoIterator<Item = &'a str>) -> Self {
        let keys = keys.into_iter().filter(|key| !key.is_empty());
        Self(keys.map(|key| Sha256::digest(key.as_bytes()).into()).collect())
    }

    /// Whether there is none: then the door stays shut for all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this is one of them; takes as long for a wrong one as for the right one.
    pub fn open_for(&self, given: &[u8]) -> bool {
        let given: [u8; 32] = Sha256::digest(given).into();
        let differs = |key: &[u8; 32]| key.iter().zip(given).fold(0, |all, (a, b)| all | (a ^ b));
        self.0.iter().fold(false, |open, key| open | (differs(key) == 0))
    }
}

/// A second header that opens one route only.
#[derive(Debug, Clone)]
pub struct SideDoor {
    /// The route.
    pub path: &'static str,
    /// The header's name in lower case.
    pub header: &'static str,
    /// Its keys.
    pub keys: Keys,
}

/// Whom a door lets in.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The key's header as people write it.
    pub header: &'static str,
    /// The variable that the keys come from.
    pub variable: &'static str,
    /// `server` or `agent`, for the message when there is no key.
    pub place: &'static str,
    /// The keys.
    pub keys: Keys,
    /// MEMBRIDGE_DEV=1: everybody may everything.
    pub dev: bool,
    /// Paths that need no key.
    pub public: &'static [&'static str],
    /// Nor does anything below this one.
    pub public_folder: Option<&'static str>,
    /// Paths that programs of this machine may use without a key.
    pub local: &'static [&'static str],
    /// Another key for one route.
    pub side_door: Option<SideDoor>,
}

/// What a request shows of itself.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// The path, as sent.
    pub path: &'a str,
    /// Whether it may change something: neither GET nor HEAD.
    pub changes: bool,
    /// The key, as bytes: it need not be text.
    pub key: Option<&'a [u8]>,
    /// The key of the side door.
    pub side_key: Option<&'a [u8]>,
    /// Who is connected.
    pub peer: IpAddr,
    /// The Host header.
    pub host: Option<&'a str>,
    /// Whether a browser's page or a proxy speaks: Origin, X-Forwarded-For and their like.
    pub relayed: bool,
    /// Whether the body is declared as JSON.
    pub json: bool,
}

/// Why somebody passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// A key was given, and it is right.
    Key,
    /// Development: no keys are asked for.
    Dev,
    /// The path is public.
    Public,
    /// A program of this machine.
    Local,
}

/// Whether somebody passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Yes.
    Pass(By),
    /// Nobody does: there is no key to compare with.
    NoKeyHere,
    /// No key, or a wrong one.
    Unauthorized,
}

impl Policy {
    /// Decides.
    pub fn judge(&self, ask: Ask<'_>) -> Verdict {
        if self.dev {
            return Verdict::Pass(By::Dev);
        }
        if ask.key.is_some_and(|key| self.keys.open_for(key)) || self.by_side_door(ask) {
            return Verdict::Pass(By::Key);
        }
        let below = self.public_folder.is_some_and(|folder| ask.path.starts_with(folder));
        if below || self.public.contains(&ask.path) {
            return Verdict::Pass(By::Public);
        }
        // A wrong key is never better than none.
        if ask.key.is_none() && self.local.contains(&ask.path) && from_this_machine(ask) {
            return Verdict::Pass(By::Local);
        }
        if self.keys.is_empty() { Verdict::NoKeyHere } else { Verdict::Unauthorized }
    }

    fn by_side_door(&self, ask: Ask<'_>) -> bool {
        let Some(door) = self.side_door.as_ref().filter(|door| door.path == ask.path) else {
            return false;
        };
        ask.side_key.is_some_and(|key| door.keys.open_for(key))
    }

    /// The answer to a verdict that lets nobody in.
    pub fn words(&self, verdict: Verdict) -> String {
        match verdict {
            Verdict::NoKeyHere => format!("{} not configured on {}", self.variable, self.place),
            _ => format!("Unauthorized — invalid or missing {} header", self.header),
        }
    }
}

/// A page in this machine's browser reaches loopback too, but it cannot leave Origin out of what changes something, nor
/// declare JSON without asking first; and a name of its own that leads to 127.0.0.1 stands in Host.
fn from_this_machine(ask: Ask<'_>) -> bool {
    let host = ask.host.map(without_port);
    let named = matches!(host, Some("127.0.0.1" | "localhost" | "[::1]"));
    ask.peer.to_canonical().is_loopback() && named && !ask.relayed && (ask.json || !ask.changes)
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::{Ask, By, Keys, Policy, SideDoor, Verdict};

    fn policy() -> Policy {
        Policy {
            header: "X-MEMBRIDGE-AGENT",
            variable: "MEMBRIDGE_AGENT_KEY",
            place: "agent",
            keys: Keys::new(["right", "older", ""]),
            dev: false,
            public: &["/health"],
            public_folder: Some("/static/"),
            local: &["/projects"],
            side_door: Some(SideDoor {
                path: "/agent/heartbeat",
                header: "x-membridge-agent",
                keys: Keys::new(["side"]),
            }),
        }
    }

    fn ask(path: &'static str) -> Ask<'static> {
        Ask {
            path,
            changes: false,
            key: None,
            side_key: None,
            peer: [192, 0, 2, 1].into(),
            host: Some("127.0.0.1:8001"),
            relayed: false,
            json: false,
        }
    }

    #[test]
    fn who_may_pass() {
        let pass = Verdict::Pass;
        let table = [
            (ask("/jobs"), Verdict::Unauthorized),
            (Ask { key: Some(b"right"), ..ask("/jobs") }, pass(By::Key)),
            (Ask { key: Some(b"older"), ..ask("/jobs") }, pass(By::Key)),
            (Ask { key: Some(b""), ..ask("/jobs") }, Verdict::Unauthorized),
            (Ask { key: Some(b"righ"), ..ask("/jobs") }, Verdict::Unauthorized),
            // Not text at all [16].
            (Ask { key: Some(&[0xd0, 0xb6, 0xff]), ..ask("/jobs") }, Verdict::Unauthorized),
            (ask("/health"), pass(By::Public)),
            (ask("/health/"), Verdict::Unauthorized),
            (Ask { key: Some(b"wrong"), ..ask("/health") }, pass(By::Public)),
            (ask("/static/ui.html"), pass(By::Public)),
            (ask("/nothing"), Verdict::Unauthorized),
            (Ask { side_key: Some(b"side"), ..ask("/agent/heartbeat") }, pass(By::Key)),
            (Ask { side_key: Some(b"side"), ..ask("/jobs") }, Verdict::Unauthorized),
            (Ask { side_key: Some(b"right"), ..ask("/agent/heartbeat") }, Verdict::Unauthorized),
        ];
        for (ask, verdict) in table {
            assert_eq!(policy().judge(ask), verdict, "{ask:?}");
        }
        assert_eq!(Policy { dev: true, ..policy() }.judge(ask("/jobs")), pass(By::Dev));
        let empty = Policy { keys: Keys::new([""]), ..policy() };
        assert_eq!(empty.judge(Ask { key: Some(b""), ..ask("/jobs") }), Verdict::NoKeyHere);
        assert_eq!(empty.judge(ask("/health")), pass(By::Public));
    }

    #[test]
    fn only_programs_of_this_machine_need_no_key() {
        let local = Ask { peer: [127, 0, 0, 1].into(), ..ask("/projects") };
        let table = [
            (local, true),
            (Ask { peer: "::1".parse().unwrap(), host: Some("[::1]:8001"), ..local }, true),
            (Ask { peer: "::ffff:127.0.0.1".parse().unwrap(), host: Some("localhost"), ..local }, true),
            (Ask { changes: true, json: true, ..local }, true),
            (Ask { changes: true, ..local }, false),
            (Ask { relayed: true, ..local }, false),
            (Ask { host: Some("evil.example:8001"), ..local }, false),
            (Ask { host: Some("localhost.evil.example"), ..local }, false),
            (Ask { host: None, ..local }, false),
            (Ask { peer: [10, 0, 0, 2].into(), ..local }, false),
            (Ask { key: Some(b"wrong"), ..local }, false),
            (Ask { path: "/push", ..local }, false),
        ];
        for (ask, passes) in table {
            let expected = if passes { Verdict::Pass(By::Local) } else { Verdict::Unauthorized };
            assert_eq!(policy().judge(ask), expected, "{ask:?}");
        }
    }
}
