//! TLS inside TDS: configuration, handshake, and errors that name their fix.
//!
//! TDS 7.x carries the handshake inside PRELOGIN packets and later records bare, with TLS 1.2; TDS 8.0 begins
//! with TLS (1.2 or 1.3) and the ALPN name `tds/8.0`.

use std::{
    io,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use rustls::{
    AlertDescription, CertificateError, ClientConfig, RootCertStore, SupportedProtocolVersion,
    client::WebPkiServerVerifier,
    crypto::{CryptoProvider, aws_lc_rs},
    version::{TLS12, TLS13},
};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{TdsError, Trust, pin::PinVerifier, wrapped::Wrapped};

/// A byte stream under a connection.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Io for T {}

/// The ALPN name of TDS 8.0.
const ALPN_TDS8: &[u8] = b"tds/8.0";

/// What the packets travel through.
pub(super) enum Transport {
    Plain(Box<dyn Io>),
    Tls(Box<TlsStream<Wrapped>>),
}

/// Why TLS failed, and the fix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsFailure {
    /// The chain does not end at a trusted authority.
    #[error(
        "its certificate was issued by an authority that is not trusted here; set `source.ca_file` to that \
         authority's PEM file, or pin the certificate by its SHA-256"
    )]
    UnknownIssuer,
    /// The certificate is for other names.
    #[error(
        "its certificate is not for this name but for {presented}; set `source.host` to one of those names"
    )]
    WrongName {
        /// The names in the certificate.
        presented: String,
    },
    /// The certificate has no subject alternative names at all, as the one that SQL Server makes for itself.
    #[error(
        "its certificate has no subject alternative names (SQL Server made it for itself, or it is very old); \
         install one with a DNS name, or pin this one by its SHA-256"
    )]
    NoNames,
    /// The certificate is too old.
    #[error("its certificate has expired; renew it on the server, and check this machine's clock")]
    Expired,
    /// The certificate is too young.
    #[error("its certificate is not valid yet; check the clocks of both machines")]
    NotYetValid,
    /// The certificate was revoked.
    #[error("its certificate was revoked; install another one on the server")]
    Revoked,
    /// The certificate is an authority's own, or of X.509 version 1, or cannot be read.
    #[error(
        "its certificate cannot be used for a server ({0}); install a version 3 certificate with a DNS name, or pin this one by its SHA-256"
    )]
    UnusableCertificate(String),
    /// The certificate is not the pinned one.
    #[error(
        "its certificate has the SHA-256 {found}, not the pinned one; if the server's certificate was renewed, pin the new one, otherwise find out who answers there"
    )]
    WrongPin {
        /// What the server showed, in hex.
        found: String,
    },
    /// No protocol version or cipher suite in common.
    #[error(
        "the server shares no TLS version or cipher suite (needed: TLS 1.2 with ECDHE and AES-GCM or ChaCha20, or \
         TLS 1.3 with `encrypt: strict`); enable them on the server"
    )]
    NoSharedCipher,
    /// The peer does not speak TDS 8.0.
    #[error(
        "the server did not agree on `tds/8.0`: `encrypt: strict` needs SQL Server 2022 or later; use `required`"
    )]
    NotStrict,
    /// The server hung up.
    #[error(
        "the server closed the connection during the handshake; its log names the cause (mostly no certificate, or no \
         TLS version in common; with `encrypt: strict` also a server before SQL Server 2022)"
    )]
    Closed,
    /// The authorities that are to be trusted cannot be read.
    #[error("{0}")]
    Roots(String),
    /// Something else.
    #[error("{0}")]
    Other(String),
}

/// How the handshake travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// In PRELOGIN packets.
    Wrapped,
    /// Before the first packet.
    Strict,
}

/// Puts TLS onto a bare transport.
pub(super) async fn handshake(
    io: Box<dyn Io>,
    host: &str,
    trust: &Trust,
    style: Style,
) -> Result<Transport, TdsError> {
    let fail = |failure| TdsError::Tls { host: host.to_owned(), failure };
    let config = config(trust, style).map_err(fail)?;
    let name = ServerName::try_from(host.to_owned()).map_err(|_| {
        fail(TlsFailure::Other("`source.host` is neither a DNS name nor an IP address".into()))
    })?;
    let connector = TlsConnector::from(Arc::new(config));
    let stream = connector.connect(name, Wrapped::new(io, style == Style::Wrapped)).await;
    let mut stream = stream.map_err(|error| fail(failure(&error)))?;
    let (inner, session) = stream.get_mut();
    if style == Style::Strict && session.alpn_protocol() != Some(ALPN_TDS8) {
        return Err(fail(TlsFailure::NotStrict));
    }
    inner.unwrap_from_now_on();
    Ok(Transport::Tls(Box::new(stream)))
}

fn config(trust: &Trust, style: Style) -> Result<ClientConfig, TlsFailure> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let versions: &[&SupportedProtocolVersion] = match style {
        Style::Wrapped => &[&TLS12],
        Style::Strict => &[&TLS13, &TLS12],
    };
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .map_err(|e| TlsFailure::Other(e.to_string()))?;
    let builder = match trust {
        Trust::Pinned(pin) => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(PinVerifier::new(*pin, &provider)))
        }
        Trust::NativeRoots => builder.with_webpki_verifier(verifier(native_roots()?, provider)?),
        Trust::CaFile(path) => builder.with_webpki_verifier(verifier(file_roots(path)?, provider)?),
    };
    let mut config = builder.with_no_client_auth();
    if style == Style::Strict {
        config.alpn_protocols = vec![ALPN_TDS8.to_vec()];
    }
    Ok(config)
}

fn verifier(
    roots: RootCertStore,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, TlsFailure> {
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|e| TlsFailure::Roots(format!("the trusted authorities cannot be used: {e}")))
}

fn native_roots() -> Result<RootCertStore, TlsFailure> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err(TlsFailure::Roots(
            "this system has no certificate authorities; install ca-certificates or set `source.ca_file`"
                .into(),
        ));
    }
    Ok(roots)
}

fn file_roots(path: &Path) -> Result<RootCertStore, TlsFailure> {
    let refuse = |why: String| TlsFailure::Roots(format!("`source.ca_file` {} {why}", path.display()));
    let mut roots = RootCertStore::empty();
    let certificates =
        CertificateDer::pem_file_iter(path).map_err(|e| refuse(format!("cannot be read: {e}")))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|e| refuse(format!("is not PEM: {e}")))?;
        roots
            .add(certificate)
            .map_err(|e| refuse(format!("holds a certificate that cannot be used: {e}")))?;
    }
    if roots.is_empty() {
        return Err(refuse("holds no certificate".into()));
    }
    Ok(roots)
}

/// Names what the handshake failed of.
fn failure(error: &io::Error) -> TlsFailure {
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        return match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                TlsFailure::Closed
            }
            _ => TlsFailure::Other(error.to_string()),
        };
    };
    match tls {
        rustls::Error::InvalidCertificate(error) => certificate_failure(error),
        rustls::Error::AlertReceived(
            AlertDescription::HandshakeFailure
            | AlertDescription::ProtocolVersion
            | AlertDescription::InsufficientSecurity,
        )
        | rustls::Error::PeerIncompatible(_) => TlsFailure::NoSharedCipher,
        rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol) => TlsFailure::NotStrict,
        rustls::Error::InvalidMessage(_) => TlsFailure::Other(
            "what the server sent is not TLS; check `source.port` and `source.encrypt`".into(),
        ),
        other => TlsFailure::Other(other.to_string()),
    }
}

fn certificate_failure(error: &CertificateError) -> TlsFailure {
    match error {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => TlsFailure::UnknownIssuer,
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => TlsFailure::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            TlsFailure::NotYetValid
        }
        CertificateError::Revoked => TlsFailure::Revoked,
        CertificateError::NotValidForNameContext { presented, .. } if presented.is_empty() => {
            TlsFailure::NoNames
        }
        CertificateError::NotValidForNameContext { presented, .. } => TlsFailure::WrongName {
            presented: presented.iter().take(8).cloned().collect::<Vec<_>>().join(", "),
        },
        CertificateError::NotValidForName => TlsFailure::WrongName { presented: "other names".into() },
        CertificateError::Other(other) => match other.0.downcast_ref::<TlsFailure>() {
            Some(ours) => ours.clone(),
            None => TlsFailure::UnusableCertificate(other.0.to_string()),
        },
        other => TlsFailure::UnusableCertificate(other.to_string()),
    }
}

impl Transport {
    /// What lies under TLS, after a login-only encryption has done its part.
    pub(super) fn into_plain(self) -> Self {
        match self {
            Self::Plain(io) => Self::Plain(io),
            Self::Tls(stream) => Self::Plain(stream.into_inner().0.into_inner()),
        }
    }

    /// The bare stream, before TLS.
    pub(super) fn into_io(self) -> Box<dyn Io> {
        match self {
            Self::Plain(io) => io,
            Self::Tls(stream) => stream.into_inner().0.into_inner(),
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
