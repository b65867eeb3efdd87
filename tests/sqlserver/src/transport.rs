//! The byte stream under the packets: plain, TLS negotiated inside PRELOGIN packets (TDS 7), or TLS first (TDS 8).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::config::TlsIdentity;
use crate::packet::{END_OF_MESSAGE, HEADER, kind};

/// Handshake bytes per PRELOGIN packet; what every client accepts before a size is negotiated.
const HANDSHAKE_PACKET: usize = 4096;

/// The two ways of doing TLS that TDS has.
pub(crate) struct TlsConfigs {
    in_prelogin: Arc<ServerConfig>,
    first: Arc<ServerConfig>,
}

impl TlsConfigs {
    pub(crate) fn new(identity: &TlsIdentity) -> Result<Self, rustls::Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        // In PRELOGIN packets the server offers TLS 1.2 only, as SQL Server does: after a TLS 1.3 handshake the
        // session tickets would arrive when the client has already stopped to unwrap packets.
        let build = |versions: &[&'static rustls::SupportedProtocolVersion]| {
            ServerConfig::builder_with_provider(provider.clone())
                .with_protocol_versions(versions)?
                .with_no_client_auth()
                .with_single_cert(identity.certificates.clone(), identity.key.clone_key())
        };
        let in_prelogin = build(&[&rustls::version::TLS12])?;
        let mut first = build(&[&rustls::version::TLS12, &rustls::version::TLS13])?;
        first.alpn_protocols = vec![b"tds/8.0".to_vec()];
        Ok(Self { in_prelogin: Arc::new(in_prelogin), first: Arc::new(first) })
    }

    /// TLS before anything else (TDS 8, "strict").
    pub(crate) async fn accept_first(&self, socket: Socket) -> io::Result<Transport> {
        let stream = TlsAcceptor::from(self.first.clone()).accept(socket).await?;
        Ok(Transport::Tls(Box::new(stream)))
    }

    /// TLS whose handshake travels in PRELOGIN packets and whose later records are bare (TDS 7).
    pub(crate) async fn accept_in_prelogin(&self, mut socket: Socket) -> io::Result<Transport> {
        socket.wrap = Some(Wrap::default());
        let mut stream = TlsAcceptor::from(self.in_prelogin.clone()).accept(socket).await?;
        stream.get_mut().0.wrap = None;
        Ok(Transport::Tls(Box::new(stream)))
    }
}

/// A connection's bytes after (or without) the TLS handshake.
pub(crate) enum Transport {
    Plain(Socket),
    Tls(Box<TlsStream<Socket>>),
}

impl Transport {
    /// Leaves TLS behind after a login-only encryption; what follows is plain.
    pub(crate) fn into_plain(self) -> Self {
        match self {
            Self::Plain(socket) => Self::Plain(socket),
            Self::Tls(stream) => Self::Plain(stream.into_inner().0),
        }
    }
}

/// The TCP stream, with PRELOGIN packets around its bytes during the handshake.
pub(crate) struct Socket {
    tcp: TcpStream,
    wrap: Option<Wrap>,
}

#[derive(Default)]
struct Wrap {
    header: [u8; HEADER],
    have: usize,
    left: usize,
    outgoing: Vec<u8>,
    framed: Vec<u8>,
    sent: usize,
}

impl Socket {
    pub(crate) fn new(tcp: TcpStream) -> Self {
        Self { tcp, wrap: None }
    }
}

impl Wrap {
    /// Reads the next packet's header; afterwards `left` payload bytes follow. False at the end of the stream.
    fn poll_header(&mut self, tcp: &mut TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        while self.left == 0 {
            let mut buffer = ReadBuf::new(&mut self.header[self.have..]);
            ready!(Pin::new(&mut *tcp).poll_read(cx, &mut buffer))?;
            let read = buffer.filled().len();
            if read == 0 {
                return Poll::Ready(Ok(false));
            }
            self.have += read;
            if self.have == HEADER {
                let length = usize::from(u16::from_be_bytes([self.header[2], self.header[3]]));
                if self.header[0] != kind::PRELOGIN || length < HEADER {
                    let message = "TLS handshake expected in PRELOGIN packets";
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, message)));
                }
                (self.have, self.left) = (0, length - HEADER);
            }
        }
        Poll::Ready(Ok(true))
    }

    fn poll_send(&mut self, tcp: &mut TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.outgoing.is_empty() {
            let chunks = self.outgoing.chunks(HANDSHAKE_PACKET - HEADER);
            let last = chunks.len() - 1;
            for (index, chunk) in chunks.enumerate() {
                let status = if index == last { END_OF_MESSAGE } else { 0 };
                self.framed.extend([kind::PRELOGIN, status]);
                self.framed.extend(((chunk.len() + HEADER) as u16).to_be_bytes());
                self.framed.extend([0, 0, index as u8, 0]);
                self.framed.extend(chunk);
            }
            self.outgoing.clear();
        }
        while self.sent < self.framed.len() {
            let written = ready!(Pin::new(&mut *tcp).poll_write(cx, &self.framed[self.sent..]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += written;
        }
        self.framed.clear();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { tcp, wrap } = self.get_mut();
        let Some(wrap) = wrap else { return Pin::new(tcp).poll_read(cx, into) };
        if !ready!(wrap.poll_header(tcp, cx))? {
            return Poll::Ready(Ok(()));
        }
        let room = into.remaining().min(wrap.left);
        let mut part = ReadBuf::new(into.initialize_unfilled_to(room));
        ready!(Pin::new(tcp).poll_read(cx, &mut part))?;
        let read = part.filled().len();
        into.advance(read);
        wrap.left -= read;
        Poll::Ready(Ok(()))
    }
}

/// What one wrapped write may hold back until the flush.
const MAX_HELD: usize = 64 * 1024;

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Self { tcp, wrap } = self.get_mut();
        let Some(wrap) = wrap else { return Pin::new(tcp).poll_write(cx, bytes) };
        if wrap.outgoing.len() >= MAX_HELD {
            ready!(wrap.poll_send(tcp, cx))?;
        }
        wrap.outgoing.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { tcp, wrap } = self.get_mut();
        if let Some(wrap) = wrap {
            ready!(wrap.poll_send(tcp, cx))?;
        }
        Pin::new(tcp).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_shutdown(cx)
    }
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, into),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, into),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
