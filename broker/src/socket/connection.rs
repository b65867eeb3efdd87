//! One accepted connection: counted while it lives, and closed when no HTTP/2 preface comes in time.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::UnixStream,
    time::{Sleep, sleep},
};
use tonic::transport::server::{Connected, UdsConnectInfo};

use crate::limits::Taken;

/// How long a connection may take to send the preface.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// The client's preface (RFC 9113, section 3.4) and the header of the SETTINGS frame that follows it.
const PREFACE_BYTES: usize = 24 + 9;

/// How far a connection is before gRPC begins.
enum Handshake {
    /// So many bytes of the preface are still to come before the deadline.
    Waiting(usize, Pin<Box<Sleep>>),
    /// The preface has come.
    Done,
}

/// A connection of a known uid.
pub struct Connection {
    stream: UnixStream,
    handshake: Handshake,
    _place: Taken,
}

impl Connection {
    pub(super) fn new(stream: UnixStream, place: Taken) -> Self {
        let handshake = Handshake::Waiting(PREFACE_BYTES, Box::pin(sleep(HANDSHAKE)));
        Self { stream, handshake, _place: place }
    }
}

impl Connected for Connection {
    type ConnectInfo = UdsConnectInfo;

    fn connect_info(&self) -> UdsConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        if let Handshake::Waiting(missing, deadline) = &mut this.handshake {
            let read = buf.filled().len() - before;
            if read >= *missing {
                this.handshake = Handshake::Done;
            } else {
                *missing -= read;
                if deadline.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "no HTTP/2 preface")));
                }
            }
        }
        polled
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
