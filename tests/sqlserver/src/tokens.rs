//! The tokens of an answer other than rows (MS-TDS 2.2.7), appended to a buffer.

use keyferry_sql::{DataType, Value, Verb};

use crate::rows::put_typed;

const ENVCHANGE: u8 = 0xE3;
const ERROR: u8 = 0xAA;
const INFO: u8 = 0xAB;
const LOGINACK: u8 = 0xAD;
const FEATUREEXTACK: u8 = 0xAE;
const SSPI: u8 = 0xED;
const RETURNSTATUS: u8 = 0x79;
const RETURNVALUE: u8 = 0xAC;

/// Longest text of an ERROR or INFO token, in UTF-16 units (the real server stops at 2,047).
const MAX_MESSAGE: usize = 2047;

/// Which of the three DONE tokens ends a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum DoneKind {
    /// A statement of a batch.
    Done = 0xFD,
    /// A procedure call as a whole.
    Proc = 0xFE,
    /// A statement inside a procedure.
    InProc = 0xFF,
}

/// Flags of a DONE token.
pub(crate) mod status {
    pub(crate) const MORE: u16 = 0x0001;
    pub(crate) const ERROR: u16 = 0x0002;
    pub(crate) const COUNT: u16 = 0x0010;
    pub(crate) const ATTENTION: u16 = 0x0020;
    pub(crate) const SERVER_ERROR: u16 = 0x0100;
}

/// One DONE token.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Done {
    pub(crate) kind: DoneKind,
    pub(crate) status: u16,
    pub(crate) command: u16,
    pub(crate) rows: u64,
}

impl Done {
    pub(crate) fn plain(kind: DoneKind, status: u16) -> Self {
        Self { kind, status, command: 0, rows: 0 }
    }

    pub(crate) fn put(self, into: &mut Vec<u8>) {
        into.push(self.kind as u8);
        into.extend(self.status.to_le_bytes());
        into.extend(self.command.to_le_bytes());
        into.extend(self.rows.to_le_bytes());
    }
}

/// The number that DONEPROC carries.
pub(crate) const EXECUTE: u16 = 0xE0;

/// The number that DONE tokens carry for a statement's kind.
pub(crate) fn command(verb: Verb) -> u16 {
    match verb {
        Verb::Select => 0xC1,
        Verb::Insert | Verb::InsertOverwrite => 0xC3,
        Verb::Delete => 0xC4,
        Verb::Update => 0xC5,
        Verb::Create => 0xC6,
        Verb::Drop => 0xC7,
        Verb::Truncate => 0xC9,
        Verb::Alter => 0xD8,
        Verb::Begin => 0xD4,
        Verb::Commit => 0xD5,
        Verb::Rollback => 0xD2,
        Verb::Set => 0xF9,
        Verb::Merge => 0x117,
        _ => 0xFD,
    }
}

/// What an ERROR or INFO token says.
#[derive(Clone, Debug)]
pub(crate) struct Notice<'a> {
    pub(crate) number: i32,
    pub(crate) state: u8,
    pub(crate) class: u8,
    pub(crate) message: &'a str,
    pub(crate) line: u32,
    pub(crate) procedure: &'a str,
}

impl Notice<'_> {
    /// An ERROR token when the class is above 10, else INFO.
    pub(crate) fn put(&self, server: &str, into: &mut Vec<u8>) {
        let mut body = Vec::new();
        body.extend(self.number.to_le_bytes());
        body.extend([self.state, self.class]);
        let message: Vec<u16> = self.message.encode_utf16().take(MAX_MESSAGE).collect();
        body.extend((message.len() as u16).to_le_bytes());
        body.extend(message.iter().flat_map(|unit| unit.to_le_bytes()));
        b_varchar(server, &mut body);
        b_varchar(self.procedure, &mut body);
        body.extend(self.line.to_le_bytes());
        sized(if self.class > 10 { ERROR } else { INFO }, &body, into);
    }
}

/// What a session's environment became.
pub(crate) enum Change<'a> {
    Database { new: &'a str, old: &'a str },
    Language(&'a str),
    PacketSize { new: usize, old: usize },
    Collation([u8; 5]),
    Began(u64),
    Committed(u64),
    RolledBack(u64),
    WasReset,
}

impl Change<'_> {
    pub(crate) fn put(&self, into: &mut Vec<u8>) {
        let mut body = Vec::new();
        let mut texts = |number: u8, new: &str, old: &str| {
            body.push(number);
            b_varchar(new, &mut body);
            b_varchar(old, &mut body);
        };
        match *self {
            Self::Database { new, old } => texts(1, new, old),
            Self::Language(new) => texts(2, new, ""),
            Self::PacketSize { new, old } => texts(4, &new.to_string(), &old.to_string()),
            Self::Collation(bytes) => {
                body.extend([7, 5]);
                body.extend(bytes);
                body.push(0);
            }
            Self::Began(id) => {
                body.extend([8, 8]);
                body.extend(id.to_le_bytes());
                body.push(0);
            }
            Self::Committed(id) => {
                body.extend([9, 0, 8]);
                body.extend(id.to_le_bytes());
            }
            Self::RolledBack(id) => {
                body.extend([10, 0, 8]);
                body.extend(id.to_le_bytes());
            }
            Self::WasReset => body.extend([18, 0, 0]),
        }
        sized(ENVCHANGE, &body, into);
    }
}

/// Version 16.0.1000, as LOGINACK says it.
pub(crate) const PROGRAM_VERSION: [u8; 4] = [16, 0, 0x03, 0xE8];

/// LOGINACK: the TDS version as the client wrote it, the program's name and version.
pub(crate) fn login_ack(tds_version: u32, version: [u8; 4], into: &mut Vec<u8>) {
    let mut body = vec![1];
    body.extend(tds_version.to_be_bytes());
    b_varchar("Microsoft SQL Server\0\0", &mut body);
    body.extend(version);
    sized(LOGINACK, &body, into);
}

/// FEATUREEXTACK for the features that the server acknowledges; nothing when there are none.
pub(crate) fn feature_ext_ack(features: &[(u8, &[u8])], into: &mut Vec<u8>) {
    if features.is_empty() {
        return;
    }
    into.push(FEATUREEXTACK);
    for (id, data) in features {
        into.push(*id);
        into.extend((data.len() as u32).to_le_bytes());
        into.extend(*data);
    }
    into.push(0xFF);
}

/// The acceptor's token, at most 65,535 bytes.
pub(crate) fn sspi(token: &[u8], into: &mut Vec<u8>) {
    sized(SSPI, token, into);
}

pub(crate) fn return_status(status: i32, into: &mut Vec<u8>) {
    into.push(RETURNSTATUS);
    into.extend(status.to_le_bytes());
}

/// An output parameter: its type and value as a column and a row would carry them. False for a type that SQL Server
/// does not have.
pub(crate) fn return_value(
    ordinal: u16,
    name: &str,
    ty: &DataType,
    value: &Value,
    into: &mut Vec<u8>,
) -> bool {
    let start = into.len();
    into.push(RETURNVALUE);
    into.extend(ordinal.to_le_bytes());
    b_varchar(name, into);
    into.push(0x01); // an output parameter, not a function's result
    into.extend([0; 4]); // user type
    into.extend([0; 2]); // flags
    let fits = put_typed(ty, value, into);
    if !fits {
        into.truncate(start);
    }
    fits
}

/// An output parameter of type int.
pub(crate) fn return_int(ordinal: u16, name: &str, value: i32, into: &mut Vec<u8>) {
    into.push(RETURNVALUE);
    into.extend(ordinal.to_le_bytes());
    b_varchar(name, into);
    into.push(0x01); // an output parameter, not a function's result
    into.extend([0; 4]); // user type
    into.extend([0; 2]); // flags
    into.extend([0x26, 4, 4]); // INTN(4), and the value's length
    into.extend(value.to_le_bytes());
}

/// Text with its length in UTF-16 units in one byte; longer text is cut.
pub(crate) fn b_varchar(text: &str, into: &mut Vec<u8>) {
    let units: Vec<u16> = text.encode_utf16().take(255).collect();
    into.push(units.len() as u8);
    into.extend(units.iter().flat_map(|unit| unit.to_le_bytes()));
}

fn sized(token: u8, body: &[u8], into: &mut Vec<u8>) {
    let length = body.len().min(usize::from(u16::MAX));
    into.push(token);
    into.extend((length as u16).to_le_bytes());
    into.extend_from_slice(&body[..length]);
}
