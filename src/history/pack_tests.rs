use std::io::{Cursor, Write};

use proptest::prelude::*;

use crate::failpoint::cases;
use crate::sum::Sum;
use sha2::{Digest, Sha256};

use super::{Content, Header, Orphan, PackError, PackReader, PackWriter, apply};
use crate::history::pages::lock_page;

pub(super) type Pages = Vec<Vec<u8>>;

fn image_hash(pages: &Pages) -> Sum {
    Sum::of(pages.concat())
}

/// A pack of `pages`, of those that differ from `parent` where there is one. Every other page of it is referred to.
pub(super) fn pack(pages: &Pages, parent: Option<&Pages>) -> Vec<u8> {
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
    writer.finish(image_hash(pages)).unwrap()
}

pub(super) fn apply_to(base: &[u8], pack: &[u8]) -> Result<Vec<u8>, PackError> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(base).unwrap();
    let mut reader = PackReader::open(Cursor::new(pack))?;
    apply(&mut reader, &file)?;
    std::io::Seek::rewind(&mut file).unwrap();
    let mut image = Vec::new();
    std::io::Read::read_to_end(&mut file, &mut image).unwrap();
    Ok(image)
}

/// Pages of few different contents, so that deltas are partial.
fn pages(max: usize) -> impl Strategy<Value = Pages> {
    prop::collection::vec(0_u8..4, 1..max).prop_map(|fills| {
        fills.iter().map(|fill| (0..512).map(|at| if at % 7 == 0 { *fill } else { 9 }).collect()).collect()
    })
}

proptest! {
    #![proptest_config(cases(150))]

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
    assert!((3 * 4096..3 * 4096 + 700).contains(&bytes.len()), "{}", bytes.len());
    assert!(apply_to(&before.concat(), &bytes).unwrap() == after.concat());

    let mut reader = PackReader::open(Cursor::new(&bytes)).unwrap();
    let refused = reader.next_page(&mut Vec::new(), &Orphan).unwrap_err();
    assert!(matches!(refused, PackError::Reference(2)), "{refused}");
}

#[test]
fn the_page_of_the_locks_is_left_out_and_stays_empty() {
    let lock = lock_page(65536);
    let header = Header { content: Content::Delta([3; 32].into()), page_size: 65536, page_count: lock + 2 };
    let mut writer = PackWriter::new(Vec::new(), header).unwrap();
    let page = vec![8; 65536];
    for pgno in [lock - 1, lock, lock + 1, lock + 2] {
        writer.page(pgno, &page, None).unwrap();
    }
    assert_eq!(writer.records(), 3);
    let bytes = writer.finish([0; 32].into()).unwrap();
    let file = tempfile::tempfile().unwrap();
    let mut reader = PackReader::open(Cursor::new(bytes)).unwrap();
    apply(&mut reader, &file).unwrap();
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
