//! Listings, whole or not at all: a page that says that there is more and does not say where is gone on behind its last
//! key, and a listing that cannot be completed is an error, never a shorter listing (F61). Knows no meaning of keys.

use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;

use super::{S3Store, size, small};
use crate::storage::object::Listing;
use crate::storage::{Entry, Etag, StoreError, StoreErrorKind};

/// Where the next page begins.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Next {
    /// By the server's own token.
    Token(String),
    /// Behind this key.
    After(String),
}

/// What a page says of the one behind it. `before`: how this page was asked for; `last`: its last key.
fn next(
    truncated: bool,
    token: Option<String>,
    last: Option<&str>,
    before: Option<&Next>,
) -> Result<Option<Next>, &'static str> {
    let token = token.filter(|token| !token.is_empty());
    if !truncated {
        return Ok(None);
    }
    let next = match (token, last) {
        (Some(token), _) => Next::Token(token),
        (None, Some(last)) => Next::After(last.to_owned()),
        (None, None) => return Err("a page without entries says that there is more, and not where"),
    };
    match (before, &next) {
        (Some(before), next) if before == next => Err("the same page comes again and again"),
        (Some(Next::After(before)), Next::After(last)) if last <= before => {
            Err("the pages do not go forward")
        }
        _ => Ok(Some(next)),
    }
}

impl S3Store {
    pub(in crate::storage) async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
    ) -> Result<Vec<Entry>, StoreError> {
        let mut listing = Listing::default();
        let mut place = after.map(|key| Next::After(key.to_owned()));
        loop {
            let page = self.page(prefix, place.as_ref(), 1000).await?;
            let truncated = page.is_truncated == Some(true);
            let contents = page.contents.unwrap_or_default();
            let last = contents.last().and_then(|object| object.key.clone());
            let mut added = Ok(());
            for object in contents {
                // Without a key, or outside what was asked for: not an answer to our question.
                let Some(key) = object.key.filter(|key| key.starts_with(prefix)) else { continue };
                let modified = object.last_modified.map_or(0, |at| at.secs());
                let etag = object.e_tag.map(Etag);
                added =
                    added.and_then(|()| listing.add(Entry { key, size: size(object.size), modified, etag }));
            }
            let token = page.next_continuation_token;
            let followed = added.and_then(|()| next(truncated, token, last.as_deref(), place.as_ref()));
            match followed {
                Ok(None) => break,
                Ok(follows) => place = follows,
                Err(why) => {
                    return Err(StoreError::new(
                        StoreErrorKind::Incomplete,
                        self.name(),
                        format!("list {prefix}"),
                        format!("the listing cannot be completed: {why}"),
                    ));
                }
            }
        }
        Ok(listing.entries())
    }

    async fn page(
        &self,
        prefix: &str,
        from: Option<&Next>,
        max: i32,
    ) -> Result<ListObjectsV2Output, StoreError> {
        let operation = || format!("list {prefix}");
        let request = || async move {
            let list = self.client().list_objects_v2().bucket(&self.bucket).prefix(prefix).max_keys(max);
            let list = match from {
                None => list,
                Some(Next::Token(token)) => list.continuation_token(token),
                Some(Next::After(key)) => list.start_after(key),
            };
            list.send().await
        };
        let answered = self.ask(operation, small(), request).await?;
        answered.map_err(|error| self.error(operation(), &error))
    }

    /// One small listing: whether the bucket answers, whether a key is there.
    pub(super) async fn glance(&self, prefix: &str) -> Result<ListObjectsV2Output, StoreError> {
        self.page(prefix, None, 1).await
    }
}

#[cfg(test)]
mod tests {
    use super::{Next, next};

    #[test]
    fn f61_a_listing_goes_on_until_it_is_complete_or_says_that_it_cannot_be() {
        let token = |text: &str| Some(text.to_owned());
        let after = |key: &str| Next::After(key.to_owned());
        let by = |text: &str| Next::Token(text.to_owned());
        let table = [
            ("complete", next(false, None, Some("k"), None), Ok(None)),
            ("complete, with a token all the same", next(false, token("t"), Some("k"), None), Ok(None)),
            ("by token", next(true, token("t"), Some("k"), None), Ok(Some(by("t")))),
            ("without a token", next(true, None, Some("k"), None), Ok(Some(after("k")))),
            ("with an empty token", next(true, token(""), Some("k"), None), Ok(Some(after("k")))),
            ("forward", next(true, None, Some("l"), Some(&after("k"))), Ok(Some(after("l")))),
            ("an empty page with a token", next(true, token("t"), None, Some(&by("s"))), Ok(Some(by("t")))),
        ];
        for (name, got, expected) in table {
            assert_eq!(got, expected, "{name}");
        }
        for (name, got) in [
            ("nothing to go on with", next(true, None, None, None)),
            ("a repeated token", next(true, token("t"), Some("k"), Some(&by("t")))),
            ("the same last key", next(true, None, Some("k"), Some(&after("k")))),
            ("backwards", next(true, None, Some("a"), Some(&after("k")))),
        ] {
            assert!(got.is_err(), "{name}: {got:?}");
        }
    }
}
