//! A forger who has the whole bucket and everything but the key.

use std::path::PathBuf;

use aws_smithy_types::base64;

use super::fetch::tests::Ground;
use super::{Commit, HistoryError, log};
use crate::seal::{Keyring, MasterKey, Place, Seal, SealError, Vouched, Watch, is_sealed};
use crate::sum::Sum;

const CID: &str = "6fe2e0f6071ac2bb";

fn seal(keys: Keyring, vouched: Vouched) -> Seal {
    Seal::on(keys, vouched, Watch::default())
}

fn ring(byte: u8) -> Keyring {
    Keyring::new(MasterKey::new([byte; 32]))
}

impl Ground {
    /// Goes on as a machine with these keys that has seen nothing yet.
    fn newcomer(&mut self, keys: Keyring, vouched: Vouched) {
        self.bucket.seal = seal(keys, vouched);
    }

    fn pack_of(&self, commit: &Commit) -> PathBuf {
        self.file(&self.bucket.keys.pack(commit.pack))
    }

    fn commit_of(&self, number: u64) -> PathBuf {
        self.file(&self.bucket.keys.commit(number))
    }

    /// Changes a byte inside of a sealed commit.
    fn flip(&self, number: u64, at: usize) {
        let path = self.commit_of(number);
        let mut record: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let mut sealed = base64::decode(record["sealed"].as_str().unwrap()).unwrap();
        sealed[at] ^= 1;
        record["sealed"] = base64::encode(sealed).into();
        std::fs::write(path, serde_json::to_vec(&record).unwrap()).unwrap();
    }

    /// Puts a commit on top that says what the newest one says.
    fn forge(&self, newest: &Commit, with: &Seal) {
        let forged = Commit { number: 4, parent: Some(3), ..newest.clone() };
        let plain = serde_json::to_vec(&forged).unwrap();
        let stored = with.seal_record(plain, CID, Place::Commit { number: 4 }, [0; 32]).unwrap();
        std::fs::write(self.commit_of(4), stored.stored()).unwrap();
    }
}

async fn three_pushes() -> (Ground, [Commit; 3]) {
    let mut ground = Ground::new();
    ground.newcomer(ring(1), Vouched::default());
    let first = ground.push().await;
    ground.sql("INSERT INTO t(x) VALUES ('second');");
    let second = ground.push().await;
    ground.sql("INSERT INTO t(x) VALUES ('third');");
    let third = ground.push().await;
    (ground, [first, second, third])
}

/// Reads the head and its image; its number, or what stands in the way.
async fn read(ground: &Ground) -> Result<u64, &'static str> {
    let read = async {
        let Some(head) = log::head(&ground.bucket, None).await? else { return Ok(0) };
        ground.fetch(&head).await?;
        Ok(head.number)
    };
    read.await.map_err(|error: HistoryError| match error {
        HistoryError::Sealed { error: SealError::NotAuthentic, .. } => "not authentic",
        HistoryError::Sealed { error: SealError::NotSealed, .. } => "not sealed",
        HistoryError::Sealed { error: SealError::NoKey(_), .. } => "no key",
        HistoryError::Sealed { error: SealError::OtherKey(_), .. } => "other key",
        HistoryError::PutBack { .. } => "put back",
        // A pack is compared with the checksum in its commit before anything else.
        HistoryError::Content { .. } => "another checksum",
        _ => "something else",
    })
}

#[tokio::test]
async fn a_sealed_history_comes_back_and_shows_nothing() {
    let (mut ground, commits) = three_pushes().await;
    ground.newcomer(ring(1), Vouched::default());
    assert_eq!(read(&ground).await, Ok(3));
    let head = log::head(&ground.bucket, Some(3)).await.unwrap().unwrap();
    let walked = log::walk(&ground.bucket, &head, 9).await.unwrap();
    assert_eq!(walked.iter().map(|commit| commit.number).collect::<Vec<_>>(), [3, 2, 1]);
    for commit in &commits {
        let bytes = std::fs::read(ground.pack_of(commit)).unwrap();
        assert!(is_sealed(&bytes));
        assert_eq!(Sum::of(&bytes), commit.pack);
        let text = std::fs::read_to_string(ground.commit_of(commit.number)).unwrap();
        assert!(
            !text.contains(&commit.sha256.to_string()) && !text.contains(&commit.pack.to_string()),
            "{text}"
        );
    }
}

#[tokio::test]
async fn a_forger_without_the_key_gets_nowhere() {
    type Forgery = fn(&Ground, &[Commit; 3]);
    let table: [(&str, Forgery, &str); 11] = [
        ("a bit of a commit", |ground, _| ground.flip(3, 70), "not authentic"),
        ("a bit of a commit's salt", |ground, _| ground.flip(3, 40), "not authentic"),
        ("the kind in its header", |ground, _| ground.flip(3, 10), "not authentic"),
        (
            "an older commit under a new number",
            |ground, _| {
                std::fs::copy(ground.commit_of(2), ground.commit_of(3)).unwrap();
            },
            "not authentic",
        ),
        ("a commit in the clear on top", |ground, [.., third]| ground.forge(third, &Seal::Off), "not sealed"),
        (
            "a commit of another key on top",
            |ground, [.., third]| ground.forge(third, &seal(ring(2), Vouched::default())),
            "other key",
        ),
        (
            "a commit that is no JSON",
            |ground, _| std::fs::write(ground.commit_of(3), b"\0").unwrap(),
            "not sealed",
        ),
        (
            "two packs swapped",
            |ground, [first, second, _]| {
                std::fs::copy(ground.pack_of(second), ground.pack_of(first)).unwrap();
            },
            "another checksum",
        ),
        (
            "a pack cut off at a chunk",
            |ground, [first, ..]| {
                let file = std::fs::OpenOptions::new().write(true).open(ground.pack_of(first)).unwrap();
                file.set_len(60).unwrap();
            },
            "another checksum",
        ),
        (
            "the newest commit taken away",
            |ground, _| std::fs::remove_file(ground.commit_of(3)).unwrap(),
            "put back",
        ),
        (
            "all commits taken away",
            |ground, _| std::fs::remove_dir_all(ground.file(&ground.bucket.keys.commits())).unwrap(),
            "put back",
        ),
    ];
    for (what, forge, expected) in table {
        let (ground, commits) = three_pushes().await;
        forge(&ground, &commits);
        assert_eq!(read(&ground).await, Err(expected), "{what}");
    }
}

#[tokio::test]
async fn a_bucket_that_went_another_way_is_told() {
    let (mut ground, _) = three_pushes().await;
    let ours = std::mem::take(&mut ground.bucket.seal);
    std::fs::remove_file(ground.commit_of(3)).unwrap();
    // Somebody with the key goes on from the copy that was put back: authentic, and not what we saw.
    ground.newcomer(ring(1), Vouched::default());
    ground.sql("INSERT INTO t(x) VALUES ('another third');");
    ground.push().await;
    ground.bucket.seal = ours.clone();
    assert_eq!(read(&ground).await, Err("put back"));
    ground.newcomer(ring(1), Vouched::default());
    ground.sql("INSERT INTO t(x) VALUES ('another fourth');");
    ground.push().await;
    // Its fourth push says what its third one was.
    ground.bucket.seal = ours;
    assert_eq!(read(&ground).await, Err("put back"));
}

#[tokio::test]
async fn without_the_key_nothing_is_read_and_with_an_old_one_what_is_vouched_for() {
    let (mut ground, commits) = three_pushes().await;
    ground.bucket.seal = Seal::Off;
    assert_eq!(read(&ground).await, Err("no key"));
    ground.newcomer(ring(2), Vouched::default());
    assert_eq!(read(&ground).await, Err("other key"));
    let rotated = || ring(1).led_by(MasterKey::new([2; 32]));
    ground.newcomer(rotated(), Vouched::default());
    assert_eq!(read(&ground).await, Err("not authentic"));
    let stored = commits.iter().map(|commit| std::fs::read(ground.commit_of(commit.number)).unwrap());
    let commits = (1..).zip(stored.map(|bytes| Sum::of(&bytes))).collect();
    ground.newcomer(rotated(), Vouched { commits, ..Vouched::default() });
    assert_eq!(read(&ground).await, Ok(3));
    // What follows is sealed with the new key and goes on from what the old one sealed.
    ground.sql("INSERT INTO t(x) VALUES ('fourth');");
    ground.push().await;
    assert_eq!(read(&ground).await, Ok(4));
    ground.newcomer(ring(1), Vouched::default());
    assert_eq!(read(&ground).await, Err("other key"));
}
