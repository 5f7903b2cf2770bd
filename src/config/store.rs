//! The store's settings: what is no address, no proxy and no key is refused here, before a single request is made.
//! A pure function of the settings.

use std::net::Ipv6Addr;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use super::{Addressing, ConfigError, Limits, S3Config, Secret, Settings, StoreConfig};

const ENDPOINT: &str = "MINIO_ENDPOINT";

/// The store alone, for doctor, which works with half a configuration.
///
/// # Errors
/// What is missing or malformed.
pub fn store(settings: &Settings) -> Result<StoreConfig, ConfigError> {
    let endpoint = settings.require_plain(ENDPOINT)?;
    let bad = |problem: &str| ConfigError::BadValue {
        name: ENDPOINT,
        value: endpoint.to_owned(),
        problem: problem.to_owned(),
    };
    if let Some(path) = endpoint.strip_prefix("file://") {
        return directory(path).map(StoreConfig::Dir).map_err(bad);
    }
    let rest = endpoint
        .strip_prefix("http://")
        .or_else(|| endpoint.strip_prefix("https://"))
        .ok_or_else(|| bad("must start with http://, https:// or file:///"))?;
    if rest.contains(['@', '?', '#']) {
        return Err(ConfigError::BadValue {
            name: ENDPOINT,
            value: "(hidden)".to_owned(),
            problem:
                "must be scheme://host:port only; keys belong into MINIO_ACCESS_KEY and MINIO_SECRET_KEY"
                    .to_owned(),
        });
    }
    check_address(rest).map_err(bad)?;
    // These go into the header that signs each request.
    let access_key = Secret::new(settings.require_plain("MINIO_ACCESS_KEY")?);
    let secret_key = Secret::new(settings.require_plain("MINIO_SECRET_KEY")?);
    let bucket = bucket(settings)?;
    let region = settings.plain("MINIO_REGION")?.unwrap_or("us-east-1").to_owned();
    Ok(StoreConfig::S3(Box::new(S3Config {
        endpoint: endpoint.trim_end_matches('/').to_owned(),
        access_key,
        secret_key,
        bucket,
        region,
        addressing: addressing(settings)?,
        all_proxy: settings.plain("ALL_PROXY")?.map(Secret::new),
        http_proxy: settings.plain("HTTP_PROXY")?.map(Secret::new),
        https_proxy: settings.plain("HTTPS_PROXY")?.map(Secret::new),
        no_proxy: settings.plain("NO_PROXY")?.unwrap_or_default().to_owned(),
        ca_bundle: match settings.plain("AWS_CA_BUNDLE")? {
            Some(path) => Some(path),
            None => settings.plain("SSL_CERT_FILE")?,
        }
        .map(PathBuf::from),
        limits: Limits {
            upload: limit(settings, "MEMBRIDGE_LIMIT_UPLOAD")?,
            download: limit(settings, "MEMBRIDGE_LIMIT_DOWNLOAD")?,
        },
    })))
}

/// Kilobytes a second as bytes. Below the smallest, time-outs would end what only goes slowly.
fn limit(settings: &Settings, name: &'static str) -> Result<Option<u64>, ConfigError> {
    let kilobytes = settings.number(name, 16, 10_000_000)?;
    Ok(kilobytes.and_then(|kilobytes| u64::try_from(kilobytes).ok()).map(|kilobytes| kilobytes * 1000))
}

/// The folder that a `file://` URL names. It is a URL: `%20` is a space, and a bare percent sign stands for itself.
fn directory(path: &str) -> Result<PathBuf, &'static str> {
    let bytes: Vec<u8> = percent_encoding::percent_decode_str(path).collect();
    if bytes.contains(&0) {
        return Err("holds a zero byte");
    }
    let path = PathBuf::from(std::ffi::OsString::from_vec(bytes));
    if path.is_absolute() { Ok(path) } else { Err("a directory store is written file:///absolute/path") }
}

/// MINIO_ADDRESSING, in any case.
fn addressing(settings: &Settings) -> Result<Addressing, ConfigError> {
    const NAME: &str = "MINIO_ADDRESSING";
    let word = settings.plain(NAME)?.unwrap_or("auto");
    match word.to_ascii_lowercase().as_str() {
        "auto" => Ok(Addressing::Auto),
        "path" => Ok(Addressing::Path),
        "virtual" => Ok(Addressing::Virtual),
        _ => Err(ConfigError::BadValue {
            name: NAME,
            value: word.to_owned(),
            problem: "must be auto, path or virtual".to_owned(),
        }),
    }
}

/// The bucket's name goes into the path of each request: a '/' in it would make keys of another bucket out of ours.
fn bucket(settings: &Settings) -> Result<String, ConfigError> {
    const NAME: &str = "MINIO_BUCKET";
    let bucket = settings.require_plain(NAME)?;
    // Wider than AWS's own rule: old buckets have capitals and underscores, Ceph's tenants a colon.
    let sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    if matches!(bucket, "." | "..") || !bucket.chars().all(sound) {
        return Err(ConfigError::BadValue {
            name: NAME,
            value: bucket.to_owned(),
            problem: "is not the name of a bucket".to_owned(),
        });
    }
    Ok(bucket.to_owned())
}

/// What follows the scheme: `host`, `host:port`, `[::1]:port`, and perhaps a path.
fn check_address(rest: &str) -> Result<(), &'static str> {
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    if authority.is_empty() || rest.contains(char::is_whitespace) {
        return Err("has no host name");
    }
    let port = match authority.strip_prefix('[') {
        Some(bracketed) => port_behind_ipv6(bracketed)?,
        None => port_behind_name(authority)?,
    };
    if port.is_some_and(|port| !port.parse::<u16>().is_ok_and(|number| number > 0) || port.starts_with('+')) {
        return Err("has a port that is not a number from 1 to 65535");
    }
    let sound =
        |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}');
    if !path.chars().all(sound) {
        return Err("holds a path with characters that must not stand there");
    }
    Ok(())
}

fn port_behind_ipv6(bracketed: &str) -> Result<Option<&str>, &'static str> {
    let (address, after) = bracketed.split_once(']').ok_or("has '[' without ']' around its IPv6 address")?;
    if address.parse::<Ipv6Addr>().is_err() {
        return Err("holds an IPv6 address that is none");
    }
    match after.strip_prefix(':') {
        None if !after.is_empty() => Err("has something else than a port behind ']'"),
        port => Ok(port),
    }
}

fn port_behind_name(authority: &str) -> Result<Option<&str>, &'static str> {
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    if port.is_some_and(|port| port.contains(':')) {
        return Err("has more than one ':'; an IPv6 address stands in brackets: http://[::1]:9000");
    }
    if host.is_empty() {
        return Err("has no host name");
    }
    let sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if !host.chars().all(sound) {
        return Err("holds a host name with characters that none has");
    }
    Ok(port)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use std::path::PathBuf;

    use super::{check_address, directory, store};
    use crate::config::{Environment, Settings};

    #[test]
    fn an_address_is_checked_before_anything_is_sent() {
        let sound = [
            "minio",
            "minio:9000",
            "minio_1.example.org:9000/",
            "10.0.0.1:1",
            "[::1]",
            "[::1]:9000",
            "host/behind/a-path",
        ];
        for address in sound {
            assert_eq!(check_address(address), Ok(()), "{address}");
        }
        let table = [
            ("", "no host name"),
            ("/path", "no host name"),
            (":9000", "no host name"),
            ("a b", "no host name"),
            ("h:99999", "port"),
            ("h:0", "port"),
            ("h:", "port"),
            ("h:+80", "port"),
            ("h:x", "port"),
            ("[::1", "without ']'"),
            ("[::1]9000", "behind ']'"),
            ("[::1]:99999", "port"),
            ("[nothing]:1", "IPv6"),
            ("::1:9000", "more than one ':'"),
            ("a^b", "characters"),
            ("сад", "characters"),
            ("h/{x}", "path"),
        ];
        for (address, problem) in table {
            let error = check_address(address).unwrap_err();
            assert!(error.contains(problem), "{address}: {error}");
        }
    }

    #[test]
    fn a_file_url_is_a_url() {
        let table = [
            ("/mnt/my%20nas", Ok("/mnt/my nas")),
            ("/mnt/my nas", Ok("/mnt/my nas")),
            ("/mnt/50%", Ok("/mnt/50%")),
            ("/mnt/100%25", Ok("/mnt/100%")),
            ("/%D1%81%D0%B0%D0%B4", Ok("/сад")),
            ("nas/x", Err(())),
            ("/a%00b", Err(())),
        ];
        for (path, expected) in table {
            assert_eq!(directory(path).map_err(|_| ()), expected.map(PathBuf::from), "{path}");
        }
    }

    #[test]
    fn a_control_character_is_refused_by_name_and_never_shown() {
        const GOOD: [(&str, &str); 6] = [
            ("HOME", "/nonexistent"),
            ("MINIO_ENDPOINT", "http://minio:9000"),
            ("MINIO_ACCESS_KEY", "hunter2"),
            ("MINIO_SECRET_KEY", "hunter2"),
            ("MINIO_BUCKET", "hunter2"),
            ("MINIO_REGION", "hunter2"),
        ];
        let load = |changed: &str, end: &str| {
            let values = GOOD.map(|(name, value)| {
                let end = if name == changed { end } else { "" };
                (name.to_owned(), format!("{value}{end}"))
            });
            let settings = Settings::load(&BTreeMap::new(), &Environment::from_values(values), None).unwrap();
            store(&settings)
        };
        load("", "").unwrap();
        for end in ["/x", "/../x", " x", "?x", "#", "%2f", "сад"] {
            let error = load("MINIO_BUCKET", end).unwrap_err().to_string();
            assert!(error.contains("is not the name of a bucket"), "{error}");
        }
        for (name, _) in GOOD.into_iter().skip(1) {
            for (end, what) in
                [("\r", "a carriage return"), ("\n", "a line end"), ("\x1b", "U+001B"), ("\x7f", "U+007F")]
            {
                let text = load(name, end).unwrap_err().to_string();
                assert!(text.starts_with(&format!("{name} holds ")), "{text}");
                assert!(text.contains(what) && !text.contains("hunter2"), "{text}");
            }
        }
    }
}
