//! The cluster's public keys: a JSON Web Key Set in a file, several of them while one replaces another.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use jsonwebtoken::{
    Algorithm, DecodingKey, crypto,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, PublicKeyUse},
};

use super::claims::Header;

/// The largest file of keys that is read, in bytes.
const LARGEST: u64 = 256 * 1024;
/// A cluster has one key, or a few while they change.
const MOST: usize = 32;

/// The keys, or this pod's uid, cannot be taken from their file.
#[derive(Debug, thiserror::Error)]
#[error("cannot use {}: {problem}", path.display())]
pub struct KeysError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: String,
}

/// The keys of a file.
#[derive(PartialEq, Eq)]
pub(super) struct Keys(Vec<Key>);

/// One key, and the only algorithm that it is for.
pub(super) struct Key {
    id: String,
    algorithm: Algorithm,
    name: &'static str,
    public: DecodingKey,
    source: Jwk,
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for Key {}

impl Keys {
    /// Reads and checks a file; it is small, and on the node's own disk.
    pub(super) fn read(path: &Path) -> Result<Self, KeysError> {
        let wrong = |problem: String| KeysError { path: path.to_owned(), problem };
        let size = fs::metadata(path).map_err(|error| wrong(error.to_string()))?.len();
        if size > LARGEST {
            return Err(wrong(format!("it has {size} bytes, more than a set of keys ({LARGEST})")));
        }
        let text = fs::read(path).map_err(|error| wrong(error.to_string()))?;
        Self::parse(&text).map_err(wrong)
    }

    fn parse(text: &[u8]) -> Result<Self, String> {
        const SOURCE: &str = "write what `kubectl get --raw /openid/v1/jwks` prints";
        let set: JwkSet = serde_json::from_slice(text)
            .map_err(|error| format!("it is no JSON Web Key Set ({error}); {SOURCE}"))?;
        let mut keys: Vec<Key> = Vec::new();
        for (position, jwk) in set.keys.into_iter().enumerate() {
            let key = key(jwk).map_err(|problem| format!("key {}: {problem}", position + 1))?;
            if keys.iter().any(|other| other.id == key.id) {
                return Err(format!("key {}: another key has the same `kid`", position + 1));
            }
            keys.push(key);
        }
        match keys.len() {
            0 => Err(format!("it has no keys; {SOURCE}")),
            1..=MOST => Ok(Self(keys)),
            many => Err(format!("it has {many} keys; a cluster has a few ({MOST} at most are taken)")),
        }
    }

    /// The key that a token names, if it is for the token's algorithm.
    pub(super) fn find(&self, header: &Header) -> Option<&Key> {
        self.0.iter().find(|key| key.id == header.kid && key.name == header.alg)
    }
}

impl fmt::Display for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<&str> = self.0.iter().map(|key| key.id.as_str()).collect();
        write!(f, "keys {}", ids.join(", "))
    }
}

impl Key {
    /// Whether this key signed `message`; `signature` is base64url.
    pub(super) fn verifies(&self, message: &[u8], signature: &str) -> bool {
        crypto::verify(signature, message, &self.public, self.algorithm).unwrap_or(false)
    }
}

fn key(jwk: Jwk) -> Result<Key, String> {
    if !matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature)) {
        return Err("it is not for signatures (`use`)".to_owned());
    }
    let (algorithm, name, stated) = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => (Algorithm::RS256, "RS256", KeyAlgorithm::RS256),
        AlgorithmParameters::EllipticCurve(ec) => match ec.curve {
            EllipticCurve::P256 => (Algorithm::ES256, "ES256", KeyAlgorithm::ES256),
            EllipticCurve::P384 => (Algorithm::ES384, "ES384", KeyAlgorithm::ES384),
            _ => return Err("its curve is none of P-256 and P-384".to_owned()),
        },
        _ => return Err("it is neither RSA nor an elliptic curve: not a cluster's public key".to_owned()),
    };
    if jwk.common.key_algorithm.as_ref().is_some_and(|found| *found != stated) {
        return Err(format!("its `alg` is not {name}"));
    }
    let id =
        jwk.common.key_id.clone().filter(|id| !id.is_empty() && id.len() <= 256).ok_or("it has no `kid`")?;
    let public = DecodingKey::from_jwk(&jwk).map_err(|error| format!("its numbers are wrong ({error})"))?;
    Ok(Key { id, algorithm, name, public, source: jwk })
}
