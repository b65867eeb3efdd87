//! The token stream of an answer (MS-TDS 2.2.7).
//!
//! [`next`] reads one token from the bytes at hand or says how many more it needs; nothing is consumed until a
//! token is complete, so that a split at any byte is harmless. ROW and NBCROW end after their first byte here:
//! what follows depends on the columns and is read in `rows`.

use super::{
    ServerError,
    cursor::{Cursor, Parsed, wrong},
    types::{ColumnMeta, TypeInfo, token as ty},
};

/// One token of the server.
#[derive(Debug)]
pub(super) enum Token {
    /// COLMETADATA
    Columns(Vec<ColumnMeta>),
    /// ROW: the values follow
    Row,
    /// NBCROW: a bitmap of NULLs and the other values follow
    NbcRow,
    /// DONE, DONEPROC, DONEINPROC
    Done(Done),
    /// ERROR
    Error(Box<ServerError>),
    /// INFO
    Info(Box<ServerError>),
    /// ENVCHANGE
    Changed(Change),
    /// LOGINACK, with the version that the server speaks
    LoginAck(u32),
    /// SSPI
    Sspi(Vec<u8>),
    /// FEATUREEXTACK: identifiers and data
    Features(Vec<(u8, Vec<u8>)>),
    /// A token that says nothing that matters here
    Other,
}

/// The end of one statement or of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Done {
    status: u16,
    command: u16,
    rows: u64,
}

/// `CurCmd` of a SELECT.
const SELECT: u16 = 0x00C1;

impl Done {
    /// Another result follows.
    pub(super) fn more(self) -> bool {
        self.status & 0x0001 != 0
    }

    /// The statement failed, or was cancelled, which nobody asked for.
    pub(super) fn failed(self) -> bool {
        self.status & (0x0002 | 0x0020 | 0x0100) != 0
    }

    /// Rows that the statement changed.
    pub(super) fn affected(self) -> u64 {
        if self.status & 0x0010 != 0 && self.command != SELECT { self.rows } else { 0 }
    }

    /// Rows that a SELECT says it returned.
    pub(super) fn selected(self) -> Option<u64> {
        (self.status & 0x0010 != 0 && self.command == SELECT).then_some(self.rows)
    }
}

/// What an ENVCHANGE changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// The packet size, in bytes.
    PacketSize(usize),
    /// A transaction began (its descriptor) or ended (0).
    Transaction(u64),
    /// Connect to this server instead.
    Route { host: String, port: u16 },
    /// Anything else.
    Other,
}

/// The most columns that SQL Server puts into one result.
const MAX_COLUMNS: u16 = 4096;
/// The most that one ERROR, SSPI or other small token may take.
const MAX_SKIPPED: u32 = 1 << 20;
const MESSAGE_CHARS: usize = 512;

/// Reads the next token.
pub(super) fn next(cursor: &mut Cursor<'_>) -> Parsed<Token> {
    Ok(match cursor.u8()? {
        0x81 => Token::Columns(columns(cursor)?),
        0xD1 => Token::Row,
        0xD2 => Token::NbcRow,
        0xFD..=0xFF => {
            Token::Done(Done { status: cursor.u16()?, command: cursor.u16()?, rows: cursor.u64()? })
        }
        0xAA => Token::Error(Box::new(message(&mut short(cursor)?)?)),
        0xAB => Token::Info(Box::new(message(&mut short(cursor)?)?)),
        0xE3 => Token::Changed(within("ENVCHANGE", change(&mut short(cursor)?))?),
        0xAD => Token::LoginAck(within("LOGINACK", login_ack(&mut short(cursor)?))?),
        0xED => {
            let length = cursor.u16()?;
            Token::Sspi(cursor.take(usize::from(length))?.to_vec())
        }
        0xAE => Token::Features(features(cursor)?),
        // ORDER, TABNAME, COLINFO
        0xA9 | 0xA4 | 0xA5 => {
            short(cursor)?;
            Token::Other
        }
        // RETURNSTATUS
        0x79 => {
            cursor.u32()?;
            Token::Other
        }
        // RETURNVALUE
        0xAC => {
            cursor.u16()?;
            cursor.b_varchar()?;
            cursor.take(1 + 4 + 2)?;
            TypeInfo::parse(cursor)?.value(cursor)?;
            Token::Other
        }
        // SESSIONSTATE
        0xE4 => {
            let length = cursor.u32()?;
            bounded("SESSIONSTATE", length)?;
            cursor.take(length as usize)?;
            Token::Other
        }
        other => {
            return wrong(format!("it holds the token 0x{other:02x}, which is unknown or was not asked for"));
        }
    })
}

fn bounded(name: &str, length: u32) -> Parsed<()> {
    if length > MAX_SKIPPED { wrong(format!("{name} claims {length} bytes")) } else { Ok(()) }
}

/// A cursor over a token that tells its own length.
fn short<'a>(cursor: &mut Cursor<'a>) -> Parsed<Cursor<'a>> {
    let length = cursor.u16()?;
    cursor.take(usize::from(length)).map(Cursor::new)
}

/// Inside a token of known length, a shortage is an error and not a reason to wait.
fn within<T>(name: &str, parsed: Parsed<T>) -> Parsed<T> {
    match parsed {
        Err(super::cursor::Stop::Short(_)) => wrong(format!("{name} ends before its own fields do")),
        other => other,
    }
}

fn columns(cursor: &mut Cursor<'_>) -> Parsed<Vec<ColumnMeta>> {
    let count = cursor.u16()?;
    if count == 0xFFFF {
        return Ok(Vec::new());
    }
    if count > MAX_COLUMNS {
        return wrong(format!("a result claims {count} columns ({MAX_COLUMNS} are possible)"));
    }
    // The capacity is not taken from the count: it is only a claim until the bytes are here.
    let mut columns = Vec::new();
    for _ in 0..count {
        cursor.u32()?; // the user type, an alias that does not change the values
        let flags = cursor.u16()?;
        let info = TypeInfo::parse(cursor)?;
        if matches!(info.token, ty::TEXT | ty::NTEXT | ty::IMAGE) {
            for _ in 0..cursor.u8()? {
                cursor.us_varchar()?;
            }
        }
        let name = cursor.b_varchar()?;
        columns.push(ColumnMeta { name, nullable: flags & 0x0001 != 0, info });
    }
    Ok(columns)
}

fn message(cursor: &mut Cursor<'_>) -> Parsed<ServerError> {
    within("ERROR or INFO", read_message(cursor))
}

fn read_message(cursor: &mut Cursor<'_>) -> Parsed<ServerError> {
    let number = cursor.u32()? as i32;
    let [state, class] = cursor.array()?;
    let message = clean(&cursor.us_varchar()?);
    let server = clean(&cursor.b_varchar()?);
    let procedure = clean(&cursor.b_varchar()?);
    let line = cursor.u32()?;
    Ok(ServerError { number, state, class, message, server, procedure, line })
}

/// What a server says goes to terminals and logs: no control characters, no novels.
fn clean(text: &str) -> String {
    text.chars().take(MESSAGE_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn change(cursor: &mut Cursor<'_>) -> Parsed<Change> {
    Ok(match cursor.u8()? {
        4 => {
            let size = cursor.b_varchar()?;
            match size.parse() {
                Ok(size) => Change::PacketSize(size),
                Err(_) => return wrong("it named a packet size that is not a number"),
            }
        }
        // begin, enlist
        8 | 11 => {
            let length = cursor.u8()?;
            let bytes = cursor.take(usize::from(length))?;
            Change::Transaction(bytes.try_into().map_or(0, u64::from_le_bytes))
        }
        // commit, roll back, ended
        9 | 10 | 12 | 17 => Change::Transaction(0),
        20 => {
            cursor.u16()?;
            let protocol = cursor.u8()?;
            let port = cursor.u16()?;
            let host = cursor.us_varchar()?;
            if protocol != 0
                || port == 0
                || host.is_empty()
                || host.len() > 255
                || host.chars().any(char::is_control)
            {
                return wrong("it routes to something that is not a TCP address");
            }
            Change::Route { host, port }
        }
        _ => Change::Other,
    })
}

fn login_ack(cursor: &mut Cursor<'_>) -> Parsed<u32> {
    cursor.u8()?;
    let version = u32::from_be_bytes(cursor.array()?);
    cursor.b_varchar()?;
    cursor.u32()?;
    Ok(version)
}

fn features(cursor: &mut Cursor<'_>) -> Parsed<Vec<(u8, Vec<u8>)>> {
    let mut features = Vec::new();
    loop {
        match cursor.u8()? {
            0xFF => return Ok(features),
            feature => {
                let length = cursor.u32()?;
                bounded("FEATUREEXTACK", length)?;
                if features.len() >= 32 {
                    return wrong("FEATUREEXTACK has more than 32 entries");
                }
                features.push((feature, cursor.take(length as usize)?.to_vec()));
            }
        }
    }
}
