//! Parameters of remote procedure calls: `TYPE_INFO` and value, read from untrusted bytes.

use keyferry_sql::{Collation, DataType, Decimal, Length, Text, Value};

use crate::packet::{Reader, WireError, utf16_units};
use crate::types::{MAX_LENGTH, token};
use crate::values::swap_uuid;

const DAYS_TO_1900: i32 = 693_595;
const NULL_TYPE: u8 = 0x1F;
/// Flags of a parameter (MS-TDS 2.2.6.6).
const BY_REFERENCE: u8 = 0x01;
const DEFAULT: u8 = 0x02;
/// The length of a PLP value that is NULL, and of one whose length its sender does not know.
const PLP_NULL: u64 = u64::MAX;
const PLP_UNKNOWN: u64 = u64::MAX - 1;

/// One parameter as the client sent it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Argument {
    /// `@name`, or empty for one that is told by its place.
    pub(crate) name: String,
    pub(crate) ty: DataType,
    pub(crate) value: Value,
    /// The client wants to know what becomes of it.
    pub(crate) output: bool,
    /// The client asks for the parameter's default.
    pub(crate) default: bool,
}

/// How the value's length is written.
#[derive(Clone, Copy)]
enum Framing {
    Fixed(usize),
    Byte,
    Short,
    Long,
    Chunks,
}

/// Reads one parameter: name, flags, type, value. Text is in the server's collation unless it is UTF-8.
pub(crate) fn read(reader: &mut Reader<'_>, collation: Collation) -> Result<Argument, WireError> {
    let units = usize::from(reader.u8()?);
    let name = reader.utf16(units)?;
    let flags = reader.u8()?;
    let kind = reader.u8()?;
    let Cell { ty, framing, .. } = read_type(kind, reader, collation)?;
    let value = match read_bytes(framing, reader)? {
        None => Value::Null,
        Some(bytes) => decode(&ty, kind, &bytes)?,
    };
    Ok(Argument { name, ty, value, output: flags & BY_REFERENCE != 0, default: flags & DEFAULT != 0 })
}

/// A type as a client announces it, and how its values follow.
pub(crate) struct Cell {
    ty: DataType,
    kind: u8,
    framing: Framing,
}

impl Cell {
    /// Whether a column of the type has its table's name, and its values a text pointer before them.
    pub(crate) fn has_pointer(&self) -> bool {
        matches!(self.kind, token::TEXT | token::NTEXT | token::IMAGE)
    }

    /// Reads a value of a row.
    pub(crate) fn read(&self, reader: &mut Reader<'_>) -> Result<Value, WireError> {
        if self.has_pointer() {
            match usize::from(reader.u8()?) {
                0 => return Ok(Value::Null),
                length => {
                    reader.take(length)?;
                    reader.take(8)?; // its timestamp
                }
            }
        }
        match read_bytes(self.framing, reader)? {
            None => Ok(Value::Null),
            Some(bytes) => decode(&self.ty, self.kind, &bytes),
        }
    }
}

/// Reads the rest of `TYPE_INFO`, behind its first byte.
pub(crate) fn read_type(kind: u8, reader: &mut Reader<'_>, collation: Collation) -> Result<Cell, WireError> {
    let (ty, framing) = read_type_info(kind, reader, collation)?;
    Ok(Cell { ty, kind, framing })
}

fn read_type_info(
    kind: u8,
    reader: &mut Reader<'_>,
    collation: Collation,
) -> Result<(DataType, Framing), WireError> {
    let unknown = |found: String| WireError::malformed("parameter", found);
    let sized = |size: u8, types: &[(u8, DataType)]| {
        types
            .iter()
            .find(|(bytes, _)| *bytes == size)
            .map(|(_, ty)| (ty.clone(), Framing::Byte))
            .ok_or_else(|| unknown(format!("type 0x{kind:02X} of {size} bytes")))
    };
    Ok(match kind {
        NULL_TYPE => (DataType::Null, Framing::Fixed(0)),
        token::BIT => (DataType::Bit, Framing::Fixed(1)),
        token::INT1 => (DataType::TinyInt, Framing::Fixed(1)),
        token::INT2 => (DataType::SmallInt, Framing::Fixed(2)),
        token::INT4 => (DataType::Int, Framing::Fixed(4)),
        token::INT8 => (DataType::BigInt, Framing::Fixed(8)),
        token::FLT4 => (DataType::Real, Framing::Fixed(4)),
        token::FLT8 => (DataType::Float, Framing::Fixed(8)),
        token::MONEY4 => (DataType::SmallMoney, Framing::Fixed(4)),
        token::MONEY => (DataType::Money, Framing::Fixed(8)),
        token::DATETIM4 => (DataType::SmallDateTime, Framing::Fixed(4)),
        token::DATETIME => (DataType::DateTime, Framing::Fixed(8)),
        token::BITN => sized(reader.u8()?, &[(1, DataType::Bit)])?,
        token::INTN => sized(
            reader.u8()?,
            &[(1, DataType::TinyInt), (2, DataType::SmallInt), (4, DataType::Int), (8, DataType::BigInt)],
        )?,
        token::FLTN => sized(reader.u8()?, &[(4, DataType::Real), (8, DataType::Float)])?,
        token::MONEYN => sized(reader.u8()?, &[(4, DataType::SmallMoney), (8, DataType::Money)])?,
        token::DATETIMN => sized(reader.u8()?, &[(4, DataType::SmallDateTime), (8, DataType::DateTime)])?,
        token::GUID => sized(reader.u8()?, &[(16, DataType::UniqueIdentifier)])?,
        token::DECIMALN | token::NUMERICN => {
            let [_size, precision, scale] = reader.array()?;
            if !(1..=38).contains(&precision) || scale > precision {
                return Err(unknown(format!("decimal({precision},{scale})")));
            }
            (DataType::Decimal { precision, scale }, Framing::Byte)
        }
        token::DATEN => (DataType::Date, Framing::Byte),
        token::TIMEN => (DataType::Time { scale: scale(reader)? }, Framing::Byte),
        token::DATETIME2N => (DataType::DateTime2 { scale: scale(reader)? }, Framing::Byte),
        token::DATETIMEOFFSETN => (DataType::DateTimeOffset { scale: scale(reader)? }, Framing::Byte),
        token::BIGVARBIN | token::BIGBINARY => {
            let (length, framing) = long_or_max(reader.u16()?, 1);
            (DataType::VarBinary { length }, framing)
        }
        token::BIGVARCHAR | token::BIGCHAR => {
            let (length, framing) = long_or_max(reader.u16()?, 1);
            let collation = read_collation(reader, collation)?;
            (DataType::VarChar { length, collation }, framing)
        }
        token::NVARCHAR | token::NCHAR => {
            let (length, framing) = long_or_max(reader.u16()?, 2);
            let collation = read_collation(reader, collation)?;
            (DataType::NVarChar { length, collation }, framing)
        }
        token::TEXT => {
            reader.u32()?;
            let collation = read_collation(reader, collation)?;
            (DataType::VarChar { length: Length::Max, collation }, Framing::Long)
        }
        token::NTEXT => {
            reader.u32()?;
            let collation = read_collation(reader, collation)?;
            (DataType::NVarChar { length: Length::Max, collation }, Framing::Long)
        }
        token::XML => {
            if reader.u8()? != 0 {
                return Err(unknown("an XML schema, which this server does not have".to_owned()));
            }
            (DataType::NVarChar { length: Length::Max, collation }, Framing::Chunks)
        }
        token::IMAGE => {
            reader.u32()?;
            (DataType::VarBinary { length: Length::Max }, Framing::Long)
        }
        _ => return Err(unknown(format!("type 0x{kind:02X}, which this server does not take"))),
    })
}

fn scale(reader: &mut Reader<'_>) -> Result<u8, WireError> {
    let scale = reader.u8()?;
    if scale > 7 {
        return Err(WireError::malformed("parameter", format!("a time of {scale} fractional digits")));
    }
    Ok(scale)
}

fn long_or_max(bytes: u16, unit: u16) -> (Length, Framing) {
    if bytes == MAX_LENGTH {
        (Length::Max, Framing::Chunks)
    } else {
        (Length::Fixed((bytes / unit).max(1)), Framing::Short)
    }
}

/// Clients send text in the collation that the server told them, or in UTF-8.
fn read_collation(reader: &mut Reader<'_>, server: Collation) -> Result<Collation, WireError> {
    const UTF8: u32 = 1 << 26;
    let [a, b, c, d, _sort_id] = reader.array()?;
    let utf8 = u32::from_le_bytes([a, b, c, d]) & UTF8 != 0;
    Ok(utf8.then(|| Collation::parse("Latin1_General_100_CI_AS_SC_UTF8")).flatten().unwrap_or(server))
}

fn read_bytes(framing: Framing, reader: &mut Reader<'_>) -> Result<Option<Vec<u8>>, WireError> {
    let length = match framing {
        Framing::Fixed(0) => return Ok(None),
        Framing::Fixed(length) => length,
        Framing::Byte => match reader.u8()? {
            0 => return Ok(None),
            length => usize::from(length),
        },
        Framing::Short => match reader.u16()? {
            u16::MAX => return Ok(None),
            length => usize::from(length),
        },
        Framing::Long => match reader.u32()? {
            u32::MAX => return Ok(None),
            length => length as usize,
        },
        Framing::Chunks => return read_chunks(reader),
    };
    Ok(Some(reader.take(length)?.to_vec()))
}

fn read_chunks(reader: &mut Reader<'_>) -> Result<Option<Vec<u8>>, WireError> {
    let total = reader.u64()?;
    if total == PLP_NULL {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    loop {
        match reader.u32()? as usize {
            0 => break,
            length => bytes.extend_from_slice(reader.take(length)?),
        }
    }
    if total != PLP_UNKNOWN && total != bytes.len() as u64 {
        let found = format!("{total} bytes announced, {} sent", bytes.len());
        return Err(WireError::malformed("parameter", found));
    }
    Ok(Some(bytes))
}

fn decode(ty: &DataType, kind: u8, bytes: &[u8]) -> Result<Value, WireError> {
    let mut reader = Reader::new(bytes, "parameter");
    let fraction = |ty: &DataType| 10_u64.pow(9 - u32::from(ty.fraction().unwrap_or(7).min(7)));
    let value = match ty {
        DataType::Bit => Value::Bool(reader.u8()? != 0),
        DataType::TinyInt => Value::Int(i64::from(reader.u8()?)),
        DataType::SmallInt => Value::Int(i64::from(i16::from_le_bytes(reader.array()?))),
        DataType::Int => Value::Int(i64::from(i32::from_le_bytes(reader.array()?))),
        DataType::BigInt => Value::Int(i64::from_le_bytes(reader.array()?)),
        DataType::Real => Value::Real(f32::from_le_bytes(reader.array()?)),
        DataType::Float => Value::Float(f64::from_le_bytes(reader.array()?)),
        DataType::SmallMoney => {
            Value::Decimal(Decimal::new(i128::from(i32::from_le_bytes(reader.array()?)), 4))
        }
        DataType::Money => {
            let high = i64::from(i32::from_le_bytes(reader.array()?));
            let low = i64::from(reader.u32()?);
            Value::Decimal(Decimal::new(i128::from(high << 32 | low), 4))
        }
        DataType::Decimal { scale, .. } => {
            let positive = reader.u8()? != 0;
            let mut magnitude = [0; 16];
            let rest = reader.rest();
            magnitude
                .get_mut(..rest.len())
                .ok_or_else(|| WireError::malformed("parameter", "a decimal of more than 16 bytes"))?
                .copy_from_slice(rest);
            let magnitude = i128::from_le_bytes(magnitude);
            if !(0..10_i128.pow(38)).contains(&magnitude) {
                return Err(WireError::malformed("parameter", "a decimal of more than 38 digits"));
            }
            Value::Decimal(Decimal::new(if positive { magnitude } else { -magnitude }, *scale))
        }
        DataType::UniqueIdentifier => {
            let mut bytes = reader.array::<16>()?;
            swap_uuid(&mut bytes);
            Value::Uuid(bytes)
        }
        DataType::SmallDateTime => {
            let days = i32::from(reader.u16()?) + DAYS_TO_1900;
            Value::DateTime { days, ns: u64::from(reader.u16()?) * 60_000_000_000 }
        }
        DataType::DateTime => {
            let days = i32::from_le_bytes(reader.array()?).saturating_add(DAYS_TO_1900);
            let ticks = u64::from(reader.u32()?);
            // To the millisecond, as datetime is shown.
            Value::DateTime { days, ns: (ticks * 10 + 1) / 3 * 1_000_000 }
        }
        DataType::Date => Value::Date(days(&mut reader)?),
        DataType::Time { .. } => Value::Time(time(&mut reader, bytes.len())? * fraction(ty)),
        DataType::DateTime2 { .. } => {
            let ns = time(&mut reader, bytes.len().saturating_sub(3))? * fraction(ty);
            Value::DateTime { days: days(&mut reader)?, ns }
        }
        DataType::DateTimeOffset { .. } => {
            let ns = time(&mut reader, bytes.len().saturating_sub(5))? * fraction(ty);
            let days = days(&mut reader)?;
            Value::DateTimeOffset { days, ns, minutes: i16::from_le_bytes(reader.array()?) }
        }
        DataType::VarChar { collation, .. } => Value::Text(collation.decode(bytes)),
        DataType::NVarChar { .. } => Value::Text(Text::from_utf16(&utf16_units(bytes))),
        DataType::VarBinary { .. } => Value::bytes(bytes),
        _ => return Err(WireError::malformed("parameter", format!("a value of type 0x{kind:02X}"))),
    };
    Ok(value)
}

fn days(reader: &mut Reader<'_>) -> Result<i32, WireError> {
    let [a, b, c] = reader.array()?;
    Ok(i32::from_le_bytes([a, b, c, 0]))
}

/// A count of fractions of a second in 3 to 5 bytes.
fn time(reader: &mut Reader<'_>, size: usize) -> Result<u64, WireError> {
    if !(3..=5).contains(&size) {
        return Err(WireError::malformed("parameter", format!("a time of {size} bytes")));
    }
    let mut units = [0; 8];
    units[..size].copy_from_slice(reader.take(size)?);
    Ok(u64::from_le_bytes(units).min(864_000_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(bytes: &[u8]) -> Result<Argument, WireError> {
        read(&mut Reader::new(bytes, "RPC"), Collation::default())
    }

    #[test]
    fn a_named_integer_is_read() {
        let argument = parse(&[2, b'@', 0, b'a', 0, 0, token::INTN, 4, 4, 0xFE, 0xFF, 0xFF, 0xFF]).unwrap();
        assert_eq!(
            (argument.name.as_str(), argument.ty, argument.value),
            ("@a", DataType::Int, Value::Int(-2))
        );
    }

    #[test]
    fn a_max_text_in_chunks_is_joined() {
        let mut bytes = vec![0, 0, token::NVARCHAR, 0xFF, 0xFF, 9, 4, 0xD0, 0, 52];
        bytes.extend(PLP_UNKNOWN.to_le_bytes());
        bytes.extend([1, 0, 0, 0, b'h', 3, 0, 0, 0, 0, b'i', 0, 0, 0, 0, 0]);
        assert_eq!(parse(&bytes).unwrap().value, Value::text("hi"));
    }

    #[test]
    fn every_cut_parameter_is_refused_without_a_panic() {
        let mut whole = vec![0, 0, token::NVARCHAR, 0xFF, 0xFF, 9, 4, 0xD0, 0, 52];
        whole.extend(2_u64.to_le_bytes());
        whole.extend([2, 0, 0, 0, b'h', 0, 0, 0, 0, 0]);
        for cut in 0..whole.len() {
            assert!(parse(&whole[..cut]).is_err(), "{cut}");
        }
    }

    #[test]
    fn a_length_that_does_not_match_its_chunks_is_refused() {
        let mut bytes = vec![0, 0, token::BIGVARBIN, 0xFF, 0xFF];
        bytes.extend(5_u64.to_le_bytes());
        bytes.extend([1, 0, 0, 0, 7, 0, 0, 0, 0]);
        assert!(parse(&bytes).is_err());
    }
}
