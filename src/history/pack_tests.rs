use std::collections::BTreeSet;
use std::io::{Cursor, Write};

use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::{Content, Header, Orphan, PackError, PackReader, PackWriter, apply};
use crate::history::pages::lock_page;

type Pages = Vec<Vec<u8>>;
type Check = fn(&PackError) -> bool;

fn image_hash(pages: &Pages) -> [u8; 32] {
    Sha256::digest(pages.concat()).into()
}

/// A pack of `pages`, of those that differ from `parent` where there is one. Every other page of it is referred to.
fn pack(pages: &Pages, parent: Option<&Pages>) -> Vec<u8> {
    let header = Header {
        content: parent.map_or(Content::Full, |parent| Content::Delta(image_hash(parent))),
        page_size: u32::try_from(pages[0].len()).unwrap(),
        page_count: u32::try_from(pages.len()).unwrap(),
    };
    let mut writer = PackWriter::new(Vec::new(), header).unwrap();
    for (pgno, page) in (1..).zip(pages) {
        let known = parent.and_then(|parent| parent.get(pgno as usize - 1));
        if known != Some(page) {
            let before = known.filter(|_| pgno % 2 == 0);
            writer.page(pgno, page, before.map(Vec::as_slice)).unwrap();
        }
    }
    let (bytes, digests) = writer.finish(image_hash(pages)).unwrap();
    assert_eq!(digests.size, bytes.len() as u64);
    assert_eq!(digests.sha256, crate::context::hex(&Sha256::digest(&bytes)));
    bytes
}

fn apply_to(base: &[u8], pack: &[u8]) -> Result<Vec<u8>, PackError> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(base).unwrap();
    let mut reader = PackReader::open(Cursor::new(pack))?;
    apply(&mut reader, &file, &mut BTreeSet::new())?;
    std::io::Seek::rewind(&mut file).unwrap();
    let mut image = Vec::new();
    std::io::Read::read_to_end(&mut file, &mut image).unwrap();
    Ok(image)
}

/// Pages of few different contents, so that deltas are partial.
fn pages(max: usize) -> impl Strategy<Value = Pages> {
    prop::collection::vec(0_u8..4, 1..max).prop_map(|fills| {
        fills
            .iter()
            .map(|fill| (0..512).map(|at| if at % 7 == 0 { *fill } else { 9 }).collect())
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn a_full_pack_and_its_deltas_bring_every_image_back(images in prop::collection::vec(pages(40), 1..5)) {
        let mut file = b"whatever was there".repeat(100);
        let mut before: Option<&Pages> = None;
        for image in &images {
            file = apply_to(&file, &pack(image, before)).unwrap();
            prop_assert!(file == image.concat());
            before = Some(image);
        }
    }

    #[test]
    fn a_changed_pack_is_refused_or_means_the_same(
        image in pages(30),
        delta in any::<bool>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut base = image.clone();
        base.truncate(base.len() / 2 + 1);
        let whole = if delta { pack(&image, Some(&base)) } else { pack(&image, None) };
        let mut bytes = whole.clone();
        for (at, value) in changes {
            *at.get_mut(&mut bytes) = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(got) = apply_to(&base.concat(), &bytes) {
            // What is left to change: bits that zstd does not look at.
            prop_assert!(got == image.concat());
        }
    }

    #[test]
    fn bytes_of_no_sense_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(apply_to(&[], &bytes).is_err());
    }
}

/// A delta put together by hand, of a version and with groups (references, records) as a writer of ours would never
/// write them. Version 1 has one group without references.
fn forge(version: u8, page_count: u32, records: u32, groups: &[(&[u32], &[u8])], window_log: u32) -> Vec<u8> {
    let mut head = Header {
        content: Content::Delta([7; 32]),
        page_size: 512,
        page_count,
    }
    .to_bytes();
    head[8] = version;
    let (mut bytes, mut checked) = (head.clone(), head);
    for (references, stream) in groups {
        let mut numbers = Vec::new();
        if version == 2 {
            numbers = u32::try_from(references.len()).unwrap().to_le_bytes().to_vec();
            references
                .iter()
                .for_each(|number| numbers.extend(number.to_le_bytes()));
        }
        let before = BEFORE[..512].repeat(references.len());
        bytes.extend_from_slice(&numbers);
        let mut encoder = zstd::stream::write::Encoder::with_ref_prefix(&mut bytes, 1, &before).unwrap();
        encoder.window_log(window_log).unwrap();
        encoder.write_all(stream).unwrap();
        encoder.finish().unwrap();
        checked.extend_from_slice(&[&numbers, *stream].concat());
    }
    let trailer = super::trailer_head(records, &[1; 32]);
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
fn a_page_is_described_by_what_it_was() {
    // Nothing zstd could shorten: a small pack is one that took the bytes from the parent.
    let noise = |salt: u8| -> Vec<u8> { (0..128_u8).flat_map(|n| Sha256::digest([n, salt])).collect() };
    let before: Pages = (0..8).map(noise).collect();
    let mut after = before.clone();
    for (at, page) in after.iter_mut().enumerate().skip(1) {
        page.splice(100 + at..100 + at, *b"new");
        page.truncate(4096);
    }
    // Pages 2, 4, 6 and 8 are referred to, 3, 5 and 7 are whole.
    let bytes = pack(&after, Some(&before));
    assert!(
        (3 * 4096..3 * 4096 + 700).contains(&bytes.len()),
        "{}",
        bytes.len()
    );
    assert!(apply_to(&before.concat(), &bytes).unwrap() == after.concat());

    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&before.concat()).unwrap();
    for (drifted, fits) in [(3, true), (4, false)] {
        let mut reader = PackReader::open(Cursor::new(&bytes)).unwrap();
        let mut drifted = BTreeSet::from([drifted]);
        match apply(&mut reader, &file, &mut drifted) {
            Ok(()) => assert!(fits && drifted.is_empty()),
            Err(error) => assert!(!fits && matches!(error, PackError::Reference(4)), "{error}"),
        }
        file.set_len(0).unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        file.write_all(&before.concat()).unwrap();
    }
    let mut reader = PackReader::open(Cursor::new(&bytes)).unwrap();
    let refused = reader.next_page(&mut Vec::new(), &Orphan).unwrap_err();
    assert!(matches!(refused, PackError::Reference(2)), "{refused}");
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
        ("page zero", one(&[0], &two), |e| {
            matches!(e, PackError::OutOfRange { pgno: 0, .. })
        }),
        ("behind the image", one(&[5], &two), |e| {
            matches!(e, PackError::OutOfRange { pgno: 5, .. })
        }),
        ("behind the parent", forge(2, 9, 2, &[(&[9], &two)], 20), |e| {
            matches!(e, PackError::Reference(9))
        }),
        (
            "the page of the locks",
            forge(2, u32::MAX - 1, 2, &[(&[lock_page(512)], &two)], 20),
            |e| matches!(e, PackError::OutOfRange { .. }),
        ),
        ("twice", one(&[2, 2], &two), |e| {
            matches!(e, PackError::NotAscending { .. })
        }),
        (
            "a page that was replaced",
            forge(2, 4, 2, &[(&[], &second), (&[2], &third)], 20),
            |e| matches!(e, PackError::NotAscending { pgno: 2, after: 2 }),
        ),
        ("too many", one(&vec![1; 4097], &two), |e| {
            matches!(e, PackError::Field("number of references"))
        }),
        ("an empty group", one(&[], &[]), |e| {
            matches!(e, PackError::Field("group's size"))
        }),
        ("a bomb", one(&[], &vec![1; 1 << 26]), |e| {
            matches!(e, PackError::Field("group's size"))
        }),
        ("half a record", one(&[], &two[..600]), |e| {
            matches!(e, PackError::NotAPack)
        }),
        (
            "a window that needs much memory",
            forge(2, 4, 2, &[(&[], &two.repeat(20_000))], 27),
            |e| matches!(e, PackError::Compression(_)),
        ),
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
    refuse("a full pack of groups", &full, |e| {
        matches!(e, PackError::Field("kind"))
    });
}

fn record(pgno: u32) -> Vec<u8> {
    [&pgno.to_le_bytes()[..], &[5; 512]].concat()
}

#[test]
fn hostile_packs_are_refused_for_what_they_are() {
    let two = [record(2), record(3)].concat();
    assert_eq!(apply_to(&[0; 2048], &forged(4, 2, &two, 20)).unwrap().len(), 2048);
    let table: [(&str, Vec<u8>, Check); 12] = [
        ("page zero", forged(4, 1, &record(0), 20), |e| {
            matches!(e, PackError::OutOfRange { pgno: 0, .. })
        }),
        ("behind the end", forged(4, 1, &record(5), 20), |e| {
            matches!(e, PackError::OutOfRange { pgno: 5, .. })
        }),
        (
            "the page of the locks",
            forged(u32::MAX - 1, 1, &record(lock_page(512)), 20),
            |e| matches!(e, PackError::OutOfRange { .. }),
        ),
        ("twice", forged(4, 2, &[record(2), record(2)].concat(), 20), |e| {
            matches!(e, PackError::NotAscending { .. })
        }),
        (
            "backwards",
            forged(4, 2, &[record(3), record(2)].concat(), 20),
            |e| matches!(e, PackError::NotAscending { .. }),
        ),
        ("more announced than the image has", forged(4, 9, &two, 20), |e| {
            matches!(e, PackError::Count { .. })
        }),
        ("more than announced", forged(4, 1, &two, 20), |e| {
            matches!(e, PackError::Count { .. })
        }),
        ("less than announced", forged(4, 3, &two, 20), |e| {
            matches!(
                e,
                PackError::Count {
                    announced: 3,
                    found: 2
                }
            )
        }),
        ("half a record", forged(4, 2, &two[..600], 20), |e| {
            matches!(e, PackError::NotAPack)
        }),
        ("a bomb", forged(4, 4, &vec![1; 1 << 26], 20), |e| {
            matches!(e, PackError::OutOfRange { .. })
        }),
        (
            "a window that needs much memory",
            forged(4, 2, &two.repeat(20_000), 27),
            |e| matches!(e, PackError::Compression(_)),
        ),
        (
            "a page count that SQLite cannot have",
            forged(u32::MAX, 2, &two, 20),
            |e| matches!(e, PackError::Field("page count")),
        ),
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
        ("reserved", 11, 1, |e| {
            matches!(e, PackError::Field("reserved field"))
        }),
        ("page size", 12, 1, |e| matches!(e, PackError::Field("page size"))),
        ("page size", 14, 3, |e| matches!(e, PackError::Field("page size"))),
        ("page count", 16, 4, |e| {
            matches!(
                e,
                PackError::Count {
                    announced: 4,
                    found: 3
                }
            )
        }),
        ("reserved", 20, 1, |e| {
            matches!(e, PackError::Field("reserved field"))
        }),
        ("a parent in a full pack", 24, 1, |e| {
            matches!(e, PackError::Field("kind"))
        }),
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
        assert!(
            matches!(apply_to(&[], &bytes), Err(PackError::Checksum)),
            "{name}"
        );
    }
    for length in 0..whole.len() {
        assert!(apply_to(&[], &whole[..length]).is_err(), "cut at {length}");
    }
}

#[test]
fn the_page_of_the_locks_is_left_out_and_stays_empty() {
    let lock = lock_page(65536);
    let header = Header {
        content: Content::Delta([3; 32]),
        page_size: 65536,
        page_count: lock + 2,
    };
    let mut writer = PackWriter::new(Vec::new(), header).unwrap();
    let page = vec![8; 65536];
    for pgno in [lock - 1, lock, lock + 1, lock + 2] {
        writer.page(pgno, &page, None).unwrap();
    }
    assert_eq!(writer.records(), 3);
    let (bytes, _) = writer.finish([0; 32]).unwrap();
    let file = tempfile::tempfile().unwrap();
    let mut drifted = BTreeSet::from([lock - 2, lock - 1, lock, lock + 1, lock + 2]);
    let mut reader = PackReader::open(Cursor::new(bytes)).unwrap();
    apply(&mut reader, &file, &mut drifted).unwrap();
    assert_eq!(drifted, BTreeSet::from([lock - 2, lock]));
    assert_eq!(file.metadata().unwrap().len(), (1 << 30) + 3 * 65536);
    let mut there = vec![1; 65536];
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut there, 1 << 30).unwrap();
    assert!(there == vec![0; 65536]);
}

#[test]
fn a_large_delta_goes_on_in_a_second_group() {
    // Contents that do not compress to nothing: more than the first group takes.
    let pages = |salt: u32| -> Pages {
        (0..600_u32)
            .map(|n| {
                let seed = Sha256::digest([n.to_le_bytes(), salt.to_le_bytes()].concat());
                seed.repeat(4096 / 32)
            })
            .collect()
    };
    let (before, after) = (pages(1), pages(2));
    let delta = pack(&after, Some(&before));
    let magic = 0xFD2F_B528_u32.to_le_bytes();
    let frames = delta.windows(4).filter(|bytes| *bytes == magic).count();
    assert!(frames >= 2, "{frames}");
    assert!(apply_to(&before.concat(), &delta).unwrap() == after.concat());
}
