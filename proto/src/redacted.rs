//! `Debug` of the messages that carry a token: everything but the token.

use std::fmt;

use crate::v1::{GssClient, GssServer, SnowflakeSession, Token, gss_client};

struct Bytes(usize);

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} bytes>", self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("value", &Bytes(self.value.len()))
            .field("kind", &self.kind())
            .field("expires_at", &self.expires_at)
            .field("generation", &self.generation)
            .field("freshness", &self.freshness())
            .field("audit_id", &self.audit_id)
            .finish()
    }
}

impl fmt::Debug for GssClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.message {
            Some(gss_client::Message::Begin(begin)) => {
                f.debug_tuple("GssClient::Begin").field(begin).finish()
            }
            Some(gss_client::Message::ServerToken(token)) => {
                f.debug_tuple("GssClient::ServerToken").field(&Bytes(token.len())).finish()
            }
            None => f.write_str("GssClient::None"),
        }
    }
}

impl fmt::Debug for gss_client::Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begin(begin) => f.debug_tuple("Begin").field(begin).finish(),
            Self::ServerToken(token) => f.debug_tuple("ServerToken").field(&Bytes(token.len())).finish(),
        }
    }
}

impl fmt::Debug for GssServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GssServer")
            .field("token", &Bytes(self.token.len()))
            .field("complete", &self.complete)
            .field("ticket_expires_at", &self.ticket_expires_at)
            .field("audit_id", &self.audit_id)
            .finish()
    }
}

impl fmt::Debug for SnowflakeSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnowflakeSession")
            .field("token", &Bytes(self.token.len()))
            .field("expires_at", &self.expires_at)
            .field("generation", &self.generation)
            .field("url", &self.url)
            .field("account", &self.account)
            .field("user", &self.user)
            .field("role", &self.role)
            .field("warehouse", &self.warehouse)
            .field("session_id", &self.session_id)
            .field("audit_id", &self.audit_id)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_printed_message_shows_no_token() {
        let secret = b"do-not-print-me".to_vec();
        let printed = [
            format!("{:?}", Token { value: secret.clone(), ..Token::default() }),
            format!("{:?}", SnowflakeSession { token: secret.clone(), ..SnowflakeSession::default() }),
            format!("{:?}", GssServer { token: secret.clone(), ..GssServer::default() }),
            format!("{:?}", GssClient { message: Some(gss_client::Message::ServerToken(secret.clone())) }),
        ];
        let as_numbers = format!("{secret:?}");
        for text in printed {
            assert!(!text.contains("do-not-print-me") && !text.contains(&as_numbers), "{text}");
            assert!(text.contains("<15 bytes>"), "{text}");
        }
    }
}
