//! LOGIN7 (MS-TDS 2.2.6.4), read from untrusted bytes.

use crate::packet::{Reader, WireError};

/// The largest LOGIN7 message: 128 KiB and a long SSPI token.
pub(crate) const MAX_LOGIN: usize = 512 * 1024;

/// Bytes before the variable part in TDS 7.2 and later.
const FIXED: usize = 94;
const INTEGRATED_SECURITY: u8 = 0x80;
const EXTENSION: u8 = 0x10;
/// Longest text field, in UTF-16 units.
const MAX_TEXT: usize = 128;

/// How the client proves who it is.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Proof {
    /// A user name with a password.
    Password(String),
    /// The first token of a GSSAPI exchange.
    Sspi(Vec<u8>),
    /// A federated authentication token, which this server does not take.
    Federated,
}

/// What the client asked for.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Login7 {
    /// `0x74000004` and the like.
    pub(crate) tds_version: u32,
    pub(crate) packet_size: u32,
    pub(crate) host: String,
    pub(crate) user: String,
    pub(crate) application: String,
    /// Empty: the login's default database.
    pub(crate) database: String,
    pub(crate) proof: Proof,
    /// Feature extensions, by number.
    pub(crate) features: Vec<u8>,
}

impl Login7 {
    /// Reads the message; every offset and length is checked.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, WireError> {
        let mut fixed = Reader::new(body, "LOGIN7");
        let length = fixed.u32()? as usize;
        if body.len() < FIXED || length > body.len() {
            let found = format!("says {length} bytes, has {}", body.len());
            return Err(WireError::malformed("LOGIN7", found));
        }
        let body = &body[..length.max(FIXED).min(body.len())];
        let tds_version = fixed.u32()?;
        let packet_size = fixed.u32()?;
        fixed.take(12)?; // program version, process id, connection id
        let [_flags1, flags2, _type_flags, flags3] = fixed.array()?;
        fixed.take(8)?; // time zone, locale
        let host = text(body, fixed.array()?)?;
        let user = text(body, fixed.array()?)?;
        let password = password(body, fixed.array()?)?;
        let application = text(body, fixed.array()?)?;
        let _server = text(body, fixed.array()?)?;
        let extension = place(fixed.array()?);
        let _library = text(body, fixed.array()?)?;
        let _language = text(body, fixed.array()?)?;
        let database = text(body, fixed.array()?)?;
        fixed.take(6)?; // client id
        let (sspi_at, sspi_short) = place(fixed.array()?);
        fixed.take(8)?; // file to attach, new password
        let sspi_long = fixed.u32()? as usize;
        let features = if flags3 & EXTENSION == 0 { Vec::new() } else { features(body, extension)? };
        let proof = if flags2 & INTEGRATED_SECURITY != 0 {
            let long = sspi_short == usize::from(u16::MAX) && sspi_long > 0;
            Proof::Sspi(slice(body, sspi_at, if long { sspi_long } else { sspi_short })?.to_vec())
        } else if features.contains(&feature::FEDAUTH) {
            Proof::Federated
        } else {
            Proof::Password(password)
        };
        Ok(Self { tds_version, packet_size, host, user, application, database, proof, features })
    }
}

/// Numbers of feature extensions.
pub(crate) mod feature {
    pub(crate) const FEDAUTH: u8 = 0x02;
    pub(crate) const UTF8_SUPPORT: u8 = 0x0A;
    pub(crate) const TERMINATOR: u8 = 0xFF;
}

fn place(entry: [u8; 4]) -> (usize, usize) {
    let [a, b, c, d] = entry;
    (usize::from(u16::from_le_bytes([a, b])), usize::from(u16::from_le_bytes([c, d])))
}

fn slice(body: &[u8], offset: usize, length: usize) -> Result<&[u8], WireError> {
    if length == 0 {
        return Ok(&[]);
    }
    offset.checked_add(length).and_then(|end| body.get(offset..end)).ok_or_else(|| {
        WireError::malformed("LOGIN7", format!("a field of {length} bytes at {offset} lies outside"))
    })
}

fn text_bytes(body: &[u8], entry: [u8; 4]) -> Result<&[u8], WireError> {
    let (offset, units) = place(entry);
    if units > MAX_TEXT {
        return Err(WireError::malformed(
            "LOGIN7",
            format!("a text of {units} characters, {MAX_TEXT} allowed"),
        ));
    }
    slice(body, offset, units * 2)
}

fn text(body: &[u8], entry: [u8; 4]) -> Result<String, WireError> {
    let bytes = text_bytes(body, entry)?;
    Reader::new(bytes, "LOGIN7").utf16(bytes.len() / 2)
}

/// Undoes the obfuscation: every byte was nibble-swapped and combined with 0xA5.
fn password(body: &[u8], entry: [u8; 4]) -> Result<String, WireError> {
    let bytes: Vec<u8> = text_bytes(body, entry)?.iter().map(|byte| (byte ^ 0xA5).rotate_left(4)).collect();
    Reader::new(&bytes, "LOGIN7").utf16(bytes.len() / 2)
}

/// The extension field points to a pointer to the list of features.
fn features(body: &[u8], (offset, length): (usize, usize)) -> Result<Vec<u8>, WireError> {
    let pointer = slice(body, offset, length)?;
    let at = Reader::new(pointer, "LOGIN7 extension").u32()? as usize;
    let list = body.get(at..).ok_or_else(|| {
        WireError::malformed("LOGIN7", format!("the features at {at} lie outside the message"))
    })?;
    let mut list = Reader::new(list, "LOGIN7 features");
    let mut found = Vec::new();
    loop {
        match list.u8()? {
            feature::TERMINATOR => return Ok(found),
            id => {
                let length = list.u32()? as usize;
                list.take(length)?;
                found.push(id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A LOGIN7 message with these texts, features and token.
    fn message(user: &str, password: &str, database: &str, sspi: &[u8], features: &[u8]) -> Vec<u8> {
        let mut fixed = vec![0_u8; FIXED];
        fixed[4..8].copy_from_slice(&0x7400_0004_u32.to_le_bytes());
        fixed[8..12].copy_from_slice(&4096_u32.to_le_bytes());
        let mut data = Vec::new();
        let mut put = |fixed: &mut Vec<u8>, at: usize, bytes: &[u8], count: usize| {
            let offset = FIXED + data.len();
            fixed[at..at + 2].copy_from_slice(&(offset as u16).to_le_bytes());
            fixed[at + 2..at + 4].copy_from_slice(&(count as u16).to_le_bytes());
            data.extend(bytes);
        };
        let utf16 = |text: &str| -> Vec<u8> { text.encode_utf16().flat_map(u16::to_le_bytes).collect() };
        put(&mut fixed, 40, &utf16(user), user.len());
        let hidden: Vec<u8> = utf16(password).iter().map(|byte| byte.rotate_left(4) ^ 0xA5).collect();
        put(&mut fixed, 44, &hidden, hidden.len() / 2);
        put(&mut fixed, 68, &utf16(database), database.len());
        if !sspi.is_empty() {
            fixed[25] |= INTEGRATED_SECURITY;
            put(&mut fixed, 78, sspi, sspi.len());
        }
        if !features.is_empty() {
            fixed[27] |= EXTENSION;
            put(&mut fixed, 56, &[0; 4], 4);
            let pointer = FIXED + data.len();
            data.extend(features);
            let place = pointer - FIXED - 4;
            data[place..place + 4].copy_from_slice(&(pointer as u32).to_le_bytes());
        }
        fixed.extend(data);
        let length = fixed.len() as u32;
        fixed[..4].copy_from_slice(&length.to_le_bytes());
        fixed
    }

    #[test]
    fn user_password_and_database_are_read() {
        let login = Login7::parse(&message("sa", "pa55-wörd", "sales", &[], &[])).unwrap();
        assert_eq!((login.user.as_str(), login.database.as_str()), ("sa", "sales"));
        assert!(login.proof == Proof::Password("pa55-wörd".into()));
    }

    #[test]
    fn a_token_takes_the_passwords_place() {
        let login = Login7::parse(&message("", "", "", b"token", &[])).unwrap();
        assert!(login.proof == Proof::Sspi(b"token".to_vec()));
    }

    #[test]
    fn features_are_listed_and_unknown_ones_skipped() {
        let features = [0x0A, 1, 0, 0, 0, 1, 0x77, 2, 0, 0, 0, 9, 9, 0xFF];
        let login = Login7::parse(&message("sa", "x", "", &[], &features)).unwrap();
        assert_eq!(login.features, [0x0A, 0x77]);
    }

    #[test]
    fn every_cut_message_is_refused_without_a_panic() {
        let whole = message("sa", "secret", "sales", b"token", &[0x0A, 1, 0, 0, 0, 1, 0xFF]);
        for cut in 0..whole.len() {
            assert!(Login7::parse(&whole[..cut]).is_err(), "{cut}");
        }
    }

    #[test]
    fn a_field_outside_the_message_is_refused() {
        let mut bytes = message("sa", "secret", "", &[], &[]);
        bytes[40..42].copy_from_slice(&60_000_u16.to_le_bytes());
        assert!(Login7::parse(&bytes).is_err());
    }
}
