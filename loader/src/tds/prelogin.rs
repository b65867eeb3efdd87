//! PRELOGIN: what is agreed before anything else, above all how much is encrypted (MS-TDS 2.2.6.5).

use super::{Encrypt, TdsError};

const VERSION: u8 = 0;
const ENCRYPTION: u8 = 1;
const INSTANCE: u8 = 2;
const THREAD: u8 = 3;
const MARS: u8 = 4;
const TERMINATOR: u8 = 0xFF;
/// No known server sends more.
const MAX_ANSWER: usize = 4096;

const ENCRYPT_OFF: u8 = 0;
const ENCRYPT_ON: u8 = 1;
const ENCRYPT_NOT_SUPPORTED: u8 = 2;
const ENCRYPT_REQUIRED: u8 = 3;

/// What TLS will protect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protection {
    Everything,
    LoginOnly,
    Nothing,
}

/// The client's PRELOGIN message.
pub(super) fn request(encrypt: Encrypt) -> Vec<u8> {
    let wish = match encrypt {
        Encrypt::Required | Encrypt::Strict => ENCRYPT_ON,
        Encrypt::LoginOnly => ENCRYPT_OFF,
        Encrypt::Off => ENCRYPT_NOT_SUPPORTED,
    };
    let options: [(u8, &[u8]); 5] = [
        (VERSION, &[0, 1, 0, 0, 0, 0]),
        (ENCRYPTION, &[wish]),
        (INSTANCE, &[0]),
        (THREAD, &std::process::id().to_be_bytes()),
        (MARS, &[0]),
    ];
    let mut head = Vec::new();
    let mut data = Vec::new();
    let start = options.len() * 5 + 1;
    for (option, value) in options {
        head.push(option);
        head.extend_from_slice(&((start + data.len()) as u16).to_be_bytes());
        head.extend_from_slice(&(value.len() as u16).to_be_bytes());
        data.extend_from_slice(value);
    }
    head.push(TERMINATOR);
    head.extend_from_slice(&data);
    head
}

/// Reads the server's answer and decides. Nothing weaker than what was asked for is ever accepted.
pub(super) fn agree(encrypt: Encrypt, answer: &[u8]) -> Result<Protection, TdsError> {
    if answer.len() > MAX_ANSWER {
        return Err(TdsError::protocol(format!("its PRELOGIN answer has {} bytes", answer.len())));
    }
    let level = option(answer, ENCRYPTION)?.and_then(|value| value.first().copied());
    if encrypt == Encrypt::Strict {
        // The whole conversation is inside TLS already.
        return Ok(Protection::Everything);
    }
    let Some(level) = level else {
        return Err(TdsError::protocol("its PRELOGIN answer does not say how it encrypts"));
    };
    match (encrypt, level) {
        (Encrypt::Required | Encrypt::LoginOnly, ENCRYPT_ON | ENCRYPT_REQUIRED) => Ok(Protection::Everything),
        (Encrypt::LoginOnly, ENCRYPT_OFF) => Ok(Protection::LoginOnly),
        (Encrypt::Required, ENCRYPT_OFF) => Err(TdsError::Refused(
            "the server answered a request for full encryption with login-only encryption; that is a downgrade, \
             nothing was sent. Look for a proxy in between"
                .into(),
        )),
        (Encrypt::Required | Encrypt::LoginOnly, ENCRYPT_NOT_SUPPORTED) => Err(TdsError::Refused(
            "the server does not encrypt at all; nothing was sent. Give it a certificate \
             (SQL Server Configuration Manager), or look for a proxy in between"
                .into(),
        )),
        (Encrypt::Off, ENCRYPT_OFF | ENCRYPT_NOT_SUPPORTED) => Ok(Protection::Nothing),
        (Encrypt::Off, _) => Err(TdsError::Refused(
            "the server requires encryption, and `source.encrypt` is `off`; set it to `required`".into(),
        )),
        (_, other) => Err(TdsError::protocol(format!("its PRELOGIN answer names the encryption {other}"))),
    }
}

/// The value of one option; offsets and lengths are checked.
fn option(answer: &[u8], wanted: u8) -> Result<Option<&[u8]>, TdsError> {
    let bad = || TdsError::protocol("its PRELOGIN answer has options that point outside of it");
    let mut at = 0;
    let mut found = None;
    loop {
        match *answer.get(at).ok_or_else(bad)? {
            TERMINATOR => return Ok(found),
            option => {
                let entry = answer.get(at + 1..at + 5).ok_or_else(bad)?;
                let offset = usize::from(u16::from_be_bytes([entry[0], entry[1]]));
                let length = usize::from(u16::from_be_bytes([entry[2], entry[3]]));
                let value = answer.get(offset..offset + length).ok_or_else(bad)?;
                if option == wanted {
                    found = Some(value);
                }
                at += 5;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The answer of MS-TDS 4.1's kind: VERSION, ENCRYPTION, INSTOPT, THREADID, MARS.
    fn answer(level: u8) -> Vec<u8> {
        let mut bytes = request(Encrypt::Required);
        let at = usize::from(u16::from_be_bytes([bytes[6], bytes[7]]));
        bytes[at] = level;
        bytes
    }

    #[test]
    fn the_documented_example_is_understood() {
        // MS-TDS 4.1, without its packet header.
        let example = [
            0x00, 0x00, 0x1A, 0x00, 0x06, 0x01, 0x00, 0x20, 0x00, 0x01, 0x02, 0x00, 0x21, 0x00, 0x01, 0x03,
            0x00, 0x22, 0x00, 0x04, 0x04, 0x00, 0x26, 0x00, 0x01, 0xFF, 0x09, 0x00, 0x00, 0x00, 0x00, 0x00,
            0x01, 0x00, 0xB8, 0x0D, 0x00, 0x00, 0x01,
        ];
        assert_eq!(option(&example, VERSION).unwrap(), Some(&[9, 0, 0, 0, 0, 0][..]));
        assert_eq!(option(&example, ENCRYPTION).unwrap(), Some(&[1][..]));
        assert_eq!(option(&example, MARS).unwrap(), Some(&[1][..]));
        assert_eq!(option(&example, 9).unwrap(), None);
        assert_eq!(request(Encrypt::Required)[..26], example[..26], "the same options at the same places");
    }

    #[test]
    fn nothing_weaker_than_asked_for_is_accepted() {
        use Protection as P;
        let outcome = |encrypt, level| agree(encrypt, &answer(level)).ok();
        assert_eq!(
            [0, 1, 2, 3].map(|l| outcome(Encrypt::Required, l)),
            [None, Some(P::Everything), None, Some(P::Everything)]
        );
        assert_eq!(
            [0, 1, 2, 3].map(|l| outcome(Encrypt::LoginOnly, l)),
            [Some(P::LoginOnly), Some(P::Everything), None, Some(P::Everything)]
        );
        assert_eq!(
            [0, 1, 2, 3].map(|l| outcome(Encrypt::Off, l)),
            [Some(P::Nothing), None, Some(P::Nothing), None]
        );
        assert_eq!(outcome(Encrypt::Required, 77), None);
    }

    #[test]
    fn offsets_outside_of_the_message_and_a_missing_end_are_errors() {
        let mut bytes = answer(1);
        bytes[6] = 0xFF;
        assert!(agree(Encrypt::Required, &bytes).is_err());
        assert!(agree(Encrypt::Required, &answer(1)[..20]).is_err());
        assert!(agree(Encrypt::Required, &[]).is_err());
        assert!(agree(Encrypt::Required, &[TERMINATOR]).is_err());
    }

    #[test]
    fn options_in_another_order_and_unknown_ones_are_fine() {
        let bytes = [0x07, 0, 11, 0, 0, ENCRYPTION, 0, 11, 0, 1, TERMINATOR, ENCRYPT_REQUIRED];
        assert_eq!(agree(Encrypt::Required, &bytes).unwrap(), Protection::Everything);
    }
}
