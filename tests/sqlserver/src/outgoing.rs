//! Answers on their way out: tokens are gathered and cut into packets of the negotiated size.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::faults::Faults;
use crate::packet::{END_OF_MESSAGE, HEADER, WireError, kind};

/// Gathered bytes at which an answer is sent on before it is complete.
const GATHER: usize = 64 * 1024;
/// A client that reads nothing for this long is given up.
const WRITE_DEADLINE: Duration = Duration::from_mins(10);
/// The packet size before one is negotiated.
const FIRST_PACKET: usize = 4096;

/// The sending side of a connection. A client that reads slowly makes `send_full` wait: back-pressure.
pub(crate) struct Outgoing<W> {
    to: W,
    gathered: Vec<u8>,
    wire: Vec<u8>,
    packet_size: usize,
    spid: u16,
    number: u8,
    faults: Faults,
}

impl<W: AsyncWrite + Unpin> Outgoing<W> {
    pub(crate) fn new(to: W, faults: Faults) -> Self {
        let (gathered, wire) = (Vec::new(), Vec::new());
        Self { to, gathered, wire, packet_size: FIRST_PACKET, spid: 0, number: 0, faults }
    }

    pub(crate) fn into_inner(self) -> W {
        self.to
    }

    /// The stream, for reading from it between two messages.
    pub(crate) fn inner(&mut self) -> &mut W {
        &mut self.to
    }

    pub(crate) fn set_packet_size(&mut self, bytes: usize) {
        self.packet_size = bytes;
    }

    pub(crate) fn set_spid(&mut self, spid: u16) {
        self.spid = spid;
    }

    /// Where the next tokens are appended.
    pub(crate) fn tokens(&mut self) -> &mut Vec<u8> {
        &mut self.gathered
    }

    /// Whether it is time for [`Self::send_full`].
    pub(crate) fn is_full(&self) -> bool {
        self.gathered.len() >= GATHER.max(self.packet_size)
    }

    /// Sends every full packet and keeps the rest.
    pub(crate) async fn send_full(&mut self) -> Result<(), WireError> {
        let payload = self.payload();
        // The last packet is kept: it may turn out to be the one that ends the message.
        let keep = match self.gathered.len() % payload {
            0 => payload,
            rest => rest,
        };
        let upto = self.gathered.len().saturating_sub(keep);
        self.frame(upto, false);
        self.write().await
    }

    /// Sends everything that was gathered, whole packets or not, without ending the message.
    pub(crate) async fn send_all(&mut self) -> Result<(), WireError> {
        self.frame(self.gathered.len(), false);
        self.write().await
    }

    /// Sends what is left and ends the message.
    pub(crate) async fn end(&mut self) -> Result<(), WireError> {
        self.frame(self.gathered.len(), true);
        self.write().await?;
        self.number = 0;
        Ok(())
    }

    /// Drops the connection's sending side without an orderly end.
    pub(crate) async fn close(&mut self) {
        let _ = tokio::time::timeout(Duration::from_secs(5), self.to.shutdown()).await;
    }

    fn payload(&self) -> usize {
        if self.faults.is_one_byte() { 1 } else { self.packet_size - HEADER }
    }

    /// Moves the first `upto` gathered bytes into packets; `end` marks the last one, which may be empty.
    fn frame(&mut self, upto: usize, end: bool) {
        let payload = self.payload();
        let mut at = 0;
        loop {
            let next = upto.min(at + payload);
            let last = next == upto;
            if next > at || end {
                self.packet(at, next, end && last);
            }
            if last {
                break;
            }
            at = next;
        }
        self.gathered.drain(..upto);
    }

    fn packet(&mut self, from: usize, to: usize, last: bool) {
        self.number = self.number.wrapping_add(1);
        self.wire.extend([kind::RESULT, if last { END_OF_MESSAGE } else { 0 }]);
        self.wire.extend(((to - from + HEADER) as u16).to_be_bytes());
        self.wire.extend(self.spid.to_be_bytes());
        self.wire.extend([self.number, 0]);
        self.wire.extend_from_slice(&self.gathered[from..to]);
        if self.faults.is_one_byte() {
            self.faults.count_one_byte_packet();
        }
    }

    async fn write(&mut self) -> Result<(), WireError> {
        let writing = async {
            self.to.write_all(&self.wire).await?;
            self.to.flush().await
        };
        let written = tokio::time::timeout(WRITE_DEADLINE, writing).await;
        self.wire.clear();
        written.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_message_is_cut_at_the_packet_size_and_ends_once() {
        let mut out = Outgoing::new(Vec::new(), Faults::default());
        out.set_packet_size(512);
        out.tokens().extend(vec![7; 504 * 2]);
        out.send_full().await.unwrap();
        out.end().await.unwrap();
        let bytes = out.into_inner();
        assert_eq!(bytes.len(), 1024);
        assert_eq!((bytes[1], bytes[513]), (0, END_OF_MESSAGE));
        assert_eq!((bytes[6], bytes[518]), (1, 2));
    }

    #[tokio::test]
    async fn one_byte_packets_carry_the_same_tokens() {
        let faults = Faults::default();
        faults.one_byte_packets(true);
        let mut out = Outgoing::new(Vec::new(), faults.clone());
        out.tokens().extend([1, 2, 3]);
        out.end().await.unwrap();
        let bytes = out.into_inner();
        let payload: Vec<u8> = bytes.chunks(HEADER + 1).map(|packet| packet[HEADER]).collect();
        assert_eq!(payload, [1, 2, 3]);
        assert_eq!(faults.one_byte_packets_sent(), 3);
    }

    #[tokio::test]
    async fn an_empty_message_is_one_empty_packet() {
        let mut out = Outgoing::new(Vec::new(), Faults::default());
        out.end().await.unwrap();
        assert_eq!(out.into_inner(), [kind::RESULT, END_OF_MESSAGE, 0, 8, 0, 0, 1, 0]);
    }
}
