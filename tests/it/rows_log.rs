//! The row log against every kind of store: segments get their number once, come back whole or not at all, and a copied
//! state is noticed.

use std::collections::BTreeMap;
use std::sync::Arc;

use membridge::context::Context;
use membridge::rows::header::{Header, Kind, SCHEMA};
use membridge::rows::log::{Attempt, LogError, Published, RowLog};
use membridge::rows::node::NodeRecord;
use membridge::rows::segment::{Effort, Prepared, SegmentError, SegmentWriter};
use membridge::storage::Bucket;

use crate::stores::{Subject, open};
use crate::support::machine::Store;
use crate::support::s3::{Fault, Op, S3Server};

pub const CID: &str = "6fe2e0f6071ac2bb";
pub const WRITER: &str = "0123456789abcdef0123456789abcdef";

/// A machine's way to the log.
pub struct Site {
    state: tempfile::TempDir,
    bucket: Bucket,
}

impl Site {
    pub fn new(store: &Store) -> Self {
        let state = tempfile::tempdir().unwrap();
        let bucket = Bucket::new(open(store), CID, Arc::new(Context::default()), state.path());
        Self { state, bucket }
    }

    pub fn log(&self) -> RowLog<'_> {
        RowLog::new(&self.bucket, &self.state.path().join("tmp"))
    }

    /// A segment with these lines, ready to be put.
    fn segment(&self, number: u64, lines: &[&str]) -> Prepared {
        self.segment_of(header(number), lines)
    }

    pub fn segment_of(&self, header: Header, lines: &[&str]) -> Prepared {
        let mut writer = SegmentWriter::new(&self.state.path().join("tmp"), Effort::Usual).unwrap();
        for line in lines {
            writer.line(line.as_bytes()).unwrap();
        }
        self.log().finish(writer, header).unwrap()
    }

    pub async fn publish(&self, segment: &Prepared) -> Result<Published, LogError> {
        let header = &segment.header;
        let file = (&*segment.path, &segment.digests);
        self.log().publish(&header.writer, header.number, file, Attempt::First).await
    }

    async fn read(&self, number: u64) -> Result<Option<Vec<String>>, LogError> {
        let Some(mut fetched) = self.log().get(WRITER, number).await? else {
            return Ok(None);
        };
        let (mut lines, mut line) = (Vec::new(), Vec::new());
        while fetched.reader.next_line(&mut line).unwrap() {
            lines.push(String::from_utf8(line.clone()).unwrap());
        }
        Ok(Some(lines))
    }

    fn leftovers(&self) -> usize {
        let folder = std::fs::read_dir(self.state.path().join("tmp")).into_iter().flatten().flatten();
        folder.filter(|file| file.file_name().to_string_lossy().contains("-segment-")).count()
    }
}

pub fn header(number: u64) -> Header {
    let json = serde_json::json!({
        "schema": SCHEMA, "project": CID, "writer": WRITER, "number": number, "kind": Kind::Rows,
        "part": 1, "parts": 1, "rows": BTreeMap::from([("observations", 2)]),
    });
    serde_json::from_value(json).unwrap()
}

#[tokio::test]
async fn a_number_is_given_once_on_every_kind_of_store() {
    for subject in [
        Subject::conforming(),
        Subject::ignoring(),
        Subject::refusing(),
        Subject::not_atomic(),
        Subject::directory(),
    ] {
        let name = subject.name;
        let (site, clone) = (Site::new(&subject.store), Site::new(&subject.store));
        assert_eq!(site.read(1).await.unwrap(), None, "{name}");
        let first = site.segment(1, &["a", "b"]);
        assert_eq!(site.publish(&first).await.unwrap(), Published::Ours, "{name}");
        assert_eq!(site.publish(&first).await.unwrap(), Published::Ours, "{name}: after a crash");
        let other = clone.segment(1, &["a", "c"]);
        assert_eq!(other.digests.size, first.digests.size, "told apart by content");
        assert_eq!(clone.publish(&other).await.unwrap(), Published::SomebodyElses, "{name}");
        let longer = clone.segment(1, &["a", "b", "something else"]);
        assert_eq!(clone.publish(&longer).await.unwrap(), Published::SomebodyElses, "{name}");
        assert_eq!(clone.read(1).await.unwrap().unwrap(), ["a", "b"], "{name}");

        let second = site.segment(2, &["c"]);
        assert_eq!(site.publish(&second).await.unwrap(), Published::Ours, "{name}");
        let listed = clone.log().segments().await.unwrap();
        let found: Vec<_> = listed.iter().map(|segment| (segment.writer.as_str(), segment.number)).collect();
        assert_eq!(found, [(WRITER, 1), (WRITER, 2)], "{name}");
        assert_eq!(listed[0].size, first.digests.size);
        clone.log().delete(WRITER, &[1, 7]).await.unwrap();
        assert_eq!(clone.log().segments_of(WRITER).await.unwrap().len(), 1, "{name}");
        assert_eq!(clone.read(1).await.unwrap(), None, "{name}");
        drop((first, second, other, longer));
        assert_eq!((site.leftovers(), clone.leftovers()), (0, 0), "{name}");
    }
}

#[tokio::test]
async fn a_lost_answer_does_not_lose_the_segment() {
    let server = S3Server::start();
    let site = Site::new(&Store::from(&server));
    site.bucket.verdict().await.unwrap();
    for (number, fault) in [(1, Fault::LostReply), (2, Fault::LostConnection), (3, Fault::Disconnect)] {
        let segment = site.segment(number, &["a"]);
        server.fault(fault.on(Op::PutObject).key(".seg").next(1)).forever();
        assert_eq!(site.publish(&segment).await.unwrap(), Published::Ours, "{number}");
        server.clear_faults();
    }
    assert_eq!(site.log().segments().await.unwrap().len(), 3);
}

#[tokio::test]
async fn publishing_takes_two_requests_and_looking_one() {
    let server = S3Server::start();
    let site = Site::new(&Store::from(&server));
    site.bucket.verdict().await.unwrap();
    let segment = site.segment(1, &["a"]);
    server.reset_log();
    site.publish(&segment).await.unwrap();
    assert_eq!(server.requests().len(), 2, "{:?}", server.requests());
    server.reset_log();
    assert_eq!(site.log().nodes().await.unwrap(), []);
    assert_eq!(server.requests().len(), 1, "{:?}", server.requests());
    server.reset_log();
    site.read(1).await.unwrap().unwrap();
    assert_eq!(server.requests().len(), 1, "{:?}", server.requests());
}

#[tokio::test]
async fn segments_that_were_moved_cut_or_made_up_are_refused() {
    let server = S3Server::start();
    let site = Site::new(&Store::from(&server));
    let segment = site.segment(1, &["a", "b"]);
    site.publish(&segment).await.unwrap();
    let folder = format!("projects/{CID}/membridge/rows/{WRITER}/");
    let bytes = server.get(&format!("{folder}0000000001.seg")).unwrap();
    server.put(&format!("{folder}0000000002.seg"), &bytes);
    server.put(&format!("{folder}0000000003.seg"), &bytes[..bytes.len() - 1]);
    server.put(&format!("{folder}0000000004.seg"), b"<html>");
    server.put(&format!("{folder}notes.txt"), b"not ours");
    server.put(&format!("projects/{CID}/membridge/rows/somebody/0000000001.seg"), b"not ours");
    for number in [2, 3, 4] {
        let error = site.read(number).await.unwrap_err();
        assert!(error.is_damage(), "{number}: {error}");
        assert!(matches!(
            error,
            LogError::Segment { error: SegmentError::Header(_) | SegmentError::NotASegment, .. }
        ));
    }
    let numbers: Vec<_> = site.log().segments().await.unwrap().iter().map(|segment| segment.number).collect();
    assert_eq!(numbers, [1, 2, 3, 4]);
    assert_eq!(site.leftovers(), 1, "the prepared segment alone");
}

#[tokio::test]
async fn a_node_record_that_did_not_change_is_not_read_again() {
    for subject in [Subject::conforming(), Subject::directory()] {
        let site = Site::new(&subject.store);
        let record = NodeRecord { schema: 1, writer: WRITER.to_owned(), last: 3, ..NodeRecord::default() };
        let etag = site.log().put_node(&record).await.unwrap();
        let [listed] = &site.log().nodes().await.unwrap()[..] else { panic!("{}: one record", subject.name) };
        assert_eq!(listed.writer, WRITER);
        // A directory does not say: it would have to read the file.
        assert!(listed.etag.as_ref().is_none_or(|listed| *listed == etag), "{listed:?} {etag:?}");
        assert_eq!(listed.etag.is_none(), subject.name == "directory");
        assert_eq!(site.log().node(WRITER).await.unwrap().unwrap(), (record.clone(), etag.clone()));
        let changed = NodeRecord { last: 4, ..record };
        assert_ne!(site.log().put_node(&changed).await.unwrap(), etag);
        assert_eq!(site.log().node(&"f".repeat(32)).await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_node_record_that_is_none_is_damage_and_not_an_absence() {
    let server = S3Server::start();
    let site = Site::new(&Store::from(&server));
    let key = format!("projects/{CID}/membridge/nodes/{WRITER}.json");
    for garbage in ["", "{}", "[]", "{\"schema\": 1, \"writer\": \"x\", \"last\": 1}"] {
        server.put(&key, garbage);
        assert!(site.log().node(WRITER).await.unwrap_err().is_damage(), "{garbage}");
    }
}
