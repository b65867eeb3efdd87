//! A long-lived secret. It cannot be printed, copied or written out, lies on a page that is neither swapped nor dumped,
//! and wipes itself when dropped.
//!
//! [`Secret::expose`] is visible in `upstream/` only. Elsewhere it does not compile:
//!
//! ```compile_fail,E0624
//! fn leak(secret: &keyferry_broker::upstream::Secret) -> &str { secret.expose() }
//! ```

use std::fmt;

use keyferry_sandbox::pages::{Locked, NoRoom};
use serde::de::{self, Deserialize, Deserializer, Visitor};
use zeroize::Zeroize as _;

use super::error::{ErrorClass, UpstreamError, UpstreamName};

/// A long-lived secret.
///
/// It has no `Debug`, `Display`, `Clone` or `Serialize` on purpose: a type that holds one gets none of
/// them by derivation either, and a tracing span over it fails to compile.
pub struct Secret(Locked);

impl Secret {
    /// Moves the text in; the string's own buffer is wiped. Fails when no page can be locked any more.
    pub(super) fn new(mut text: String) -> Result<Self, NoRoom> {
        let secret = Locked::copy(text.as_bytes()).map(Self);
        text.zeroize();
        secret
    }

    /// The text. Only files in this folder can call it.
    pub(super) fn expose(&self) -> &str {
        // Made from a text, so it is one.
        std::str::from_utf8(self.0.bytes()).unwrap_or_default()
    }
}

impl From<NoRoom> for UpstreamError {
    fn from(error: NoRoom) -> Self {
        let advice = "raise the broker's limit of locked memory to 8 MiB";
        Self::new(
            UpstreamName::Configuration,
            ErrorClass::Configuration,
            "keeping a secret",
            error.to_string(),
            advice,
        )
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Secret;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            // Nearly always called with a slice of the answer's own buffer, so that this is the only copy.
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Secret, E> {
                Locked::copy(text.as_bytes()).map(Secret).map_err(E::custom)
            }

            fn visit_string<E: de::Error>(self, text: String) -> Result<Secret, E> {
                Secret::new(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::{Debug, Display};

    use serde::Serialize;
    use static_assertions::assert_not_impl_any;

    use super::*;

    assert_not_impl_any!(Secret: Debug, Display, Clone, Copy, Serialize, AsRef<str>, AsRef<[u8]>, std::ops::Deref);

    #[test]
    fn a_secret_read_from_json_holds_the_text_whole() {
        let secret: Secret = serde_json::from_str(r#""with \"quotes\" and \u00e9""#).unwrap();
        assert_eq!(secret.expose(), "with \"quotes\" and é");
    }

    #[test]
    fn a_number_is_refused_without_being_repeated() {
        let error = serde_json::from_str::<Secret>("12345678").err().unwrap();
        assert!(error.to_string().contains("expected a text"), "{error}");
    }
}
