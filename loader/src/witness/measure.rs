//! Which sums a column has on each side.

use crate::model::SourceType;

/// A sum that a side can compute exactly and the loader can compute too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Ones of a bit column.
    Ones,
    /// The numbers themselves, in units of 10^-scale. `digits` is the most that one value has.
    Number {
        /// The most digits of one value.
        digits: u8,
        /// Digits after the point.
        scale: u8,
    },
    /// Days since 0001-01-01.
    Days,
    /// Minutes since 1900-01-01: what a smalldatetime is made of.
    Minutes,
    /// The first half of a datetime: days since 1900-01-01.
    DateTimeDays,
    /// The second half of a datetime: 1/300 s since midnight.
    DateTimeTicks,
    /// 100 ns since 0001-01-01.
    Ticks,
    /// The bits of a 4-byte float as a signed number.
    Bits32,
    /// The bits of an 8-byte float as a signed number.
    Bits64,
    /// The first eight bytes of a uniqueidentifier as the server stores it, signed, big-endian.
    UuidHead,
    /// Its last eight.
    UuidTail,
    /// Bytes of text or binary.
    Bytes,
    /// Eight bytes of SHA-256 over text as UTF-16, signed.
    TextDigest,
    /// Eight bytes of SHA-256 over binary, signed.
    BinaryDigest,
    /// Eight bytes of MD5 over text as UTF-8, unsigned.
    TextMd5,
    /// Eight bytes of MD5 over the hexadecimal form of binary, unsigned.
    BinaryMd5,
}

impl Measure {
    /// What a message calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ones => "count of ones",
            Self::Number { .. } => "sum",
            Self::Days => "sum of days",
            Self::Minutes => "sum of minutes",
            Self::DateTimeDays => "sum of datetime days",
            Self::DateTimeTicks => "sum of 1/300 s",
            Self::Ticks => "sum of 100 ns ticks",
            Self::Bits32 | Self::Bits64 => "sum of the floats' bits",
            Self::UuidHead => "sum of the first 8 bytes",
            Self::UuidTail => "sum of the last 8 bytes",
            Self::Bytes => "sum of bytes",
            Self::TextDigest | Self::BinaryDigest => "sum of SHA-256 digests",
            Self::TextMd5 | Self::BinaryMd5 => "sum of MD5 digests",
        }
    }
}

/// The sums that SQL Server computes over a column of this type.
pub fn source_measure(source: SourceType) -> &'static [Measure] {
    match source {
        SourceType::SmallDateTime => &[Measure::Minutes],
        SourceType::DateTime => &[Measure::DateTimeDays, Measure::DateTimeTicks],
        SourceType::Real => &[Measure::Bits32],
        SourceType::Float => &[Measure::Bits64],
        SourceType::UniqueIdentifier => &[Measure::UuidHead, Measure::UuidTail],
        SourceType::Decimal { precision, scale: 38 } => number(precision, 38),
        same => target_measure(same),
    }
}

/// The sums that Snowflake computes over the column that this type becomes. Floats have none: their smallest and
/// largest values are compared instead.
pub fn target_measure(source: SourceType) -> &'static [Measure] {
    match source {
        SourceType::Bit => &[Measure::Ones],
        SourceType::TinyInt => number(3, 0),
        SourceType::SmallInt => number(5, 0),
        SourceType::Int => number(10, 0),
        SourceType::BigInt => number(19, 0),
        SourceType::Money => number(19, 4),
        SourceType::SmallMoney => number(10, 4),
        SourceType::Decimal { scale: 38, .. }
        | SourceType::Char { .. }
        | SourceType::VarChar { .. }
        | SourceType::NChar { .. }
        | SourceType::NVarChar { .. }
        | SourceType::VarCharMax { .. }
        | SourceType::NVarCharMax
        | SourceType::VarBinaryMax
        | SourceType::Binary { .. }
        | SourceType::VarBinary { .. }
        | SourceType::UniqueIdentifier => &[Measure::Bytes],
        SourceType::Decimal { precision, scale } => number(precision, scale),
        SourceType::Real | SourceType::Float => &[],
        SourceType::Date => &[Measure::Days],
        SourceType::SmallDateTime | SourceType::DateTime | SourceType::DateTime2 { .. } => &[Measure::Ticks],
    }
}

/// The sums of digests that SQL Server has beside these at the level `hashes`: where a sum of the values themselves
/// cannot be had.
pub fn source_digest(source: SourceType) -> &'static [Measure] {
    match source {
        SourceType::Char { .. }
        | SourceType::VarChar { .. }
        | SourceType::NChar { .. }
        | SourceType::NVarChar { .. }
        | SourceType::VarCharMax { .. }
        | SourceType::NVarCharMax => &[Measure::TextDigest],
        SourceType::Binary { .. } | SourceType::VarBinary { .. } | SourceType::VarBinaryMax => {
            &[Measure::BinaryDigest]
        }
        _ => &[],
    }
}

/// The same at Snowflake; a uniqueidentifier and a decimal of scale 38 are text there.
pub fn target_digest(source: SourceType) -> &'static [Measure] {
    match source {
        SourceType::Decimal { scale: 38, .. } | SourceType::UniqueIdentifier => &[Measure::TextMd5],
        SourceType::Binary { .. } | SourceType::VarBinary { .. } | SourceType::VarBinaryMax => {
            &[Measure::BinaryMd5]
        }
        same if !source_digest(same).is_empty() => &[Measure::TextMd5],
        _ => &[],
    }
}

/// Every `Number` there is, so that a slice can be handed out.
fn number(digits: u8, scale: u8) -> &'static [Measure] {
    const SCALES: usize = 39;
    static NUMBERS: [Measure; SCALES * SCALES] = {
        let mut all = [Measure::Ones; SCALES * SCALES];
        let mut index = 0;
        while index < all.len() {
            all[index] = Measure::Number { digits: (index / SCALES) as u8, scale: (index % SCALES) as u8 };
            index += 1;
        }
        all
    };
    let at = usize::from(digits.min(38)) * SCALES + usize::from(scale.min(38));
    std::slice::from_ref(&NUMBERS[at])
}
