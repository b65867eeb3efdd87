//! The handshake of TDS 7.x: TLS records inside PRELOGIN packets, then bare.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    packet::{HEADER, INITIAL_PACKET, Kind, push_packet},
    tls::Io,
};

/// The most handshake bytes that wait for a flush; a client's flights are a few hundred.
const MAX_FLIGHT: usize = 256 * 1024;

/// A stream that wraps what passes until it is told to stop.
pub(super) struct Wrapped {
    io: Box<dyn Io>,
    wrapping: bool,
    flight: Vec<u8>,
    outgoing: Vec<u8>,
    sent: usize,
    header: [u8; HEADER],
    header_bytes: usize,
    packet_left: usize,
}

impl Wrapped {
    pub(super) fn new(io: Box<dyn Io>, wrapping: bool) -> Self {
        Self {
            io,
            wrapping,
            flight: Vec::new(),
            outgoing: Vec::new(),
            sent: 0,
            header: [0; HEADER],
            header_bytes: 0,
            packet_left: 0,
        }
    }

    /// The handshake is over.
    pub(super) fn unwrap_from_now_on(&mut self) {
        self.wrapping = false;
    }

    pub(super) fn into_inner(self) -> Box<dyn Io> {
        self.io
    }

    /// Sends the flight that was collected, as one message.
    fn poll_flight(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.flight.is_empty() {
            let parts = self.flight.chunks(INITIAL_PACKET - HEADER);
            let last = parts.len() - 1;
            for (number, part) in parts.enumerate() {
                push_packet(&mut self.outgoing, Kind::Prelogin, number == last, number, part);
            }
            self.flight.clear();
        }
        while self.sent < self.outgoing.len() {
            let count = ready!(Pin::new(&mut self.io).poll_write(cx, &self.outgoing[self.sent..]))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += count;
        }
        self.outgoing.clear();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }

    /// Reads packet headers until payload is next.
    fn poll_header(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.packet_left == 0 {
            let mut buf = ReadBuf::new(&mut self.header[self.header_bytes..]);
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut buf))?;
            let count = buf.filled().len();
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            self.header_bytes += count;
            if self.header_bytes == HEADER {
                self.header_bytes = 0;
                let length = usize::from(u16::from_be_bytes([self.header[2], self.header[3]]));
                let known = [Kind::Prelogin as u8, Kind::Response as u8].contains(&self.header[0]);
                if !known || length < HEADER {
                    return Poll::Ready(Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "the server left the TLS handshake: what it sent is no PRELOGIN packet",
                    )));
                }
                self.packet_left = length - HEADER;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Wrapped {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.wrapping && this.packet_left == 0 {
            return Pin::new(&mut this.io).poll_read(cx, buf);
        }
        // TLS waits for an answer: whatever it wrote must be on its way.
        ready!(this.poll_flight(cx))?;
        ready!(this.poll_header(cx))?;
        let room = buf.remaining().min(this.packet_left);
        let mut part = ReadBuf::new(buf.initialize_unfilled_to(room));
        ready!(Pin::new(&mut this.io).poll_read(cx, &mut part))?;
        let count = part.filled().len();
        buf.advance(count);
        this.packet_left -= count;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wrapped {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if !this.wrapping {
            return Pin::new(&mut this.io).poll_write(cx, bytes);
        }
        if this.flight.len() + bytes.len() > MAX_FLIGHT {
            return Poll::Ready(Err(io::Error::other("the TLS handshake grows without end")));
        }
        this.flight.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_flight(cx))?;
        Pin::new(&mut this.io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}
