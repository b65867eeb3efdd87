//! The door through which GSS tokens come: the broker holds the ticket, this side only carries tokens.

/// Makes the GSS tokens of one login. Implemented by the broker's client.
///
/// The loader never sees a ticket or a key: it puts what [`Relay::begin`] returns into LOGIN7, hands every
/// server token to [`Relay::step`], and trusts the server only when a step says that the exchange is complete.
pub trait Relay: Send {
    /// Starts a new exchange and returns the first token. A routed connection calls it once more for each hop.
    fn begin(&mut self) -> impl Future<Output = Result<Vec<u8>, RelayError>> + Send;

    /// Hands over what the server sent. The token of the answer goes to the server if it is not empty.
    fn step(&mut self, server_token: &[u8]) -> impl Future<Output = Result<RelayStep, RelayError>> + Send;
}

/// What came of one server token.
#[derive(Clone, Default)]
pub struct RelayStep {
    /// The next token for the server; empty if there is none.
    pub token: Vec<u8>,
    /// The exchange is complete, the server's proof of identity included.
    pub complete: bool,
}

impl std::fmt::Debug for RelayStep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RelayStep {{ token: <{} bytes>, complete: {} }}", self.token.len(), self.complete)
    }
}

/// Why the broker gave no token.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct RelayError {
    message: String,
    permanent: bool,
}

impl RelayError {
    /// `message` says what was attempted and what to do; `permanent` that waiting will not help.
    pub fn new(message: impl Into<String>, permanent: bool) -> Self {
        Self { message: message.into(), permanent }
    }

    /// Whether waiting will not help.
    pub fn is_permanent(&self) -> bool {
        self.permanent
    }
}
