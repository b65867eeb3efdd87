//! A token on its way from the broker to the workload.

use std::time::{Duration, SystemTime};

use keyferry_proto::{
    grant::Grant,
    v1::{Freshness, Token, TokenKind},
};

use crate::failure::Failure;

/// One token with what the broker said about it. Printing it shows no token.
#[derive(Debug)]
pub(crate) struct Held {
    grant: Grant,
    pub(crate) kind: Kind,
    pub(crate) upstream_down: bool,
    pub(crate) audit_id: String,
}

/// What a token is to Snowflake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    OAuth,
    KeyPairJwt,
}

impl Kind {
    /// The word in printed results.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::OAuth => "oauth",
            Self::KeyPairJwt => "key_pair_jwt",
        }
    }

    /// What Snowflake's drivers call it in `authenticator`.
    pub(crate) fn authenticator(self) -> &'static str {
        match self {
            Self::OAuth => "oauth",
            Self::KeyPairJwt => "snowflake_jwt",
        }
    }
}

impl TryFrom<Token> for Held {
    type Error = Failure;

    /// Refuses what could not be one line in a file or one environment variable.
    fn try_from(token: Token) -> Result<Self, Failure> {
        let wrong =
            |found: &str| Failure::Protocol { attempted: "hand over a token", found: found.to_owned() };
        let kind = match token.kind() {
            TokenKind::Oauth => Kind::OAuth,
            TokenKind::KeyPairJwt => Kind::KeyPairJwt,
            TokenKind::Unspecified => {
                return Err(wrong("a token of a kind that this brokerctl does not know"));
            }
        };
        let upstream_down = token.freshness() == Freshness::UpstreamDown;
        let expires_at = token.expires_at.and_then(|at| SystemTime::try_from(at).ok());
        let grant = Grant::new(token.value, expires_at.unwrap_or(SystemTime::UNIX_EPOCH), token.generation);
        if expires_at.is_none() {
            return Err(wrong("a token that does not say when it ends"));
        }
        if grant.value().is_empty() || !grant.value().iter().all(u8::is_ascii_graphic) {
            return Err(wrong("a token that is no single word of printable ASCII"));
        }
        Ok(Self { grant, kind, upstream_down, audit_id: token.audit_id })
    }
}

impl Held {
    /// The token itself.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(self.grant.value()).unwrap_or_default()
    }

    pub(crate) fn generation(&self) -> &str {
        self.grant.generation()
    }

    /// `2026-11-21T10:30:00Z`
    pub(crate) fn expires(&self) -> String {
        humantime::format_rfc3339_seconds(self.grant.expires_at()).to_string()
    }

    /// How long it serves yet; zero when it has ended.
    pub(crate) fn left(&self) -> Duration {
        left(self.grant.expires_at())
    }
}

/// The time until `end` in whole seconds.
pub(crate) fn left(end: SystemTime) -> Duration {
    Duration::from_secs(end.duration_since(SystemTime::now()).unwrap_or_default().as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(value: &[u8]) -> Token {
        Token {
            value: value.to_vec(),
            kind: TokenKind::Oauth.into(),
            expires_at: Some((SystemTime::now() + Duration::from_secs(60)).into()),
            generation: "g".to_owned(),
            ..Token::default()
        }
    }

    #[test]
    fn a_token_is_taken_as_it_is_and_printing_shows_none_of_it() {
        let held = Held::try_from(token(b"eyJ.abc-_.x")).unwrap();
        assert_eq!((held.text(), held.kind), ("eyJ.abc-_.x", Kind::OAuth));
        assert!(!format!("{held:?}").contains("eyJ"));
    }

    #[test]
    fn what_would_be_more_than_one_line_or_says_no_end_is_refused() {
        for value in [&b""[..], b"a\nb", b"a b", b"a\0b", "é".as_bytes()] {
            assert_eq!(Held::try_from(token(value)).unwrap_err().exit_code(), 70);
        }
        assert!(Held::try_from(Token { expires_at: None, ..token(b"x") }).is_err());
        assert!(Held::try_from(Token { kind: 9, ..token(b"x") }).is_err());
    }
}
