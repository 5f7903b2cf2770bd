use std::io::{Cursor, Write};

use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::{Content, Header, PackError, PackReader, PackWriter, apply};
use crate::history::pages::lock_page;

type Pages = Vec<Vec<u8>>;
type Check = fn(&PackError) -> bool;

fn image_hash(pages: &Pages) -> [u8; 32] {
    Sha256::digest(pages.concat()).into()
}

/// A pack of `pages`, of those that differ from `parent` where there is one.
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
            writer.page(pgno, page).unwrap();
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
    apply(&mut reader, &file, |_| {})?;
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

/// A pack put together by hand: what a writer of ours would never write.
fn forged(page_count: u32, records: u32, stream: &[u8], window_log: u32) -> Vec<u8> {
    let head = Header {
        content: Content::Delta([7; 32]),
        page_size: 512,
        page_count,
    }
    .to_bytes();
    let mut bytes = head.clone();
    let mut encoder = zstd::stream::write::Encoder::new(&mut bytes, 1).unwrap();
    encoder.window_log(window_log).unwrap();
    encoder.write_all(stream).unwrap();
    encoder.finish().unwrap();
    let trailer = super::trailer_head(records, &[1; 32]);
    bytes.extend_from_slice(&trailer);
    bytes.extend_from_slice(&Sha256::digest([&head[..], stream, &trailer].concat()));
    bytes.extend_from_slice(b"\nMBPEND\n");
    bytes
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
        ("version", 8, 2, |e| matches!(e, PackError::Version(2))),
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
        writer.page(pgno, &page).unwrap();
    }
    assert_eq!(writer.records(), 3);
    let (bytes, _) = writer.finish([0; 32]).unwrap();
    let file = tempfile::tempfile().unwrap();
    let mut touched = Vec::new();
    let mut reader = PackReader::open(Cursor::new(bytes)).unwrap();
    apply(&mut reader, &file, |pgno| touched.push(pgno)).unwrap();
    assert_eq!(touched, [lock - 1, lock + 1, lock + 2]);
    assert_eq!(file.metadata().unwrap().len(), (1 << 30) + 3 * 65536);
    let mut there = vec![1; 65536];
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut there, 1 << 30).unwrap();
    assert!(there == vec![0; 65536]);
}

#[test]
fn a_large_delta_goes_on_in_a_second_frame() {
    // Contents that do not compress to nothing: more than the first frame takes.
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
