//! Client-side encryption of staged files: the file key is wrapped with the master key that a PUT handed out.

use aes::cipher::{BlockModeDecrypt, KeyInit, KeyIvInit, block_padding::Pkcs7};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::{objects::Object, stages::Stages};

/// Why a staged file cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum Undecipherable {
    #[error("its metadata has no {0}")]
    Missing(&'static str),
    #[error("its {0} is not readable")]
    Malformed(&'static str),
    #[error("its material descriptor names no key of this stage")]
    UnknownKey,
    #[error("its file key does not open with the stage's master key")]
    FileKey,
    #[error("its data does not decrypt: wrong key, or the padding is damaged")]
    Data,
    #[error("its digest is not that of the decrypted data")]
    Digest,
}

/// `x-amz-matdesc`: all members are strings.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    smk_id: String,
    query_id: String,
    key_size: String,
}

/// Which master key a file was encrypted under.
pub(crate) struct KeyName {
    pub(crate) smk_id: String,
    pub(crate) query_id: String,
}

/// The key that a file's metadata names.
pub(crate) fn key_name(object: &Object) -> Result<KeyName, Undecipherable> {
    let text = object.metadata.get("x-amz-matdesc").ok_or(Undecipherable::Missing("x-amz-matdesc"))?;
    let descriptor: Descriptor =
        serde_json::from_str(text).map_err(|_| Undecipherable::Malformed("x-amz-matdesc"))?;
    if !matches!(descriptor.key_size.as_str(), "128" | "256") {
        return Err(Undecipherable::Malformed("x-amz-matdesc"));
    }
    Ok(KeyName { smk_id: descriptor.smk_id, query_id: descriptor.query_id })
}

/// Decrypts one object of the stage with this id and checks its digest.
pub(crate) fn open(stages: &Stages, stage: &str, object: &Object) -> Result<Bytes, Undecipherable> {
    let name = key_name(object)?;
    let master = stages.master_key(stage, &name).ok_or(Undecipherable::UnknownKey)?;
    let wrapped = field(object, "x-amz-key")?;
    let iv = field(object, "x-amz-iv")?;
    let file_key = unwrap_key(&master, &wrapped).ok_or(Undecipherable::FileKey)?;
    if file_key.len() != master.len() {
        return Err(Undecipherable::FileKey);
    }
    let plain = decrypt(&file_key, &iv, &object.data).ok_or(Undecipherable::Data)?;
    if stages.digest_counts(stage, &name) && Sha256::digest(&plain)[..] != field(object, "sfc-digest")?[..] {
        return Err(Undecipherable::Digest);
    }
    Ok(plain.into())
}

fn field(object: &Object, name: &'static str) -> Result<Vec<u8>, Undecipherable> {
    let text = object.metadata.get(name).ok_or(Undecipherable::Missing(name))?;
    STANDARD.decode(text).map_err(|_| Undecipherable::Malformed(name))
}

fn unwrap_key(master: &[u8], wrapped: &[u8]) -> Option<Vec<u8>> {
    match master.len() {
        16 => ecb::Decryptor::<aes::Aes128>::new_from_slice(master)
            .ok()?
            .decrypt_padded_vec::<Pkcs7>(wrapped)
            .ok(),
        32 => ecb::Decryptor::<aes::Aes256>::new_from_slice(master)
            .ok()?
            .decrypt_padded_vec::<Pkcs7>(wrapped)
            .ok(),
        _ => None,
    }
}

fn decrypt(key: &[u8], iv: &[u8], data: &[u8]) -> Option<Vec<u8>> {
    match key.len() {
        16 => cbc::Decryptor::<aes::Aes128>::new_from_slices(key, iv)
            .ok()?
            .decrypt_padded_vec::<Pkcs7>(data)
            .ok(),
        32 => cbc::Decryptor::<aes::Aes256>::new_from_slices(key, iv)
            .ok()?
            .decrypt_padded_vec::<Pkcs7>(data)
            .ok(),
        _ => None,
    }
}
