//! Framing: messages are cut into packets of eight header bytes and a payload (MS-TDS 2.2.3).
//!
//! [`Channel`] strips the headers, so that everything above sees one contiguous run of payload bytes, and asks
//! for more when a token is not complete yet. It reads in large pieces whatever the packet size is.

use std::{fmt, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use super::{TdsError, tls::Transport};

/// The kinds of messages that a client sends (MS-TDS 2.2.3.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    SqlBatch = 0x01,
    Response = 0x04,
    Login7 = 0x10,
    Sspi = 0x11,
    Prelogin = 0x12,
}

/// Bytes of a packet's header.
pub(super) const HEADER: usize = 8;
/// The packet size until the login answer names another one.
pub(super) const INITIAL_PACKET: usize = 4096;
/// The last packet of its message.
pub(super) const END_OF_MESSAGE: u8 = 0x01;
/// The most payload that is ever held: one row without (max) types is below 8,060 bytes in its page and 4,096
/// columns of 8,000 bytes off it, which is what this leaves room for.
pub(super) const MAX_BUFFERED: usize = 40 * 1024 * 1024;
/// The largest message that is sent: SQL Server itself takes 65,536 packets.
const MAX_REQUEST: usize = 16 * 1024 * 1024;
const RECEIVE: usize = 64 * 1024;
const MAX_EMPTY_PACKETS: u32 = 1000;

/// One connection's messages, in and out.
pub(super) struct Channel {
    transport: Transport,
    packet_size: usize,
    read_silence: Duration,
    write_silence: Duration,
    received: Vec<u8>,
    received_from: usize,
    received_to: usize,
    payload: Vec<u8>,
    consumed: usize,
    packet_left: usize,
    packet_is_last: bool,
    ended: bool,
    empty_packets: u32,
    spid: u16,
}

impl Channel {
    pub(super) fn new(transport: Transport, read_silence: Duration, write_silence: Duration) -> Self {
        Self {
            transport,
            packet_size: INITIAL_PACKET,
            read_silence,
            write_silence,
            received: vec![0; RECEIVE],
            received_from: 0,
            received_to: 0,
            payload: Vec::with_capacity(2 * RECEIVE),
            consumed: 0,
            packet_left: 0,
            packet_is_last: false,
            ended: true,
            empty_packets: 0,
            spid: 0,
        }
    }

    /// The session's id, from the last packet of the server.
    pub(super) fn spid(&self) -> u16 {
        self.spid
    }

    /// Takes the size that the server named; it holds from the next message on.
    pub(super) fn set_packet_size(&mut self, size: usize) -> Result<(), TdsError> {
        if !(512..=32767).contains(&size) {
            return Err(TdsError::protocol(format!(
                "it named a packet size of {size} bytes (512 to 32767 are legal)"
            )));
        }
        self.packet_size = size;
        Ok(())
    }

    /// The transport, to be changed between two messages.
    pub(super) fn map_transport(self, change: impl FnOnce(Transport) -> Transport) -> Self {
        Self { transport: change(self.transport), ..self }
    }

    /// The bare transport, for a TLS handshake between two messages.
    pub(super) fn into_transport(self) -> Result<Transport, TdsError> {
        if self.received_from < self.received_to || !self.ended {
            return Err(TdsError::protocol("it sent more than one PRELOGIN answer"));
        }
        Ok(self.transport)
    }

    /// Sends one message, in as many packets as it needs, and expects an answer.
    pub(super) async fn send(&mut self, kind: Kind, body: &[u8]) -> Result<(), TdsError> {
        const DURING: &str = "a request was sent";
        if self.received_from < self.received_to || self.consumed < self.payload.len() {
            return Err(TdsError::protocol("it sent data after the end of its previous answer"));
        }
        if body.len() > MAX_REQUEST {
            return Err(TdsError::Refused(format!(
                "a statement of {} bytes is longer than the {MAX_REQUEST} that are sent at once; exclude columns or shorten names",
                body.len()
            )));
        }
        let room = self.packet_size - HEADER;
        let packets = body.len().div_ceil(room).max(1);
        let mut wire = Vec::with_capacity(body.len() + packets * HEADER);
        for number in 0..packets {
            let part = &body[number * room..body.len().min((number + 1) * room)];
            push_packet(&mut wire, kind, number + 1 == packets, number, part);
        }
        let write = async {
            self.transport.write_all(&wire).await?;
            self.transport.flush().await
        };
        match timeout(self.write_silence, write).await {
            Ok(Ok(())) => {}
            Ok(Err(source)) => return Err(TdsError::Io { during: DURING, source }),
            Err(_) => return Err(TdsError::Timeout { during: DURING, after: self.write_silence }),
        }
        self.next_message();
        Ok(())
    }

    /// Starts on the next message of the server.
    pub(super) fn next_message(&mut self) {
        self.payload.clear();
        self.consumed = 0;
        self.packet_left = 0;
        self.packet_is_last = false;
        self.ended = false;
        self.empty_packets = 0;
    }

    /// The payload that has arrived and is not consumed.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.payload[self.consumed..]
    }

    /// Marks the first `count` of [`Self::bytes`] as read.
    pub(super) fn consume(&mut self, count: usize) {
        self.consumed = (self.consumed + count).min(self.payload.len());
    }

    /// Whether the message's last byte is in [`Self::bytes`].
    pub(super) fn is_ended(&self) -> bool {
        self.ended
    }

    /// Reads until at least `wanted` bytes are in [`Self::bytes`] or the message has ended.
    pub(super) async fn fill(&mut self, wanted: usize, during: &'static str) -> Result<(), TdsError> {
        if wanted > MAX_BUFFERED {
            return Err(TdsError::protocol(format!(
                "one token or row claims at least {wanted} bytes, more than the {MAX_BUFFERED} that are ever held"
            )));
        }
        if self.consumed > 0 {
            self.payload.drain(..self.consumed);
            self.consumed = 0;
        }
        loop {
            self.strip_headers()?;
            if self.ended || self.payload.len() >= wanted {
                return Ok(());
            }
            self.receive(during).await?;
        }
    }

    async fn receive(&mut self, during: &'static str) -> Result<(), TdsError> {
        if self.received_from == self.received_to {
            self.received_from = 0;
            self.received_to = 0;
        } else if self.received_to == self.received.len() {
            self.received.copy_within(self.received_from..self.received_to, 0);
            self.received_to -= self.received_from;
            self.received_from = 0;
        }
        let room = &mut self.received[self.received_to..];
        match timeout(self.read_silence, self.transport.read(room)).await {
            Ok(Ok(0)) => Err(TdsError::Closed { during }),
            Ok(Ok(count)) => {
                self.received_to += count;
                Ok(())
            }
            Ok(Err(source)) if source.kind() == std::io::ErrorKind::UnexpectedEof => {
                Err(TdsError::Closed { during })
            }
            Ok(Err(source)) => Err(TdsError::Io { during, source }),
            Err(_) => Err(TdsError::Timeout { during, after: self.read_silence }),
        }
    }

    /// Moves what has been received into the payload, up to the end of the message.
    fn strip_headers(&mut self) -> Result<(), TdsError> {
        while !self.ended {
            let available = self.received_to - self.received_from;
            if self.packet_left > 0 {
                let take = available.min(self.packet_left);
                if take == 0 {
                    return Ok(());
                }
                let end = self.received_from + take;
                self.payload.extend_from_slice(&self.received[self.received_from..end]);
                self.received_from = end;
                self.packet_left -= take;
                self.ended = self.packet_left == 0 && self.packet_is_last;
            } else {
                if available < HEADER {
                    return Ok(());
                }
                let header = &self.received[self.received_from..self.received_from + HEADER];
                let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
                if header[0] != Kind::Response as u8 {
                    return Err(TdsError::protocol(format!(
                        "a packet of type 0x{:02x} came where an answer (0x04) was expected; is this SQL Server's port, \
                         and does `source.encrypt` fit the server?",
                        header[0]
                    )));
                }
                if length < HEADER {
                    return Err(TdsError::protocol(format!(
                        "a packet claims a length of {length} bytes, header included"
                    )));
                }
                self.packet_is_last = header[1] & END_OF_MESSAGE != 0;
                self.spid = u16::from_be_bytes([header[4], header[5]]);
                self.received_from += HEADER;
                self.packet_left = length - HEADER;
                self.ended = self.packet_left == 0 && self.packet_is_last;
                self.empty_packets = if self.packet_left == 0 { self.empty_packets + 1 } else { 0 };
                if self.empty_packets > MAX_EMPTY_PACKETS {
                    return Err(TdsError::protocol("it sends nothing but empty packets"));
                }
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel")
            .field("spid", &self.spid)
            .field("packet_size", &self.packet_size)
            .field("buffered", &self.bytes().len())
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

/// Appends one packet. Packet numbers start at 1 and wrap.
pub(super) fn push_packet(wire: &mut Vec<u8>, kind: Kind, last: bool, number: usize, part: &[u8]) {
    let length = (part.len() + HEADER) as u16;
    wire.push(kind as u8);
    wire.push(if last { END_OF_MESSAGE } else { 0 });
    wire.extend_from_slice(&length.to_be_bytes());
    wire.extend_from_slice(&[0, 0, (number + 1) as u8, 0]);
    wire.extend_from_slice(part);
}
