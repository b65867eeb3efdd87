//! The HTTP side: one TLS configuration for statements and for staged files, and bodies that are read no further
//! than a bound.

use std::{path::Path, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};

use super::SnowflakeError;

const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// The two HTTP clients of a session. Both verify certificates against the same roots and follow no redirect.
#[derive(Clone, Debug)]
pub(crate) struct HttpClients {
    /// For statements; each request sets its own deadline.
    pub(crate) statements: reqwest::Client,
    /// For staged files and result chunks.
    pub(crate) objects: reqwest::Client,
}

impl HttpClients {
    /// `ca_file` replaces the system's roots; without it those are used.
    pub(crate) fn new(ca_file: Option<&Path>) -> Result<Self, SnowflakeError> {
        let tls = tls_config(ca_file)?;
        let builder = || {
            reqwest::Client::builder()
                .tls_backend_preconfigured(tls.clone())
                .redirect(reqwest::redirect::Policy::none())
                .connect_timeout(CONNECT_DEADLINE)
                .tcp_nodelay(true)
                .user_agent(concat!("keyferry-loader/", env!("CARGO_PKG_VERSION")))
        };
        let setup = |e: reqwest::Error| SnowflakeError::Setup(format!("the HTTP client: {e}"));
        Ok(Self {
            statements: builder().build().map_err(setup)?,
            objects: builder()
                .https_only(true)
                .read_timeout(Duration::from_mins(1))
                .timeout(Duration::from_mins(10))
                .build()
                .map_err(setup)?,
        })
    }
}

fn tls_config(ca_file: Option<&Path>) -> Result<ClientConfig, SnowflakeError> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = ca_file {
        let unusable = |what: String| {
            SnowflakeError::Setup(format!(
                "{what} in the CA file {}; `target.ca_file` must be PEM with the issuing CA's certificate",
                path.display()
            ))
        };
        let certificates = CertificateDer::pem_file_iter(path).map_err(|e| unusable(e.to_string()))?;
        for certificate in certificates {
            let certificate = certificate.map_err(|e| unusable(e.to_string()))?;
            roots.add(certificate).map_err(|e| unusable(e.to_string()))?;
        }
        if roots.is_empty() {
            return Err(unusable("no certificate".to_owned()));
        }
    } else {
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            return Err(SnowflakeError::Setup(
                "the system has no CA certificates; install ca-certificates or set `target.ca_file`"
                    .to_owned(),
            ));
        }
    }
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| SnowflakeError::Setup(format!("TLS: {e}")))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

/// Why a body could not be read.
#[derive(Debug)]
pub(super) enum BodyError {
    /// It is longer than allowed.
    TooLong(usize),
    /// The connection broke.
    Broken(reqwest::Error),
}

impl std::fmt::Display for BodyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooLong(limit) => write!(f, "longer than the {limit} bytes that are accepted"),
            Self::Broken(error) => f.write_str(&network_reason(error)),
        }
    }
}

/// Reads a body of at most `limit` bytes.
pub(super) async fn body(mut response: reqwest::Response, limit: usize) -> Result<Bytes, BodyError> {
    if response.content_length().is_some_and(|length| length > limit as u64) {
        return Err(BodyError::TooLong(limit));
    }
    let mut body = BytesMut::new();
    while let Some(part) = response.chunk().await.map_err(BodyError::Broken)? {
        if body.len() + part.len() > limit {
            return Err(BodyError::TooLong(limit));
        }
        body.extend_from_slice(&part);
    }
    Ok(body.freeze())
}

/// What the network said, without the URL (its query names requests) and with the innermost cause.
pub(super) fn network_reason(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let what = if error.is_connect() {
        "no connection"
    } else if error.is_timeout() {
        "no answer in time"
    } else {
        "the connection broke"
    };
    if std::ptr::eq(cause, std::ptr::from_ref(error) as *const dyn std::error::Error) {
        what.to_owned()
    } else {
        format!("{what}: {cause}")
    }
}
