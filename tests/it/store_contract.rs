//! What every store must do (the promises of src/storage/mod.rs), asked of each one we can run.

use membridge::storage::conditional::{self, Outcome};
use membridge::storage::{Body, Bucket, Condition, Digests, Sink, Store, StoreErrorKind};
use membridge::ui::Progress;

use crate::stores::{Subject, unique};

/// All of it, under a folder of its own, which is removed at the end.
pub async fn all(subject: &Subject) {
    let store = subject.open();
    let folder = unique("contract");
    objects(&store, &folder).await;
    names(&store, &folder).await;
    listings(&store, &folder).await;
    files(&store, &folder).await;
    if subject.atomic == Some(true) {
        conditions(subject, &folder).await;
    }
    for entry in store.list(&format!("{folder}/")).await.unwrap() {
        store.delete(&entry.key).await.unwrap();
    }
    assert_eq!(store.list(&format!("{folder}/")).await.unwrap(), []);
}

async fn write(store: &Store, key: &str, body: Body<'_>, condition: Condition<'_>) -> Outcome {
    conditional::write(store, key, body, condition, &Progress::hidden()).await.unwrap().outcome
}

async fn put(store: &Store, key: &str, bytes: &[u8]) {
    store.put(key, Body::Bytes(bytes), &Progress::hidden()).await.unwrap();
}

async fn objects(store: &Store, folder: &str) {
    store.check().await.unwrap();
    let key = format!("{folder}/object");
    assert_eq!(store.get(&key).await.unwrap(), None);
    assert_eq!(store.head(&key).await.unwrap(), None);
    put(store, &key, b"one").await;
    let (bytes, first) = store.get(&key).await.unwrap().unwrap();
    assert_eq!((bytes.as_slice(), first.size), (&b"one"[..], 3));
    assert_eq!(store.head(&key).await.unwrap().unwrap(), first);
    put(store, &key, b"two").await;
    let (bytes, second) = store.get(&key).await.unwrap().unwrap();
    assert_eq!(bytes, b"two");
    assert_ne!(first.etag, second.etag, "an etag changes with the content");
    let copy = format!("{folder}/a copy+1");
    store.copy(&key, &copy).await.unwrap();
    assert_eq!(store.get(&copy).await.unwrap().unwrap().0, b"two");
    store.copy(&format!("{folder}/nothing"), &copy).await.unwrap_err();
    store.delete(&key).await.unwrap();
    store.delete(&key).await.unwrap();
    assert_eq!(store.get(&key).await.unwrap(), None);
    put(store, &key, b"").await;
    assert_eq!(store.get(&key).await.unwrap().unwrap().0, b"");
    let large = vec![b'x'; (1 << 20) + 1];
    put(store, &key, &large).await;
    let refused = store.get(&key).await.unwrap_err();
    assert_eq!(refused.kind, StoreErrorKind::NotARecord, "no record is that large");
}

async fn names(store: &Store, folder: &str) {
    for name in ["with space", "plus+and%25", "сад", "quote'\"", "a/deep/er/name", "&=?#"] {
        let key = format!("{folder}/names/{name}");
        put(store, &key, name.as_bytes()).await;
        assert_eq!(store.get(&key).await.unwrap().unwrap().0, name.as_bytes(), "{name}");
        let listed = store.list(&key).await.unwrap();
        assert_eq!(listed.len(), 1, "{name}");
        assert_eq!(listed[0].key, key);
    }
}

async fn listings(store: &Store, folder: &str) {
    assert_eq!(store.list(&format!("{folder}/none/")).await.unwrap(), []);
    for name in ["b", "a", "c/d", "ab"] {
        put(store, &format!("{folder}/list/{name}"), name.as_bytes()).await;
    }
    let keys = |prefix: String| async move {
        let entries = store.list(&prefix).await.unwrap();
        for entry in &entries {
            assert!(entry.modified > 1_700_000_000, "{entry:?} has a time");
        }
        let skip = folder.len() + "/list/".len();
        entries.into_iter().map(|entry| entry.key[skip..].to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(keys(format!("{folder}/list/")).await, ["a", "ab", "b", "c/d"]);
    assert_eq!(keys(format!("{folder}/list/a")).await, ["a", "ab"]);
    assert_eq!(keys(format!("{folder}/list/c/")).await, ["c/d"]);
    // A deleted object is gone from the next listing, a new one is in it: what the sole-claim protocol rests on.
    for round in 0..5 {
        let key = format!("{folder}/list/now-{round}");
        put(store, &key, b"").await;
        assert_eq!(store.list(&key).await.unwrap().len(), 1);
        store.delete(&key).await.unwrap();
        assert_eq!(store.list(&key).await.unwrap(), []);
    }
}

async fn files(store: &Store, folder: &str) {
    let local = tempfile::tempdir().unwrap();
    for size in [0_usize, 1, 3 << 20] {
        let path = local.path().join("file");
        let bytes: Vec<u8> = (0..size).map(|at| (at * 7 % 251) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let digests = Digests::of_file(&path).unwrap();
        let key = format!("{folder}/file-{size}");
        let hidden = Progress::hidden();
        store.put(&key, Body::File(&path, &digests), &hidden).await.unwrap();
        let target = std::fs::File::create(local.path().join("back")).unwrap();
        let mut sink = Sink::new(target, 1 << 30, Progress::hidden());
        store.download(&key, &mut sink).await.unwrap().unwrap();
        assert_eq!(sink.finish().await.unwrap(), (digests.size, digests.sha256));
        assert_eq!(store.head(&key).await.unwrap().unwrap().size, digests.size);
    }
}

async fn conditions(subject: &Subject, folder: &str) {
    let store = &subject.open();
    let key = format!("{folder}/conditional");
    let bytes = |body: &'static [u8], condition| write(store, &key, Body::Bytes(body), condition);
    let Outcome::Won(first) = bytes(b"first", Condition::IfAbsent).await else {
        panic!("{}: nobody was there", subject.name);
    };
    assert_eq!(bytes(b"second", Condition::IfAbsent).await, Outcome::Lost);
    // A retry that meets its own first success has not lost against itself.
    assert!(matches!(bytes(b"first", Condition::IfAbsent).await, Outcome::Won(_)));
    let Outcome::Won(third) = bytes(b"third", Condition::IfMatch(&first.etag)).await else {
        panic!("{}: nothing had changed", subject.name);
    };
    assert_eq!(bytes(b"fourth", Condition::IfMatch(&first.etag)).await, Outcome::Lost);
    assert_eq!(store.get(&key).await.unwrap().unwrap().0, b"third");

    let local = tempfile::tempdir().unwrap();
    let path = local.path().join("file");
    std::fs::write(&path, vec![7_u8; 200_000]).unwrap();
    let digests = Digests::of_file(&path).unwrap();
    let file = |condition| write(store, &key, Body::File(&path, &digests), condition);
    assert_eq!(file(Condition::IfAbsent).await, Outcome::Lost);
    assert_eq!(file(Condition::IfMatch(&first.etag)).await, Outcome::Lost);
    let won = file(Condition::IfMatch(&third.etag)).await;
    assert!(matches!(won, Outcome::Won(_)), "{won:?}");

    store.delete(&key).await.unwrap();
    let gone = bytes(b"fifth", Condition::IfMatch(&third.etag)).await;
    assert_eq!(gone, Outcome::Lost, "If-Match on a key that is gone");
    assert_eq!(store.get(&key).await.unwrap(), None);
    create_race(subject, folder).await;
    increments(subject, folder).await;
}

/// Twelve connections create at once: one wins.
pub async fn create_race(subject: &Subject, folder: &str) {
    for round in 0..3 {
        let mut racers = tokio::task::JoinSet::new();
        for racer in 0..12 {
            let (store, key) = (subject.open(), format!("{folder}/race-{round}"));
            racers.spawn(async move {
                let body = format!("racer {racer}");
                let end = write(&store, &key, Body::Bytes(body.as_bytes()), Condition::IfAbsent).await;
                usize::from(end != Outcome::Lost)
            });
        }
        let winners: usize = racers.join_all().await.into_iter().sum();
        assert_eq!(winners, 1, "{}, round {round}", subject.name);
    }
}

/// Eight connections count together by compare-and-swap: no two of them ever win with the same number, which is what
/// a lost update would look like. (A winner whose bytes were replaced before it read them back counts as a loser, so
/// that the counter may run ahead of the wins.)
pub async fn increments(subject: &Subject, folder: &str) {
    let key = format!("{folder}/counter");
    put(&subject.open(), &key, b"0 start").await;
    let mut counters = tokio::task::JoinSet::new();
    for counter in 0..8 {
        let (store, key) = (subject.open(), key.clone());
        counters.spawn(async move {
            let mut won = Vec::new();
            for attempt in 0.. {
                let (bytes, meta) = store.get(&key).await.unwrap().unwrap();
                let value = number(&bytes) + 1;
                let body = format!("{value} by {counter} attempt {attempt}");
                let condition = Condition::IfMatch(&meta.etag);
                let end = write(&store, &key, Body::Bytes(body.as_bytes()), condition).await;
                if end != Outcome::Lost {
                    won.push(value);
                }
                if won.len() == 5 {
                    break;
                }
            }
            won
        });
    }
    let won: Vec<u32> = counters.join_all().await.into_iter().flatten().collect();
    let distinct: std::collections::BTreeSet<_> = won.iter().collect();
    assert_eq!((won.len(), distinct.len()), (40, 40), "{}: {won:?}", subject.name);
    let (bytes, _) = subject.open().get(&key).await.unwrap().unwrap();
    assert!(number(&bytes) >= 40, "{}", subject.name);
}

fn number(bytes: &[u8]) -> u32 {
    let text = std::str::from_utf8(bytes).unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_conforming_server_keeps_the_contract() {
    all(&Subject::conforming()).await;
}

#[tokio::test]
async fn a_bucket_that_encrypts_keeps_the_contract() {
    all(&Subject::encrypting()).await;
}

#[tokio::test]
async fn a_server_that_ignores_conditions_keeps_the_rest_of_it() {
    all(&Subject::ignoring()).await;
}

#[tokio::test]
async fn a_server_that_answers_501_keeps_the_rest_of_it() {
    all(&Subject::refusing()).await;
}

#[tokio::test]
async fn a_directory_keeps_the_contract() {
    all(&Subject::directory()).await;
}

#[tokio::test]
async fn a_directory_that_is_not_there_is_not_an_empty_store() {
    let folder = tempfile::tempdir().unwrap();
    let gone = crate::support::machine::Store::Dir(folder.path().join("unmounted"));
    let store = crate::stores::open(&gone);
    for error in [
        store.get("a").await.unwrap_err(),
        store.head("a").await.unwrap_err(),
        store.list("").await.unwrap_err(),
        store.put("a", Body::Bytes(b""), &Progress::hidden()).await.unwrap_err(),
    ] {
        assert_eq!(error.kind, StoreErrorKind::MissingBucket, "{error}");
    }
}

#[tokio::test]
async fn a_listing_goes_on_after_a_thousand_keys() {
    let server = crate::support::s3::S3Server::start();
    for number in 0..2345 {
        server.put(&format!("many/{number:05}"), b"");
    }
    let store = crate::stores::open(&(&server).into());
    assert_eq!(store.list("many/").await.unwrap().len(), 2345);
}

/// A bucket of its own in the subject's store, as a machine with an empty memory of verdicts opens it.
fn place(subject: &Subject, cid: &str, state: &std::path::Path) -> Bucket {
    Bucket::new(subject.open(), cid, std::sync::Arc::default(), state)
}

#[tokio::test]
async fn a_swap_has_one_winner_whatever_conditions_are_worth() {
    for subject in [
        Subject::conforming(),
        Subject::encrypting(),
        Subject::directory(),
        Subject::ignoring(),
        Subject::refusing(),
        Subject::not_atomic(),
    ] {
        let (state, cid) = (tempfile::tempdir().unwrap(), unique("swap"));
        let bucket = place(&subject, &cid, state.path());
        bucket.verdict().await.unwrap();
        let key = format!("{}record.json", bucket.keys.root());
        let Outcome::Won(first) = bucket.swap(&key, None, b"first").await.unwrap() else {
            panic!("{}: nobody was there", subject.name);
        };
        assert_eq!(bucket.swap(&key, None, b"second").await.unwrap(), Outcome::Lost, "{}", subject.name);
        let again = bucket.swap(&key, None, b"first").await.unwrap();
        assert!(matches!(again, Outcome::Won(_)), "{}: after a lost answer", subject.name);
        let mut racers = tokio::task::JoinSet::new();
        for racer in 0..6 {
            let (bucket, key) = (place(&subject, &cid, state.path()), key.clone());
            let seen = first.etag.clone();
            racers.spawn(async move {
                let body = format!("racer {racer}");
                usize::from(bucket.swap(&key, Some(&seen), body.as_bytes()).await.unwrap() != Outcome::Lost)
            });
        }
        let winners: usize = racers.join_all().await.into_iter().sum();
        assert_eq!(winners, 1, "{}", subject.name);
        let folder = bucket.keys.claims("record");
        assert_eq!(bucket.store.list(&folder).await.unwrap(), [], "{}: no claim stays", subject.name);
    }
}
