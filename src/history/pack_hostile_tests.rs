//! Packs as a writer of ours would never write them.

use std::io::Write;

use sha2::{Digest, Sha256};

use super::tests::{Pages, apply_to, pack};
use super::{Content, Header, PackError};
use crate::history::pages::lock_page;

type Check = fn(&PackError) -> bool;

/// A delta put together by hand, of a version and with groups (references, records) as a writer of ours would never
/// write them. Version 1 has one group without references.
fn forge(version: u8, page_count: u32, records: u32, groups: &[(&[u32], &[u8])], window_log: u32) -> Vec<u8> {
    let mut head = Header { content: Content::Delta([7; 32].into()), page_size: 512, page_count }.to_bytes();
    head[8] = version;
    let (mut bytes, mut checked) = (head.clone(), head);
    for (references, stream) in groups {
        let mut numbers = Vec::new();
        if version == 2 {
            numbers = u32::try_from(references.len()).unwrap().to_le_bytes().to_vec();
            references.iter().for_each(|number| numbers.extend(number.to_le_bytes()));
        }
        let before = BEFORE[..512].repeat(references.len());
        bytes.extend_from_slice(&numbers);
        let mut encoder = zstd::stream::write::Encoder::with_ref_prefix(&mut bytes, 1, &before).unwrap();
        encoder.window_log(window_log).unwrap();
        encoder.write_all(stream).unwrap();
        encoder.finish().unwrap();
        checked.extend_from_slice(&[&numbers, *stream].concat());
    }
    let trailer = super::trailer_head(records, [1; 32].into());
    bytes.extend_from_slice(&trailer);
    bytes.extend_from_slice(&Sha256::digest([&checked[..], &trailer].concat()));
    bytes.extend_from_slice(b"\nMBPEND\n");
    bytes
}

/// The image that forged packs are applied to.
const BEFORE: [u8; 2048] = [6; 2048];

/// The delta of an early build.
fn forged(page_count: u32, records: u32, stream: &[u8], window_log: u32) -> Vec<u8> {
    forge(1, page_count, records, &[(&[], stream)], window_log)
}

#[test]
fn a_delta_of_an_early_build_is_read() {
    let two = [record(2), record(3)].concat();
    let image = apply_to(&BEFORE, &forged(4, 2, &two, 20)).unwrap();
    assert!(image[..512] == BEFORE[..512] && image[512..1536] == [5; 1024]);
}

#[test]
fn hostile_groups_are_refused_for_what_they_are() {
    let two = [record(2), record(3)].concat();
    let (second, third) = (record(2), record(3));
    let mut good = forge(2, 4, 2, &[(&[2], &second), (&[3, 4], &third)], 20);
    assert!(apply_to(&BEFORE, &good).unwrap()[512..1536] == [5; 1024]);
    let refuse = |name: &str, bytes: &[u8], check: Check| {
        let error = apply_to(&BEFORE, bytes).unwrap_err();
        assert!(check(&error), "{name}: {error:?}");
    };
    let one = |references: &[u32], stream: &[u8]| forge(2, 4, 2, &[(references, stream)], 20);
    let table: [(&str, Vec<u8>, Check); 11] = [
        ("page zero", one(&[0], &two), |e| matches!(e, PackError::OutOfRange { pgno: 0, .. })),
        ("behind the image", one(&[5], &two), |e| matches!(e, PackError::OutOfRange { pgno: 5, .. })),
        ("behind the parent", forge(2, 9, 2, &[(&[9], &two)], 20), |e| matches!(e, PackError::Reference(9))),
        ("the page of the locks", forge(2, u32::MAX - 1, 2, &[(&[lock_page(512)], &two)], 20), |e| {
            matches!(e, PackError::OutOfRange { .. })
        }),
        ("twice", one(&[2, 2], &two), |e| matches!(e, PackError::NotAscending { .. })),
        ("a page that was replaced", forge(2, 4, 2, &[(&[], &second), (&[2], &third)], 20), |e| {
            matches!(e, PackError::NotAscending { pgno: 2, after: 2 })
        }),
        ("too many", one(&vec![1; 4097], &two), |e| matches!(e, PackError::Field("number of references"))),
        ("an empty group", one(&[], &[]), |e| matches!(e, PackError::Field("group's size"))),
        ("a bomb", one(&[], &vec![1; 1 << 26]), |e| matches!(e, PackError::Field("group's size"))),
        ("half a record", one(&[], &two[..600]), |e| matches!(e, PackError::NotAPack)),
        ("a window that needs much memory", forge(2, 4, 2, &[(&[], &two.repeat(20_000))], 27), |e| {
            matches!(e, PackError::Compression(_))
        }),
    ];
    for (name, bytes, check) in table {
        refuse(name, &bytes, check);
    }
    // The numbers of the references are covered by the checksum too.
    let at = 56 + 4;
    good[at] = 1;
    refuse("another reference", &good, |e| matches!(e, PackError::Checksum));
    let mut full = pack(&vec![vec![1; 512]; 3], None);
    full[8] = 2;
    refuse("a full pack of groups", &full, |e| matches!(e, PackError::Field("kind")));
}

fn record(pgno: u32) -> Vec<u8> {
    [&pgno.to_le_bytes()[..], &[5; 512]].concat()
}

#[test]
fn hostile_packs_are_refused_for_what_they_are() {
    let two = [record(2), record(3)].concat();
    assert_eq!(apply_to(&[0; 2048], &forged(4, 2, &two, 20)).unwrap().len(), 2048);
    let table: [(&str, Vec<u8>, Check); 12] = [
        ("page zero", forged(4, 1, &record(0), 20), |e| matches!(e, PackError::OutOfRange { pgno: 0, .. })),
        ("behind the end", forged(4, 1, &record(5), 20), |e| {
            matches!(e, PackError::OutOfRange { pgno: 5, .. })
        }),
        ("the page of the locks", forged(u32::MAX - 1, 1, &record(lock_page(512)), 20), |e| {
            matches!(e, PackError::OutOfRange { .. })
        }),
        ("twice", forged(4, 2, &[record(2), record(2)].concat(), 20), |e| {
            matches!(e, PackError::NotAscending { .. })
        }),
        ("backwards", forged(4, 2, &[record(3), record(2)].concat(), 20), |e| {
            matches!(e, PackError::NotAscending { .. })
        }),
        ("more announced than the image has", forged(4, 9, &two, 20), |e| {
            matches!(e, PackError::Count { .. })
        }),
        ("more than announced", forged(4, 1, &two, 20), |e| matches!(e, PackError::Count { .. })),
        ("less than announced", forged(4, 3, &two, 20), |e| {
            matches!(e, PackError::Count { announced: 3, found: 2 })
        }),
        ("half a record", forged(4, 2, &two[..600], 20), |e| matches!(e, PackError::NotAPack)),
        ("a bomb", forged(4, 4, &vec![1; 1 << 26], 20), |e| matches!(e, PackError::OutOfRange { .. })),
        ("a window that needs much memory", forged(4, 2, &two.repeat(20_000), 27), |e| {
            matches!(e, PackError::Compression(_))
        }),
        ("a page count that SQLite cannot have", forged(u32::MAX, 2, &two, 20), |e| {
            matches!(e, PackError::Field("page count"))
        }),
    ];
    for (name, bytes, check) in table {
        let error = apply_to(&[0; 2048], &bytes).unwrap_err();
        assert!(check(&error), "{name}: {error:?}");
    }
}

#[test]
fn every_field_of_the_header_is_checked() {
    let image: Pages = vec![vec![1; 512]; 3];
    let whole = pack(&image, None);
    let table: [(&str, usize, u8, Check); 9] = [
        ("magic", 0, b'X', |e| matches!(e, PackError::NotAPack)),
        ("version", 8, 3, |e| matches!(e, PackError::Version(3))),
        ("kind", 10, 3, |e| matches!(e, PackError::Field("kind"))),
        ("reserved", 11, 1, |e| matches!(e, PackError::Field("reserved field"))),
        ("page size", 12, 1, |e| matches!(e, PackError::Field("page size"))),
        ("page size", 14, 3, |e| matches!(e, PackError::Field("page size"))),
        ("page count", 16, 4, |e| matches!(e, PackError::Count { announced: 4, found: 3 })),
        ("reserved", 20, 1, |e| matches!(e, PackError::Field("reserved field"))),
        ("a parent in a full pack", 24, 1, |e| matches!(e, PackError::Field("kind"))),
    ];
    for (name, at, value, check) in table {
        let mut bytes = whole.clone();
        bytes[at] = value;
        let error = apply_to(&[], &bytes).unwrap_err();
        assert!(check(&error), "{name}: {error:?}");
    }
    let mut bytes = whole.clone();
    for (name, from_the_end) in [("checksum", 8 + 1), ("image", 8 + 32 + 1)] {
        bytes.copy_from_slice(&whole);
        let at = bytes.len() - from_the_end;
        bytes[at] ^= 1;
        assert!(matches!(apply_to(&[], &bytes), Err(PackError::Checksum)), "{name}");
    }
    for length in 0..whole.len() {
        assert!(apply_to(&[], &whole[..length]).is_err(), "cut at {length}");
    }
}
