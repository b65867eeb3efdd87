//! TLS in both styles, and each failure by its name.

use std::{io::Write as _, sync::Arc};

use aws_lc_rs::digest::{SHA256, digest};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::{ServerConfig, SupportedProtocolVersion, crypto::aws_lc_rs::default_provider, version};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::AsyncWriteExt;
use tokio_rustls::TlsAcceptor;

use super::{
    server::{acknowledged, answer, attempt, login, message, prelogin},
    wire,
};
use crate::tds::{ConnectOptions, Connection, Encrypt, TdsError, TlsFailure, Trust, wrapped::Wrapped};

const HOST: &str = "sql01.corp.example.com";

/// An authority, and a server's certificate from it.
struct Site {
    ca: tempfile::NamedTempFile,
    certificate: CertificateDer<'static>,
    key: PrivatePkcs8KeyDer<'static>,
}

fn site(names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Site {
    let mut authority = CertificateParams::new(Vec::<String>::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let mut params =
        CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &authority).unwrap();
    let mut ca = tempfile::NamedTempFile::new().unwrap();
    ca.write_all(authority.pem().as_bytes()).unwrap();
    Site { ca, certificate: certificate.der().clone(), key: key.serialize_der().into() }
}

impl Site {
    fn options(&self, encrypt: Encrypt) -> ConnectOptions {
        let mut options = ConnectOptions::new(HOST, 1433, "sales");
        options.encrypt = encrypt;
        options.trust = Trust::CaFile(self.ca.path().to_owned());
        options
    }

    fn acceptor(&self, versions: &[&'static SupportedProtocolVersion], alpn: Option<&[u8]>) -> TlsAcceptor {
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.clone()], PrivateKeyDer::Pkcs8(self.key.clone_key()))
            .unwrap();
        config.alpn_protocols = alpn.map(<[u8]>::to_vec).into_iter().collect();
        TlsAcceptor::from(Arc::new(config))
    }

    /// Connects with these options to a server that wraps its handshake, until the login is done.
    async fn wrapped(&self, options: &ConnectOptions, level: u8) -> Result<Connection, TdsError> {
        let (client, mut io) = tokio::io::duplex(64 * 1024);
        let acceptor = self.acceptor(&[&version::TLS12], None);
        let server = async move {
            prelogin(&mut io, level).await;
            let Ok(mut tls) = acceptor.accept(Wrapped::new(Box::new(io), true)).await else { return };
            tls.get_mut().0.unwrap_from_now_on();
            login(&mut tls).await;
        };
        tokio::join!(attempt(client, options), server).0
    }

    /// The same with TLS before the first packet.
    async fn strict(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        alpn: Option<&[u8]>,
    ) -> Result<Connection, TdsError> {
        let acceptor = self.acceptor(versions, alpn);
        let (client, io) = tokio::io::duplex(64 * 1024);
        let server = async move {
            let Ok(mut tls) = acceptor.accept(io).await else { return };
            if alpn != Some(b"tds/8.0") {
                return;
            }
            prelogin(&mut tls, 1).await;
            let login7 = login(&mut tls).await;
            assert_eq!(login7.payload[4..8], [0, 0, 0, 8], "TDS 8.0");
        };
        let options = self.options(Encrypt::Strict);
        tokio::join!(attempt(client, &options), server).0
    }
}

fn cause(outcome: Result<Connection, TdsError>) -> TlsFailure {
    match outcome {
        Err(TdsError::Tls { host, failure }) => {
            assert_eq!(host, HOST);
            failure
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_whole_login_travels_in_tls_that_was_shaken_inside_prelogin_packets() {
    let site = site(&[HOST], |_| {});
    let connection = site.wrapped(&site.options(Encrypt::Required), 1).await;
    assert_eq!(connection.unwrap().spid(), 57);
    // A server that insists gets it, whatever was asked for.
    assert!(site.wrapped(&site.options(Encrypt::LoginOnly), 3).await.is_ok());
}

#[tokio::test]
async fn strict_begins_with_tls_and_agrees_on_tds_8() {
    let site = site(&[HOST], |_| {});
    for versions in [&[&version::TLS13][..], &[&version::TLS12]] {
        assert!(site.strict(versions, Some(b"tds/8.0")).await.is_ok());
    }
    assert_eq!(cause(site.strict(&[&version::TLS13], None).await), TlsFailure::NotStrict);
    assert_eq!(cause(site.strict(&[&version::TLS13], Some(b"h2")).await), TlsFailure::NotStrict);
}

#[tokio::test]
async fn login_only_encryption_ends_after_login7() {
    let site = site(&[HOST], |_| {});
    let (client, mut io) = tokio::io::duplex(64 * 1024);
    let acceptor = site.acceptor(&[&version::TLS12], None);
    let server = async move {
        prelogin(&mut io, 0).await;
        let mut tls = acceptor.accept(Wrapped::new(Box::new(io), true)).await.unwrap();
        tls.get_mut().0.unwrap_from_now_on();
        assert_eq!(message(&mut tls).await.kind, 0x10);
        let mut plain = tls.into_inner().0.into_inner();
        answer(&mut plain, &[wire::sspi(b"AP-REP")]).await;
        answer(&mut plain, &acknowledged()).await;
        assert_eq!(message(&mut plain).await.sql(), "in clear");
        answer(&mut plain, &[wire::done(0, 0, 0)]).await;
    };
    let options = site.options(Encrypt::LoginOnly);
    let client = async {
        let mut connection = attempt(client, &options).await.unwrap();
        connection.run("in clear").await.unwrap();
    };
    tokio::join!(client, server);
}

#[tokio::test]
async fn each_fault_of_a_certificate_is_named() {
    let good = site(&[HOST], |_| {});
    let other = site(&["other.example.com"], |_| {});
    let mut elsewhere = good.options(Encrypt::Required);
    elsewhere.trust = Trust::CaFile(other.ca.path().to_owned());
    assert_eq!(cause(good.wrapped(&elsewhere, 1).await), TlsFailure::UnknownIssuer);

    let failure = cause(other.wrapped(&other.options(Encrypt::Required), 1).await);
    assert!(failure.to_string().contains("other.example.com"), "{failure}");

    let nameless = site(&[], |_| {});
    assert_eq!(cause(nameless.wrapped(&nameless.options(Encrypt::Required), 1).await), TlsFailure::NoNames);

    let old = site(&[HOST], |params| {
        params.not_before = date_time_ymd(2019, 1, 1);
        params.not_after = date_time_ymd(2020, 1, 1);
    });
    assert_eq!(cause(old.wrapped(&old.options(Encrypt::Required), 1).await), TlsFailure::Expired);

    let young = site(&[HOST], |params| params.not_before = date_time_ymd(4000, 1, 1));
    assert_eq!(cause(young.wrapped(&young.options(Encrypt::Required), 1).await), TlsFailure::NotYetValid);
}

#[tokio::test]
async fn a_pinned_certificate_needs_no_authority_and_no_name() {
    let site = site(&[], |params| params.not_after = date_time_ymd(2020, 1, 1));
    let mut options = site.options(Encrypt::Required);
    let hash = digest(&SHA256, &site.certificate);
    options.trust = Trust::Pinned(hash.as_ref().try_into().unwrap());
    assert!(site.wrapped(&options, 1).await.is_ok());
    options.trust = Trust::Pinned([7; 32]);
    let failure = cause(site.wrapped(&options, 1).await);
    assert_eq!(failure, TlsFailure::WrongPin { found: hex::encode(hash) });
}

#[tokio::test]
async fn a_pinned_certificate_without_its_key_is_not_enough() {
    let mut site = site(&[HOST], |_| {});
    let mut options = site.options(Encrypt::Required);
    options.trust = Trust::Pinned(digest(&SHA256, &site.certificate).as_ref().try_into().unwrap());
    // The thief has the certificate, which is public, and a key of his own.
    let stolen = site.certificate.clone();
    site.key = KeyPair::generate().unwrap().serialize_der().into();
    let provider = default_provider();
    let key = provider.key_provider.load_private_key(PrivateKeyDer::Pkcs8(site.key.clone_key())).unwrap();
    let thief = rustls::sign::CertifiedKey::new(vec![stolen], key);
    let config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&version::TLS12])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(thief)));
    let (client, mut io) = tokio::io::duplex(64 * 1024);
    let server = async move {
        prelogin(&mut io, 1).await;
        let _ = TlsAcceptor::from(Arc::new(config)).accept(Wrapped::new(Box::new(io), true)).await;
    };
    let outcome = tokio::join!(attempt(client, &options), server).0;
    assert!(matches!(outcome, Err(TdsError::Tls { .. })), "{outcome:?}");
}

#[tokio::test]
async fn no_common_version_and_a_hang_up_are_named() {
    let site = site(&[HOST], |_| {});
    let (client, mut io) = tokio::io::duplex(64 * 1024);
    let server = async move {
        prelogin(&mut io, 1).await;
        message(&mut io).await;
        // an alert record, fatal: handshake_failure
        io.write_all(&[0x12, 1, 0, 15, 0, 0, 0, 0, 21, 3, 3, 0, 2, 2, 40]).await.unwrap();
    };
    let options = site.options(Encrypt::Required);
    let outcome = tokio::join!(attempt(client, &options), server).0;
    assert_eq!(cause(outcome), TlsFailure::NoSharedCipher);

    let (client, mut io) = tokio::io::duplex(64 * 1024);
    let server = async move {
        prelogin(&mut io, 1).await;
        message(&mut io).await;
    };
    let outcome = tokio::join!(attempt(client, &options), server).0;
    assert_eq!(cause(outcome), TlsFailure::Closed);
}

#[tokio::test]
async fn a_ca_file_that_is_none_is_named() {
    let site = site(&[HOST], |_| {});
    let mut options = site.options(Encrypt::Required);
    options.trust = Trust::CaFile("/nowhere/ca.pem".into());
    assert!(cause(site.wrapped(&options, 1).await).to_string().contains("/nowhere/ca.pem cannot be read"));
    let empty = tempfile::NamedTempFile::new().unwrap();
    options.trust = Trust::CaFile(empty.path().to_owned());
    assert!(cause(site.wrapped(&options, 1).await).to_string().contains("holds no certificate"));
}
