//! Reading little-endian fields from bytes that may not be complete yet.

use super::TdsError;

/// Why parsing stopped.
#[derive(Debug)]
pub(super) enum Stop {
    /// At least this many bytes, counted from the start of the slice, are needed; try again with more.
    Short(usize),
    /// The bytes are wrong; more of them will not help.
    Fail(Box<TdsError>),
}

impl From<TdsError> for Stop {
    fn from(error: TdsError) -> Self {
        Self::Fail(Box::new(error))
    }
}

/// The result of parsing from a [`Cursor`].
pub(super) type Parsed<T> = Result<T, Stop>;

/// A protocol violation.
#[cold]
pub(super) fn wrong<T>(message: impl Into<String>) -> Parsed<T> {
    Err(TdsError::protocol(message).into())
}

/// A position in bytes that may not be complete yet. No read goes beyond them.
#[derive(Clone, Debug)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// How many bytes have been read.
    #[inline]
    pub(super) fn position(&self) -> usize {
        self.at
    }

    #[inline]
    pub(super) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    #[inline]
    pub(super) fn take(&mut self, count: usize) -> Parsed<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        if let Some(taken) = rest.get(..count) {
            self.at += count;
            Ok(taken)
        } else {
            Err(Stop::Short(self.at.saturating_add(count)))
        }
    }

    /// At least one and at most `most` bytes: what is there.
    #[inline]
    pub(super) fn take_some(&mut self, most: usize) -> Parsed<&'a [u8]> {
        match (self.bytes.len() - self.at).min(most) {
            0 => Err(Stop::Short(self.at + 1)),
            count => self.take(count),
        }
    }

    #[inline]
    pub(super) fn array<const N: usize>(&mut self) -> Parsed<[u8; N]> {
        if let Some(taken) = self.bytes[self.at..].first_chunk::<N>() {
            self.at += N;
            Ok(*taken)
        } else {
            Err(Stop::Short(self.at + N))
        }
    }

    #[inline]
    pub(super) fn u8(&mut self) -> Parsed<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    #[inline]
    pub(super) fn u16(&mut self) -> Parsed<u16> {
        self.array().map(u16::from_le_bytes)
    }

    #[inline]
    pub(super) fn u32(&mut self) -> Parsed<u32> {
        self.array().map(u32::from_le_bytes)
    }

    #[inline]
    pub(super) fn u64(&mut self) -> Parsed<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// UTF-16 text of `units` code units; wrong surrogates become U+FFFD (names and messages, never values).
    pub(super) fn utf16(&mut self, units: usize) -> Parsed<String> {
        let bytes = self.take(units * 2)?;
        let units = bytes.as_chunks::<2>().0.iter().map(|pair| u16::from_le_bytes(*pair));
        Ok(char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect())
    }

    /// `B_VARCHAR`: a length byte in units, then UTF-16.
    pub(super) fn b_varchar(&mut self) -> Parsed<String> {
        let units = self.u8()?;
        self.utf16(usize::from(units))
    }

    /// `US_VARCHAR`: two length bytes in units, then UTF-16.
    pub(super) fn us_varchar(&mut self) -> Parsed<String> {
        let units = self.u16()?;
        self.utf16(usize::from(units))
    }
}
