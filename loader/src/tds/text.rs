//! Any value as text, for small answers from the catalog: as SQL Server prints it.

use std::io::Write as _;

use super::{
    collation::{TextDecoder, append_utf16},
    cursor::{Cursor, Parsed, wrong},
    numbers::{decimal, money, push_decimal, push_guid, push_hex},
    temporal::{
        DAYS_TO_1970, LAST_DAY, date_days, datetime_millis, datetime2_parts, little_endian, push_date,
        push_time, smalldatetime_millis, ticks, time_bytes,
    },
    types::{ColumnMeta, Layout, TypeInfo, token as t},
};

/// One row as text.
pub(super) type TextRow = Vec<Option<String>>;

/// Reads the rest of a ROW.
pub(super) fn row(cursor: &mut Cursor<'_>, columns: &[ColumnMeta]) -> Parsed<TextRow> {
    columns.iter().map(|column| cell(cursor, column)).collect()
}

/// Reads the rest of an NBCROW.
pub(super) fn null_bitmap_row(cursor: &mut Cursor<'_>, columns: &[ColumnMeta]) -> Parsed<TextRow> {
    let nulls = cursor.take(columns.len().div_ceil(8))?;
    let is_null = |i: usize| nulls[i / 8] & (1 << (i % 8)) != 0;
    columns
        .iter()
        .enumerate()
        .map(|(i, column)| if is_null(i) { Ok(None) } else { cell(cursor, column) })
        .collect()
}

fn cell(cursor: &mut Cursor<'_>, column: &ColumnMeta) -> Parsed<Option<String>> {
    let Some(bytes) = column.info.value(cursor)? else { return Ok(None) };
    let mut out = Vec::with_capacity(bytes.len());
    if push(&column.info, &bytes, &mut out).is_some()
        && let Ok(text) = String::from_utf8(out)
    {
        return Ok(Some(text));
    }
    wrong(format!("column {:?} holds a value that is no {}", column.name, column.type_name()))
}

/// Appends the text of one value; `None` if the bytes are not of this type.
fn push(info: &TypeInfo, bytes: &[u8], out: &mut Vec<u8>) -> Option<()> {
    match info.token {
        t::BIT | t::BITN => push_text(out, u8::from(*one(bytes)? != 0)),
        t::INT1 | t::INT2 | t::INT4 | t::INT8 | t::INTN => push_integer(bytes, out)?,
        t::DECIMAL | t::NUMERIC | t::DECIMALN | t::NUMERICN => push_decimal(out, decimal(bytes)?, info.scale),
        t::MONEY | t::MONEY4 | t::MONEYN => {
            let count = match bytes.len() {
                4 => i64::from(i32::from_le_bytes(bytes.try_into().ok()?)),
                _ => money(bytes.try_into().ok()?),
            };
            push_decimal(out, i128::from(count), 4);
        }
        t::FLT4 | t::FLT8 | t::FLTN => match bytes.len() {
            4 => push_text(out, f32::from_le_bytes(bytes.try_into().ok()?)),
            _ => push_text(out, f64::from_le_bytes(bytes.try_into().ok()?)),
        },
        t::DATEN => {
            let days = little_endian(bytes.get(..3)?);
            date_days(days as u32)?;
            push_date(out, days as i64);
        }
        t::TIMEN => {
            let value = ticks(little_endian(bytes.get(..time_bytes(info.scale))?), info.scale)?;
            push_time(out, value, info.scale);
        }
        t::DATETIM4 | t::DATETIME | t::DATETIMN => push_datetime(bytes, out)?,
        t::DATETIME2N => {
            let (day, time) = datetime2_parts(bytes, info.scale)?;
            push_moment(out, day, time, info.scale);
        }
        t::DATETIMEOFFSETN => push_offset(bytes, info.scale, out)?,
        t::GUID => push_guid(out, bytes.try_into().ok()?),
        t::CHAR | t::VARCHAR | t::BIGCHAR | t::BIGVARCHAR | t::TEXT => {
            let decoder = TextDecoder::of(info.collation?.code_page()?)?;
            decoder.append(bytes, out).then_some(())?;
        }
        t::NCHAR | t::NVARCHAR | t::NTEXT | t::XML => append_utf16(bytes, out).then_some(())?,
        t::BINARY | t::VARBINARY | t::BIGBINARY | t::BIGVARBINARY | t::IMAGE | t::UDT => push_hex(out, bytes),
        t::VARIANT => push_variant(bytes, out)?,
        _ => return None,
    }
    Some(())
}

fn one(bytes: &[u8]) -> Option<&u8> {
    bytes.first()
}

fn push_text(out: &mut Vec<u8>, value: impl std::fmt::Display) {
    let _ = write!(out, "{value}");
}

fn push_integer(bytes: &[u8], out: &mut Vec<u8>) -> Option<()> {
    match bytes.len() {
        1 => push_text(out, bytes[0]),
        2 => push_text(out, i16::from_le_bytes(bytes.try_into().ok()?)),
        4 => push_text(out, i32::from_le_bytes(bytes.try_into().ok()?)),
        8 => push_text(out, i64::from_le_bytes(bytes.try_into().ok()?)),
        _ => return None,
    }
    Some(())
}

fn push_moment(out: &mut Vec<u8>, day: i64, ticks: u64, digits: u8) {
    push_date(out, day);
    out.push(b' ');
    push_time(out, ticks, digits);
}

fn push_datetime(bytes: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let (millis, digits) = if bytes.len() == 4 {
        (smalldatetime_millis(bytes.try_into().ok()?)?, 0)
    } else {
        (datetime_millis(bytes.try_into().ok()?)?, 3)
    };
    let day = millis.div_euclid(86_400_000) + DAYS_TO_1970;
    push_moment(out, day, millis.rem_euclid(86_400_000) as u64 * 10_000, digits);
    Some(())
}

/// `datetimeoffset` is UTC on the wire, with minutes to add.
fn push_offset(bytes: &[u8], scale: u8, out: &mut Vec<u8>) -> Option<()> {
    const MINUTE: i64 = 600_000_000;
    const DAY: i64 = 1440 * MINUTE;
    let (moment, offset) = bytes.split_at_checked(time_bytes(scale) + 3)?;
    let offset = i64::from(i16::from_le_bytes(offset.try_into().ok()?));
    let (day, time) = datetime2_parts(moment, scale)?;
    let local = time as i64 + offset * MINUTE;
    let day = day + local.div_euclid(DAY);
    if offset.abs() > 14 * 60 || !(0..=LAST_DAY).contains(&day) {
        return None;
    }
    push_moment(out, day, local.rem_euclid(DAY) as u64, scale);
    let sign = if offset < 0 { '-' } else { '+' };
    let _ = write!(out, " {sign}{:02}:{:02}", offset.abs() / 60, offset.abs() % 60);
    Some(())
}

/// `sql_variant` brings its own type (MS-TDS 2.2.5.5.4); none nests in another.
fn push_variant(bytes: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut cursor = Cursor::new(bytes);
    let token = cursor.u8().ok()?;
    let properties = cursor.u8().ok()?;
    let head = cursor.take(usize::from(properties)).ok()?;
    let mut head = Cursor::new(head);
    let mut info = TypeInfo::new(token, Layout::Byte);
    match token {
        t::VARIANT | t::XML | t::UDT | t::TEXT | t::NTEXT | t::IMAGE => return None,
        t::TIMEN | t::DATETIME2N | t::DATETIMEOFFSETN => {
            info.scale = head.u8().ok().filter(|scale| *scale <= 7)?;
        }
        t::DECIMALN | t::NUMERICN => [info.precision, info.scale] = head.array().ok()?,
        t::BIGCHAR | t::BIGVARCHAR | t::NCHAR | t::NVARCHAR => {
            info.collation = Some(super::collation::Collation::parse(&mut head).ok()?);
        }
        _ => {}
    }
    push(&info, &bytes[cursor.position()..], out)
}
