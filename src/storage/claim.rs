//! Mutual exclusion on stores without conditional writes: announce yourself, look around, go in only when you are
//! alone. Two claimers can both step back; they can never both go in, because each lists after its own claim is
//! visible (read-after-write and list consistency are all that the store must give). Who is in stays in for as
//! long as its claim is renewed: whoever comes later sees it and steps back.

use std::time::Duration;

use super::retry::back_off;
use super::{Body, Entry, Store, StoreError};
use crate::context::Context;
use crate::progress::Progress;

/// The first pause of those who met; it widens, because the more claimers there are, the longer it takes.
const BACK_OFF: Duration = Duration::from_millis(150);

/// A claimer's own word on how long it lives counts up to this (seconds): see [`Claim::renew`].
const LONGEST_LIFE: i64 = 86_400;

/// What is claimed, by whom, for how long.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    /// The folder of claims: see [`super::keys::Keys::claims`].
    pub folder: &'a str,
    /// Random, without dots; ours alone.
    pub token: &'a str,
    /// Claims whose token starts with this are of earlier runs of this machine, known to be dead.
    pub machine: Option<&'a str>,
    /// Seconds after which a claim that was not renewed is of the dead.
    pub lifetime: i64,
    /// Removes the claims of others instead of respecting them (FORCE_PUSH).
    pub force: bool,
}

/// Our announcement in the bucket: `TOKEN.COUNT.LIFETIME`.
#[derive(Debug, Clone)]
pub struct Claim {
    folder: String,
    token: String,
    machine: Option<String>,
    lifetime: i64,
    force: bool,
    count: u64,
    /// [`Context::uptime`] just before the last announcement.
    announced: Duration,
}

/// A claim of somebody else who may be alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rival {
    /// The object.
    pub key: String,
    /// Seconds until it counts as left by the dead; `None` where the store does not tell how old it is.
    pub free_in: Option<i64>,
}

/// How a claim ended.
#[derive(Debug)]
pub enum Staked {
    /// We are alone.
    Alone(Claim),
    /// Others stayed in the way; one of them, where one is known.
    Blocked(Option<Rival>),
}

/// What a listing of the claims says to one claimer.
#[derive(Debug, Default, PartialEq, Eq)]
struct Scene {
    /// Our claim is among them.
    present: bool,
    /// Others that may be alive.
    alive: Vec<Rival>,
    /// Keys of the dead.
    dead: Vec<String>,
}

/// Who was there when we looked.
enum Met {
    Nobody,
    Others(Vec<Rival>),
}

impl Claim {
    /// Announces us, several times where others are in the way.
    ///
    /// # Errors
    /// The store's.
    pub async fn stake(store: &Store, context: &Context, terms: Terms<'_>) -> Result<Staked, StoreError> {
        const ATTEMPTS: u32 = 10;
        let mut claim = Self::new(terms);
        let mut rival = None;
        for attempt in 0..ATTEMPTS {
            rival = match claim.try_once(store, context).await {
                Ok(Met::Nobody) => return Ok(Staked::Alone(claim)),
                Ok(Met::Others(others)) => others.into_iter().next(),
                Err(error) => {
                    let _ = claim.withdraw(store).await;
                    return Err(error);
                }
            };
            back_off(attempt, BACK_OFF).await;
        }
        claim.withdraw(store).await?;
        Ok(Staked::Blocked(rival))
    }

    fn new(terms: Terms<'_>) -> Self {
        Self {
            folder: terms.folder.to_owned(),
            token: terms.token.to_owned(),
            machine: terms.machine.map(str::to_owned),
            lifetime: terms.lifetime,
            force: terms.force,
            count: 0,
            announced: Duration::ZERO,
        }
    }

    /// One announcement and one look. Of those who meet, the one with the smallest name stays and looks again; the
    /// others step back, so that somebody gets in soon.
    async fn try_once(&mut self, store: &Store, context: &Context) -> Result<Met, StoreError> {
        self.renew(store, context).await?;
        let scene = self.look(store, context).await?;
        let mut alive = scene.alive;
        if self.force {
            for rival in &alive {
                store.delete(&rival.key).await?;
            }
            alive = self.look(store, context).await?.alive;
        }
        if scene.present && alive.is_empty() {
            // A dead claim that stays is only one more line in the next listing.
            for dead in &scene.dead {
                let _ = store.delete(dead).await;
            }
            return Ok(Met::Nobody);
        }
        if alive.iter().any(|other| other.key < self.key()) {
            self.withdraw(store).await?;
        }
        Ok(Met::Others(alive))
    }

    /// Announces us again, so that our age starts anew. The new announcement is there before the old one goes: no
    /// listing can miss us.
    ///
    /// # Errors
    /// The store's.
    pub async fn renew(&mut self, store: &Store, context: &Context) -> Result<(), StoreError> {
        let old = (self.count > 0).then(|| self.key());
        self.announced = context.uptime();
        self.count += 1;
        store.put(&self.key(), Body::Bytes(b"{}\n"), &Progress::hidden()).await?;
        match old {
            Some(old) => store.delete(&old).await,
            None => Ok(()),
        }
    }

    /// Renews for as long as `work` goes on.
    ///
    /// # Errors
    /// The work's own, and the store's.
    pub async fn hold<T>(
        &mut self,
        store: &Store,
        context: &Context,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let mut work = std::pin::pin!(work);
        let nap = Duration::from_secs(self.lifetime.unsigned_abs()) / 3;
        loop {
            tokio::select! {
                biased;
                end = &mut work => return end,
                () = tokio::time::sleep(nap) => self.renew(store, context).await?,
            }
        }
    }

    /// Whether our claim is still there: one that FORCE_PUSH removed is not.
    ///
    /// # Errors
    /// The store's.
    pub async fn present(&self, store: &Store, context: &Context) -> Result<bool, StoreError> {
        Ok(self.look(store, context).await?.present)
    }

    /// [`Context::uptime`] at the last announcement.
    pub fn announced(&self) -> Duration {
        self.announced
    }

    /// Takes all of our announcements back, also those whose writing ended unclear.
    ///
    /// # Errors
    /// The store's.
    pub async fn withdraw(&self, store: &Store) -> Result<(), StoreError> {
        let prefix = format!("{}{}.", self.folder, self.token);
        let ours = store.list(&prefix).await?;
        for entry in &ours {
            store.delete(&entry.key).await?;
        }
        Ok(())
    }

    async fn look(&self, store: &Store, context: &Context) -> Result<Scene, StoreError> {
        let entries = store.list(&self.folder).await?;
        let now = context.server_now().as_second();
        Ok(scene(&entries, self, now))
    }

    fn key(&self) -> String {
        format!("{}{}.{}.{}", self.folder, self.token, self.count, self.lifetime)
    }
}

/// Whether anybody who rests on claims may be alive in this folder.
///
/// # Errors
/// The store's.
pub async fn anybody(store: &Store, context: &Context, terms: Terms<'_>) -> Result<bool, StoreError> {
    Ok(!Claim::new(terms).look(store, context).await?.alive.is_empty())
}

fn scene(entries: &[Entry], us: &Claim, now: i64) -> Scene {
    let mut scene = Scene::default();
    for entry in entries {
        let Some(name) = entry.key.strip_prefix(&us.folder) else {
            continue;
        };
        let (token, rest) = name.split_once('.').unwrap_or((name, ""));
        if token == us.token {
            scene.present = true;
            continue;
        }
        // Each claimer says how long it lives; settings may differ between machines, within reason.
        let theirs = rest.rsplit_once('.').and_then(|(_, seconds)| seconds.parse::<i64>().ok());
        let lifetime = us.lifetime.max(theirs.unwrap_or(0).min(LONGEST_LIFE));
        let earlier_run = us
            .machine
            .as_deref()
            .is_some_and(|machine| token.split_once('-').is_some_and(|(theirs, _)| theirs == machine));
        // A store that does not tell the time of a claim leaves it alive.
        let age = (entry.modified > 0).then(|| now.saturating_sub(entry.modified).max(0));
        if earlier_run || age.is_some_and(|age| age > lifetime) {
            scene.dead.push(entry.key.clone());
        } else {
            let free_in = age.map(|age| lifetime.saturating_sub(age).saturating_add(1));
            scene.alive.push(Rival { key: entry.key.clone(), free_in });
        }
    }
    scene
}

#[cfg(test)]
mod tests {
    use super::{Claim, Duration, Entry, scene};

    #[test]
    fn whose_claim_counts() {
        const NOW: i64 = 1_000_000;
        let us = Claim {
            folder: "claims/".to_owned(),
            token: "m1-aa".to_owned(),
            machine: Some("m1".to_owned()),
            lifetime: 100,
            force: false,
            count: 1,
            announced: Duration::ZERO,
        };
        // name, age → ours, alive, dead
        let table = [
            ("m1-aa.1.100", 0, (true, 0, 0)),
            ("m1-aa.7.100", 5000, (true, 0, 0)),
            ("m2-bb.1.100", 0, (false, 1, 0)),
            ("m2-bb.1.100", 100, (false, 1, 0)),
            ("m2-bb.1.100", 101, (false, 0, 1)),
            ("m2-bb.1.500", 101, (false, 1, 0)), // it said that it lives longer
            ("m2-bb.1.10", 50, (false, 1, 0)),   // our own patience is the longer one
            ("m1-cc.1.100", 0, (false, 0, 1)),   // an earlier run of this machine
            ("m2-bb.1.100", -50, (false, 1, 0)),
            ("m2-bb.1.9223372036854775807", 86_400, (false, 1, 0)),
            ("m2-bb.1.9223372036854775807", 86_401, (false, 0, 1)), // for ever is a day
            ("m2-bb.1.100", NOW, (false, 1, 0)),                    // no time given
            ("strange", 0, (false, 1, 0)),
        ];
        for (name, age, (present, alive, dead)) in table {
            let entry = Entry { key: format!("claims/{name}"), size: 3, modified: NOW - age, etag: None };
            let scene = scene(&[entry], &us, NOW);
            assert_eq!(
                (scene.present, scene.alive.len(), scene.dead.len()),
                (present, alive, dead),
                "{name} aged {age}"
            );
        }
    }
}
