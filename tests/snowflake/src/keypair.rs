//! `SNOWFLAKE_JWT`: a token that the client signed with its own key, at most a minute ago.

use base64::{Engine, engine::general_purpose::STANDARD};
use jsonwebtoken::{
    Algorithm, DecodingKey, Validation, dangerous::insecure_decode_claims, decode, decode_header,
    get_current_timestamp,
};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::{KeyPair, User, reply::Refusal};

/// Drivers that count in milliseconds give numbers above this.
const MILLISECONDS_FROM: u64 = 100_000_000_000;
/// A token received later than this after its `iat` is refused.
const MOST_SECONDS_AFTER_ISSUE: u64 = 60;

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    iat: u64,
}

/// Checks a key-pair token and finds its user. The client is told 390144 and a number, whatever was wrong; the reason is
/// for the administrator, here in the log.
pub(crate) fn check<'a>(token: &str, account: &str, users: &'a [User]) -> Result<&'a User, Refusal> {
    examine(token, account, users).map_err(|reason| {
        let id = uuid::Uuid::new_v4();
        tracing::info!(%id, code = reason.code, message = reason.message, "key-pair login refused");
        Refusal::new("390144", "08001", format!("JWT token is invalid. [{id}]"))
    })
}

fn examine<'a>(token: &str, account: &str, users: &'a [User]) -> Result<&'a User, Refusal> {
    let invalid = || Refusal::new("390144", "08001", "JWT token is invalid.");
    let header = decode_header(token)
        .map_err(|_| Refusal::new("394306", "08001", "JWT token has an invalid format."))?;
    if header.alg != Algorithm::RS256 {
        return Err(Refusal::new("394305", "08001", "JWT token has an invalid algorithm."));
    }
    let claims: Claims = insecure_decode_claims(token).map_err(|_| invalid())?;
    let (named_account, name) = claims.sub.split_once('.').ok_or_else(invalid)?;
    if !named_account.eq_ignore_ascii_case(account) {
        return Err(invalid());
    }
    let user = users.iter().find(|user| user.name.eq_ignore_ascii_case(name)).ok_or_else(invalid)?;
    let pair = user.key_pair.as_ref().ok_or_else(invalid)?;
    let fingerprint = claims.iss.strip_prefix(&format!("{}.", claims.sub)).ok_or_else(invalid)?;
    let pem = matching_key(pair, fingerprint).ok_or_else(|| {
        Refusal::new("394304", "08001", "JWT token's public key fingerprint does not match the user's.")
    })?;
    let key = DecodingKey::from_rsa_pem(pem.as_bytes()).map_err(|_| invalid())?;
    let mut validation = Validation::new(Algorithm::RS256);
    validation.validate_aud = false;
    validation.leeway = 0;
    decode::<Claims>(token, &key, &validation).map_err(|error| match error.into_kind() {
        jsonwebtoken::errors::ErrorKind::ExpiredSignature => {
            Refusal::new("394301", "08001", "JWT token has expired.")
        }
        _ => invalid(),
    })?;
    let now = get_current_timestamp();
    let issued = if claims.iat > MILLISECONDS_FROM { claims.iat / 1000 } else { claims.iat };
    if issued > now + MOST_SECONDS_AFTER_ISSUE || now > issued + MOST_SECONDS_AFTER_ISSUE {
        return Err(Refusal::new(
            "394302",
            "08001",
            "JWT token has an invalid issue time: it was received more than 60 seconds after or before it.",
        ));
    }
    Ok(user)
}

fn matching_key<'a>(pair: &'a KeyPair, fingerprint: &str) -> Option<&'a str> {
    [Some(&pair.rsa_public_key), pair.rsa_public_key_2.as_ref()]
        .into_iter()
        .flatten()
        .find(|pem| fingerprint_of(pem).as_deref() == Some(fingerprint))
        .map(String::as_str)
}

/// `SHA256:` and the base64 digest of the key's SPKI DER.
fn fingerprint_of(pem: &str) -> Option<String> {
    let base64: String = pem.lines().filter(|line| !line.starts_with("-----")).map(str::trim).collect();
    let der = STANDARD.decode(base64).ok()?;
    Some(format!("SHA256:{}", STANDARD.encode(Sha256::digest(der))))
}
