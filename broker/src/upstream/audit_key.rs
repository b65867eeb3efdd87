//! The key that signs the audit log's checkpoints: a field of the Vault secret, PKCS#8 in PEM, as
//! `openssl genpkey -algorithm ed25519` writes it.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use rustls_pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};

use super::{
    bundle::Bundle,
    error::{ErrorClass, UpstreamError, UpstreamName},
};
use crate::audit::{Sign, key_id};

/// The private key. It cannot be read back.
pub struct AuditKey {
    pair: Ed25519KeyPair,
    id: String,
}

impl AuditKey {
    /// Takes the key from a field of the bundle.
    pub(super) fn take(bundle: &Bundle, field: &str) -> Result<Self, UpstreamError> {
        let refuse = || {
            UpstreamError::new(
                UpstreamName::Vault,
                ErrorClass::Configuration,
                format!("taking the audit log's key from the field `{field}` (version {})", bundle.version()),
                "it is no Ed25519 key in PEM",
                "write what `openssl genpkey -algorithm ed25519` gives there, or correct `audit.signing_key`",
            )
        };
        let pem = bundle.secret(field)?.expose();
        // The DER text wipes itself when dropped.
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| refuse())?;
        let pair =
            Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der()).map_err(|_| refuse())?;
        Ok(Self { id: key_id(pair.public_key().as_ref()), pair })
    }
}

impl Sign for AuditKey {
    fn sign(&self, text: &[u8]) -> Vec<u8> {
        self.pair.sign(text).as_ref().to_vec()
    }

    fn key_id(&self) -> &str {
        &self.id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_ed25519_key_is_refused_unseen() {
        let fields =
            r#"{"key": "-----BEGIN PRIVATE KEY-----\nYmFk\n-----END PRIVATE KEY-----", "word": "hunter2"}"#;
        let bundle = Bundle::new(3, "secret/p".to_owned(), serde_json::from_str(fields).unwrap());
        for field in ["key", "word", "absent"] {
            let error = AuditKey::take(&bundle, field).err().unwrap().to_string();
            assert!(
                error.contains(field) && !error.contains("hunter2") && !error.contains("YmFk"),
                "{error}"
            );
        }
    }
}
