//! What a store's conditional writes are worth. Some servers ignore the conditions, some check them without
//! being atomic (the table in docs/safety.md), so the probe lets writers race, cleans up, and remembers the verdict for a
//! week; whether conditions count at all is asked once a day. Knows nothing of locks.

use std::path::{Path, PathBuf};

use backon::Retryable;
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::conditional::{held, no_cache_between};
use super::keys::Keys;
use super::retry;
use super::{Condition, Etag, Meta, PutAnswer, Store, StoreError, StoreErrorKind};
use crate::context::{Context, hex};

/// How long a verdict is believed, seconds.
const BELIEVED: i64 = 7 * 86_400;
/// How long it is believed without another question, seconds.
const UNASKED: i64 = 86_400;
/// How many races each kind of condition has to pass: servers that check first and write later pass one by luck, but hardly all.
const RACES: usize = 2;

/// What a store's conditional writes are worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

/// What was found out so far: rows need creation alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    /// See [`Verdict::create`].
    create: Option<bool>,
    /// See [`Verdict::replace`]; believed only where creation works.
    replace: Option<bool>,
}

impl Known {
    const BOTH: Self = Self { create: Some(true), replace: Some(true) };

    fn verdict(self) -> Option<Verdict> {
        match self {
            Self { create: Some(false), .. } => Some(Verdict { create: false, replace: false }),
            Self { create: Some(true), replace: Some(replace) } => Some(Verdict { create: true, replace }),
            _ => None,
        }
    }
}

/// The verdict for one store, asked for when it is first needed.
#[derive(Debug)]
pub struct Capability {
    memory: PathBuf,
    known: Mutex<Known>,
}

#[derive(Serialize, Deserialize)]
struct Remembered {
    store: String,
    /// When the first of it was found out.
    at: i64,
    /// When it was last asked whether conditions count.
    #[serde(default)]
    asked: i64,
    #[serde(flatten)]
    known: Known,
}

impl Capability {
    /// For this store; `state` is our state directory.
    pub fn new(store: &Store, state: &Path) -> Self {
        let digest = <sha2::Sha256 as sha2::Digest>::digest(store.name().as_bytes());
        let name = format!("{}.json", hex(digest.get(..8).unwrap_or_default()));
        Self { memory: state.join("probe").join(name), known: Mutex::default() }
    }

    /// The verdict that is remembered and still believed; asks nobody.
    pub fn remembered(&self, store: &Store, context: &Context) -> Option<Verdict> {
        self.recall(store, context)?.known.verdict()
    }

    fn recall(&self, store: &Store, context: &Context) -> Option<Remembered> {
        let text = std::fs::read(&self.memory).ok()?;
        let remembered: Remembered = serde_json::from_slice(&text).ok()?;
        let age = context.now().as_second().saturating_sub(remembered.at);
        (remembered.store == store.name() && (0..BELIEVED).contains(&age)).then_some(remembered)
    }

    /// Whether creating under a condition works: known, remembered, or found out now. All that rows need.
    ///
    /// # Errors
    /// The store's.
    pub async fn creates(&self, store: &Store, keys: &Keys, context: &Context) -> Result<bool, StoreError> {
        let mut known = self.known.lock().await;
        self.find_create(&mut known, store, keys, context).await
    }

    /// The verdict: known, remembered, or found out now.
    ///
    /// # Errors
    /// The store's.
    pub async fn get(&self, store: &Store, keys: &Keys, context: &Context) -> Result<Verdict, StoreError> {
        let mut known = self.known.lock().await;
        let create = self.find_create(&mut known, store, keys, context).await?;
        let replace = match known.replace {
            _ if !create => false,
            Some(replace) => replace,
            None => {
                let replace = Box::pin(Trial::of(store, keys, context).ask(Question::Replaces)).await?;
                known.replace = Some(replace);
                self.remember(store, context, *known);
                replace
            }
        };
        Ok(Verdict { create, replace })
    }

    async fn find_create(
        &self,
        known: &mut Known,
        store: &Store,
        keys: &Keys,
        context: &Context,
    ) -> Result<bool, StoreError> {
        if let Some(create) = known.create {
            return Ok(create);
        }
        // A directory's are our own, tested by the same suite; a rehearsal judges by what would be there.
        if store.is_directory() || store.is_rehearsal() {
            *known = Known::BOTH;
            return Ok(true);
        }
        let trial = Trial::of(store, keys, context);
        if let Some(remembered) = self.recall(store, context) {
            let unasked = context.now().as_second().saturating_sub(remembered.asked.max(remembered.at));
            let fresh = (0..UNASKED).contains(&unasked);
            // Nothing rests on what does not work.
            let trusted = fresh || remembered.known.create == Some(false);
            if trusted || Box::pin(trial.ask(Question::Still(remembered.known))).await? {
                *known = remembered.known;
                if !fresh {
                    self.remember(store, context, *known);
                }
            } else {
                self.forget_what_lies_there();
            }
        }
        if let Some(create) = known.create {
            return Ok(create);
        }
        // Its six writers must not make every command's future large.
        let create = Box::pin(trial.ask(Question::Creates)).await?;
        *known = Known { create: Some(create), replace: None };
        self.remember(store, context, *known);
        Ok(create)
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
        let known = Known { create: Some(verdict.create), replace: Some(verdict.replace) };
        self.forget_what_lies_there();
        *self.known.lock().await = known;
        self.remember(store, context, known);
        Ok(verdict)
    }

    /// The store did what it does not do by the verdict: it is found out anew by whoever needs it next.
    pub async fn doubt(&self) {
        tracing::info!("what the store's conditional writes are worth is found out anew");
        *self.known.lock().await = Known::default();
        self.forget_what_lies_there();
    }

    fn forget_what_lies_there(&self) {
        let _ = std::fs::remove_file(&self.memory);
    }

    /// A verdict that cannot be written down is found out again next time. Both of its halves age with the first.
    fn remember(&self, store: &Store, context: &Context, known: Known) {
        let asked = context.now().as_second();
        let at = self.recall(store, context).map_or(asked, |remembered| remembered.at);
        let remembered = Remembered { store: store.name(), at, asked, known };
        let Ok(text) = serde_json::to_vec_pretty(&remembered) else {
            return;
        };
        if let Err(error) = crate::private_files::write_private(&self.memory, &text) {
            tracing::debug!(%error, "the probe's verdict could not be remembered");
        }
    }
}

/// Tries the store's conditional writes on keys of our own, and removes them.
///
/// # Errors
/// Anything but a refusal of the condition itself.
pub async fn probe(store: &Store, keys: &Keys, context: &Context) -> Result<Verdict, StoreError> {
    let trial = Trial::of(store, keys, context);
    let create = Box::pin(trial.ask(Question::Creates)).await?;
    let replace = create && Box::pin(trial.ask(Question::Replaces)).await?;
    tracing::debug!(create, replace, "probe");
    Ok(Verdict { create, replace })
}

/// What is asked of a store.
#[derive(Clone, Copy)]
enum Question {
    /// Has creating one winner?
    Creates,
    /// Has replacing one winner?
    Replaces,
    /// Does what is known still hold as far as one writer can see: is refused what must be?
    Still(Known),
}

/// Questions to a store. An answer that got lost says nothing about it, so the whole question is asked again.
#[derive(Clone, Copy)]
struct Trial<'a> {
    store: &'a Store,
    keys: &'a Keys,
    context: &'a Context,
}

impl<'a> Trial<'a> {
    fn of(store: &'a Store, keys: &'a Keys, context: &'a Context) -> Self {
        Self { store, keys, context }
    }

    async fn ask(self, question: Question) -> Result<bool, StoreError> {
        let once = || self.ask_once(question);
        once.retry(retry::soon())
            .when(is_unclear)
            .notify(|error, _| tracing::debug!(%error, "probe: unclear, once more"))
            .await
    }

    /// Asks with keys of our own, and removes them.
    async fn ask_once(self, question: Question) -> Result<bool, StoreError> {
        let token = self.context.token().map_err(|error| {
            StoreError::new(StoreErrorKind::Local, "this machine", "get random numbers", error.to_string())
        })?;
        let key = |name: &str| format!("{}{token}-{name}", self.keys.probe());
        let (keys, end) = match question {
            Question::Creates => {
                let keys = vec![key("race-0"), key("race-1")];
                let end = self.creates(&keys).await;
                (keys, end)
            }
            Question::Replaces => {
                let key = key("swap");
                let end = self.replaces(&key).await;
                (vec![key], end)
            }
            Question::Still(known) => {
                let key = key("still");
                let end = self.still(known, &key).await;
                (vec![key], end)
            }
        };
        let remove = |key: String| async move { self.store.delete(&key).await };
        for removed in join_all(keys.into_iter().map(remove)).await {
            if let Err(error) = removed {
                tracing::debug!(%error, "a probe object stays");
            }
        }
        end
    }

    async fn creates(self, keys: &[String]) -> Result<bool, StoreError> {
        for (round, key) in keys.iter().enumerate() {
            if self.race(key, round, Condition::IfAbsent).await?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn replaces(self, key: &str) -> Result<bool, StoreError> {
        answer(self.store, key, b"start\n", Condition::IfAbsent).await?;
        let Some((_, mut there)) = self.store.get(key).await? else {
            return Ok(false);
        };
        for round in 0..RACES {
            match self.race(key, round, Condition::IfMatch(&there.etag)).await? {
                Some(now) => there = now,
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    async fn still(self, known: Known, key: &str) -> Result<bool, StoreError> {
        let first = answer(self.store, key, b"first\n", Condition::IfAbsent).await?;
        let other = Etag("\"00000000000000000000000000000000\"".to_owned());
        let replaced = async {
            match known.replace {
                Some(true) => answer(self.store, key, b"other\n", Condition::IfMatch(&other)).await,
                _ => Ok(PutAnswer::Refused),
            }
        };
        let again = answer(self.store, key, b"again\n", Condition::IfAbsent);
        let (again, replaced) = tokio::join!(again, replaced);
        Ok(held(&first) && !held(&again?) && !held(&replaced?))
    }

    /// Six writers at once. What lies there then, where just one of them was told that it won, and it is what that one
    /// wrote. Each writes bytes of its own in each round: a content that came back would bring its etag back. A store that
    /// limits requests says nothing about conditions by it: whoever met the limit asks again, one by one. Some servers answer
    /// 500 to writers that meet at one name (rclone): two that won say enough without them.
    async fn race(
        self,
        key: &str,
        round: usize,
        condition: Condition<'_>,
    ) -> Result<Option<Meta>, StoreError> {
        let body = |writer: char| format!("{writer} in round {round}\n");
        let write = |writer: char| {
            let body = body(writer);
            async move { (writer, self.store.put_once(key, body.as_bytes(), condition).await) }
        };
        let raced = join_all(('a'..='f').map(write)).await;
        let (mut winners, mut unclear) = (Vec::new(), None);
        for (writer, raced) in raced {
            let (writer, settled) = match raced {
                Err(error) if error.is_limit() => {
                    let again = writer.to_ascii_uppercase();
                    (again, answer(self.store, key, body(again).as_bytes(), condition).await)
                }
                other => (writer, understood(other)),
            };
            match settled {
                Ok(PutAnswer::Written(written)) => winners.push((writer, written)),
                Ok(PutAnswer::Refused) => {}
                Err(error) if is_unclear(&error) => unclear = Some(error),
                Err(error) => return Err(error),
            }
        }
        let Some((winner, written)) = sole(&winners, unclear)? else {
            return Ok(None);
        };
        let there = self.store.get(key).await?;
        let meta = there.as_ref().map(|(_, meta)| meta);
        no_cache_between(self.store, key, written, meta).await?;
        Ok(there.filter(|(bytes, _)| *bytes == body(*winner).into_bytes()).map(|(_, meta)| meta))
    }
}

/// Whether an answer says nothing about what the store does.
fn is_unclear(error: &StoreError) -> bool {
    error.may_have_happened() || error.retryable()
}

/// The only winner of a race. One whose answer was unclear may have won too, unless two have won already.
fn sole<W, E>(winners: &[W], unclear: Option<E>) -> Result<Option<&W>, E> {
    match (winners, unclear) {
        ([_, _, ..], _) | ([], None) => Ok(None),
        (_, Some(error)) => Err(error),
        ([winner], None) => Ok(Some(winner)),
    }
}

/// One conditional write, as soon as the store takes it.
async fn answer(
    store: &Store,
    key: &str,
    body: &[u8],
    condition: Condition<'_>,
) -> Result<PutAnswer, StoreError> {
    understood(retry::slowly(|| store.put_once(key, body, condition)).await)
}

/// A server that does not know the header at all has answered the question.
fn understood(answer: Result<PutAnswer, StoreError>) -> Result<PutAnswer, StoreError> {
    match answer {
        Err(error) if error.kind == StoreErrorKind::NotSupported => Ok(PutAnswer::Refused),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::sole;

    #[test]
    fn a_race_has_one_winner_or_says_so_or_says_nothing() {
        let table: [(&[char], Option<&str>, Result<Option<&char>, &str>); 7] = [
            (&['a'], None, Ok(Some(&'a'))),
            (&[], None, Ok(None)),
            (&['a', 'b'], None, Ok(None)),
            (&['a'], Some("500"), Err("500")),
            (&[], Some("500"), Err("500")),
            (&['a', 'b'], Some("500"), Ok(None)),
            (&['a', 'b', 'c'], Some("500"), Ok(None)),
        ];
        for (winners, unclear, expected) in table {
            assert_eq!(sole(winners, unclear), expected, "{winners:?} {unclear:?}");
        }
    }
}
