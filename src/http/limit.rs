//! How often somebody may give a wrong key. The clock is the caller's; no more is remembered than a board can spare.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

/// Wrong keys in one window before an address is turned away.
pub const WRONG_KEYS: u32 = 10;

/// How long it is turned away, from the first wrong key on.
pub const WINDOW: Duration = Duration::from_mins(1);

/// More addresses than this are not remembered one by one.
const ADDRESSES: usize = 1024;

/// The wrong keys of the last minute, by address.
#[derive(Debug, Default)]
pub struct WrongKeys {
    seen: HashMap<IpAddr, (Duration, u32)>,
}

impl WrongKeys {
    /// Seconds that this address has to wait; `None` when it may try a key. `now` counts from any fixed moment.
    pub fn wait(&self, peer: IpAddr, now: Duration) -> Option<u64> {
        let (since, count) = self.seen.get(&network(peer))?;
        let left = (*since + WINDOW).checked_sub(now)?;
        (*count >= WRONG_KEYS && !left.is_zero()).then(|| left.as_secs().max(1))
    }

    /// Notes a wrong key.
    pub fn note(&mut self, peer: IpAddr, now: Duration) {
        if self.seen.len() >= ADDRESSES {
            self.seen.retain(|_, (since, _)| *since + WINDOW > now);
        }
        if self.seen.len() >= ADDRESSES {
            // Whoever has that many addresses guesses from all of them; the oldest is let go.
            let oldest = self.seen.iter().min_by_key(|(_, (since, _))| *since).map(|(peer, _)| *peer);
            oldest.map(|peer| self.seen.remove(&peer));
        }
        let (since, count) = self.seen.entry(network(peer)).or_insert((now, 0));
        if *since + WINDOW <= now {
            (*since, *count) = (now, 0);
        }
        *count = count.saturating_add(1);
    }
}

/// An IPv6 customer has a whole /64, an IPv4 address in IPv6 clothes is itself.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::{ADDRESSES, WRONG_KEYS, WrongKeys};
    use std::net::IpAddr;
    use std::time::Duration;

    #[test]
    fn the_eleventh_wrong_key_of_a_minute_is_not_looked_at() {
        let (peer, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let at = Duration::from_secs;
        let mut keys = WrongKeys::default();
        for second in 0..WRONG_KEYS {
            assert_eq!(keys.wait(peer, at(second.into())), None, "key {second}");
            keys.note(peer, at(second.into()));
        }
        let table = [(peer, 10, Some(50)), (peer, 59, Some(1)), (peer, 60, None), (other, 10, None)];
        for (peer, second, wait) in table {
            assert_eq!(keys.wait(peer, at(second)), wait, "{peer} at {second}");
        }
        keys.note(peer, at(61));
        assert_eq!(keys.wait(peer, at(62)), None, "a new minute has begun");
    }

    #[test]
    fn a_network_of_addresses_counts_as_one_and_memory_stays_small() {
        let mut keys = WrongKeys::default();
        for host in 0..WRONG_KEYS {
            keys.note(format!("2001:db8::{host:x}").parse().unwrap(), Duration::ZERO);
        }
        assert!(keys.wait("2001:db8::ffff".parse().unwrap(), Duration::ZERO).is_some());
        assert!(keys.wait("2001:db8:0:1::1".parse().unwrap(), Duration::ZERO).is_none());
        for n in 0..5_000_u32 {
            keys.note(IpAddr::from(n.to_be_bytes()), Duration::from_millis(n.into()));
        }
        assert!(keys.seen.len() <= ADDRESSES);
    }
}
