//! Text that survives both sides: Unicode strings, and UTF-16 with lone surrogates where SQL Server has them.

use std::{borrow::Cow, fmt, sync::Arc};

/// A text value. Well-formed text is always held as a `str`, so equal texts are equal values.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Text(Repr);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Repr {
    Str(Arc<str>),
    Utf16(Arc<[u16]>),
}

impl Text {
    /// Text from a string.
    pub fn new(text: &str) -> Self {
        Self(Repr::Str(Arc::from(text)))
    }

    /// Text from UTF-16 units, which may hold lone surrogates.
    pub fn from_utf16(units: &[u16]) -> Self {
        match String::from_utf16(units) {
            Ok(text) => Self(Repr::Str(Arc::from(text))),
            Err(_) => Self(Repr::Utf16(Arc::from(units))),
        }
    }

    /// The text as a `str`; None where it holds a lone surrogate.
    pub fn as_str(&self) -> Option<&str> {
        match &self.0 {
            Repr::Str(text) => Some(text),
            Repr::Utf16(_) => None,
        }
    }

    /// The text with U+FFFD for every lone surrogate.
    pub fn lossy(&self) -> Cow<'_, str> {
        match &self.0 {
            Repr::Str(text) => Cow::Borrowed(text),
            Repr::Utf16(units) => Cow::Owned(String::from_utf16_lossy(units)),
        }
    }

    /// The UTF-16 units.
    pub fn utf16(&self) -> Vec<u16> {
        match &self.0 {
            Repr::Str(text) => text.encode_utf16().collect(),
            Repr::Utf16(units) => units.to_vec(),
        }
    }

    /// UTF-16LE bytes, as nvarchar has them on the wire and under HASHBYTES.
    pub fn utf16le(&self) -> Vec<u8> {
        match &self.0 {
            Repr::Str(text) => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
            Repr::Utf16(units) => units.iter().flat_map(|unit| unit.to_le_bytes()).collect(),
        }
    }

    /// Length in UTF-16 units.
    pub fn utf16_len(&self) -> usize {
        match &self.0 {
            Repr::Str(text) if text.is_ascii() => text.len(),
            Repr::Str(text) => text.encode_utf16().count(),
            Repr::Utf16(units) => units.len(),
        }
    }

    /// Whether there are no characters.
    pub fn is_empty(&self) -> bool {
        match &self.0 {
            Repr::Str(text) => text.is_empty(),
            Repr::Utf16(units) => units.is_empty(),
        }
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(Repr::Str(Arc::from(text)))
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Repr::Str(text) => text.fmt(f),
            Repr::Utf16(units) => units.fmt(f),
        }
    }
}
