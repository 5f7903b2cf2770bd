//! A second reader, written from docs/format.md and using nothing of this module: the document is the format.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::context::hex;
use crate::sum::Sum;

/// Holds a step of this reader to the sentence of the document that it follows.
fn quoted(sentence: &str) {
    let text = include_str!("../../docs/format.md");
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
    assert!(text.contains(&sentence.to_lowercase()), "docs/format.md does not say: {sentence}");
}

/// "To restore a commit: apply the packs of its chain in order to an empty file".
pub(super) fn restore(bucket: &Path, number: u64) -> Result<Vec<u8>, String> {
    let commit = bucket.join(format!("membridge/commits/{number:010}.json"));
    let commit: Value = serde_json::from_slice(&std::fs::read(commit).map_err(|e| e.to_string())?)
        .map_err(|e| e.to_string())?;
    quoted("a reader must ignore fields that it does not know and refuse a `schema` that it does not know");
    if commit["schema"] != 1 {
        return Err("schema".to_owned());
    }
    quoted(
        "apply the packs of its chain in order to an empty file; the SHA-256 of the file is then `sha256`",
    );
    let mut image = Vec::new();
    for link in commit["chain"].as_array().ok_or("chain")? {
        let name = link["pack"].as_str().ok_or("pack")?;
        let pack =
            std::fs::read(bucket.join(format!("membridge/packs/{name}.zst"))).map_err(|e| e.to_string())?;
        quoted("The name is the SHA-256 of the object.");
        if hex(&Sha256::digest(&pack)) != name {
            return Err("the pack's name".to_owned());
        }
        image = apply(&pack, image)?;
        if hex(&Sha256::digest(&image)) != link["image"] {
            return Err("the link's image".to_owned());
        }
    }
    if hex(&Sha256::digest(&image)) != commit["sha256"] {
        return Err("the commit's image".to_owned());
    }
    Ok(image)
}

fn number(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
}

fn apply(pack: &[u8], parent: Vec<u8>) -> Result<Vec<u8>, String> {
    quoted("Header, 56 bytes:");
    quoted("Trailer, the last 80 bytes:");
    let (head, rest) = pack.split_at(56);
    let (frames, trailer) = rest.split_at(rest.len() - 80);
    quoted("| 0 | 8 | `MBPACK` and the bytes 13, 10 |");
    quoted("| 8 | 2 | version: 1 or 2 |");
    quoted("| 72 | 8 | byte 10, `MBPEND`, byte 10 |");
    if &head[..8] != b"MBPACK\r\n" || &trailer[72..] != b"\nMBPEND\n" {
        return Err("marks".to_owned());
    }
    quoted("| 10 | 1 | kind: 1 full, 2 delta |");
    quoted("| 24 | 32 | SHA-256 of the parent's image; zeros in a full pack |");
    let mut image = match head[10] {
        1 => Vec::new(),
        2 if head[24..] == Sha256::digest(&parent)[..] => parent,
        _ => return Err("kind or parent".to_owned()),
    };
    let (page_size, page_count) = (number(head, 12), number(head, 16));
    let (body, stream) = match (head[8], head[10]) {
        (1, _) => {
            quoted("what they decompress to, one after the other, are the records");
            let stream = zstd::decode_all(frames).map_err(|e| e.to_string())?;
            (stream.clone(), stream)
        }
        (2, 2) => groups(frames, &image, page_size)?,
        _ => return Err("version".to_owned()),
    };
    quoted("4 bytes page number and `page size` bytes content each");
    let records: Vec<&[u8]> = stream.chunks(4 + page_size).collect();
    quoted("| 0 | 4 | number of records |");
    if records.len() != number(trailer, 0) {
        return Err("count".to_owned());
    }
    quoted("SHA-256 of the header, the body and the first 40 bytes of the trailer");
    let sum = Sha256::digest([head, &body, &trailer[..40]].concat());
    if trailer[40..72] != sum[..] {
        return Err("checksum".to_owned());
    }
    quoted("Write the content of each record at `(page number - 1) * page size`");
    for record in records {
        let at = (number(record, 0) - 1) * page_size;
        image.resize(image.len().max(at + page_size), 0);
        image[at..at + page_size].copy_from_slice(&record[4..]);
    }
    quoted("then set the length of the file to `page count * page size`");
    image.resize(page_size * page_count, 0);
    quoted("| 8 | 32 | SHA-256 of the image that results |");
    if trailer[8..40] != Sha256::digest(&image)[..] {
        return Err("image".to_owned());
    }
    Ok(image)
}

/// "with each frame replaced by what it decompresses to", and the records alone.
fn groups(mut rest: &[u8], parent: &[u8], page_size: usize) -> Result<(Vec<u8>, Vec<u8>), String> {
    quoted("with each frame replaced by what it decompresses to");
    let (mut body, mut stream) = (Vec::new(), Vec::new());
    while !rest.is_empty() {
        quoted("| 4 | number of references");
        let count = number(rest, 0);
        let (references, frame) = rest.split_at(4 + 4 * count);
        quoted("is what the referenced pages are in the parent's image, one after the other");
        let prefix: Vec<u8> = (1..=count)
            .flat_map(|at| {
                let at = (number(references, 4 * at) - 1) * page_size;
                parent[at..at + page_size].to_vec()
            })
            .collect();
        quoted("| the rest | one zstd frame");
        let mut frame = std::io::Cursor::new(frame);
        let mut records = Vec::new();
        zstd::stream::read::Decoder::with_ref_prefix(&mut frame, &prefix)
            .and_then(|frame| frame.single_frame().read_to_end(&mut records))
            .map_err(|e| e.to_string())?;
        let end = rest.len() - frame.get_ref().len() + usize::try_from(frame.position()).unwrap();
        rest = &rest[end..];
        body.extend([references, &records].concat());
        stream.extend(records);
    }
    Ok((body, stream))
}

/// Reads a page map: its image's SHA-256 and the page hashes.
pub(super) fn page_map(path: &PathBuf) -> (String, Vec<Vec<u8>>) {
    let map = std::fs::read(path).unwrap();
    quoted("| 0 | 8 | `MBPAGES`, byte 10 |");
    assert_eq!(&map[..12], b"MBPAGES\n\x01\0\0\0");
    quoted("SHA-256 of everything behind this field and then the 56 bytes before it");
    assert_eq!(map[56..88], Sha256::digest([&map[88..], &map[..56]].concat())[..]);
    quoted("| 88 | 16 each | the first 16 bytes of each page's SHA-256, page 1 first |");
    let hashes: Vec<Vec<u8>> = map[88..].chunks(16).map(<[u8]>::to_vec).collect();
    assert_eq!(hashes.len(), number(&map, 16));
    (hex(&map[24..56]), hashes)
}

#[test]
fn the_fields_of_a_commit_are_those_of_the_document() {
    let mut commit = super::commit::tests::sample(3, 1);
    commit.mirror_sha256 = Some(Sum::of("m"));
    commit.legacy_seen = Some(Sum::of("l"));
    commit.adopted_from = Some(super::commit::Adopted {
        sha256: Sum::of("s"),
        host: "h".to_owned(),
        timestamp: "t".to_owned(),
    });
    let commit = serde_json::to_value(commit).unwrap();
    let commit: BTreeMap<String, Value> = serde_json::from_value(commit).unwrap();
    let text = include_str!("../../docs/format.md");
    let commits = text.split("\n## ").find(|part| part.starts_with("Commits")).unwrap();
    let rows = commits.lines().filter(|line| line.starts_with("| `"));
    let mut documented: Vec<String> = rows
        .filter_map(|line| line.split('|').nth(1))
        .flat_map(|names| names.split(','))
        .map(|name| name.trim().trim_matches('`').to_owned())
        .collect();
    documented.sort();
    assert_eq!(documented, commit.keys().cloned().collect::<Vec<_>>());
}
