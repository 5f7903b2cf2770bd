use std::sync::Arc;

use super::{Created, create, get, head, numbers, walk};
use crate::config::StoreConfig;
use crate::context::Context;
use crate::history::HistoryError;
use crate::history::commit::tests::sample;
use crate::progress::Progress;
use crate::storage::{Body, Bucket, Store};

fn bucket() -> (tempfile::TempDir, Bucket) {
    let folder = tempfile::tempdir().unwrap();
    let config = StoreConfig::Dir(folder.path().to_owned());
    let context = Arc::new(Context::default());
    let store = Store::open(&config, &context).unwrap();
    let bucket = Bucket::new(store, "6fe2e0f6071ac2bb", context, folder.path());
    (folder, bucket)
}

async fn put(store: &Store, key: &str, bytes: &[u8]) {
    store.put(key, Body::Bytes(bytes), &Progress::hidden()).await.unwrap();
}

#[tokio::test]
async fn the_head_is_found_from_every_hint_whatever_was_removed() {
    // Commits that are there, and the head.
    let table: [(&[u64], Option<u64>); 6] = [
        (&[], None),
        (&[1], Some(1)),
        (&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12], Some(12)),
        (&[9, 10, 11], Some(11)),
        (&[100], Some(100)),
        (&[99_999, 100_000], Some(100_000)),
    ];
    for (there, newest) in table {
        let (_folder, bucket) = bucket();
        for number in there {
            let commit = sample(*number, 0);
            let created = create(&bucket, &commit).await;
            assert_eq!(created.unwrap(), Created::Won);
        }
        put(&bucket.store, &format!("{}notes.txt", bucket.keys.commits()), b"foreign").await;
        put(&bucket.store, &format!("{}0000000000.json", bucket.keys.commits()), b"{}").await;
        put(&bucket.store, &format!("{}1e9.json", bucket.keys.commits()), b"{}").await;
        let hints = [0, 1, 2, 3, 5, 7, 8, 9, 10, 11, 12, 13, 50, 99, 100, 101, u64::MAX];
        for hint in std::iter::once(None).chain(hints.map(Some)) {
            let got = head(&bucket, hint).await.unwrap();
            assert_eq!(got.map(|commit| commit.number), newest, "{there:?} from {hint:?}");
        }
        let listed: Vec<u64> = numbers(&bucket).await.unwrap().iter().map(|commit| commit.number).collect();
        assert_eq!(listed, there);
    }
}

#[tokio::test]
async fn of_two_writers_of_one_number_one_wins() {
    let (_folder, bucket) = bucket();
    let (mut ours, mut theirs) = (sample(1, 0), sample(1, 0));
    ours.token = "ours".to_owned();
    theirs.token = "theirs".to_owned();
    assert_eq!(create(&bucket, &ours).await.unwrap(), Created::Won);
    assert_eq!(create(&bucket, &theirs).await.unwrap(), Created::Lost);
    assert_eq!(create(&bucket, &ours).await.unwrap(), Created::Won, "again, after a lost answer");
    assert_eq!(get(&bucket, 1).await.unwrap().unwrap().token, "ours");
}

#[tokio::test]
async fn a_commit_that_nobody_could_read_is_not_written() {
    let (_folder, bucket) = bucket();
    let mut commit = sample(3, 1);
    commit.chain.remove(0);
    let made = create(&bucket, &commit).await;
    assert!(matches!(made, Err(HistoryError::Commit { .. })));
    assert_eq!(head(&bucket, None).await.unwrap(), None);
}

#[tokio::test]
async fn a_damaged_head_is_an_error_and_never_absence() {
    let (_folder, bucket) = bucket();
    let commit = sample(1, 0);
    create(&bucket, &commit).await.unwrap();
    for garbage in ["", "{}", "[]", "null"] {
        put(&bucket.store, &bucket.keys.commit(2), garbage.as_bytes()).await;
        for hint in [None, Some(1), Some(2)] {
            let got = head(&bucket, hint).await;
            assert!(matches!(got, Err(HistoryError::Commit { .. })), "{garbage} {hint:?}");
        }
    }
}

#[tokio::test]
async fn a_walk_ends_where_retention_ended() {
    let (_folder, bucket) = bucket();
    for number in 5..=9 {
        create(&bucket, &sample(number, 0)).await.unwrap();
    }
    let newest = head(&bucket, None).await.unwrap().unwrap();
    for (limit, expected) in [(1, vec![9]), (3, vec![9, 8, 7]), (100, vec![9, 8, 7, 6, 5])] {
        let walked = walk(&bucket, &newest, limit).await.unwrap();
        let walked: Vec<u64> = walked.iter().map(|commit| commit.number).collect();
        assert_eq!(walked, expected);
    }
}
