//! What a store's conditional writes are worth. Some servers ignore the conditions, some check them without
//! being atomic (the table in docs/safety.md), so the probe tries them in sequence and in a race, cleans up, and remembers the
//! verdict for a day. Knows nothing of locks.

use std::path::{Path, PathBuf};

use backon::Retryable;
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

use super::conditional::{held, no_cache_between};
use super::keys::Keys;
use super::retry;
use super::{Condition, PutAnswer, Store, StoreError, StoreErrorKind};
use crate::context::{Context, hex};

/// How long a verdict is believed, seconds.
const BELIEVED: i64 = 86_400;

/// What a store's conditional writes are worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Creating with `If-None-Match: *` has one winner, also in a race.
    pub create: bool,
    /// Replacing with `If-Match` refuses an old etag and accepts the right one, also in a race.
    pub replace: bool,
}

impl Verdict {
    /// Both work: the lock and the lease can rest on them.
    pub fn atomic(self) -> bool {
        self.create && self.replace
    }

    /// As doctor says it.
    pub fn describe(self) -> &'static str {
        match (self.create, self.replace) {
            (true, true) => "conditional writes work (create and replace)",
            (true, false) => "conditional create works, replace does not: claims are used instead",
            (false, _) => "conditional writes do not work: claims are used instead",
        }
    }
}

/// The verdict for one store, asked for when it is first needed.
#[derive(Debug)]
pub struct Capability {
    memory: PathBuf,
    verdict: OnceCell<Verdict>,
}

#[derive(Serialize, Deserialize)]
struct Remembered {
    store: String,
    at: i64,
    #[serde(flatten)]
    verdict: Verdict,
}

impl Capability {
    /// For this store; `state` is our state directory.
    pub fn new(store: &Store, state: &Path) -> Self {
        let digest = <sha2::Sha256 as sha2::Digest>::digest(store.name().as_bytes());
        let name = format!("{}.json", hex(digest.get(..8).unwrap_or_default()));
        Self { memory: state.join("probe").join(name), verdict: OnceCell::new() }
    }

    /// The verdict that is remembered and still believed; asks nobody.
    pub fn remembered(&self, store: &Store, context: &Context) -> Option<Verdict> {
        let text = std::fs::read(&self.memory).ok()?;
        let remembered: Remembered = serde_json::from_slice(&text).ok()?;
        let age = context.now().as_second().saturating_sub(remembered.at);
        (remembered.store == store.name() && (0..BELIEVED).contains(&age)).then_some(remembered.verdict)
    }

    /// The verdict: known, remembered, or found out now.
    ///
    /// # Errors
    /// The store's.
    pub async fn get(&self, store: &Store, keys: &Keys, context: &Context) -> Result<Verdict, StoreError> {
        let probed = self.verdict.get_or_try_init(|| async {
            // A directory's are our own, tested by the same suite; a rehearsal judges by what would be there.
            if store.is_directory() || store.is_rehearsal() {
                return Ok(Verdict { create: true, replace: true });
            }
            if let Some(verdict) = self.remembered(store, context) {
                return Ok(verdict);
            }
            // Once a day; its six writers must not make every command's future large.
            let verdict = Box::pin(probe(store, keys, context)).await?;
            self.remember(store, context, verdict);
            Ok(verdict)
        });
        probed.await.copied()
    }

    /// The verdict found out now, whatever is remembered, and remembered from now on.
    ///
    /// # Errors
    /// The store's.
    pub async fn probe_now(
        &self,
        store: &Store,
        keys: &Keys,
        context: &Context,
    ) -> Result<Verdict, StoreError> {
        let verdict = probe(store, keys, context).await?;
        self.remember(store, context, verdict);
        Ok(verdict)
    }

    /// A verdict that cannot be written down is found out again next time.
    fn remember(&self, store: &Store, context: &Context, verdict: Verdict) {
        let remembered = Remembered { store: store.name(), at: context.now().as_second(), verdict };
        let Ok(text) = serde_json::to_vec_pretty(&remembered) else {
            return;
        };
        if let Err(error) = crate::private_files::write_private(&self.memory, &text) {
            tracing::debug!(%error, "the probe's verdict could not be remembered");
        }
    }
}

/// Tries the store's conditional writes on keys of our own, and removes them. An answer that got lost says nothing
/// about the server, so the whole trial is made again.
///
/// # Errors
/// Anything but a refusal of the condition itself.
pub async fn probe(store: &Store, keys: &Keys, context: &Context) -> Result<Verdict, StoreError> {
    let trial = || try_once(store, keys, context);
    trial
        .retry(retry::soon())
        .when(|error| error.may_have_happened() || error.retryable())
        .notify(|error, _| tracing::debug!(%error, "probe: unclear, once more"))
        .await
}

async fn try_once(store: &Store, keys: &Keys, context: &Context) -> Result<Verdict, StoreError> {
    let token = context.token().map_err(|error| {
        StoreError::new(StoreErrorKind::Local, "this machine", "get random numbers", error.to_string())
    })?;
    let mut used = Vec::new();
    let mut key = |name: &str| {
        let key = format!("{}{token}-{name}", keys.probe());
        used.push(key.clone());
        key
    };
    let sequence = key("sequence");
    let races: [String; RACES] = std::array::from_fn(|round| key(&format!("race-{round}")));
    let swap = key("swap");
    let verdict = async {
        let mut verdict = try_in_sequence(store, &sequence).await?;
        for race in &races {
            // Servers that check first and write later pass one race by luck, but hardly all of them.
            verdict.create = verdict.create && winners(store, race, 0, Condition::IfAbsent).await? == 1;
        }
        if verdict.create && verdict.replace {
            answer(store, &swap, b"start\n", Condition::IfAbsent).await?;
            for round in 0..RACES {
                let there = store.get(&swap).await?;
                verdict.replace = verdict.replace
                    && match there {
                        Some((_, meta)) => {
                            let condition = Condition::IfMatch(&meta.etag);
                            winners(store, &swap, round, condition).await? == 1
                        }
                        None => false,
                    };
            }
        }
        // Replacing is raced only where creating works, and believed only after the race.
        verdict.replace = verdict.replace && verdict.create;
        Ok(verdict)
    }
    .await;
    for key in &used {
        if let Err(error) = store.delete(key).await {
            tracing::debug!(%error, "a probe object stays");
        }
    }
    tracing::debug!(?verdict, "probe");
    verdict
}

/// How many races each kind of condition has to pass.
const RACES: usize = 2;

async fn try_in_sequence(store: &Store, key: &str) -> Result<Verdict, StoreError> {
    let none = Verdict { create: false, replace: false };
    if !held(&answer(store, key, b"first\n", Condition::IfAbsent).await?) {
        return Ok(none);
    }
    if held(&answer(store, key, b"second\n", Condition::IfAbsent).await?) {
        return Ok(none);
    }
    let Some((bytes, meta)) = store.get(key).await? else {
        return Ok(none);
    };
    if bytes != b"first\n" {
        return Ok(none);
    }
    let replaced = answer(store, key, b"third\n", Condition::IfMatch(&meta.etag)).await?;
    let replaced_again = held(&answer(store, key, b"fourth\n", Condition::IfMatch(&meta.etag)).await?);
    let there = store.get(key).await?;
    if let (PutAnswer::Written(written), false) = (&replaced, replaced_again) {
        no_cache_between(store, key, written, there.as_ref().map(|(_, meta)| meta)).await?;
    }
    let (replaced, there) = (held(&replaced), there.map(|(bytes, _)| bytes));
    let replace = replaced && !replaced_again && there.as_deref() == Some(b"third\n");
    Ok(Verdict { create: true, replace })
}

/// A server that does not know the header at all has answered the question.
async fn answer(
    store: &Store,
    key: &str,
    body: &[u8],
    condition: Condition<'_>,
) -> Result<PutAnswer, StoreError> {
    match retry::slowly(|| store.put_once(key, body, condition)).await {
        Err(error) if error.kind == StoreErrorKind::NotSupported => Ok(PutAnswer::Refused),
        other => other,
    }
}

/// How many of six writers at once are told that they won. Each writes bytes of its own in each round: a content
/// that came back would bring its etag back. A store that limits requests says nothing about conditions by it: whoever
/// met the limit asks again, one by one.
async fn winners(
    store: &Store,
    key: &str,
    round: usize,
    condition: Condition<'_>,
) -> Result<usize, StoreError> {
    let write = |writer: char| async move {
        let body = format!("{writer} in round {round}\n");
        store.put_once(key, body.as_bytes(), condition).await
    };
    let raced: [Result<PutAnswer, StoreError>; 6] =
        tokio::join!(write('a'), write('b'), write('c'), write('d'), write('e'), write('f')).into();
    let mut won = 0;
    for (raced, again) in raced.into_iter().zip('A'..) {
        let settled = match raced {
            Err(error) if error.is_limit() => retry::slowly(|| write(again)).await,
            other => other,
        };
        won += usize::from(held(&settled?));
    }
    Ok(won)
}
