//! PRELOGIN (MS-TDS 2.2.6.5): the options of both sides and what encryption follows from them.

use crate::config::Encrypt;
use crate::packet::WireError;

const VERSION: u8 = 0x00;
const ENCRYPTION: u8 = 0x01;
const INSTANCE: u8 = 0x02;
const THREAD_ID: u8 = 0x03;
const MARS: u8 = 0x04;
const FED_AUTH_REQUIRED: u8 = 0x06;
const TERMINATOR: u8 = 0xFF;

const OFF: u8 = 0x00;
const ON: u8 = 0x01;
const NOT_SUPPORTED: u8 = 0x02;
const REQUIRED: u8 = 0x03;

/// SQL Server 2022: 16.0.1000.
const SERVER_VERSION: [u8; 6] = [16, 0, 0x03, 0xE8, 0, 0];

/// What the client said, as far as the server answers it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Prelogin {
    encryption: u8,
    fed_auth_required: bool,
}

/// What the connection does after PRELOGIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encryption {
    /// No TLS.
    Plain,
    /// TLS for the login only.
    Login,
    /// TLS for everything.
    Full,
    /// The two sides cannot agree; the connection ends after the answer.
    Refused,
}

impl Prelogin {
    /// Reads the client's options, in any order; those that are unknown are skipped.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, WireError> {
        let mut prelogin = Self::default();
        let mut at = 0;
        let mut first = true;
        loop {
            let bad = |found: String| WireError::malformed("PRELOGIN", found);
            let token = *body.get(at).ok_or_else(|| bad("the list of options has no end".into()))?;
            if token == TERMINATOR {
                return Ok(prelogin);
            }
            if first && token != VERSION {
                return Err(bad(format!("the first option is 0x{token:02X}, not the version")));
            }
            first = false;
            let entry = body.get(at + 1..at + 5).ok_or_else(|| bad("an option is cut short".into()))?;
            let offset = usize::from(u16::from_be_bytes([entry[0], entry[1]]));
            let length = usize::from(u16::from_be_bytes([entry[2], entry[3]]));
            let data = body
                .get(offset..offset + length)
                .ok_or_else(|| bad(format!("option 0x{token:02X} lies outside the message")))?;
            match (token, data) {
                (ENCRYPTION, [value]) => prelogin.encryption = *value,
                (FED_AUTH_REQUIRED, [value]) => prelogin.fed_auth_required = *value != 0,
                _ => {}
            }
            at += 5;
        }
    }

    /// The encryption byte to answer and what follows from it. `strict` is a connection that began with TLS.
    pub(crate) fn negotiate(&self, server: Encrypt, strict: bool) -> (u8, Encryption) {
        if strict {
            return (ON, Encryption::Full);
        }
        // The high bit asks for a client certificate, which the server does not need.
        match (self.encryption & 0x7F, server) {
            (ON | REQUIRED, Encrypt::NotSupported) => (NOT_SUPPORTED, Encryption::Refused),
            (_, Encrypt::NotSupported) => (NOT_SUPPORTED, Encryption::Plain),
            (ON | REQUIRED, _) => (ON, Encryption::Full),
            (OFF, Encrypt::Off) => (OFF, Encryption::Login),
            (OFF, Encrypt::Required) => (REQUIRED, Encryption::Full),
            (_, Encrypt::Off) => (NOT_SUPPORTED, Encryption::Plain),
            (_, Encrypt::Required) => (REQUIRED, Encryption::Refused),
        }
    }

    /// The server's options.
    pub(crate) fn answer(&self, encryption: u8) -> Vec<u8> {
        let mut options: Vec<(u8, &[u8])> = Vec::new();
        let encryption = [encryption];
        options.push((VERSION, &SERVER_VERSION));
        options.push((ENCRYPTION, &encryption));
        options.push((INSTANCE, &[0]));
        options.push((THREAD_ID, &[]));
        options.push((MARS, &[0]));
        if self.fed_auth_required {
            options.push((FED_AUTH_REQUIRED, &[0]));
        }
        let mut offset = options.len() * 5 + 1;
        let mut bytes = Vec::new();
        for (token, data) in &options {
            bytes.push(*token);
            bytes.extend((offset as u16).to_be_bytes());
            bytes.extend((data.len() as u16).to_be_bytes());
            offset += data.len();
        }
        bytes.push(TERMINATOR);
        for (_, data) in options {
            bytes.extend(data);
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The client message of MS-TDS 4.1, without its packet header.
    const EXAMPLE: &[u8] = &[
        0x00, 0x00, 0x15, 0x00, 0x06, 0x01, 0x00, 0x1B, 0x00, 0x01, 0x02, 0x00, 0x1C, 0x00, 0x01, 0x03, 0x00,
        0x1D, 0x00, 0x04, 0xFF, 0x09, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0xB8, 0x0D, 0x00, 0x00,
    ];

    #[test]
    fn the_specifications_example_is_read() {
        let prelogin = Prelogin::parse(EXAMPLE).unwrap();
        assert_eq!(prelogin, Prelogin { encryption: ON, fed_auth_required: false });
    }

    #[test]
    fn options_that_lie_outside_or_never_end_are_refused() {
        for cut in 0..21 {
            assert!(Prelogin::parse(&EXAMPLE[..cut]).is_err(), "{cut}");
        }
        let mut outside = EXAMPLE.to_vec();
        outside[7] = 0xF0;
        assert!(Prelogin::parse(&outside).is_err());
    }

    #[test]
    fn the_encryption_matrix_is_the_specifications() {
        use Encryption::{Full, Login, Plain, Refused};
        let of = |client| Prelogin { encryption: client, fed_auth_required: false };
        for (client, server, byte, then) in [
            (OFF, Encrypt::Off, OFF, Login),
            (ON, Encrypt::Off, ON, Full),
            (NOT_SUPPORTED, Encrypt::Off, NOT_SUPPORTED, Plain),
            (OFF, Encrypt::Required, REQUIRED, Full),
            (ON, Encrypt::Required, ON, Full),
            (NOT_SUPPORTED, Encrypt::Required, REQUIRED, Refused),
            (OFF, Encrypt::NotSupported, NOT_SUPPORTED, Plain),
            (ON, Encrypt::NotSupported, NOT_SUPPORTED, Refused),
            (NOT_SUPPORTED, Encrypt::NotSupported, NOT_SUPPORTED, Plain),
        ] {
            assert_eq!(of(client).negotiate(server, false), (byte, then), "{client} {server:?}");
        }
    }

    #[test]
    fn the_answer_can_be_read_back() {
        let answer = Prelogin { encryption: OFF, fed_auth_required: true }.answer(REQUIRED);
        assert_eq!(Prelogin::parse(&answer).unwrap().encryption, REQUIRED);
    }
}
