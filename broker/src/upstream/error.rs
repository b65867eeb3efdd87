//! Why an upstream did not give what was asked: named, coded, and free of anything it sent.

use std::{fmt, time::Duration};

/// The upstreams that the broker talks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UpstreamName {
    /// Vault.
    Vault,
    /// The Kerberos KDC, and the keytab that is shown to it.
    Kerberos,
    /// Microsoft Entra ID, or any other issuer of OAuth access tokens.
    Entra,
    /// Snowflake's login service.
    Snowflake,
    /// None of them: the broker's own configuration is at fault.
    Configuration,
}

impl UpstreamName {
    /// The name as it appears in logs, health and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Vault => "vault",
            Self::Kerberos => "kerberos",
            Self::Entra => "entra",
            Self::Snowflake => "snowflake",
            Self::Configuration => "configuration",
        }
    }
}

impl fmt::Display for UpstreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What kind of failure it was: the label of metrics, and what decides whether to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// No connection, no answer in time, or an answer that broke off.
    Unreachable,
    /// The upstream is there and asks for patience: 429, 5xx, a standby.
    Busy,
    /// Vault is sealed: an operator has to unseal it.
    Sealed,
    /// The credential that the broker showed is wrong, lapsed or revoked.
    Credential,
    /// The credential is good and not allowed to do this.
    Denied,
    /// The path, key, principal or account does not exist.
    NotFound,
    /// The answer is not one that this upstream may give: too large, a redirect, malformed, absurd.
    BadReply,
    /// The clocks of broker and upstream differ too much.
    Clock,
    /// A wrapping token that somebody else has used, or that was made elsewhere: raise the alarm.
    Intercepted,
    /// The request or the broker's configuration cannot be right.
    Configuration,
    /// The exchange ended, or took too long, before it was complete.
    Expired,
}

impl ErrorClass {
    /// A word for logs, health and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Busy => "busy",
            Self::Sealed => "sealed",
            Self::Credential => "credential",
            Self::Denied => "denied",
            Self::NotFound => "not_found",
            Self::BadReply => "bad_reply",
            Self::Clock => "clock",
            Self::Intercepted => "intercepted",
            Self::Configuration => "configuration",
            Self::Expired => "expired",
        }
    }
}

impl fmt::Display for ErrorClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An upstream did not give what was asked.
///
/// The text says what was attempted, what was found (with the upstream's own code) and what to do. It
/// holds nothing of the upstream's body and no part of any secret or token.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{upstream}: {attempted}: {found}{}; {advice}", Coded(code.as_deref()))]
pub struct UpstreamError {
    upstream: UpstreamName,
    class: ErrorClass,
    attempted: String,
    found: String,
    code: Option<String>,
    advice: String,
    retry_after: Option<Duration>,
}

struct Coded<'a>(Option<&'a str>);

impl fmt::Display for Coded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(code) => write!(f, " ({code})"),
            None => Ok(()),
        }
    }
}

impl UpstreamError {
    pub(crate) fn new(
        upstream: UpstreamName,
        class: ErrorClass,
        attempted: impl Into<String>,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self {
            upstream,
            class,
            attempted: attempted.into(),
            found: found.into(),
            code: None,
            advice: advice.into(),
            retry_after: None,
        }
    }

    pub(super) fn with_code(mut self, code: impl Into<String>) -> Self {
        self.code = Some(code.into());
        self
    }

    pub(super) fn with_retry_after(mut self, wait: Option<Duration>) -> Self {
        self.retry_after = wait;
        self
    }

    /// Which upstream it was.
    pub fn upstream(&self) -> UpstreamName {
        self.upstream
    }

    /// What kind of failure it was.
    pub fn class(&self) -> ErrorClass {
        self.class
    }

    /// The upstream's own code: `AADSTS7000215`, `HTTP 503`, `390318`, a Kerberos message's number.
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// How long the upstream asked not to be called again.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// True when trying again changes nothing until somebody acts.
    pub fn is_permanent(&self) -> bool {
        match self.class {
            ErrorClass::Unreachable
            | ErrorClass::Busy
            | ErrorClass::Sealed
            | ErrorClass::BadReply
            | ErrorClass::Expired => false,
            ErrorClass::Credential
            | ErrorClass::Denied
            | ErrorClass::NotFound
            | ErrorClass::Clock
            | ErrorClass::Intercepted
            | ErrorClass::Configuration => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_names_the_attempt_the_finding_the_code_and_the_next_step() {
        let error = UpstreamError::new(
            UpstreamName::Entra,
            ErrorClass::Credential,
            "asking for a token",
            "the client secret is wrong",
            "write the current one to Vault",
        )
        .with_code("AADSTS7000215");
        assert_eq!(
            error.to_string(),
            "entra: asking for a token: the client secret is wrong (AADSTS7000215); write the current one to Vault"
        );
        assert!(error.is_permanent());
    }

    #[test]
    fn an_upstream_that_is_down_is_worth_another_try() {
        let error = UpstreamError::new(UpstreamName::Vault, ErrorClass::Sealed, "a", "b", "c");
        assert!(!error.is_permanent());
    }
}
