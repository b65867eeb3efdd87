//! One connection from its first byte to its last: TLS, PRELOGIN, login, requests.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::login;
use crate::login7::{Login7, MAX_LOGIN};
use crate::outgoing::Outgoing;
use crate::packet::{Message, WireError, kind, read_message};
use crate::prelogin::{Encryption, Prelogin};
use crate::requests::Requests;
use crate::server::Shared;
use crate::transport::{Socket, Transport};

/// How long a client may take from connecting to being logged in.
const LOGIN_DEADLINE: Duration = Duration::from_secs(30);
/// The largest PRELOGIN message.
const MAX_PRELOGIN: usize = 4096;
/// The largest request: a batch or a call with its parameters.
const MAX_REQUEST: usize = 192 * 1024 * 1024;
/// Requests read ahead of the one that is executed, so that an attention is seen.
const READ_AHEAD: usize = 2;
/// The first byte of a TLS handshake record: the client speaks TDS 8.
const TLS_HANDSHAKE: u8 = 0x16;

/// Serves a client until it leaves, is refused or breaks the protocol.
pub(crate) async fn serve(tcp: TcpStream, shared: Arc<Shared>) -> Result<(), WireError> {
    let entered = tokio::time::timeout(LOGIN_DEADLINE, enter(tcp, &shared)).await;
    let Some((transport, requests)) = entered.map_err(|_| WireError::Closed("no login in time"))?? else {
        return Ok(());
    };
    let (mut reading, writing) = tokio::io::split(transport);
    let (messages, received) = mpsc::channel(READ_AHEAD);
    // Reading goes on while a request is executed: that is how an attention is noticed. Once the client has closed
    // there is nothing left to read, and what was received is still answered.
    let read = async {
        let ended = read_all(&mut reading, &messages).await;
        drop(messages);
        match ended {
            Ok(()) => std::future::pending().await,
            Err(error) => error,
        }
    };
    tokio::select! {
        error = read => Err(error),
        ended = requests.run(writing, received) => ended,
    }
}

async fn read_all(
    from: &mut (impl AsyncRead + Unpin),
    messages: &mpsc::Sender<Message>,
) -> Result<(), WireError> {
    while let Some(message) = read_message(from, MAX_REQUEST).await? {
        if messages.send(message).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// Everything up to the end of the login. None when the client was refused or left.
async fn enter(tcp: TcpStream, shared: &Arc<Shared>) -> Result<Option<(Transport, Requests)>, WireError> {
    let mut first = [0];
    if tcp.peek(&mut first).await? == 0 {
        return Ok(None);
    }
    let strict = first[0] == TLS_HANDSHAKE;
    let socket = Socket::new(tcp);
    let mut transport = match (&shared.tls, strict) {
        (Some(tls), true) => tls.accept_first(socket).await?,
        (None, true) => return Err(WireError::Closed("TLS without a certificate configured")),
        (_, false) => Transport::Plain(socket),
    };
    let Some(message) = read_message(&mut transport, MAX_PRELOGIN).await? else { return Ok(None) };
    expect(&message, kind::PRELOGIN)?;
    let prelogin = Prelogin::parse(&message.body)?;
    let (byte, encryption) = prelogin.negotiate(shared.config.encrypt, strict);
    let mut out = Outgoing::new(transport, shared.config.faults.clone());
    out.tokens().extend(prelogin.answer(byte));
    out.end().await?;
    let mut transport = out.into_inner();
    if encryption == Encryption::Refused {
        let _ = transport.shutdown().await;
        return Err(WireError::Closed("client and server do not agree on encryption"));
    }
    let mut transport = match (transport, encryption, &shared.tls) {
        (Transport::Plain(socket), Encryption::Login | Encryption::Full, Some(tls)) => {
            tls.accept_in_prelogin(socket).await?
        }
        (transport, ..) => transport,
    };
    let Some(message) = read_message(&mut transport, MAX_LOGIN).await? else { return Ok(None) };
    expect(&message, kind::LOGIN7)?;
    let login = Login7::parse(&message.body)?;
    if encryption == Encryption::Login {
        transport = transport.into_plain();
    }
    let mut out = Outgoing::new(transport, shared.config.faults.clone());
    let packet_size = login::packet_size(&login, shared);
    let Some(session) = login::log_in(login, &mut out, shared).await? else {
        shared.stats.refused_logins.fetch_add(1, Ordering::Relaxed);
        out.close().await;
        return Ok(None);
    };
    shared.stats.logins.fetch_add(1, Ordering::Relaxed);
    Ok(Some((out.into_inner(), Requests::new(session, packet_size, shared.clone()))))
}

fn expect(message: &Message, kind: u8) -> Result<(), WireError> {
    if message.kind == kind {
        return Ok(());
    }
    let found = format!("type 0x{:02X} where 0x{kind:02X} is due", message.kind);
    Err(WireError::malformed("message", found))
}

#[cfg(test)]
mod tests;
