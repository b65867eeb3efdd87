//! AWS Signature Version 4 in headers, as the documentation of S3 has it. Nothing but the header form is accepted.

use std::{fmt::Write as _, time::Instant};

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use hyper::{StatusCode, http::request::Parts};
use sha2::{Digest, Sha256};
use time::{OffsetDateTime, PrimitiveDateTime, macros::format_description};

use super::{Grant, ObjectStore, REGION, lock};

/// Clocks further apart than this are refused.
const MOST_SKEW: time::Duration = time::Duration::minutes(15);

/// A refusal in the words of S3.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) message: &'static str,
}

fn refused(status: StatusCode, code: &'static str, message: &'static str) -> Refused {
    Refused { status, code, message }
}

struct Authorization<'a> {
    key_id: &'a str,
    date: &'a str,
    region: &'a str,
    signed: Vec<&'a str>,
    signature: &'a str,
}

/// Checks the signature of one request; the prefix that its credentials are good for comes back.
pub(super) fn check(store: &ObjectStore, parts: &Parts, body: &Bytes) -> Result<String, Refused> {
    const FORBIDDEN: StatusCode = StatusCode::FORBIDDEN;
    const BAD: StatusCode = StatusCode::BAD_REQUEST;
    let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let text = header("authorization").ok_or(refused(
        FORBIDDEN,
        "AccessDenied",
        "Anonymous access is forbidden for this operation",
    ))?;
    let authorization = parse(text).ok_or(refused(
        BAD,
        "AuthorizationHeaderMalformed",
        "The authorization header that you provided is not valid.",
    ))?;
    if authorization.region != REGION {
        return Err(refused(
            BAD,
            "AuthorizationHeaderMalformed",
            "The region in the authorization header is wrong.",
        ));
    }
    let stamp = header("x-amz-date").unwrap_or_default();
    let format = format_description!("[year][month][day]T[hour][minute][second]Z");
    let sent = PrimitiveDateTime::parse(stamp, &format).map_err(|_| {
        refused(FORBIDDEN, "AccessDenied", "AWS authentication requires a valid x-amz-date header")
    })?;
    if (OffsetDateTime::now_utc() - sent.assume_utc()).abs() > MOST_SKEW {
        return Err(refused(
            FORBIDDEN,
            "RequestTimeTooSkewed",
            "The difference between the request time and the current time is too large.",
        ));
    }
    let grants = lock(&store.grants);
    let grant = grants.get(authorization.key_id).ok_or(refused(
        FORBIDDEN,
        "InvalidAccessKeyId",
        "The AWS Access Key Id you provided does not exist in our records.",
    ))?;
    if header("x-amz-security-token") != Some(&grant.token) {
        return Err(refused(BAD, "InvalidToken", "The provided token is malformed or otherwise invalid."));
    }
    let signed = |name: &str| authorization.signed.contains(&name);
    let all_signed =
        parts.headers.keys().all(|name| !name.as_str().starts_with("x-amz-") || signed(name.as_str()));
    if !signed("host") || !all_signed || !stamp.starts_with(authorization.date) {
        return Err(refused(
            FORBIDDEN,
            "AccessDenied",
            "There were headers present in the request which were not signed",
        ));
    }
    let payload = header("x-amz-content-sha256").ok_or(refused(
        BAD,
        "InvalidRequest",
        "Missing required header for this request: x-amz-content-sha256",
    ))?;
    if !matches_signature(&authorization, grant, parts, stamp, payload) {
        return Err(refused(
            FORBIDDEN,
            "SignatureDoesNotMatch",
            "The request signature we calculated does not match the signature you provided. Check your key and signing method.",
        ));
    }
    let unsigned = payload == "UNSIGNED-PAYLOAD" || payload == super::chunked::ANNOUNCED;
    if payload.starts_with("STREAMING-") && !unsigned {
        return Err(refused(
            StatusCode::NOT_IMPLEMENTED,
            "NotImplemented",
            "Signed chunks are not implemented.",
        ));
    }
    if !unsigned && !payload.eq_ignore_ascii_case(&hex::encode(Sha256::digest(body))) {
        return Err(refused(
            BAD,
            "XAmzContentSHA256Mismatch",
            "The provided 'x-amz-content-sha256' header does not match what was computed.",
        ));
    }
    if grant.expires <= Instant::now() {
        return Err(refused(BAD, "ExpiredToken", "The provided token has expired."));
    }
    Ok(grant.prefix.clone())
}

fn parse(text: &str) -> Option<Authorization<'_>> {
    let fields = text.strip_prefix("AWS4-HMAC-SHA256")?;
    let (mut credential, mut signed, mut signature) = (None, None, None);
    for field in fields.split(',') {
        match field.trim().split_once('=')? {
            ("Credential", value) => credential = Some(value),
            ("SignedHeaders", value) => signed = Some(value),
            ("Signature", value) => signature = Some(value),
            _ => return None,
        }
    }
    let mut scope = credential?.split('/');
    let (key_id, date, region) = (scope.next()?, scope.next()?, scope.next()?);
    if scope.next()? != "s3" || scope.next()? != "aws4_request" || scope.next().is_some() || date.len() != 8 {
        return None;
    }
    Some(Authorization { key_id, date, region, signed: signed?.split(';').collect(), signature: signature? })
}

fn matches_signature(
    authorization: &Authorization<'_>,
    grant: &Grant,
    parts: &Parts,
    stamp: &str,
    payload: &str,
) -> bool {
    let mut request =
        format!("{}\n{}\n{}\n", parts.method, canonical_path(parts.uri.path()), canonical_query(parts));
    for name in &authorization.signed {
        let values: Vec<String> = parts
            .headers
            .get_all(*name)
            .iter()
            .map(|value| {
                String::from_utf8_lossy(value.as_bytes()).split_whitespace().collect::<Vec<_>>().join(" ")
            })
            .collect();
        let _ = writeln!(request, "{name}:{}", values.join(","));
    }
    let _ = write!(request, "\n{}\n{payload}", authorization.signed.join(";"));
    let scope = format!("{}/{}/s3/aws4_request", authorization.date, authorization.region);
    let to_sign = format!("AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{}", hex::encode(Sha256::digest(&request)));
    let key = [authorization.date, authorization.region, "s3", "aws4_request"]
        .iter()
        .fold(format!("AWS4{}", grant.secret).into_bytes(), |key, part| mac(&key, part.as_bytes()));
    let Ok(given) = hex::decode(authorization.signature) else { return false };
    Hmac::<Sha256>::new_from_slice(&key).is_ok_and(|mut signer| {
        signer.update(to_sign.as_bytes());
        signer.verify_slice(&given).is_ok()
    })
}

fn mac(key: &[u8], data: &[u8]) -> Vec<u8> {
    // An HMAC key may have any length, so the error cannot occur.
    Hmac::<Sha256>::new_from_slice(key).map_or_else(
        |_| Vec::new(),
        |mut signer| {
            signer.update(data);
            signer.finalize().into_bytes().to_vec()
        },
    )
}

fn canonical_path(path: &str) -> String {
    encode(&decode(path), true)
}

fn canonical_query(parts: &Parts) -> String {
    let mut pairs: Vec<(String, String)> = query(parts.uri.query().unwrap_or_default())
        .map(|(name, value)| (encode(name.as_bytes(), false), encode(value.as_bytes(), false)))
        .collect();
    pairs.sort();
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

/// The decoded names and values of a query string. A `+` stays a plus, as in S3.
pub(super) fn query(text: &str) -> impl Iterator<Item = (String, String)> {
    text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let plain = |part: &str| String::from_utf8_lossy(&decode(part)).into_owned();
        (plain(name), plain(value))
    })
}

/// Undoes percent-encoding; a stray percent sign stays.
pub(super) fn decode(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digits = bytes.get(at + 1..at + 3).and_then(|pair| std::str::from_utf8(pair).ok());
        match digits.and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            Some(byte) if bytes[at] == b'%' => {
                out.push(byte);
                at += 3;
            }
            _ => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    out
}

fn encode(bytes: &[u8], keep_slash: bool) -> String {
    let mut out = String::with_capacity(bytes.len());
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || (keep_slash && byte == b'/') {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}
