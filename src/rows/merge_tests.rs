//! Segments of records, folded.

use std::io::Write;

use serde_json::json;

use super::{Merge, MergeError};
use crate::rows::segment::tests::header as segment_header;
use crate::rows::segment::{Effort, SegmentReader, SegmentWriter};
use crate::seal::{Place, Seal, Sealed};
use crate::sum::Sum;

fn line(table: &str, uid: u8, ms: i64, deleted: bool) -> Vec<u8> {
    let uid = format!("{uid:032x}");
    let mut record = json!({
        "table": table, "uid": uid, "stamp": [ms, 0, "0123456789abcdef0123456789abcdef"], "key": uid, "born": 1,
        "unknown": "kept as it is",
    });
    if deleted {
        record["deleted"] = true.into();
    } else {
        record["content"] = json!({"columns": {"title": ms}});
    }
    serde_json::to_vec(&record).unwrap()
}

fn segment(number: u64, lines: &[Vec<u8>]) -> SegmentReader {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = SegmentWriter::new(folder.path(), Effort::Usual).unwrap();
    for line in lines {
        writer.line(line).unwrap();
    }
    let header = crate::rows::header::Header { number, ..segment_header() };
    let prepared = writer.finish(header, &Seal::Off, [0; 32]).unwrap();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&std::fs::read(&prepared.path).unwrap()).unwrap();
    let place = Place::Segment { writer: "", number };
    let sealed = Sealed::from_bucket(file);
    let opened =
        Seal::Off.open_file(sealed, Sum::of(""), "6fe2e0f6071ac2bb", place, || unreachable!()).unwrap();
    SegmentReader::proved(opened).unwrap()
}

#[test]
fn each_row_comes_once_in_its_newest_version_parents_first_deletions_last() {
    let (session, row) = ("sdk_sessions", "observations");
    let segments = vec![
        segment(1, &[line(session, 1, 10, false), line(row, 2, 10, false), line(row, 3, 10, false)]),
        segment(2, &[line(row, 4, 20, false), line(row, 2, 30, true)]),
        // A session edited later, an older version that comes later, a session that goes with its row.
        segment(
            3,
            &[
                line(session, 1, 40, false),
                line(row, 3, 5, false),
                line(session, 5, 50, true),
                line(row, 6, 50, true),
            ],
        ),
    ];
    let merge = Merge::new(segments).unwrap();
    let mut given = Vec::new();
    merge
        .each(|_, line| {
            given.push(line.to_vec());
            Ok::<(), MergeError>(())
        })
        .unwrap();
    let expected = [
        line(session, 1, 40, false),
        line(row, 3, 10, false),
        line(row, 4, 20, false),
        line(row, 2, 30, true),
        line(row, 6, 50, true),
        line(session, 5, 50, true),
    ];
    assert_eq!(given, expected);
}

#[test]
fn what_is_no_record_stops_the_folding() {
    let segments = vec![segment(1, &[line("observations", 1, 1, false)]), segment(2, &[b"{}".to_vec()])];
    let error = Merge::new(segments).err().unwrap();
    assert!(matches!(error, MergeError::Record { number: 2, .. }), "{error}");
}
