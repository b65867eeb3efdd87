//! TDS packets (MS-TDS 2.2.3.1): eight bytes of header, and messages made of them.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// Bytes of a packet's header.
pub(crate) const HEADER: usize = 8;
/// Set on the last packet of a message.
pub(crate) const END_OF_MESSAGE: u8 = 0x01;
const IGNORE: u8 = 0x02;
const RESET: u8 = 0x08;
const RESET_KEEP_TRANSACTION: u8 = 0x10;

/// Packet types.
pub(crate) mod kind {
    pub(crate) const BATCH: u8 = 0x01;
    pub(crate) const RPC: u8 = 0x03;
    pub(crate) const RESULT: u8 = 0x04;
    pub(crate) const BULK: u8 = 0x07;
    pub(crate) const ATTENTION: u8 = 0x06;
    pub(crate) const TRANSACTION: u8 = 0x0E;
    pub(crate) const LOGIN7: u8 = 0x10;
    pub(crate) const SSPI: u8 = 0x11;
    pub(crate) const PRELOGIN: u8 = 0x12;
}

/// A whole message of the client.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) kind: u8,
    /// The client wants its session's state reset before the message is executed.
    pub(crate) reset: bool,
    /// The same, but an open transaction stays open.
    pub(crate) reset_keeps_transaction: bool,
    pub(crate) body: Vec<u8>,
}

/// Why a message cannot be read, or is not what the protocol allows here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error("connection lost: {0}")]
    Io(#[from] io::Error),
    #[error("malformed {what}: {found}")]
    Malformed { what: &'static str, found: String },
    #[error("{0}")]
    Closed(&'static str),
}

impl WireError {
    pub(crate) fn malformed(what: &'static str, found: impl Into<String>) -> Self {
        Self::Malformed { what, found: found.into() }
    }
}

/// Reads the next message, of at most `limit` bytes. None when the client closed between two messages.
pub(crate) async fn read_message(
    from: &mut (impl AsyncRead + Unpin),
    limit: usize,
) -> Result<Option<Message>, WireError> {
    let mut body = Vec::new();
    let mut first: Option<(u8, u8)> = None;
    loop {
        let Some(header) = read_header(from, first.is_some()).await? else { return Ok(None) };
        let [kind, status, high, low, ..] = header;
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length < HEADER {
            return Err(WireError::malformed("packet", format!("length {length} is less than its header")));
        }
        let (first_kind, first_status) = *first.get_or_insert((kind, status));
        if kind != first_kind {
            let found = format!("type 0x{kind:02X} inside a message of type 0x{first_kind:02X}");
            return Err(WireError::malformed("packet", found));
        }
        let payload = length - HEADER;
        if body.len() + payload > limit {
            let found = format!("more than {limit} bytes in a message of type 0x{kind:02X}");
            return Err(WireError::malformed("message", found));
        }
        let start = body.len();
        body.resize(start + payload, 0);
        from.read_exact(&mut body[start..]).await?;
        if status & END_OF_MESSAGE != 0 {
            if status & IGNORE != 0 {
                // The client gave this message up while sending it.
                (body, first) = (Vec::new(), None);
                continue;
            }
            return Ok(Some(Message {
                kind,
                reset: first_status & (RESET | RESET_KEEP_TRANSACTION) != 0,
                reset_keeps_transaction: first_status & RESET_KEEP_TRANSACTION != 0,
                body,
            }));
        }
    }
}

async fn read_header(
    from: &mut (impl AsyncRead + Unpin),
    in_message: bool,
) -> Result<Option<[u8; HEADER]>, WireError> {
    let mut header = [0; HEADER];
    let read = from.read(&mut header).await?;
    if read == 0 {
        return if in_message { Err(WireError::Closed("closed inside a message")) } else { Ok(None) };
    }
    from.read_exact(&mut header[read..]).await?;
    Ok(Some(header))
}

/// Reads fields from bytes that a client sent; every read is checked.
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    what: &'static str,
}

impl<'a> Reader<'a> {
    /// `what` names the structure in errors.
    pub(crate) fn new(bytes: &'a [u8], what: &'static str) -> Self {
        Self { bytes, what }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.bytes.split_at_checked(count).ok_or_else(|| {
            let found = format!("{count} bytes expected, {} left", self.bytes.len());
            WireError::malformed(self.what, found)
        })?;
        self.bytes = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, WireError> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn u16(&mut self) -> Result<u16, WireError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, WireError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, WireError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// UTF-16 text of `units` code units.
    pub(crate) fn utf16(&mut self, units: usize) -> Result<String, WireError> {
        Ok(String::from_utf16_lossy(&utf16_units(self.take(units * 2)?)))
    }
}

/// The UTF-16 units of little-endian bytes; an odd last byte is dropped.
pub(crate) fn utf16_units(bytes: &[u8]) -> Vec<u16> {
    bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(kind: u8, status: u8, payload: &[u8]) -> Vec<u8> {
        let length = (payload.len() + HEADER) as u16;
        let mut bytes = vec![kind, status];
        bytes.extend(length.to_be_bytes());
        bytes.extend([0, 0, 1, 0]);
        bytes.extend(payload);
        bytes
    }

    #[tokio::test]
    async fn a_message_is_joined_from_its_packets() {
        let mut bytes = packet(kind::BATCH, 0, b"ab");
        bytes.extend(packet(kind::BATCH, 0, b""));
        bytes.extend(packet(kind::BATCH, END_OF_MESSAGE, b"c"));
        let message = read_message(&mut bytes.as_slice(), 16).await.unwrap().unwrap();
        assert_eq!((message.kind, message.body.as_slice()), (kind::BATCH, b"abc".as_slice()));
    }

    #[tokio::test]
    async fn a_length_below_the_header_is_refused() {
        let mut bytes: &[u8] = &[1, 1, 0, 7, 0, 0, 1, 0];
        assert!(read_message(&mut bytes, 16).await.is_err());
    }

    #[tokio::test]
    async fn a_message_above_the_limit_is_refused() {
        let bytes = packet(kind::LOGIN7, END_OF_MESSAGE, &[0; 17]);
        assert!(read_message(&mut bytes.as_slice(), 16).await.is_err());
    }

    #[tokio::test]
    async fn a_message_that_its_sender_gave_up_is_ignored() {
        let mut bytes = packet(kind::BATCH, 0, b"ab");
        bytes.extend(packet(kind::BATCH, END_OF_MESSAGE | IGNORE, b""));
        bytes.extend(packet(kind::ATTENTION, END_OF_MESSAGE, b""));
        let message = read_message(&mut bytes.as_slice(), 16).await.unwrap().unwrap();
        assert_eq!(message.kind, kind::ATTENTION);
    }

    #[tokio::test]
    async fn closing_inside_a_message_is_an_error_and_between_messages_is_not() {
        let bytes = packet(kind::BATCH, 0, b"ab");
        assert!(read_message(&mut bytes.as_slice(), 16).await.is_err());
        assert!(read_message(&mut [].as_slice(), 16).await.unwrap().is_none());
    }
}
