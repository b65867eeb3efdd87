//! A server of a few lines: it reads messages and answers what the test wrote down.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};

use super::wire;
use crate::tds::{ConnectOptions, Connection, Relay, RelayError, RelayStep, TdsError, Timeouts};

/// One message of the client: its type, its payload, and the size of its largest packet.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) kind: u8,
    pub(super) payload: Vec<u8>,
    pub(super) largest_packet: usize,
}

impl Message {
    /// The text of a batch, after its headers.
    pub(super) fn sql(&self) -> String {
        assert_eq!((self.kind, &self.payload[..4]), (0x01, &[22, 0, 0, 0][..]));
        let units: Vec<_> = self.payload[22..].chunks(2).map(|p| u16::from_le_bytes([p[0], p[1]])).collect();
        String::from_utf16(&units).unwrap()
    }

    /// The transaction that a batch belongs to.
    pub(super) fn transaction(&self) -> u64 {
        u64::from_le_bytes(self.payload[10..18].try_into().unwrap())
    }
}

/// Reads one whole message.
pub(super) async fn message(io: &mut (impl AsyncRead + Unpin)) -> Message {
    let mut payload = Vec::new();
    let mut largest_packet = 0;
    loop {
        let mut header = [0; 8];
        io.read_exact(&mut header).await.unwrap();
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        largest_packet = largest_packet.max(length);
        let start = payload.len();
        payload.resize(start + length - 8, 0);
        io.read_exact(&mut payload[start..]).await.unwrap();
        if header[1] & 1 == 1 {
            return Message { kind: header[0], payload, largest_packet };
        }
    }
}

/// Sends one message in packets of 4096 bytes.
pub(super) async fn answer(io: &mut (impl AsyncWrite + Unpin), tokens: &[Vec<u8>]) {
    io.write_all(&wire::packets(&tokens.concat(), 4096)).await.unwrap();
    io.flush().await.unwrap();
}

/// Answers PRELOGIN with this level of encryption.
pub(super) async fn prelogin(io: &mut (impl AsyncRead + AsyncWrite + Unpin), level: u8) {
    assert_eq!(message(io).await.kind, 0x12);
    answer(io, &[vec![0, 0, 11, 0, 6, 1, 0, 17, 0, 1, 0xFF, 16, 0, 0x10, 0, 0, 0, level]]).await;
}

/// Reads LOGIN7, proves its identity in a message of its own, and acknowledges.
pub(super) async fn login(io: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Message {
    let login7 = message(io).await;
    assert_eq!(login7.kind, 0x10);
    answer(io, &[wire::sspi(b"AP-REP")]).await;
    answer(io, &acknowledged()).await;
    login7
}

/// What follows the proof of identity.
pub(super) fn acknowledged() -> Vec<Vec<u8>> {
    vec![
        wire::info(5701, "Changed database context to 'sales'."),
        wire::login_ack(),
        wire::packet_size("4096"),
        wire::utf8_acknowledged(),
        wire::done(0, 0, 0),
    ]
}

/// A relay that knows what the server must send, round by round.
#[derive(Debug, Default)]
pub(super) struct Script {
    pub(super) begun: usize,
    pub(super) seen: Vec<Vec<u8>>,
    /// Further rounds before the exchange is complete.
    pub(super) rounds: usize,
}

impl Relay for Script {
    async fn begin(&mut self) -> Result<Vec<u8>, RelayError> {
        self.begun += 1;
        Ok(b"AP-REQ".to_vec())
    }

    async fn step(&mut self, server_token: &[u8]) -> Result<RelayStep, RelayError> {
        self.seen.push(server_token.to_vec());
        if server_token == b"forged" {
            return Err(RelayError::new("the server's reply does not verify", true));
        }
        if self.seen.len() <= self.rounds {
            return Ok(RelayStep { token: b"more".to_vec(), complete: false });
        }
        Ok(RelayStep { token: Vec::new(), complete: true })
    }
}

/// Connects over this stream with a relay that is content with anything.
pub(super) async fn attempt(io: DuplexStream, options: &ConnectOptions) -> Result<Connection, TdsError> {
    Connection::connect_over(Box::new(io), options, &mut Script::default()).await
}

/// Both ends of a connection whose login is done.
pub(super) fn connected() -> (Connection, DuplexStream) {
    let (client, server) = tokio::io::duplex(64 * 1024);
    (Connection::logged_in(Box::new(client), Timeouts::default()), server)
}
