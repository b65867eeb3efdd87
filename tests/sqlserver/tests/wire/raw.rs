//! A client that writes its bytes by hand, for what no driver does.

use std::time::Duration;

use libgssapi::context::{ClientCtx, CtxFlags};
use libgssapi::name::Name;
use libgssapi::oid::{GSS_MECH_KRB5, GSS_MECH_SPNEGO, GSS_NT_KRB5_PRINCIPAL};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Local, start_plain};

const PRELOGIN: [u8; 18] = [0, 0, 11, 0, 6, 1, 0, 17, 0, 1, 0xFF, 9, 0, 0, 0, 0, 0, 2];

pub(crate) struct Raw(TcpStream);

impl Raw {
    /// Connected and past PRELOGIN, without TLS.
    pub(crate) async fn connect(local: &Local) -> Self {
        let mut raw = Self(TcpStream::connect(local.server.addr()).await.unwrap());
        raw.send(0x12, &PRELOGIN).await;
        assert_eq!(raw.receive().await.unwrap()[0], 0);
        raw
    }

    pub(crate) async fn send(&mut self, kind: u8, body: &[u8]) {
        let mut packet = vec![kind, 1];
        packet.extend(((body.len() + 8) as u16).to_be_bytes());
        packet.extend([0, 0, 1, 0]);
        packet.extend(body);
        self.0.write_all(&packet).await.unwrap();
    }

    /// The next message's payload. None when the server closed.
    pub(crate) async fn receive(&mut self) -> Option<Vec<u8>> {
        let mut message = Vec::new();
        loop {
            let mut header = [0; 8];
            let reading = tokio::time::timeout(Duration::from_secs(30), self.0.read_exact(&mut header));
            reading.await.unwrap().ok()?;
            assert_eq!(header[0], 4);
            let mut payload = vec![0; usize::from(u16::from_be_bytes([header[2], header[3]])) - 8];
            self.0.read_exact(&mut payload).await.ok()?;
            message.extend(payload);
            if header[1] & 1 != 0 {
                return Some(message);
            }
        }
    }

    /// LOGIN7 with a GSSAPI token and nothing else.
    pub(crate) async fn login(&mut self, token: &[u8]) {
        let mut body = vec![0; 94];
        body[4..8].copy_from_slice(&0x7400_0004_u32.to_le_bytes());
        body[25] = 0x80;
        body[78..80].copy_from_slice(&94_u16.to_le_bytes());
        body[80..82].copy_from_slice(&(token.len() as u16).to_le_bytes());
        body.extend(token);
        let length = body.len() as u32;
        body[..4].copy_from_slice(&length.to_le_bytes());
        self.send(0x10, &body).await;
    }
}

/// A first token for the service, of raw Kerberos or wrapped by SPNEGO.
fn token(spn: &str, spnego: bool) -> Vec<u8> {
    let name = Name::new(spn.as_bytes(), Some(GSS_NT_KRB5_PRINCIPAL)).unwrap();
    let mechanism = if spnego { GSS_MECH_SPNEGO } else { GSS_MECH_KRB5 };
    let mut context = ClientCtx::new(None, name, CtxFlags::GSS_C_MUTUAL_FLAG, Some(mechanism));
    context.step(None, None).unwrap().unwrap().to_vec()
}

/// The number of an answer's first ERROR token.
fn error_number(message: &[u8]) -> i32 {
    assert_eq!(message[0], 0xAA, "{message:?}");
    i32::from_le_bytes(message[3..7].try_into().unwrap())
}

/// Both mechanisms are accepted, the answer's shape is the real server's, and no token is accepted twice.
pub(crate) async fn tokens_are_answered_once(local: &Local, spn: &str) {
    for spnego in [false, true] {
        let token = token(spn, spnego);
        let mut raw = Raw::connect(local).await;
        raw.login(&token).await;
        let answer = raw.receive().await.unwrap();
        assert_eq!(answer[0], 0xED, "SPNEGO {spnego}");
        let length = usize::from(u16::from_le_bytes([answer[1], answer[2]]));
        assert_eq!(answer.len(), length + 3, "one token in a message of its own");
        let greeting = raw.receive().await.unwrap();
        assert_eq!(greeting[0], 0xE3);
        assert!(greeting.contains(&0xAD));

        let mut replayed = Raw::connect(local).await;
        replayed.login(&token).await;
        let mut answer = replayed.receive().await.unwrap();
        if answer[0] == 0xED {
            // SPNEGO says that it refuses in a token first.
            answer = replayed.receive().await.unwrap();
        }
        assert_eq!(error_number(&answer), 18452, "SPNEGO {spnego}");
        assert!(replayed.receive().await.is_none());
    }
}

#[tokio::test]
async fn noise_in_place_of_a_ticket_is_18452_where_no_ticket_can_be_proved() {
    let local = start_plain().await;
    let mut raw = Raw::connect(&local).await;
    raw.login(b"NTLMSSP\0\x01\0\0\0").await;
    assert_eq!(error_number(&raw.receive().await.unwrap()), 18452);
    assert!(raw.receive().await.is_none());
}

#[tokio::test]
async fn bytes_that_are_no_tds_end_the_connection_and_not_the_server() {
    let local = start_plain().await;
    for noise in
        [b"GET / HTTP/1.1\r\n\r\n".as_slice(), &[0x12, 1, 0, 3, 0, 0, 0, 0], &[0x12, 1, 0, 9, 0, 0, 0, 0, 7]]
    {
        let mut socket = TcpStream::connect(local.server.addr()).await.unwrap();
        socket.write_all(noise).await.unwrap();
        socket.shutdown().await.unwrap();
        let mut rest = Vec::new();
        let reading = tokio::time::timeout(Duration::from_secs(10), socket.read_to_end(&mut rest));
        let _ = reading.await.unwrap();
        assert!(rest.is_empty());
    }
    local.client().await;
}
