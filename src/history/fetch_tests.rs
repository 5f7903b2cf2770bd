use std::path::PathBuf;
use std::sync::Arc;

use proptest::prelude::*;

use crate::failpoint::cases;

use super::{Fetch, after, image};
use crate::config::{HistoryRetention, StoreConfig};
use crate::context::Context;
use crate::database::Facts;
use crate::database::snapshot::Pinned;
use crate::history::commit::{Author, Commit};
use crate::history::log::{self, Created};
use crate::history::pagemap::PageMap;
use crate::history::references::Collector;
use crate::history::retention::{GRACE, collect, rebase_due};
use crate::history::spool::{spool, tests as databases};
use crate::history::{HistoryError, Kind, format_tests, pages};
use crate::progress::Progress;
use crate::storage::{Bucket, Digests, Store};

/// A store, and one node with a database.
pub(in crate::history) struct Ground {
    pub(in crate::history) folder: tempfile::TempDir,
    pub(in crate::history) bucket: Bucket,
    live: PathBuf,
}

impl Ground {
    pub(in crate::history) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("store");
        std::fs::create_dir(&root).unwrap();
        let context = Arc::new(Context::default());
        let store = Store::open(&StoreConfig::Dir(root), &context).unwrap();
        let bucket = Bucket::new(store, "6fe2e0f6071ac2bb", context, folder.path());
        let live = databases::database(folder.path());
        Self { folder, bucket, live }
    }

    fn map(&self) -> PathBuf {
        self.folder.path().join("the.map")
    }

    pub(in crate::history) fn sql(&self, text: &str) {
        databases::sql(&self.live, text);
    }

    pub(in crate::history) fn file(&self, key: &str) -> PathBuf {
        self.folder.path().join("store").join(key)
    }

    /// A push, as the story of a push calls it.
    pub(in crate::history) async fn push(&self) -> Commit {
        let parent = log::head(&self.bucket, None).await.unwrap();
        let map = parent
            .as_ref()
            .filter(|parent| !rebase_due(&parent.chain))
            .and_then(|parent| PageMap::open(&self.map(), parent.sha256));
        let pinned = Pinned::new(&self.live).unwrap();
        let spooled =
            spool(&pinned, map, self.folder.path(), &Progress::hidden(), self.bucket.sealing().unwrap())
                .unwrap();
        log::upload_pack(&self.bucket, &spooled, &Progress::hidden()).await.unwrap();
        let facts = Facts {
            counts: crate::database::Counts::default(),
            tables: Vec::new(),
            schema_version: None,
            digest: [0; 32].into(),
        };
        let author = Author { token: "a token".to_owned(), ..Author::default() };
        let commit = Commit::following(parent.as_ref(), &spooled, &facts, author);
        let created = log::create(&self.bucket, &commit).await;
        assert_eq!(created.unwrap(), Created::Won);
        spooled.map.keep(&self.map()).unwrap();
        commit
    }

    pub(in crate::history) async fn fetch(&self, commit: &Commit) -> Result<super::Fetched, HistoryError> {
        let fetch = Fetch {
            bucket: &self.bucket,
            folder: self.folder.path(),
            scratch: self.folder.path(),
            progress: &Progress::hidden(),
        };
        let fetched = image(fetch, commit, Some(Collector::new(self.folder.path(), None))).await?;
        assert_eq!(Digests::of_file(&fetched.path).unwrap().sha256, commit.sha256);
        Ok(fetched)
    }

    /// Makes everything in the store this much older.
    fn age(&self, seconds: i64) {
        for folder in [self.bucket.keys.commits(), self.bucket.keys.packs()] {
            for entry in std::fs::read_dir(self.file(&folder)).unwrap() {
                let file = std::fs::File::open(entry.unwrap().path()).unwrap();
                let modified = file.metadata().unwrap().modified().unwrap();
                let earlier = modified - std::time::Duration::from_secs(u64::try_from(seconds).unwrap());
                file.set_modified(earlier).unwrap();
            }
        }
    }

    async fn collect(&self, max_count: i64, limit: usize) -> (usize, usize, bool) {
        let keep = HistoryRetention { max_count, max_days: 0 };
        let now = jiff::Timestamp::now().as_second();
        let collected = collect(&self.bucket, keep, now, limit).await.unwrap();
        (collected.commits, collected.packs, collected.more)
    }

    async fn kept(&self) -> Vec<u64> {
        let listed = log::numbers(&self.bucket).await.unwrap();
        listed.iter().map(|commit| commit.number).collect()
    }
}

#[tokio::test]
async fn whoever_has_an_earlier_image_downloads_deltas_only() {
    let ground = Ground::new();
    let first = ground.push().await;
    let image = ground.fetch(&first).await.unwrap();
    ground.sql("INSERT INTO t(x) VALUES ('second');");
    let second = ground.push().await;
    let whole = ground.fetch(&second).await.unwrap();
    let fetch = Fetch {
        bucket: &ground.bucket,
        folder: ground.folder.path(),
        scratch: ground.folder.path(),
        progress: &Progress::hidden(),
    };
    let fetched = after(fetch, &second, Some(&image)).await.unwrap();
    assert_eq!((fetched.downloaded, fetched.sha256), (second.pack_size, second.sha256));
    assert!(fetched.downloaded * 4 < whole.downloaded, "{}", whole.downloaded);
    // A ground that was changed meanwhile costs the whole chain.
    std::fs::write(&image.path, vec![0; 4096]).unwrap();
    let fetched = after(fetch, &second, Some(&image)).await.unwrap();
    assert_eq!((fetched.downloaded, fetched.sha256), (whole.downloaded, second.sha256));
}

#[tokio::test]
async fn damage_in_the_store_is_found_and_named() {
    let ground = Ground::new();
    let first = ground.push().await;
    ground.sql("INSERT INTO t(x) VALUES ('second');");
    let second = ground.push().await;
    assert_eq!(second.kind, Kind::Delta);

    let mut forged = second.clone();
    forged.sha256 = first.sha256;
    forged.chain.last_mut().unwrap().image = first.sha256;
    let wrong = ground.fetch(&forged).await.unwrap_err();
    assert!(wrong.to_string().contains("does not result in the image"), "{wrong}");
    let mut shuffled = second.clone();
    shuffled.chain.remove(0);
    let wrong = ground.fetch(&shuffled).await.unwrap_err();
    assert!(wrong.to_string().contains("does not follow"), "{wrong}");
    let mut resized = second.clone();
    resized.page_count += 1;
    assert!(ground.fetch(&resized).await.unwrap_err().is_damage());
    let mut huge = second.clone();
    huge.page_count = u32::MAX - 1;
    let no_room = ground.fetch(&huge).await.unwrap_err();
    assert!(no_room.to_string().contains("would grow to"), "{no_room}");

    let pack = ground.file(&ground.bucket.keys.pack(second.pack));
    let good = std::fs::read(&pack).unwrap();
    for damaged in [&good[..good.len() / 2], &[], &[&good[..], b"x"].concat()] {
        std::fs::write(&pack, damaged).unwrap();
        ground.fetch(&second).await.unwrap_err();
    }
    let mut flipped = good.clone();
    flipped[60] ^= 1;
    std::fs::write(&pack, &flipped).unwrap();
    let wrong = ground.fetch(&second).await.unwrap_err();
    assert!(wrong.to_string().contains(&second.pack.to_string()), "{wrong}");
    std::fs::remove_file(&pack).unwrap();
    let gone = ground.fetch(&second).await.unwrap_err();
    assert!(matches!(gone, HistoryError::Gone { .. }), "{gone}");
    ground.fetch(&first).await.unwrap();
}

#[tokio::test]
async fn collection_is_bounded_and_spares_what_is_young_or_needed() {
    let ground = Ground::new();
    for number in 0..6 {
        ground.sql(&format!("INSERT INTO t(x) VALUES ('push {number}');"));
        ground.push().await;
    }
    // A push that was cut off before its commit.
    ground.sql("INSERT INTO t(x) VALUES ('cut off');");
    let pinned = Pinned::new(&ground.live).unwrap();
    let orphan =
        spool(&pinned, None, ground.folder.path(), &Progress::hidden(), ground.bucket.sealing().unwrap())
            .unwrap();
    let orphan_file = ground.file(&ground.bucket.keys.pack(orphan.digests.sha256));
    log::upload_pack(&ground.bucket, &orphan, &Progress::hidden()).await.unwrap();

    assert_eq!(ground.collect(1, 100).await, (0, 0, false), "all of it is young");
    ground.age(GRACE + 100);
    assert_eq!(ground.collect(4, 1).await, (1, 0, true), "one at a time");
    assert_eq!(ground.collect(4, 100).await, (1, 1, false));
    assert!(!orphan_file.exists(), "the orphan is past its grace");
    assert_eq!(ground.kept().await, [3, 4, 5, 6]);
    assert_eq!(ground.collect(1, 100).await, (3, 0, false), "the head's chain needs every pack");
    let head = log::head(&ground.bucket, None).await.unwrap().unwrap();
    assert_eq!(head.chain.len(), 6);
    ground.fetch(&head).await.unwrap();
    assert_eq!(ground.collect(1, 100).await, (0, 0, false));
}

#[derive(Debug, Clone)]
enum Step {
    Rows(u32),
    Delete(u32),
    Rewrite(u32),
    Vacuum,
    LoseMap,
    Collect,
    Age,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1_u32..60).prop_map(Step::Rows),
        2 => (2_u32..9).prop_map(Step::Delete),
        2 => (1_u32..40).prop_map(Step::Rewrite),
        1 => Just(Step::Vacuum),
        1 => Just(Step::LoseMap),
        2 => Just(Step::Collect),
        2 => Just(Step::Age),
    ]
}

proptest! {
    #![proptest_config(cases(4))]

    #[test]
    fn every_kept_commit_is_restored_to_the_image_that_was_pushed(steps in prop::collection::vec(step(), 8..20)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let ground = Ground::new();
            ground.push().await;
            for step in steps {
                match step {
                    Step::Rows(count) => ground.sql(&format!(
                        "INSERT INTO t(x) SELECT hex(randomblob(100)) FROM t LIMIT {count};"
                    )),
                    Step::Delete(nth) => ground.sql(&format!("DELETE FROM t WHERE id % {nth} = 0 AND id > 3000;")),
                    Step::Rewrite(from) => ground.sql(&format!(
                        "UPDATE t SET x = hex(randomblob(80)) WHERE id BETWEEN {from} * 70 AND {from} * 70 + 300;"
                    )),
                    Step::Vacuum => ground.sql("VACUUM;"),
                    Step::LoseMap => std::fs::remove_file(ground.map()).unwrap(),
                    Step::Collect => {
                        ground.collect(5, 7).await;
                        continue;
                    }
                    Step::Age => {
                        ground.age(GRACE / 2 + 1);
                        continue;
                    }
                }
                ground.push().await;
            }
            for number in ground.kept().await {
                let commit = log::get(&ground.bucket, number).await.unwrap().unwrap();
                let fetched = ground.fetch(&commit).await.unwrap();
                let bucket = ground.file("projects/6fe2e0f6071ac2bb");
                let by_the_document = format_tests::restore(&bucket, number).unwrap();
                assert!(by_the_document == std::fs::read(&fetched.path).unwrap());
                let of_the_fetched = ground.folder.path().join("fetched.map");
                fetched.map.unwrap().keep(&of_the_fetched).unwrap();
                let (image, hashes) = format_tests::page_map(&of_the_fetched);
                assert_eq!(image, commit.sha256.to_string());
                for (page, hash) in by_the_document.chunks(commit.page_size as usize).zip(hashes) {
                    assert_eq!(hash, pages::hash(page));
                }
            }
        });
    }
}
