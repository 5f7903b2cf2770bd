//! How people name a commit: by number, as `head`, or by the moment whose state they want back.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

use super::HistoryError;
use super::commit::Commit;
use super::log;
use crate::storage::Bucket;

/// Which commit is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selector {
    /// The newest.
    Head,
    /// That one.
    Number(u64),
    /// The newest that was made at this moment or before.
    At(Timestamp),
}

/// Understands `42`, `#42`, `head`, `2026-01-02T03:04:05Z`, `2026-01-02 03:04`, `2026-01-02` (its end). Where no zone is
/// given it is `zone`, the person's.
pub fn parse(text: &str, zone: &TimeZone) -> Option<Selector> {
    let text = text.trim();
    if text.eq_ignore_ascii_case("head") {
        return Some(Selector::Head);
    }
    let digits = text.strip_prefix('#').unwrap_or(text);
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return digits.parse().ok().filter(|number| *number > 0).map(Selector::Number);
    }
    let local = |at: DateTime| at.to_zoned(zone.clone()).ok().map(|at| at.timestamp());
    let at = match (text.parse::<Timestamp>(), text.parse::<Date>(), text.parse::<DateTime>()) {
        (Ok(at), _, _) => Some(at),
        // A date parses as a moment too, as its beginning; people mean the day.
        (_, Ok(date), _) if !text.contains(':') => local(date.at(23, 59, 59, 0)),
        (_, _, Ok(at)) => local(at),
        _ => None,
    };
    at.map(Selector::At)
}

/// The commit that is meant; `None` when it is not there (any more).
///
/// # Errors
/// The store's; a commit that cannot be used.
pub async fn find(bucket: &Bucket, selector: Selector) -> Result<Option<Commit>, HistoryError> {
    match selector {
        Selector::Head => log::head(bucket, None).await,
        Selector::Number(number) => log::get(bucket, number).await,
        Selector::At(at) => before(bucket, at).await,
    }
}

/// Halves the numbers that are there: times rise with them.
async fn before(bucket: &Bucket, at: Timestamp) -> Result<Option<Commit>, HistoryError> {
    let mut numbers = log::numbers(bucket).await?;
    let mut found = None;
    while !numbers.is_empty() {
        let newer = numbers.split_off(numbers.len() / 2);
        let Some(middle) = newer.first() else {
            break;
        };
        match log::get(bucket, middle.number).await? {
            Some(commit) if commit.at().is_some_and(|made| made <= at) => {
                found = Some(commit);
                numbers = newer.into_iter().skip(1).collect();
            }
            _ => {}
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::tz::{TimeZone, offset};

    use super::{Selector, find, parse};
    use crate::config::StoreConfig;
    use crate::history::commit::tests::sample;
    use crate::history::log::create;
    use crate::storage::{Bucket, Store};

    #[test]
    fn a_commit_is_named_by_number_or_moment() {
        let at = |text: &str| Some(Selector::At(text.parse().unwrap()));
        let table = [
            ("42", Some(Selector::Number(42))),
            ("#7", Some(Selector::Number(7))),
            ("HEAD", Some(Selector::Head)),
            ("2026-01-02T03:04:05Z", at("2026-01-02T03:04:05Z")),
            ("2026-01-02T03:04:05+02:00", at("2026-01-02T01:04:05Z")),
            ("2026-01-02T03:04:05", at("2026-01-02T03:04:05Z")),
            ("2026-01-02 03:04", at("2026-01-02T03:04:00Z")),
            ("2026-01-02", at("2026-01-02T23:59:59Z")),
            ("0", None),
            ("", None),
            ("#", None),
            ("-1", None),
            ("yesterday", None),
            ("99999999999999999999999", None),
        ];
        for (text, selector) in table {
            assert_eq!(parse(text, &TimeZone::UTC), selector, "{text}");
        }
        let kyiv = TimeZone::fixed(offset(2));
        assert_eq!(parse("2026-01-02 03:04", &kyiv), at("2026-01-02T01:04:00Z"));
        assert_eq!(parse("2026-01-02", &kyiv), at("2026-01-02T21:59:59Z"));
        assert_eq!(parse("2026-01-02T03:04:05Z", &kyiv), at("2026-01-02T03:04:05Z"));
    }

    #[tokio::test]
    async fn a_moment_means_the_last_commit_before_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&StoreConfig::Dir(folder.path().to_owned()), &Arc::default()).unwrap();
        let bucket = Bucket::new(store, "6fe2e0f6071ac2bb", Arc::default(), folder.path());
        for number in 4..=9 {
            let mut commit = sample(number, 0);
            commit.time = format!("2026-01-0{number}T12:00:00+00:00");
            create(&bucket, &commit).await.unwrap();
        }
        for (text, number) in [
            ("2026-01-04T11:59:59Z", None),
            ("2026-01-04", Some(4)),
            ("2026-01-06T12:00:00Z", Some(6)),
            ("2026-01-07T11:00:00Z", Some(6)),
            ("2027-01-01", Some(9)),
            ("3", None),
            ("8", Some(8)),
            ("10", None),
            ("head", Some(9)),
        ] {
            let got = find(&bucket, parse(text, &TimeZone::UTC).unwrap()).await.unwrap();
            assert_eq!(got.map(|commit| commit.number), number, "{text}");
        }
    }
}
