//! Which hosts may receive row data: the cloud's own, and those that the configuration lists. Never a link-local
//! address, where clouds keep their instance credentials.

use std::net::IpAddr;

use url::{Host, Url};

/// The clouds' own storage domains.
const CLOUDS: [&str; 4] =
    [".amazonaws.com", ".amazonaws.com.cn", ".blob.core.windows.net", ".storage.googleapis.com"];

/// Why a host gets nothing.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EndpointError {
    /// Not a plain `https://host[:port]/path`.
    #[error("{0:?} is not a plain https address")]
    NotPlain(String),
    /// An address of the instance metadata services.
    #[error("{0} is a link-local or metadata address; no stage is ever there")]
    LinkLocal(String),
    /// Neither a cloud's nor allowed.
    #[error(
        "{0} belongs to no cloud's storage; if it is meant, list it under `target.stage_endpoint_allow` \
         as host:port"
    )]
    NotAllowed(String),
}

/// Passes a storage address, or says why not. `allow` holds `host:port` or, for port 443, `host`.
pub fn check(url: &Url, allow: &[String]) -> Result<(), EndpointError> {
    let printable =
        || format!("{}:{}", url.host_str().unwrap_or("?"), url.port_or_known_default().unwrap_or(0));
    if url.scheme() != "https" || !url.username().is_empty() || url.password().is_some() {
        return Err(EndpointError::NotPlain(printable()));
    }
    let host = url.host().ok_or_else(|| EndpointError::NotPlain(printable()))?;
    if is_link_local(&host) {
        return Err(EndpointError::LinkLocal(printable()));
    }
    let port = url.port_or_known_default().unwrap_or(443);
    let name = url.host_str().unwrap_or_default();
    let listed = allow.iter().any(|entry| {
        entry.eq_ignore_ascii_case(&format!("{name}:{port}"))
            || (port == 443 && entry.eq_ignore_ascii_case(name))
    });
    let of_a_cloud = matches!(host, Host::Domain(domain) if CLOUDS.iter().any(|cloud| domain.ends_with(cloud)) || domain == "storage.googleapis.com");
    if listed || (of_a_cloud && port == 443) { Ok(()) } else { Err(EndpointError::NotAllowed(printable())) }
}

fn is_link_local(host: &Host<&str>) -> bool {
    let address = match host {
        Host::Domain(name) => return *name == "metadata.google.internal",
        Host::Ipv4(v4) => IpAddr::V4(*v4),
        Host::Ipv6(v6) => v6.to_ipv4_mapped().map_or(IpAddr::V6(*v6), IpAddr::V4),
    };
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        // fd00:ec2::254 is AWS's own.
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.segments()[..2] == [0xfd00, 0x0ec2],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(url: &str, allow: &[&str]) -> Result<(), EndpointError> {
        let allow: Vec<String> = allow.iter().map(|&entry| entry.to_owned()).collect();
        check(&Url::parse(url).unwrap(), &allow)
    }

    #[test]
    fn the_clouds_own_hosts_pass() {
        for url in ["https://b.s3.eu-west-1.amazonaws.com", "https://b.s3.cn-north-1.amazonaws.com.cn/x"] {
            assert_eq!(checked(url, &[]), Ok(()), "{url}");
        }
    }

    #[test]
    fn a_host_that_only_looks_like_a_cloud_is_refused() {
        for url in [
            "https://amazonaws.com.evil.example",
            "https://evilamazonaws.com",
            "https://b.s3.amazonaws.com:8443",
            "https://10.0.0.7",
            "https://localhost:9000",
        ] {
            assert!(matches!(checked(url, &[]), Err(EndpointError::NotAllowed(_))), "{url}");
        }
        assert!(matches!(checked("http://b.s3.amazonaws.com", &[]), Err(EndpointError::NotPlain(_))));
        assert!(matches!(checked("https://u:p@b.s3.amazonaws.com", &[]), Err(EndpointError::NotPlain(_))));
    }

    #[test]
    fn a_listed_host_passes_with_its_port_only() {
        assert_eq!(checked("https://127.0.0.1:9443/x", &["127.0.0.1:9443"]), Ok(()));
        assert!(checked("https://127.0.0.1:9444/x", &["127.0.0.1:9443"]).is_err());
        assert!(checked("https://127.0.0.1:9444/x", &["127.0.0.1"]).is_err());
    }

    #[test]
    fn a_metadata_address_is_refused_even_if_listed() {
        for url in [
            "https://169.254.169.254/latest",
            "https://0xa9fea9fe/",
            "https://2852039166/",
            "https://[::ffff:169.254.169.254]/",
            "https://[fe80::1]/",
            "https://[fd00:ec2::254]/",
        ] {
            let host = Url::parse(url).unwrap().host_str().unwrap().to_owned();
            assert!(matches!(checked(url, &[&host]), Err(EndpointError::LinkLocal(_))), "{url}");
        }
    }
}
