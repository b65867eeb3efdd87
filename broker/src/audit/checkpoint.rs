//! Checkpoints: lines of the log that say, signed, how many lines there are and what the last one hashes to.
//!
//! A chain of plain hashes can be made anew by whoever may write the file. A checkpoint cannot: its key is a field of
//! the Vault secret, and the public half verifies it on any machine.

use aws_lc_rs::{
    digest,
    signature::{ED25519, UnparsedPublicKey},
};
use rustls_pki_types::{SubjectPublicKeyInfoDer, pem::PemObject as _};

/// The event's name.
pub(super) const EVENT: &str = "Checkpoint";

/// What precedes the 32 bytes of an Ed25519 key in a SubjectPublicKeyInfo (RFC 8410).
const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// Something that signs checkpoints; the key itself stays with the upstreams.
pub trait Sign: Send + Sync + 'static {
    /// The signature over these bytes.
    fn sign(&self, text: &[u8]) -> Vec<u8>;
    /// Which key, by [`key_id`].
    fn key_id(&self) -> &str;
}

/// The bytes that are signed: line `n` follows a line whose hash is `prev`, and was written at `time`.
pub(super) fn text(n: u64, prev: &str, time: &str) -> String {
    format!("keyferry-audit-checkpoint-v1\n{n}\n{prev}\n{time}\n")
}

/// A name for a public key: the first half of its SHA-256, in hexadecimal.
pub fn key_id(public: &[u8]) -> String {
    let hash = digest::digest(&digest::SHA256, public);
    hex::encode(hash.as_ref().split_at(16).0)
}

/// The public half of the key, for whoever verifies.
pub struct PublicKey {
    raw: Vec<u8>,
    id: String,
}

impl PublicKey {
    /// Reads what `openssl pkey -pubout` writes for an Ed25519 key. Nothing when it is something else.
    pub fn from_pem(pem: &[u8]) -> Option<Self> {
        let info = SubjectPublicKeyInfoDer::from_pem_slice(pem).ok()?;
        let raw = info.as_ref().strip_prefix(&SPKI).filter(|raw| raw.len() == 32)?.to_vec();
        Some(Self { id: key_id(&raw), raw })
    }

    /// The key's name, as checkpoints carry it.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether the private half made this signature (hexadecimal) over these bytes.
    pub(super) fn verifies(&self, text: &str, signature: &str) -> bool {
        let key = UnparsedPublicKey::new(&ED25519, &self.raw);
        hex::decode(signature).is_ok_and(|signature| key.verify(text.as_bytes(), &signature).is_ok())
    }
}
