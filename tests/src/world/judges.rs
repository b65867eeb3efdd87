//! What third-party clients log in with: a SQL login, a Kerberos ticket, a Snowflake key pair.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use keyferry_stand_in_identity::kdc::Kdc;
use keyferry_stand_in_snowflake::KeyPair;
use rcgen::{PKCS_RSA_SHA256, RsaKeySize};

use super::{REALM, TENANT, World};

/// The Snowflake user that logs in with a key pair.
pub const JUDGE_KEY_USER: &str = "SVC_KEYPAIR";
/// The SQL login and its password: of a throw-away server on loopback, and printed by the demo.
pub(super) const LOGIN: &str = "judge";
pub(super) const PASSWORD: &str = "Judge-the-server-1";
/// The Kerberos user whose ticket the clients use.
pub(super) const PRINCIPAL: &str = "svc_judge";

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
    Ok(KeyPair { rsa_public_key: pair.public_key_pem(), rsa_public_key_2: None })
}

fn ticket(dir: &Path) -> PathBuf {
    dir.join("judge.ccache")
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

    /// Entra's tenant.
    pub fn tenant(&self) -> &'static str {
        TENANT
    }
}
