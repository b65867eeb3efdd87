//! Client-side encryption as Snowflake's internal stages want it: a random key for each file, AES-CBC with PKCS#7 over
//! the data, the file key wrapped with AES-ECB and PKCS#7 under the stage's master key, the digest over the plaintext.

use aws_lc_rs::{
    cipher::{
        AES_128, AES_256, Algorithm, DecryptionContext, PaddedBlockEncryptingKey, StreamingEncryptingKey,
        UnboundCipherKey,
    },
    digest, rand,
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use zeroize::Zeroizing;

const BLOCK: usize = 16;

/// AES failed, which happens with unusable keys only.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("AES refused the key or the buffer")]
pub struct CipherError;

impl From<aws_lc_rs::error::Unspecified> for CipherError {
    fn from(_: aws_lc_rs::error::Unspecified) -> Self {
        Self
    }
}

/// A stage's master key, as one PUT's reply carries it. It has no `Debug` and wipes itself.
#[derive(Clone)]
pub struct MasterKey {
    key: Zeroizing<Vec<u8>>,
    query_id: String,
    smk_id: String,
}

impl MasterKey {
    /// `base64` is 16 or 32 bytes.
    pub(crate) fn new(base64: &str, query_id: String, smk_id: String) -> Result<Self, &'static str> {
        let key = Zeroizing::new(BASE64.decode(base64).map_err(|_| "a master key that is no base64")?);
        algorithm(key.len()).ok_or("a master key of neither 16 nor 32 bytes")?;
        Ok(Self { key, query_id, smk_id })
    }

    fn description(&self) -> String {
        serde_json::json!({
            "queryId": self.query_id,
            "smkId": self.smk_id,
            "keySize": (self.key.len() * 8).to_string(),
        })
        .to_string()
    }
}

/// What the metadata of an encrypted file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Base64: the file key under the master key.
    pub wrapped_key: String,
    /// Base64: the initialisation vector.
    pub iv: String,
    /// JSON, every value a string: which master key.
    pub description: String,
    /// Base64 SHA-256 of the plaintext.
    pub digest: String,
}

/// Encrypts one file as it is written.
pub struct Encryptor {
    cipher: StreamingEncryptingKey,
    plaintext: digest::Context,
    wrapped_key: String,
    description: String,
}

impl Encryptor {
    /// Draws a key for one file and wraps it.
    pub fn new(master: &MasterKey) -> Result<Self, CipherError> {
        let algorithm = algorithm(master.key.len()).ok_or(CipherError)?;
        let mut file_key = Zeroizing::new(vec![0_u8; master.key.len()]);
        rand::fill(&mut file_key)?;
        let mut wrapped = file_key.to_vec();
        let wrapping = PaddedBlockEncryptingKey::ecb_pkcs7(UnboundCipherKey::new(algorithm, &master.key)?)?;
        wrapping.encrypt(&mut wrapped)?;
        Ok(Self {
            cipher: StreamingEncryptingKey::cbc_pkcs7(UnboundCipherKey::new(algorithm, &file_key)?)?,
            plaintext: digest::Context::new(&digest::SHA256),
            wrapped_key: BASE64.encode(&wrapped),
            description: master.description(),
        })
    }

    /// Encrypts `plain` into `out`, which is replaced.
    pub fn update(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), CipherError> {
        self.plaintext.update(plain);
        out.resize(plain.len() + BLOCK, 0);
        let written = self.cipher.update(plain, out)?.written().len();
        out.truncate(written);
        Ok(())
    }

    /// The last block goes into `out`; the envelope goes into the file's metadata.
    pub fn finish(self, out: &mut Vec<u8>) -> Result<Envelope, CipherError> {
        out.clear();
        out.resize(BLOCK, 0);
        let (context, last) = self.cipher.finish(out)?;
        let written = last.written().len();
        out.truncate(written);
        let DecryptionContext::Iv128(iv) = context else { return Err(CipherError) };
        Ok(Envelope {
            wrapped_key: self.wrapped_key,
            iv: BASE64.encode(iv.as_ref()),
            description: self.description,
            digest: BASE64.encode(self.plaintext.finish()),
        })
    }
}

fn algorithm(key_bytes: usize) -> Option<&'static Algorithm> {
    match key_bytes {
        16 => Some(&AES_128),
        32 => Some(&AES_256),
        _ => None,
    }
}
