//! What third-party clients log in with: a SQL login, a Kerberos ticket, a Snowflake key pair.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use keyferry_stand_in_identity::kdc::Kdc;
use keyferry_stand_in_snowflake::KeyPair;
use rcgen::{CertificateParams, PKCS_RSA_SHA256, RsaKeySize};

use super::{ACCOUNT, REALM, TENANT, World};

/// The Snowflake user that logs in with a key pair.
pub const JUDGE_KEY_USER: &str = "SVC_KEYPAIR";
/// The SQL login and its password: of a throw-away server on loopback, and printed by the demo.
pub(super) const LOGIN: &str = "judge";
pub(super) const PASSWORD: &str = "Judge-the-server-1";
/// The Kerberos user whose ticket the clients use.
pub(super) const PRINCIPAL: &str = "svc_judge";

/// The application whose tokens the example workloads get, and its Snowflake user.
pub(super) const REPORTS_APP: &str = "2b1d8f0a-6c11-4f0e-8f39-0d6f3f0c9a03";
pub(super) const REPORTS_USER: &str = "SVC_REPORTS";
/// What the examples' Snowflake role needs, and which identities may ask for its token.
pub(super) const REPORTS_SETUP: &str = include_str!("../../../deploy/examples/setup.sql");
const REPORTS_POLICY: &str = include_str!("../../../deploy/examples/policy.yaml");
/// Hosts that a client has built in; it is brought to the stand-in under these names.
pub(super) const SNOWFLAKE_HOSTS: [&str; 2] =
    ["keyferry-demo.snowflakecomputing.com", "s3.us-west-2.amazonaws.com"];

/// Gets the judges' user a ticket and makes a key pair; returns its public half.
pub(super) fn prepare(dir: &Path, kdc: &Kdc) -> Result<KeyPair> {
    kdc.add_principal(PRINCIPAL)?;
    let keytab = dir.join("kdc").join("svc_judge.keytab");
    kdc.export_keytab(PRINCIPAL, &keytab)?;
    let output = Command::new("kinit")
        .args(["-k", "-t"])
        .arg(&keytab)
        .arg("-c")
        .arg(ticket(dir))
        .arg(format!("{PRINCIPAL}@{REALM}"))
        .env("KRB5_CONFIG", dir.join("krb5.conf"))
        .output()
        .context("run kinit for the judges")?;
    ensure!(
        output.status.success(),
        "kinit for the judges ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    let pair = rcgen::KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?;
    fs::write(key_file(dir), pair.serialize_pem()).context("write the judges' private key")?;
    let certificate = CertificateParams::new(vec!["judge.example".to_owned()])?.self_signed(&pair)?;
    fs::write(certificate_file(dir), certificate.pem()).context("write the judges' certificate")?;
    Ok(KeyPair { rsa_public_key: pair.public_key_pem(), rsa_public_key_2: None })
}

/// The certificate that [`prepare`] made.
pub(super) fn certificate(dir: &Path) -> Result<String> {
    fs::read_to_string(certificate_file(dir)).context("read the judges' certificate")
}

fn ticket(dir: &Path) -> PathBuf {
    dir.join("judge.ccache")
}

fn certificate_file(dir: &Path) -> PathBuf {
    dir.join("judge-certificate.pem")
}

fn key_file(dir: &Path) -> PathBuf {
    dir.join("judge-key.p8")
}

impl World {
    /// A SQL login that every world has, and its password.
    pub fn sql_login(&self) -> (&'static str, &'static str) {
        (LOGIN, PASSWORD)
    }

    /// The credential cache of the judges' Kerberos user.
    pub fn judge_ticket(&self) -> PathBuf {
        ticket(&self.dir)
    }

    /// The judges' Kerberos user.
    pub fn judge_principal(&self) -> String {
        format!("{PRINCIPAL}@{REALM}")
    }

    /// The private key of [`JUDGE_KEY_USER`], as PKCS#8 PEM.
    pub fn judge_key_file(&self) -> PathBuf {
        key_file(&self.dir)
    }

    /// A certificate of the judges' Entra application; its key is [`judge_key_file`](Self::judge_key_file).
    pub fn judge_certificate_file(&self) -> PathBuf {
        certificate_file(&self.dir)
    }

    /// Entra's tenant.
    pub fn tenant(&self) -> &'static str {
        TENANT
    }

    /// The grant of the example workloads, as it stands in a `broker.yaml`.
    pub fn reports_grant(&self) -> String {
        let ca = self.ca_file().display().to_string();
        format!(
            "  reporting:\n    snowflake:\n      account: {ACCOUNT}\n      url: {snowflake}\n      ca_file: {ca}\n      user: {REPORTS_USER}\n      \
             roles: [REPORTER]\n      warehouses: [LOAD_WH]\n      login:\n        entra:\n          tenant_key: tenant_id\n          \
             client_id_key: reports_client_id\n          client_secret_key: reports_client_secret\n          \
             scope: \"api://snowflake/.default\"\n          authority: {entra}\n          ca_file: {ca}\n",
            snowflake = self.snowflake.url,
            entra = self.entra.url(),
        )
    }

    /// The examples' lines of policy. Without root every workload runs as the one user that there is.
    pub fn reports_policy(&self) -> Vec<String> {
        let lines = REPORTS_POLICY.lines().filter_map(|line| line.strip_prefix("  - "));
        let own = format!("uid: {}", self.users.loader.uid);
        lines
            .map(|line| {
                let uid = line
                    .split_once("uid: ")
                    .map_or("", |(_, rest)| rest.split(' ').next().unwrap_or_default());
                if self.users.separate { line.to_owned() } else { line.replace(&format!("uid: {uid}"), &own) }
            })
            .collect()
    }
}
