//! `private_key_jwt`: an assertion that is signed by the key of a certificate of the application.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use aws_lc_rs::digest::{self, SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use base64::{Engine as _, prelude::BASE64_STANDARD, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;

/// What the form's `client_assertion_type` says.
pub(super) const KIND: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Entra lets clocks differ by so many seconds.
const SKEW: f64 = 300.0;

/// A certificate that an application has registered.
pub(super) struct Certificate {
    key: DecodingKey,
    /// Of its DER bytes, as an assertion's header names them: `x5t` and `x5t#S256`.
    thumbprints: [String; 2],
}

impl Certificate {
    /// Reads a PEM certificate of an RSA key.
    pub(super) fn read(pem: &str) -> Result<Self> {
        let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        let der = BASE64_STANDARD.decode(body.trim()).context("the certificate is no PEM")?;
        let of = |kind| BASE64_URL_SAFE_NO_PAD.encode(digest::digest(kind, &der));
        Ok(Self {
            key: DecodingKey::from_rsa_pem(pem.as_bytes()).context("the certificate holds no RSA key")?,
            thumbprints: [of(&SHA1_FOR_LEGACY_USE_ONLY), of(&SHA256)],
        })
    }
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    x5t: String,
    #[serde(default, rename = "x5t#S256")]
    x5t_s256: String,
}

#[derive(Deserialize)]
struct Claims {
    aud: String,
    iss: String,
    sub: String,
    /// Seconds; RFC 7519 lets them have a fraction, and Microsoft's own library writes one.
    exp: f64,
    #[serde(default)]
    nbf: f64,
}

/// Checks an assertion; the error is Entra's number and sentence.
pub(super) fn check(
    assertion: &str,
    client_id: &str,
    certificates: &[Certificate],
    audiences: &[String],
) -> Result<(), (u32, String)> {
    let malformed = || (50_027, "JWT token is invalid or malformed.".to_owned());
    let header = assertion.split('.').next().and_then(|part| BASE64_URL_SAFE_NO_PAD.decode(part).ok());
    let header: Header =
        header.and_then(|header| serde_json::from_slice(&header).ok()).ok_or_else(malformed)?;
    let algorithm = match header.alg.as_str() {
        "RS256" => Algorithm::RS256,
        "PS256" => Algorithm::PS256,
        _ => return Err(malformed()),
    };
    let named = |certificate: &&Certificate| {
        // Microsoft's own libraries write the padding.
        let (x5t, x5t_s256) = (header.x5t.trim_end_matches('='), header.x5t_s256.trim_end_matches('='));
        let [sha1, sha256] = &certificate.thumbprints;
        sha256 == x5t_s256 || (x5t_s256.is_empty() && sha1 == x5t)
    };
    let certificate =
        certificates.iter().find(named).ok_or_else(|| invalid_signature("The key was not found."))?;
    let mut signature_only = Validation::new(algorithm);
    (signature_only.validate_exp, signature_only.validate_aud) = (false, false);
    signature_only.required_spec_claims.clear();
    let claims = jsonwebtoken::decode::<Claims>(assertion, &certificate.key, &signature_only)
        .map_err(|_| {
            invalid_signature("The provided signature value did not match the expected signature value.")
        })?
        .claims;
    if claims.iss != client_id || claims.sub != client_id {
        let text = "Client assertion application identifier doesn't match 'client_id' parameter.";
        return Err((700_021, text.to_owned()));
    }
    if !audiences.contains(&claims.aud) {
        return Err((700_023, "Client assertion audience claim does not match Realm issuer.".to_owned()));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    if claims.exp + SKEW < now || claims.nbf > now + SKEW {
        return Err((700_024, "Client assertion is not within its valid time range.".to_owned()));
    }
    Ok(())
}

fn invalid_signature(reason: &str) -> (u32, String) {
    (
        700_027,
        format!(
            "The certificate with identifier used to sign the client assertion is not registered on application. [Reason - {reason}]"
        ),
    )
}
