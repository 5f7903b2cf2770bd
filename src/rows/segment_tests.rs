//! Segments as our writer writes them.

use std::collections::BTreeMap;
use std::io::{Cursor, Read, Write};

use super::{BODY_TARGET, Effort, LINE_LIMIT, SegmentError, SegmentReader, SegmentWriter, TARGET};
use crate::rows::header::{Header, Kind, SCHEMA};
use crate::seal::{Place, Seal, Sealed};
use crate::sum::Sum;

pub(super) const WRITER: &str = "0123456789abcdef0123456789abcdef";

pub(crate) fn header() -> Header {
    Header {
        schema: SCHEMA,
        project: "6fe2e0f6071ac2bb".to_owned(),
        writer: WRITER.to_owned(),
        number: 7,
        kind: Kind::Rows,
        part: 1,
        parts: Some(1),
        covers: None,
        node_id: "alpha".to_owned(),
        host: "pi".to_owned(),
        claude_mem_version: Some("13.25.3".to_owned()),
        schema_version: Some(36),
        membridge_version: "0.2.0".to_owned(),
        time: "2026-01-02T03:04:05+00:00".to_owned(),
        rows: BTreeMap::from([("observations".to_owned(), 2)]),
        deleted: BTreeMap::new(),
        previous: Some([0xab; 32].into()),
        largest_stamp: None,
        seen: BTreeMap::from([("f".repeat(32), 3)]),
        token: "t".repeat(32),
    }
}

/// The bytes of a segment with these lines.
pub(super) fn segment(lines: &[&[u8]], effort: Effort) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = SegmentWriter::new(folder.path(), effort).unwrap();
    for line in lines {
        writer.line(line).unwrap();
    }
    assert_eq!(writer.lines(), lines.len() as u64);
    let prepared = writer.finish(header(), &Seal::Off, [0; 32]).unwrap();
    std::fs::read(&prepared.path).unwrap()
}

pub(super) fn read(bytes: &[u8]) -> Result<Vec<Vec<u8>>, SegmentError> {
    lines(SegmentReader::begin(Cursor::new(bytes))?)
}

fn lines(mut reader: SegmentReader<impl Read>) -> Result<Vec<Vec<u8>>, SegmentError> {
    let (mut lines, mut line) = (Vec::new(), Vec::new());
    while reader.next_line(&mut line)? {
        lines.push(line.clone());
    }
    Ok(lines)
}

#[test]
fn lines_come_out_as_they_went_in() {
    let long = vec![b'x'; 300_000];
    for effort in [Effort::Usual, Effort::Base] {
        for given in [&[][..], &[b"{}".as_slice()], &[b"a", b"\xff\x00", &long, b"last"]] {
            let bytes = segment(given, effort);
            assert_eq!(read(&bytes).unwrap(), given);
            assert_eq!(SegmentReader::begin(&bytes[..]).unwrap().prove().unwrap(), given.len() as u64);
        }
    }
}

#[test]
fn a_proved_segment_stands_at_its_first_line() {
    let bytes = segment(&[b"a", b"b"], Effort::Usual);
    let opened = |bytes: &[u8]| {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        let (sum, place) = (Sum::of(bytes), Place::Segment { writer: WRITER, number: 7 });
        let none = || unreachable!("it is not sealed");
        Seal::Off.open_file(Sealed::from_bucket(file), sum, "6fe2e0f6071ac2bb", place, none).unwrap()
    };
    let reader = SegmentReader::proved(opened(&bytes)).unwrap();
    assert_eq!(reader.header, header());
    assert_eq!(lines(reader).unwrap(), [b"a", b"b"]);
    let cut = SegmentReader::proved(opened(&bytes[..bytes.len() - 1]));
    assert!(matches!(cut.err(), Some(SegmentError::NotASegment)), "before the first line is given out");
}

#[test]
fn a_prepared_segment_is_private_and_its_digests_are_those_of_the_file() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let mut writer = SegmentWriter::new(&folder.path().join("ours"), Effort::Usual).unwrap();
    writer.line(b"{}").unwrap();
    let prepared = writer.finish(header(), &Seal::Off, [0; 32]).unwrap();
    assert_eq!(prepared.digests, crate::storage::Digests::of_file(&prepared.path).unwrap());
    assert_eq!(std::fs::metadata(&prepared.path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!((prepared.lines, prepared.header), (1, header()));
    let path = prepared.path.to_path_buf();
    drop(prepared.path);
    assert!(!path.exists());
}

#[test]
fn what_no_reader_would_take_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = SegmentWriter::new(folder.path(), Effort::Usual).unwrap();
    assert!(matches!(writer.line(b""), Err(SegmentError::NotALine(1))));
    assert!(matches!(writer.line(b"a\nb"), Err(SegmentError::NotALine(1))));
    assert!(matches!(writer.line(&vec![b'x'; LINE_LIMIT]), Err(SegmentError::LongLine(1))));
    writer.line(b"{}").unwrap();
    let other = Header { writer: "../alpha".to_owned(), ..header() };
    assert!(matches!(writer.finish(other, &Seal::Off, [0; 32]), Err(SegmentError::Header(_))));
}

#[test]
fn a_segment_is_full_before_it_is_too_large() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = SegmentWriter::new(folder.path(), Effort::Usual).unwrap();
    assert!(writer.fits(LINE_LIMIT), "the first line always fits");
    let mut noise = 1_u64;
    let mut line = vec![0_u8; 60_000];
    while writer.fits(line.len()) {
        for byte in &mut line {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = noise.to_le_bytes()[4] | 0x80;
        }
        writer.line(&line).unwrap();
    }
    let prepared = writer.finish(header(), &Seal::Off, [0; 32]).unwrap();
    assert!((TARGET - 500_000..=TARGET).contains(&prepared.digests.size), "{}", prepared.digests.size);

    let mut writer = SegmentWriter::new(folder.path(), Effort::Usual).unwrap();
    let line = vec![b'x'; 1 << 20];
    while writer.fits(line.len()) {
        writer.line(&line).unwrap();
    }
    assert!(writer.lines() <= BODY_TARGET >> 20, "however well it packs: {}", writer.lines());
}
