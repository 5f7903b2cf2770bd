//! Trying again: which requests, how often, how long. Knows errors and time, not what is asked.

use std::future::Future;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use tokio::time::Instant;

use super::s3::S3Store;
use super::{Meta, Sink, StoreError, StoreErrorKind};

/// Further attempts within about three seconds.
const FURTHER: u32 = 3;
/// A store that is busy has said so, and gets about fifteen seconds: many allow one write a second to a key, or twenty
/// requests a second.
const FURTHER_WHEN_BUSY: u32 = 9;
/// The longest pause, whatever the store asks for.
const LONGEST: Duration = Duration::from_secs(10);

/// When this long has gone by since the first attempt, its error is the answer: a store that is silent or drips would keep
/// a person for minutes otherwise.
const PATIENCE: Duration = Duration::from_secs(25);

/// Ever longer pauses, with jitter so that machines that failed together do not come back together.
fn backoff() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(200))
        .with_max_delay(Duration::from_secs(2))
        .with_factor(2.5)
        .with_max_times(FURTHER_WHEN_BUSY as usize)
        .with_jitter()
}

/// Three more attempts within a second, for a write whose end is unclear: whoever waits for it may hold a lock that runs
/// out.
pub(super) fn soon() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(100))
        .with_factor(2.0)
        .with_max_times(3)
}

/// Whether a request is repeated after this error, its `attempt`th (from 1).
fn again(error: &StoreError, attempt: u32) -> bool {
    let further = if error.kind == StoreErrorKind::ServerBusy && error.is_limit() {
        FURTHER_WHEN_BUSY
    } else {
        FURTHER
    };
    error.retryable() && attempt <= further
}

/// At least as long as the store asks for, within reason.
fn pause(error: &StoreError, planned: Duration) -> Duration {
    planned.max(error.wait.unwrap_or_default().min(LONGEST))
}

/// Repeats a request that is safe to repeat: reads, plain puts, deletes.
pub(super) async fn reading<T, F, Fut>(request: F) -> Result<T, StoreError>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, StoreError>>,
{
    let (mut attempt, began) = (0, Instant::now());
    request
        .retry(backoff())
        .when(move |error: &StoreError| {
            attempt += 1;
            again(error, attempt) && began.elapsed() < PATIENCE
        })
        .adjust(|error: &StoreError, planned| planned.map(|planned| pause(error, planned)))
        .notify(|error, after| tracing::debug!(%error, ?after, "store: trying again"))
        .await
}

/// Repeats a request that the store refused because requests come too fast, and only then: whatever else came back, a
/// conditional write's answer among it, is its caller's to judge.
pub(super) async fn slowly<T, F, Fut>(request: F) -> Result<T, StoreError>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, StoreError>>,
{
    let began = Instant::now();
    request
        .retry(backoff())
        .when(|error: &StoreError| error.is_limit() && began.elapsed() < PATIENCE)
        .adjust(|error: &StoreError, planned| planned.map(|planned| pause(error, planned)))
        .await
}

/// Repeats the sending of a part of something, however long an attempt took before it was cut: what went before is there.
pub(super) async fn sending<T, F, Fut>(request: F) -> Result<T, StoreError>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, StoreError>>,
{
    let mut attempt = 0;
    request
        .retry(backoff())
        .when(move |error: &StoreError| {
            attempt += 1;
            again(error, attempt)
        })
        .adjust(|error: &StoreError, planned| planned.map(|planned| pause(error, planned)))
        .notify(|error, after| tracing::debug!(%error, ?after, "store: sending it again"))
        .await
}

/// Waits a random time below `first`, twice that after the next attempt, and so on (five times): those who met in the
/// same place do not meet again.
pub async fn back_off(attempt: u32, first: Duration) {
    let mut chance = [0_u8; 2];
    // Without chance, all wait for the same time, which is worse for them and wrong for nobody.
    let _ = getrandom::fill(&mut chance);
    let window = first.saturating_mul(1 << attempt.min(5));
    tokio::time::sleep(window.mul_f64(f64::from(u16::from_le_bytes(chance)) / 65_536.0)).await;
}

/// How often a download that makes progress may be cut and go on.
const MAX_RESUMES: u32 = 50;
/// How often it may be cut without a single new byte.
const MAX_STALLS: u32 = 4;

/// Streams an object, resuming behind the last byte that arrived.
pub(super) async fn download(
    store: &S3Store,
    key: &str,
    sink: &mut Sink,
) -> Result<Option<Meta>, StoreError> {
    let mut version: Option<Meta> = None;
    let (mut resumes, mut stalls) = (0, 0);
    loop {
        let before = sink.written();
        let error = match store.stream(key, sink, &mut version).await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        if error.kind == StoreErrorKind::Local || !error.retryable() {
            return Err(error);
        }
        resumes += 1;
        stalls = if sink.written() > before { 0 } else { stalls + 1 };
        if resumes > MAX_RESUMES || stalls > MAX_STALLS {
            return Err(error);
        }
        tracing::debug!(%error, at = sink.written(), "store: download goes on");
        tokio::time::sleep(Duration::from_millis(200 * u64::from(stalls + 1))).await;
    }
}
