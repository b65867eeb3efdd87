//! A short-lived token with its expiry: the only type outside the messages that carries one.

use std::{fmt, sync::Arc, time::SystemTime};

use zeroize::Zeroizing;

/// A short-lived credential. It prints without its value; copies of it share one value, which wipes itself when the last
/// of them is dropped.
#[derive(Clone)]
pub struct Grant {
    value: Arc<Zeroizing<Vec<u8>>>,
    expires_at: SystemTime,
    generation: String,
}

impl Grant {
    /// Wraps a token that ends at `expires_at`. `generation` names this very token without revealing it.
    pub fn new(value: Vec<u8>, expires_at: SystemTime, generation: impl Into<String>) -> Self {
        Self { value: Arc::new(Zeroizing::new(value)), expires_at, generation: generation.into() }
    }

    /// The token itself.
    pub fn value(&self) -> &[u8] {
        &self.value
    }

    /// When the issuer stops accepting it.
    pub fn expires_at(&self) -> SystemTime {
        self.expires_at
    }

    /// The name of this very token.
    pub fn generation(&self) -> &str {
        &self.generation
    }
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant")
            .field("value", &format_args!("<{} bytes>", self.value.len()))
            .field("expires_at", &self.expires_at)
            .field("generation", &self.generation)
            .finish()
    }
}
