//! Answers of a server, byte by byte.

use crate::{
    model::{ColumnPlan, SourceType},
    tds::{
        ColumnMeta, Rows,
        cursor::Cursor,
        token::{self, Token},
    },
};

/// `Latin1_General_CI_AS`
pub(super) const LATIN: [u8; 5] = [0x09, 0x04, 0xD0, 0x00, 0x00];
pub(super) const NULLABLE: u16 = 0x0009;
pub(super) const NOT_NULL: u16 = 0x0008;

pub(super) fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

pub(super) fn b_varchar(text: &str) -> Vec<u8> {
    let mut out = vec![text.encode_utf16().count() as u8];
    out.extend(utf16(text));
    out
}

pub(super) fn us_varchar(text: &str) -> Vec<u8> {
    let mut out = (text.encode_utf16().count() as u16).to_le_bytes().to_vec();
    out.extend(utf16(text));
    out
}

/// COLMETADATA of columns given as name, flags and `TYPE_INFO`.
pub(super) fn metadata(columns: &[(&str, u16, Vec<u8>)]) -> Vec<u8> {
    let mut out = vec![0x81];
    out.extend((columns.len() as u16).to_le_bytes());
    for (name, flags, type_info) in columns {
        out.extend([0; 4]);
        out.extend(flags.to_le_bytes());
        out.extend(type_info);
        out.extend(b_varchar(name));
    }
    out
}

pub(super) fn done(status: u16, command: u16, rows: u64) -> Vec<u8> {
    let mut out = vec![0xFD];
    out.extend(status.to_le_bytes());
    out.extend(command.to_le_bytes());
    out.extend(rows.to_le_bytes());
    out
}

/// The DONE of a SELECT, which is the last.
pub(super) fn selected(rows: u64) -> Vec<u8> {
    done(0x0010, 0x00C1, rows)
}

fn counted(token: u8, body: Vec<u8>) -> Vec<u8> {
    let mut out = vec![token];
    out.extend((body.len() as u16).to_le_bytes());
    out.extend(body);
    out
}

fn message(token: u8, number: i32, class: u8, text: &str) -> Vec<u8> {
    let mut body = number.to_le_bytes().to_vec();
    body.extend([1, class]);
    body.extend(us_varchar(text));
    body.extend(b_varchar("SQL01"));
    body.extend(b_varchar(""));
    body.extend(7u32.to_le_bytes());
    counted(token, body)
}

pub(super) fn error(number: i32, class: u8, text: &str) -> Vec<u8> {
    message(0xAA, number, class, text)
}

pub(super) fn info(number: i32, text: &str) -> Vec<u8> {
    message(0xAB, number, 0, text)
}

pub(super) fn order() -> Vec<u8> {
    counted(0xA9, vec![1, 0])
}

pub(super) fn packet_size(new: &str) -> Vec<u8> {
    let mut body = vec![4];
    body.extend(b_varchar(new));
    body.extend(b_varchar("4096"));
    counted(0xE3, body)
}

pub(super) fn transaction(kind: u8, descriptor: Option<u64>) -> Vec<u8> {
    let mut body = vec![kind];
    let (new, old) = if kind == 8 { (descriptor, None) } else { (None, descriptor) };
    for side in [new, old] {
        match side {
            Some(value) => {
                body.push(8);
                body.extend(value.to_le_bytes());
            }
            None => body.push(0),
        }
    }
    counted(0xE3, body)
}

pub(super) fn routing(host: &str, port: u16) -> Vec<u8> {
    let mut value = vec![0];
    value.extend(port.to_le_bytes());
    value.extend(us_varchar(host));
    let mut body = vec![20];
    body.extend((value.len() as u16).to_le_bytes());
    body.extend(value);
    body.extend([0, 0]);
    counted(0xE3, body)
}

pub(super) fn login_ack() -> Vec<u8> {
    let mut body = vec![1, 0x74, 0, 0, 4];
    body.extend(b_varchar("Microsoft SQL Server"));
    body.extend([16, 0, 0x10, 0]);
    counted(0xAD, body)
}

pub(super) fn sspi(gss_token: &[u8]) -> Vec<u8> {
    counted(0xED, gss_token.to_vec())
}

pub(super) fn utf8_acknowledged() -> Vec<u8> {
    vec![0xAE, 0x0A, 1, 0, 0, 0, 1, 0xFF]
}

/// Cuts a message into packets of at most `size` bytes.
pub(super) fn packets(payload: &[u8], size: usize) -> Vec<u8> {
    let parts: Vec<&[u8]> = if payload.is_empty() { vec![&[]] } else { payload.chunks(size - 8).collect() };
    let mut out = Vec::new();
    for (i, part) in parts.iter().enumerate() {
        out.extend([4, u8::from(i + 1 == parts.len())]);
        out.extend(((part.len() + 8) as u16).to_be_bytes());
        out.extend([0, 57, (i + 1) as u8, 0]);
        out.extend(*part);
    }
    out
}

pub(super) fn plan(name: &str, source: SourceType) -> ColumnPlan {
    ColumnPlan { source_name: name.into(), target_name: name.to_uppercase(), source, nullable: true }
}

/// Parses COLMETADATA.
pub(super) fn columns_of(metadata: &[u8]) -> Vec<ColumnMeta> {
    let mut cursor = Cursor::new(metadata);
    match token::next(&mut cursor).unwrap() {
        Token::Columns(columns) => {
            assert_eq!(cursor.position(), metadata.len(), "all of it was read");
            columns
        }
        other => panic!("{other:?}"),
    }
}

/// A plan for everything that the metadata describes.
pub(super) fn plan_of(columns: &[ColumnMeta]) -> Vec<ColumnPlan> {
    columns.iter().map(|c| plan(&c.name, c.source_type().unwrap())).collect()
}

/// An empty batch that takes everything.
pub(super) fn rows_of(columns: &[ColumnMeta]) -> Rows {
    Rows::new(columns, &plan_of(columns), 1_000_000, usize::MAX, usize::MAX).unwrap()
}
