//! Adds one Arrow column to a witness.

use arrow_array::{
    Array, ArrowPrimitiveType, BinaryArray, BooleanArray, Decimal128Array, LargeBinaryArray,
    LargeStringArray, PrimitiveArray, StringArray,
    types::{
        Date32Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType,
        TimestampMillisecondType,
    },
};
use arrow_buffer::i256;

use super::{ColumnWitness, Level, Measure, WitnessError, hash, source_digest, target_digest};
use crate::model::{ColumnPlan, SourceType};

/// Days from 0001-01-01 to 1970-01-01, and from 1900-01-01 to 1970-01-01.
const DAYS_TO_1970: i128 = 719_162;
const DAYS_1900_TO_1970: i64 = 25_567;
const TICKS_PER_DAY: i128 = 864_000_000_000;
const MILLIS_PER_DAY: i64 = 86_400_000;

/// Adds `array`, whose text or binary values took `source_bytes` on the wire.
pub(super) fn column(
    witness: &mut ColumnWitness,
    column: &ColumnPlan,
    level: Level,
    array: &dyn Array,
    source_bytes: u64,
) -> Result<(), WitnessError> {
    let shape = || WitnessError::Shape {
        column: column.source_name.clone(),
        found: array.data_type().to_string(),
        planned: column.source.to_string(),
    };
    let mut sums = sums(column, array, source_bytes).ok_or_else(shape)??;
    if level == Level::Hashes {
        digests(&mut sums, column, array);
    }
    witness.count += (array.len() - array.null_count()) as u64;
    super::add_all(&mut witness.source, &sums.source);
    super::add_all(&mut witness.target, &sums.target);
    witness.extremes = match (witness.extremes, sums.extremes) {
        (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
        (a, b) => a.or(b),
    };
    Ok(())
}

#[derive(Default)]
struct Sums {
    source: Vec<i256>,
    target: Vec<i256>,
    extremes: Option<(f64, f64)>,
}

impl Sums {
    /// The same sum in both terms.
    fn both(sum: i256) -> Self {
        Self { source: vec![sum], target: vec![sum], extremes: None }
    }

    fn apart<const N: usize>(source: [i128; N], target: i128) -> Self {
        Self {
            source: source.map(i256::from_i128).to_vec(),
            target: vec![i256::from_i128(target)],
            extremes: None,
        }
    }
}

/// `None`: the array has another type than the plan says.
fn sums(column: &ColumnPlan, array: &dyn Array, source_bytes: u64) -> Option<Result<Sums, WitnessError>> {
    let small = |sum: i128| Sums::both(i256::from_i128(sum));
    let done = match column.source {
        SourceType::Bit => small(ones(array.as_any().downcast_ref()?)),
        SourceType::TinyInt | SourceType::SmallInt => small(sum::<Int16Type>(array, i128::from)?),
        SourceType::Int => small(sum::<Int32Type>(array, i128::from)?),
        SourceType::BigInt => small(sum::<Int64Type>(array, i128::from)?),
        SourceType::Decimal { scale: 38, .. } => {
            return Some(decimal_text(column, array.as_any().downcast_ref()?));
        }
        SourceType::Decimal { .. } | SourceType::Money | SourceType::SmallMoney => {
            let numbers: &Decimal128Array = array.as_any().downcast_ref()?;
            let add = |total: i256, value: i128| total.wrapping_add(i256::from_i128(value));
            Sums::both(numbers.iter().flatten().fold(i256::ZERO, add))
        }
        SourceType::Real => Sums {
            source: vec![i256::from_i128(sum::<Float32Type>(array, |v| i128::from(v.to_bits() as i32))?)],
            extremes: extremes::<Float32Type>(array, f64::from),
            ..Sums::default()
        },
        SourceType::Float => Sums {
            source: vec![i256::from_i128(sum::<Float64Type>(array, |v| i128::from(v.to_bits() as i64))?)],
            extremes: extremes::<Float64Type>(array, |v| v),
            ..Sums::default()
        },
        SourceType::Date => small(sum::<Date32Type>(array, |days| i128::from(days) + DAYS_TO_1970)?),
        SourceType::SmallDateTime => {
            let minutes = |ms: i64| i128::from(ms / 60_000) + i128::from(DAYS_1900_TO_1970) * 1440;
            let total = |f: fn(i64) -> i128| sum::<TimestampMillisecondType>(array, f);
            Sums::apart([total(minutes)?], total(ticks_of_millis)?)
        }
        SourceType::DateTime => {
            let days = |ms: i64| i128::from(ms.div_euclid(MILLIS_PER_DAY) + DAYS_1900_TO_1970);
            // The milliseconds are rounded 1/300 s; three tenths of them, rounded, are the ticks again.
            let thirds = |ms: i64| i128::from((ms.rem_euclid(MILLIS_PER_DAY) * 3 + 5) / 10);
            let total = |f: fn(i64) -> i128| sum::<TimestampMillisecondType>(array, f);
            Sums::apart([total(days)?, total(thirds)?], total(ticks_of_millis)?)
        }
        SourceType::DateTime2 { scale } if scale <= 6 => {
            let ticks = |us: i64| i128::from(us) * 10 + DAYS_TO_1970 * TICKS_PER_DAY;
            small(sum::<TimestampMicrosecondType>(array, ticks)?)
        }
        SourceType::DateTime2 { .. } => {
            let texts: &StringArray = array.as_any().downcast_ref()?;
            let mut total = 0;
            for text in texts.iter().flatten() {
                match ticks_of_text(text) {
                    Some(ticks) => total += ticks,
                    None => return Some(Err(unreadable(column, text))),
                }
            }
            small(total)
        }
        SourceType::Char { .. }
        | SourceType::VarChar { .. }
        | SourceType::NChar { .. }
        | SourceType::NVarChar { .. } => {
            let texts: &StringArray = array.as_any().downcast_ref()?;
            Sums::apart([i128::from(source_bytes)], texts.iter().flatten().map(|t| t.len() as i128).sum())
        }
        SourceType::Binary { .. } | SourceType::VarBinary { .. } => {
            let values: &BinaryArray = array.as_any().downcast_ref()?;
            Sums::apart([i128::from(source_bytes)], values.iter().flatten().map(|v| v.len() as i128).sum())
        }
        SourceType::VarCharMax { .. } | SourceType::NVarCharMax => {
            let texts: &LargeStringArray = array.as_any().downcast_ref()?;
            Sums::apart([i128::from(source_bytes)], texts.iter().flatten().map(|t| t.len() as i128).sum())
        }
        SourceType::VarBinaryMax => {
            let values: &LargeBinaryArray = array.as_any().downcast_ref()?;
            Sums::apart([i128::from(source_bytes)], values.iter().flatten().map(|v| v.len() as i128).sum())
        }
        SourceType::UniqueIdentifier => return Some(uuids(column, array.as_any().downcast_ref()?)),
    };
    Some(Ok(done))
}

fn sum<T: ArrowPrimitiveType>(array: &dyn Array, of: impl Fn(T::Native) -> i128) -> Option<i128> {
    let values: &PrimitiveArray<T> = array.as_any().downcast_ref()?;
    Some(values.iter().flatten().map(of).sum())
}

fn extremes<T: ArrowPrimitiveType>(array: &dyn Array, of: impl Fn(T::Native) -> f64) -> Option<(f64, f64)> {
    let values: &PrimitiveArray<T> = array.as_any().downcast_ref()?;
    let widen = |found: Option<(f64, f64)>, value: f64| match found {
        Some((low, high)) => Some((low.min(value), high.max(value))),
        None => Some((value, value)),
    };
    values.iter().flatten().map(of).fold(None, widen)
}

/// Appends the sums of digests: nothing for columns whose own sums tell them apart.
fn digests(sums: &mut Sums, column: &ColumnPlan, array: &dyn Array) {
    let text = array.as_any().downcast_ref::<StringArray>();
    let bytes = array.as_any().downcast_ref::<BinaryArray>();
    let total = |measure: &Measure| {
        let texts = |digest: fn(&str) -> i128| {
            let long = array.as_any().downcast_ref::<LargeStringArray>();
            let long = long.map(|t| t.iter().flatten().map(digest).sum::<i128>());
            text.map(|t| t.iter().flatten().map(digest).sum::<i128>()).or(long)
        };
        let values = |digest: fn(&[u8]) -> i128| {
            let long = array.as_any().downcast_ref::<LargeBinaryArray>();
            let long = long.map(|b| b.iter().flatten().map(digest).sum::<i128>());
            bytes.map(|b| b.iter().flatten().map(digest).sum::<i128>()).or(long)
        };
        let sum = match measure {
            Measure::TextDigest => texts(hash::source_text),
            Measure::TextMd5 => texts(hash::target_text),
            Measure::BinaryDigest => values(hash::source_bytes),
            Measure::BinaryMd5 => values(hash::target_bytes),
            _ => None,
        };
        // The array's type was checked with the other sums.
        i256::from_i128(sum.unwrap_or_default())
    };
    sums.source.extend(source_digest(column.source).iter().map(total));
    sums.target.extend(target_digest(column.source).iter().map(total));
}

fn ones(array: &BooleanArray) -> i128 {
    array.iter().flatten().filter(|one| *one).count() as i128
}

fn ticks_of_millis(ms: i64) -> i128 {
    i128::from(ms) * 10_000 + DAYS_TO_1970 * TICKS_PER_DAY
}

/// `YYYY-MM-DD HH:MM:SS.fffffff` to 100 ns since 0001-01-01.
fn ticks_of_text(text: &str) -> Option<i128> {
    let bytes = text.as_bytes();
    if bytes.len() != 27 || !text.is_ascii() {
        return None;
    }
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<u32>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let month = time::Month::try_from(u8::try_from(month).ok()?).ok()?;
    let date = time::Date::from_calendar_date(year as i32, month, u8::try_from(day).ok()?).ok()?;
    // Julian day 1,721,426 is 0001-01-01.
    let days = i128::from(date.to_julian_day()) - 1_721_426;
    let seconds = i128::from(hour * 3600 + minute * 60 + second);
    Some(days * TICKS_PER_DAY + seconds * 10_000_000 + i128::from(number(20, 27)?))
}

/// A decimal of scale 38 crosses as text: its digits are the source's sum, its bytes the target's.
fn decimal_text(column: &ColumnPlan, array: &StringArray) -> Result<Sums, WitnessError> {
    let mut total = i256::ZERO;
    let mut bytes = 0;
    for text in array.iter().flatten() {
        let value = super::stored::unscaled(text, 38).ok_or_else(|| unreadable(column, text))?;
        total = total.wrapping_add(value);
        bytes += text.len() as i128;
    }
    Ok(Sums { source: vec![total], target: vec![i256::from_i128(bytes)], extremes: None })
}

/// The source stores the first three groups little-endian; the text shows them as numbers.
fn uuids(column: &ColumnPlan, array: &StringArray) -> Result<Sums, WitnessError> {
    let (mut head, mut tail, mut bytes) = (0, 0, 0);
    for text in array.iter().flatten() {
        let value = uuid::Uuid::try_parse(text).map_err(|_| unreadable(column, text))?.to_bytes_le();
        let (first, last) = value.split_at(8);
        head += i128::from(big_endian(first));
        tail += i128::from(big_endian(last));
        bytes += text.len() as i128;
    }
    Ok(Sums::apart([head, tail], bytes))
}

fn big_endian(bytes: &[u8]) -> i64 {
    bytes.iter().fold(0, |number, byte| number << 8 | i64::from(*byte))
}

fn unreadable(column: &ColumnPlan, text: &str) -> WitnessError {
    WitnessError::Number {
        what: format!("column {}", column.source_name),
        text: text.chars().take(48).collect(),
    }
}
