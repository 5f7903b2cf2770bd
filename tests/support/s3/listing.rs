//! ListObjectsV2: prefix, delimiter, start-after, pages. A pure walk over one bucket.

use s3s::dto::{CommonPrefix, ETag, ListObjectsV2Input, ListObjectsV2Output, Object};
use s3s::{S3Result, s3_error};

use super::objects::{Objects, hex};

/// Answers one page. The continuation token is the hex form of the last name on the page.
pub fn list(objects: &Objects, input: ListObjectsV2Input) -> S3Result<ListObjectsV2Output> {
    let contents = objects.lock();
    let bucket = contents.buckets.get(&input.bucket).ok_or_else(|| s3_error!(NoSuchBucket))?;
    let prefix = input.prefix.clone().unwrap_or_default();
    let delimiter = input.delimiter.clone().filter(|text| !text.is_empty());
    let max_keys = input.max_keys.unwrap_or(1000).clamp(0, 1000) as usize;
    let after = match &input.continuation_token {
        Some(token) => Some(unhex(token).ok_or_else(|| s3_error!(InvalidArgument))?),
        None => input.start_after.clone(),
    };

    let mut found = Vec::new();
    let mut folders: Vec<String> = Vec::new();
    let mut last = None;
    let mut truncated = false;
    for (key, stored) in bucket.range(prefix.clone()..) {
        let Some(rest) = key.strip_prefix(prefix.as_str()) else {
            break;
        };
        let folder = delimiter.as_ref().and_then(|delimiter| {
            let end = rest.find(delimiter.as_str())? + delimiter.len();
            Some(format!("{prefix}{}", &rest[..end]))
        });
        let name = folder.as_ref().unwrap_or(key);
        if after.as_ref().is_some_and(|after| name <= after) || folders.last() == Some(name) {
            continue;
        }
        if found.len() + folders.len() == max_keys {
            truncated = max_keys > 0;
            break;
        }
        last = Some(name.clone());
        match folder {
            Some(folder) => folders.push(folder),
            None => found.push(Object {
                key: Some(key.clone()),
                size: Some(stored.size as i64),
                e_tag: Some(ETag::Strong(stored.etag.clone())),
                last_modified: Some(stored.modified.into()),
                ..Default::default()
            }),
        }
    }
    let common = folders.into_iter().map(|prefix| CommonPrefix { prefix: Some(prefix) });
    let common: Vec<CommonPrefix> = common.collect();
    Ok(ListObjectsV2Output {
        key_count: Some((found.len() + common.len()) as i32),
        max_keys: Some(max_keys as i32),
        is_truncated: Some(truncated),
        next_continuation_token: last.filter(|_| truncated).map(|name| hex(name.as_bytes())),
        contents: Some(found),
        common_prefixes: Some(common),
        name: Some(input.bucket),
        prefix: input.prefix,
        delimiter: input.delimiter,
        continuation_token: input.continuation_token,
        start_after: input.start_after,
        ..Default::default()
    })
}

fn unhex(text: &str) -> Option<String> {
    let digits: Vec<char> = text.chars().collect();
    let bytes = digits.chunks(2).map(|pair| {
        let pair: String = pair.iter().collect();
        u8::from_str_radix(&pair, 16).ok()
    });
    String::from_utf8(bytes.collect::<Option<Vec<u8>>>()?).ok()
}
