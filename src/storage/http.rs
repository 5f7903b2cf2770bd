//! The HTTP client under the S3 SDK: TLS roots, proxies, connection limits. Knows nothing of objects.

use std::path::Path;

use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode};
use aws_smithy_http_client::{Builder, Connector};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::{StoreError, StoreErrorKind};
use crate::config::S3Config;

/// Builds the client for an endpoint.
///
/// # Errors
/// A CA bundle that is not one; a proxy variable that is not a URL.
pub fn client(config: &S3Config) -> Result<SharedHttpClient, StoreError> {
    let proxy = proxy(config)?;
    let tls = if config.endpoint.starts_with("https://") {
        let context = TlsContext::builder().with_trust_store(trust(config)?).build();
        Some(context.map_err(|error| local("build the TLS context", error.to_string()))?)
    } else {
        None
    };
    Ok(Builder::new().build_with_connector_fn(move |settings, components| {
        let mut builder = Connector::builder().proxy_config(proxy.clone());
        builder.set_connector_settings(settings.cloned());
        builder.set_sleep_impl(components.and_then(RuntimeComponents::sleep_impl));
        // One connection at a time is all that we use, and a lower bound for a board's memory.
        builder.set_pool_max_idle_per_host(Some(1));
        match &tls {
            Some(context) => {
                builder.tls_provider(Provider::Rustls(CryptoMode::Ring)).tls_context(context.clone()).build()
            }
            None => builder.build_http(),
        }
    }))
}

/// The variable that names the proxy of this endpoint, and what it says; `None` where the store is asked directly.
fn chosen(config: &S3Config) -> Option<(&'static str, &str)> {
    let secure = config.endpoint.starts_with("https://");
    let (name, own) =
        if secure { ("HTTPS_PROXY", &config.https_proxy) } else { ("HTTP_PROXY", &config.http_proxy) };
    let (name, url) = match (own, &config.all_proxy) {
        (Some(url), _) => (name, url),
        (None, Some(url)) => ("ALL_PROXY", url),
        (None, None) => return None,
    };
    (!is_exempt(&config.no_proxy, host_of(&config.endpoint))).then(|| (name, url.reveal()))
}

/// The variable that names the proxy which requests to this endpoint go through, for whoever tells of its troubles.
pub fn proxy_in_use(config: &S3Config) -> Option<&'static str> {
    chosen(config).map(|(name, _)| name)
}

/// Whether NO_PROXY says that nothing goes through a proxy, as curl and Python read it, or the endpoint is this machine.
/// Names and networks are left to the client, which knows them.
fn is_exempt(no_proxy: &str, host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    no_proxy.split(',').any(|entry| entry.trim() == "*")
        || host == "localhost"
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| {
            address == std::net::Ipv4Addr::LOCALHOST || address == std::net::Ipv6Addr::LOCALHOST
        })
}

/// The host of an endpoint, without its port.
fn host_of(endpoint: &str) -> &str {
    let rest = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or_default();
    match authority.find(']') {
        Some(end) => authority.get(..=end).unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    }
}

/// The proxy for this endpoint; never for this machine itself.
fn proxy(config: &S3Config) -> Result<ProxyConfig, StoreError> {
    let secure = config.endpoint.starts_with("https://");
    let Some((name, url)) = chosen(config) else {
        return Ok(ProxyConfig::disabled());
    };
    let url = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url.as_str()));
    if !matches!(scheme, "http" | "https") {
        // Never a direct connection instead: a person who names a proxy may have to.
        let problem =
            format!("a {scheme}:// proxy cannot be used, only http:// ones; to go without it: NO_PROXY=*");
        return Err(local(&format!("use {name}"), problem));
    }
    let (user, host) = match rest.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, rest),
    };
    let host_only = format!("{scheme}://{host}");
    let built = if secure { ProxyConfig::https(host_only) } else { ProxyConfig::http(host_only) };
    // The URL may hold a password: the message must not repeat it.
    let mut built = built.map_err(|_| {
        local(&format!("use {name}"), "it is not the URL of a proxy (http://host:port)".to_owned())
    })?;
    if let Some(user) = user {
        let (user, password) = user.split_once(':').unwrap_or((user, ""));
        let plain = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
        built = built.with_basic_auth(plain(user), plain(password));
    }
    let exempt = without_ports(&config.no_proxy, port_of(&config.endpoint));
    Ok(built.no_proxy(format!("127.0.0.1,localhost,::1,{exempt}")))
}

/// The port that an endpoint is asked at; its address has been checked.
fn port_of(endpoint: &str) -> u16 {
    let (scheme, rest) = endpoint.split_once("://").unwrap_or(("http", endpoint));
    let authority = rest.split('/').next().unwrap_or_default();
    let behind_address = authority.rsplit(']').next().unwrap_or_default();
    let named = behind_address.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    named.unwrap_or(if scheme == "https" { 443 } else { 80 })
}

/// NO_PROXY's entries as the client reads them, which knows no ports: `host:port` is `host` where it is our port, and
/// speaks of somebody else otherwise.
fn without_ports(entries: &str, port: u16) -> String {
    let kept = entries.split(',').map(str::trim).filter_map(|entry| {
        let Some((host, number)) = entry.rsplit_once(':') else {
            return Some(entry);
        };
        // An IPv6 address without brackets is no host and port.
        let is_pair = !host.contains(':') || (host.starts_with('[') && host.ends_with(']'));
        match number.parse::<u16>() {
            Ok(number) if is_pair => (number == port).then_some(host.trim_matches(['[', ']'])),
            _ => Some(entry),
        }
    });
    kept.collect::<Vec<_>>().join(",")
}

/// Which certificate authorities are trusted: the bundle that was named; else the system's; else, where a small
/// system has none (Alpine without ca-certificates), the ones built in.
fn trust(config: &S3Config) -> Result<TrustStore, StoreError> {
    if let Some(path) = &config.ca_bundle {
        let pem = checked_bundle(path)?;
        return Ok(TrustStore::empty().with_pem_certificate(pem));
    }
    if !rustls_native_certs::load_native_certs().certs.is_empty() {
        return Ok(TrustStore::default());
    }
    let mut store = TrustStore::empty();
    for certificate in webpki_root_certs::TLS_SERVER_ROOT_CERTS {
        store.add_pem_certificate(to_pem(certificate));
    }
    Ok(store)
}

/// The SDK panics on a bundle that it cannot read, so it is read here first.
fn checked_bundle(path: &Path) -> Result<Vec<u8>, StoreError> {
    let what = || format!("read the CA bundle {}", path.display());
    let pem = std::fs::read(path).map_err(|error| local(&what(), error.to_string()))?;
    let certificates = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| local(&what(), format!("not a PEM file: {error}")))?;
    if certificates.is_empty() {
        return Err(local(&what(), "holds no certificate".to_owned()));
    }
    for certificate in &certificates {
        webpki::anchor_from_trusted_cert(certificate)
            .map_err(|error| local(&what(), format!("holds a certificate that cannot be used: {error}")))?;
    }
    Ok(pem)
}

fn to_pem(certificate: &CertificateDer<'_>) -> Vec<u8> {
    let encoded = aws_smithy_types::base64::encode(certificate.as_ref());
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in encoded.as_bytes().chunks(64) {
        pem.extend(line.iter().map(|byte| char::from(*byte)));
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem.into_bytes()
}

fn local(what: &str, detail: String) -> StoreError {
    StoreError::new(StoreErrorKind::Local, "this machine", what, detail)
}

#[cfg(test)]
mod tests {
    use super::{CertificateDer, PemObject, port_of, to_pem, without_ports};

    #[test]
    fn no_proxy_entries_with_a_port_speak_of_that_port() {
        let table = [
            ("minio:9000", 9000, "minio"),
            ("minio:9000", 80, ""),
            ("minio", 9000, "minio"),
            (".example.org:443, 10.0.0.0/8", 443, ".example.org,10.0.0.0/8"),
            ("*", 80, "*"),
            ("fe80::1", 80, "fe80::1"),
            ("[fe80::1]:9000", 9000, "fe80::1"),
            ("[fe80::1]:9000", 9001, ""),
            ("a:1,b:2,c", 2, "b,c"),
        ];
        for (entries, port, expected) in table {
            assert_eq!(without_ports(entries, port), expected, "{entries} at {port}");
        }
        let table = [
            ("http://minio", 80),
            ("https://minio/path", 443),
            ("http://minio:9000/x:1", 9000),
            ("https://[::1]", 443),
            ("https://[::1]:9000", 9000),
        ];
        for (endpoint, port) in table {
            assert_eq!(port_of(endpoint), port, "{endpoint}");
        }
    }

    #[test]
    fn no_proxy_can_mean_none_at_all() {
        let table = [
            ("*", "minio", true),
            ("a, *", "minio", true),
            ("", "127.0.0.1", true),
            ("", "localhost", true),
            ("", "[::1]", true),
            ("", "127.0.0.2", false),
            ("a*", "minio", false),
        ];
        for (no_proxy, host, expected) in table {
            assert_eq!(super::is_exempt(no_proxy, host), expected, "{no_proxy} {host}");
        }
        for (endpoint, host) in [("http://a:1/x", "a"), ("https://[::1]:9", "[::1]"), ("http://b", "b")] {
            assert_eq!(super::host_of(endpoint), host);
        }
    }

    #[test]
    fn the_built_in_roots_survive_the_way_through_pem() {
        for certificate in webpki_root_certs::TLS_SERVER_ROOT_CERTS {
            let pem = to_pem(certificate);
            assert_eq!(&CertificateDer::from_pem_slice(&pem).unwrap(), certificate);
            webpki::anchor_from_trusted_cert(certificate).unwrap();
        }
    }
}
