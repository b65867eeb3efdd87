//! Snowflake's answers: an envelope that says whether it agreed, and its codes for why it did not.

use serde::{Deserialize, de::IgnoredAny};

use super::super::{
    error::{ErrorClass, UpstreamError, UpstreamName},
    http::Answer,
};

#[derive(Deserialize)]
struct Envelope<T> {
    #[serde(default = "none")]
    data: Option<T>,
    #[serde(default)]
    code: Option<String>,
    success: bool,
}

fn none<T>() -> Option<T> {
    None
}

/// All that is read of an envelope before it is known whether it holds data.
type Verdict = Envelope<IgnoredAny>;

/// The tokens of an answer that is a success.
pub(super) fn data<T: serde::de::DeserializeOwned>(
    attempted: &str,
    answer: &Answer,
) -> Result<T, UpstreamError> {
    serde_json::from_slice::<Envelope<T>>(&answer.body)
        .ok()
        .and_then(|envelope| envelope.data)
        .ok_or_else(|| odd(attempted, "an answer without the tokens"))
}

/// Whether Snowflake agreed: its refusals come with status 200.
pub(super) fn verdict(attempted: &str, answer: &Answer) -> Result<(), UpstreamError> {
    let status = answer.status.as_u16();
    let error = |class, found: &str, advice: &str| {
        UpstreamError::new(UpstreamName::Snowflake, class, attempted, found, advice)
    };
    match status {
        200 => {}
        429 | 500..=599 => {
            let advice = "nothing to do: it is tried again; see status.snowflake.com if it lasts";
            return Err(error(ErrorClass::Busy, "Snowflake is busy", advice)
                .with_code(format!("HTTP {status}"))
                .with_retry_after(answer.retry_after()));
        }
        403 | 404 => {
            let advice = "correct the grant's `account`; if it is right, check the account's network policy";
            return Err(error(ErrorClass::NotFound, "no such account at this address", advice)
                .with_code(format!("HTTP {status}")));
        }
        _ => return Err(odd(attempted, "an unexpected status").with_code(format!("HTTP {status}"))),
    }
    let verdict: Verdict = serde_json::from_slice(&answer.body)
        .map_err(|_| odd(attempted, "an answer that is not Snowflake's"))?;
    if verdict.success {
        return Ok(());
    }
    let code = verdict.code.filter(|c| c.len() <= 8 && c.bytes().all(|b| b.is_ascii_digit()));
    let (class, found, advice) = refusal(code.as_deref().unwrap_or_default());
    let error = error(class, found, advice);
    Err(match code {
        Some(code) => error.with_code(code),
        None => error,
    })
}

fn refusal(code: &str) -> (ErrorClass, &'static str, &'static str) {
    match code {
        "390303" => (
            ErrorClass::Credential,
            "the access token is not accepted",
            "check issuer, audience and JWKS address of the security integration (`DESC INTEGRATION`), and the user's login name",
        ),
        "390318" => (ErrorClass::Expired, "the access token has ended", "ask for a new one"),
        "390317" | "390189" => (
            ErrorClass::Denied,
            "the role does not exist or the user may not use it",
            "grant it to the user, and allow it in the security integration",
        ),
        "390201" | "390202" => (
            ErrorClass::Denied,
            "the warehouse does not exist or the role may not use it",
            "grant USAGE on it",
        ),
        "390100" | "390309" => (
            ErrorClass::Credential,
            "the user is unknown, or is not the one that the access token names",
            "compare the user's LOGIN_NAME with the claim that the security integration maps",
        ),
        "390101" | "390102" => (
            ErrorClass::Denied,
            "the user is disabled or locked",
            "enable it: `ALTER USER ... SET DISABLED = FALSE`",
        ),
        "390422" | "390420" => (
            ErrorClass::Denied,
            "the network policy refuses this address",
            "add the broker's address to the user's or the account's network policy",
        ),
        "390144" | "394304" => (
            ErrorClass::Credential,
            "the key-pair token is not accepted",
            "compare the public key's fingerprint with `DESC USER`",
        ),
        "390104" | "390108" | "390110" | "390111" | "390112" | "390113" | "390114" | "390115" => {
            (ErrorClass::Expired, "the session or its master token has ended", "open a new session")
        }
        _ => (ErrorClass::Denied, "Snowflake refuses", "look the code up in LOGIN_HISTORY"),
    }
}

/// An answer that Snowflake does not give.
pub(super) fn odd(attempted: &str, found: &str) -> UpstreamError {
    let advice = "check that the address is Snowflake's own";
    UpstreamError::new(UpstreamName::Snowflake, ErrorClass::BadReply, attempted, found, advice)
}
