//! Vault's refusals: what each status means, and what to do about it.

use reqwest::StatusCode;

use super::super::{
    error::{ErrorClass, UpstreamError, UpstreamName},
    http::Answer,
};

/// An answer that Vault does not give.
pub(super) fn malformed(attempted: &str) -> UpstreamError {
    let found = "the answer is not Vault's";
    let advice = "check that `vault.address` is Vault's own address, and that the secret is of KV version 2";
    UpstreamError::new(UpstreamName::Vault, ErrorClass::BadReply, attempted, found, advice)
}

/// A request that cannot be made of what the configuration names.
pub(super) fn impossible(attempted: &str, found: &str) -> UpstreamError {
    let advice = "check the files that `vault.auth` names";
    UpstreamError::new(UpstreamName::Vault, ErrorClass::Configuration, attempted, found, advice)
}

/// A wrapping token that Vault no longer knows was used by somebody, or has lapsed.
pub(super) fn spent(attempted: &str, error: UpstreamError) -> UpstreamError {
    if !error.is_permanent() {
        return error;
    }
    UpstreamError::new(
        UpstreamName::Vault,
        ErrorClass::Intercepted,
        attempted,
        "the wrapping token was used before or has lapsed",
        "this broker did not use it, as far as it can know (its note of that does not outlive a pod or a reboot): \
         treat the secret_id as stolen, destroy it by its accessor, find out who read the file, and deliver a new \
         wrapped one",
    )
    .with_code(error.code().unwrap_or("unknown"))
}

/// What Vault's status means for what was attempted. Its words are not repeated.
pub(super) fn refusal(attempted: &str, answer: &Answer) -> UpstreamError {
    let login = attempted.starts_with("AppRole");
    let (class, found, advice) = match answer.status.as_u16() {
        400 if login => (
            ErrorClass::Credential,
            "role_id or secret_id is refused: wrong, lapsed or used up",
            "deliver a new secret_id (`vault write -f auth/approle/role/ROLE/secret-id`)",
        ),
        403 if login => (
            ErrorClass::Denied,
            "the login is denied",
            "check the role's `secret_id_bound_cidrs` and `token_bound_cidrs` against this host, and `vault.namespace`",
        ),
        404 if login => (
            ErrorClass::NotFound,
            "no AppRole method there",
            "correct `vault.auth.approle.mount` or `vault.namespace`",
        ),
        400 => (
            ErrorClass::Configuration,
            "the request is refused",
            "check mount and path in `vault.secret`: the mount must be of KV version 2",
        ),
        403 => (
            ErrorClass::Denied,
            "permission denied: the token is revoked, or its policy lacks this path",
            "grant the AppRole's policy `read` on MOUNT/data/PATH",
        ),
        404 => (
            ErrorClass::NotFound,
            "nothing there, or the newest version is deleted",
            "correct `vault.secret`, or write the secret",
        ),
        412 => (ErrorClass::Busy, "this replica does not have the token yet", "nothing to do: tried again"),
        429 => (ErrorClass::Busy, "too many requests", "raise the rate limit quota, or wait"),
        472 => (
            ErrorClass::Busy,
            "this is a disaster-recovery standby, which serves nobody",
            "point `vault.address` at the active cluster",
        ),
        473 => {
            (ErrorClass::Busy, "this is a performance standby", "point `vault.address` at the active node")
        }
        503 => {
            (ErrorClass::Sealed, "Vault is sealed or in maintenance", "unseal it (`vault operator unseal`)")
        }
        500..=599 => (ErrorClass::Busy, "Vault failed", "look into Vault's own log"),
        _ => (ErrorClass::BadReply, "an unexpected status", "check that `vault.address` is Vault's own"),
    };
    UpstreamError::new(UpstreamName::Vault, class, attempted, found, advice)
        .with_code(format!("HTTP {}", answer.status.as_u16()))
        .with_retry_after(answer.retry_after())
}

/// True for the answer that a revoked or lapsed token gets.
pub(super) fn token_refused(error: &UpstreamError) -> bool {
    error.code() == Some("HTTP 403")
}

/// True for the answer of a replica that is behind.
pub(super) fn not_replicated(error: &UpstreamError) -> bool {
    error.code().and_then(|c| c.strip_prefix("HTTP ")).and_then(|c| c.parse().ok())
        == Some(StatusCode::PRECONDITION_FAILED.as_u16())
}
