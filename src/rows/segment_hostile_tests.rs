//! Segments as a writer of ours would never write them.

use std::io::Write;

use sha2::{Digest, Sha256};

use super::tests::{header, read, segment};
use super::{Effort, SegmentError};

type Check = fn(&SegmentError) -> bool;

/// A segment put together by hand.
struct Forged {
    json: Vec<u8>,
    body: Vec<u8>,
    lines: u64,
    bytes: u64,
    window_log: u32,
    behind: Vec<u8>,
}

impl Forged {
    fn of(body: &[u8], lines: u64) -> Self {
        let json = serde_json::to_vec(&header()).unwrap();
        let bytes = body.len() as u64;
        Self { json, body: body.to_vec(), lines, bytes, window_log: 20, behind: Vec::new() }
    }

    fn read(&self) -> Result<Vec<Vec<u8>>, SegmentError> {
        let mut bytes = b"MBROWS\r\n\x01\0\0\0".to_vec();
        bytes.extend(u32::try_from(self.json.len()).unwrap().to_le_bytes());
        bytes.extend(&self.json);
        let head = Sha256::digest(&bytes);
        let mut encoder = zstd::stream::write::Encoder::new(&mut bytes, 1).unwrap();
        encoder.window_log(self.window_log).unwrap();
        encoder.write_all(&self.body).unwrap();
        encoder.finish().unwrap();
        bytes.extend(&self.behind);
        let counts = super::counts(self.lines, self.bytes, &head);
        bytes.extend(&counts);
        bytes.extend(Sha256::digest([&self.body[..], &counts].concat()));
        bytes.extend(b"\nMBREND\n");
        read(&bytes)
    }
}

#[test]
fn hostile_bodies_are_refused_for_what_they_are() {
    assert_eq!(Forged::of(b"a\nb\n", 2).read().unwrap(), [b"a", b"b"]);
    let table: [(&str, Forged, Check); 11] = [
        ("more lines", Forged::of(b"a\nb\n", 1), |e| matches!(e, SegmentError::Count { .. })),
        ("fewer lines", Forged::of(b"a\nb\n", 3), |e| matches!(e, SegmentError::Count { .. })),
        ("more bytes", Forged { bytes: 3, ..Forged::of(b"a\nb\n", 2) }, |e| {
            matches!(e, SegmentError::Count { .. })
        }),
        ("fewer bytes", Forged { bytes: 5, ..Forged::of(b"a\nb\n", 2) }, |e| {
            matches!(e, SegmentError::Count { .. })
        }),
        ("no end of the last line", Forged::of(b"a\nb", 2), |e| matches!(e, SegmentError::NotALine(2))),
        ("an empty line", Forged::of(b"a\n\n", 2), |e| matches!(e, SegmentError::NotALine(2))),
        ("an endless line", Forged::of(&vec![b'x'; 1 << 26], 1), |e| matches!(e, SegmentError::LongLine(1))),
        ("too many lines", Forged::of(&b"a\n".repeat((1 << 20) + 1), (1 << 20) + 1), |e| {
            matches!(e, SegmentError::TooMuch)
        }),
        (
            "a second frame",
            Forged { behind: zstd::encode_all(&b"b\n"[..], 1).unwrap(), ..Forged::of(b"a\n", 1) },
            |e| matches!(e, SegmentError::NotASegment | SegmentError::Count { .. }),
        ),
        (
            "a window that needs much memory",
            Forged { window_log: 27, ..Forged::of(&b"a\n".repeat(1 << 20), 1 << 20) },
            |e| matches!(e, SegmentError::Compression(_)),
        ),
        ("a header without end", Forged { json: b"{\"schema\": 1".to_vec(), ..Forged::of(b"a\n", 1) }, |e| {
            matches!(e, SegmentError::Header(_))
        }),
    ];
    for (name, forged, check) in table {
        let error = forged.read().unwrap_err();
        assert!(check(&error), "{name}: {error:?}");
    }
}

/// A reader stops at the limit, whatever is still to come.
#[test]
fn a_bomb_is_read_up_to_the_limit() {
    let line = [&vec![b'x'; (1 << 24) - 1][..], b"\n"].concat();
    let mut bytes = segment(&[], Effort::Usual);
    bytes.truncate(16 + u32::from_le_bytes(bytes[12..16].try_into().unwrap()) as usize);
    let mut encoder = zstd::stream::write::Encoder::new(&mut bytes, 1).unwrap();
    encoder.window_log(20).unwrap();
    for _ in 0..17 {
        encoder.write_all(&line).unwrap();
    }
    encoder.finish().unwrap();
    assert!(matches!(read(&bytes), Err(SegmentError::TooMuch)));
}

#[test]
fn every_field_around_the_body_is_checked() {
    let whole = segment(&[b"{}", b"{}"], Effort::Usual);
    let end = whole.len();
    let table: [(&str, usize, Check); 10] = [
        ("magic", 0, |e| matches!(e, SegmentError::NotASegment)),
        ("version", 8, |e| matches!(e, SegmentError::Version(0))),
        ("reserved", 10, |e| matches!(e, SegmentError::Field("reserved field"))),
        ("header's length", 14, |e| matches!(e, SegmentError::NotASegment | SegmentError::Header(_))),
        ("header's length", 15, |e| matches!(e, SegmentError::Field("header's length"))),
        ("header", 20, |e| matches!(e, SegmentError::Header(_))),
        ("lines", end - 88, |e| matches!(e, SegmentError::Count { .. })),
        ("checksum of the head", end - 72, |e| matches!(e, SegmentError::Checksum)),
        ("checksum of the body", end - 40, |e| matches!(e, SegmentError::Checksum)),
        ("end mark", end - 1, |e| matches!(e, SegmentError::NotASegment)),
    ];
    for (name, at, check) in table {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        let error = read(&bytes).unwrap_err();
        assert!(check(&error), "{name}: {error:?}");
    }
    for length in 0..end {
        assert!(read(&whole[..length]).is_err(), "cut at {length}");
    }
    for at in 0..end {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        // zstd's own header has a bit or two that change nothing.
        assert!(read(&bytes).map_or(true, |lines| lines == [b"{}", b"{}"]), "flipped at {at}");
    }
}

#[test]
fn headers_that_decisions_cannot_rest_on_are_refused() {
    let with = |field: &str, value: serde_json::Value| {
        let mut header = serde_json::to_value(header()).unwrap();
        header[field] = value;
        Forged { json: serde_json::to_vec(&header).unwrap(), ..Forged::of(b"a\n", 1) }.read()
    };
    assert!(with("a field of the future", serde_json::json!({"deep": [1]})).is_ok());
    assert!(matches!(with("schema", 2.into()), Err(SegmentError::Schema(2))));
    let fold = serde_json::json!({"first": 1, "last": 6});
    let table = [
        ("writer", serde_json::json!("../../x")),
        ("writer", serde_json::json!(7)),
        ("number", serde_json::json!(0)),
        ("number", serde_json::json!(-1)),
        ("kind", serde_json::json!("other")),
        ("kind", serde_json::json!("base")),
        ("covers", fold),
        ("part", serde_json::json!(0)),
        ("part", serde_json::json!(2)),
        ("parts", serde_json::json!(null)),
        ("previous", serde_json::json!("AB")),
        ("host", serde_json::json!("x".repeat(1025))),
        ("rows", serde_json::json!({"x".repeat(1025): 1})),
        ("seen", serde_json::json!({"x": 1})),
        ("seen", serde_json::Value::Object((0..4097).map(|n| (format!("{n:032x}"), 1.into())).collect())),
    ];
    for (field, value) in table {
        let error = with(field, value.clone()).unwrap_err();
        assert!(
            matches!(error, SegmentError::Header(_) | SegmentError::Field(_)),
            "{field} {value}: {error:?}"
        );
    }
}

#[test]
fn what_a_fold_stands_for_lies_before_it() {
    let fold = |number: u64, part: u32, parts: Option<u32>, first: u64, last: u64| {
        let mut header = serde_json::to_value(header()).unwrap();
        let covers = serde_json::json!({"first": first, "last": last});
        for (field, value) in [
            ("kind", "fold".into()),
            ("number", number.into()),
            ("part", part.into()),
            ("parts", serde_json::json!(parts)),
            ("covers", covers),
        ] {
            header[field] = value;
        }
        Forged { json: serde_json::to_vec(&header).unwrap(), ..Forged::of(b"a\n", 1) }.read().is_ok()
    };
    for (number, part, parts, first, last, sound) in [
        (17, 1, Some(1), 1, 16, true),
        (17, 1, None, 1, 16, true),
        (18, 2, Some(2), 1, 16, true),
        (1, 1, Some(1), 1, 0, true),
        (17, 1, Some(1), 1, 17, false),
        (18, 2, Some(2), 1, 17, false),
        (2, 3, Some(3), 1, 1, false),
        (17, 1, Some(1), 0, 16, false),
        (17, 1, Some(1), 9, 7, false),
        (17, 1, Some(3), 1, 16, false),
    ] {
        assert_eq!(fold(number, part, parts, first, last), sound, "{number} {part} {parts:?} {first} {last}");
    }
}
