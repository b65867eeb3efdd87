//! A certificate authority of one's own, made anew at each start.

use std::{path::Path, sync::Arc};

use anyhow::{Context as _, Result};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::{Duration, OffsetDateTime};

/// A throw-away authority that signs server certificates for loopback names.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A server's certificate chain (leaf first) and its key.
pub struct Identity {
    /// The leaf and the authority's certificate.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's private key, PKCS#8.
    pub key: PrivateKeyDer<'static>,
}

impl Authority {
    /// Makes a new authority whose certificate carries `name`.
    pub fn new(name: &str) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        Ok(Self { issuer })
    }

    /// The authority's certificate, for the `ca_file` of whoever should trust it.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Writes [`Self::pem`] to a file that everybody may read.
    pub fn write_pem(&self, path: &Path) -> Result<()> {
        std::fs::write(path, self.pem()).with_context(|| format!("write {}", path.display()))
    }

    /// Signs a certificate for `names` (DNS names or IP addresses), valid for a week.
    pub fn issue(&self, names: &[&str]) -> Result<Identity> {
        let now = OffsetDateTime::now_utc();
        self.issue_between(names, now - Duration::hours(1), now + Duration::days(7))
    }

    /// Signs a certificate with a life of its own; for tests of expired ones.
    pub fn issue_between(
        &self,
        names: &[&str],
        from: OffsetDateTime,
        until: OffsetDateTime,
    ) -> Result<Identity> {
        let mut params = CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        params.distinguished_name.push(DnType::CommonName, names.first().copied().unwrap_or("stand-in"));
        params.not_before = from;
        params.not_after = until;
        let key = KeyPair::generate()?;
        let leaf = params.signed_by(&key, &self.issuer)?;
        Ok(Identity {
            chain: vec![leaf.der().clone(), self.issuer.der().clone()],
            key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        })
    }

    /// A server configuration for `names`, without client certificates.
    pub fn server(&self, names: &[&str]) -> Result<Arc<ServerConfig>> {
        let identity = self.issue(names)?;
        let config =
            ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()?
                .with_no_client_auth()
                .with_single_cert(identity.chain, identity.key)?;
        Ok(Arc::new(config))
    }
}
