//! Sample tables: what they are called, how SQL Server declares them, and every value in them.
//!
//! The values are the oracle's side of the comparison: they come from generators, not from any table.

pub mod every_type;
pub mod text;
pub mod tpch;

/// One value as the generator made it.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// NULL.
    Null,
    /// bit.
    Bool(bool),
    /// tinyint to bigint.
    Int(i64),
    /// decimal and money: unscaled digits and the column's scale.
    Decimal(i128, u8),
    /// real.
    Real(f32),
    /// float.
    Float(f64),
    /// Days since 0001-01-01.
    Date(i32),
    /// Days since 0001-01-01 and nanoseconds since midnight.
    DateTime(i32, u64),
    /// Text, blank-padded where the type pads.
    Text(String),
    /// Binary, zero-padded where the type pads.
    Bytes(Vec<u8>),
    /// uniqueidentifier, in the order in which its text shows the bytes.
    Uuid([u8; 16]),
}

impl Cell {
    /// Text from anything that prints.
    #[allow(clippy::needless_pass_by_value)] // the generators hand over values that are printed once
    pub fn text(value: impl ToString) -> Self {
        Self::Text(value.to_string())
    }

    /// char(width): text filled up with blanks.
    #[allow(clippy::needless_pass_by_value)]
    pub fn padded(value: impl ToString, width: usize) -> Self {
        Self::Text(format!("{:<width$}", value.to_string()))
    }

    /// The form in which the oracle compares: exact, and one for each kind of value.
    pub fn canonical(&self) -> String {
        match self {
            Self::Null => "∅".to_owned(),
            Self::Bool(value) => value.to_string(),
            Self::Int(value) => value.to_string(),
            Self::Decimal(unscaled, scale) => decimal_text(*unscaled, *scale),
            // A real arrives in a FLOAT: the same number, widened.
            Self::Real(value) => float_text(f64::from(*value)),
            Self::Float(value) => float_text(*value),
            Self::Date(days) => format!("day {days}"),
            Self::DateTime(days, ns) => format!("day {days} + {ns} ns"),
            Self::Text(text) => format!("{text:?}"),
            Self::Bytes(bytes) => format!("0x{}", hex::encode_upper(bytes)),
            Self::Uuid(bytes) => {
                format!("{:?}", uuid::Uuid::from_bytes(*bytes).hyphenated().to_string().to_uppercase())
            }
        }
    }
}

/// `unscaled` with a decimal point `scale` digits from its end.
pub fn decimal_text(unscaled: i128, scale: u8) -> String {
    let digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = usize::from(scale) + 1);
    let (whole, fraction) = digits.split_at(digits.len() - usize::from(scale));
    let sign = if unscaled < 0 { "-" } else { "" };
    if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

/// A float by its bits, so that no printing rule stands between two equal values.
pub fn float_text(value: f64) -> String {
    format!("f64 {:016x}", value.to_bits())
}

/// A sample table.
pub struct Table {
    /// Name in schema `dbo`.
    pub name: &'static str,
    /// The CREATE TABLE statement.
    pub ddl: String,
    /// The columns' names, in order.
    pub columns: Vec<String>,
    /// The rows.
    pub rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table in schema `dbo` with a clustered primary key.
    pub fn new(name: &'static str, columns: &[(&str, &str)], key: &str, rows: Vec<Vec<Cell>>) -> Self {
        let list: Vec<String> = columns.iter().map(|(name, ty)| format!("[{name}] {ty}")).collect();
        Self {
            name,
            ddl: format!(
                "CREATE TABLE dbo.[{name}] ({}, CONSTRAINT [PK_{name}] PRIMARY KEY CLUSTERED ({key}))",
                list.join(", ")
            ),
            columns: columns.iter().map(|(name, _)| (*name).to_owned()).collect(),
            rows,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_keep_their_scale_and_sign() {
        assert_eq!(decimal_text(-5, 2), "-0.05");
        assert_eq!(decimal_text(1200, 2), "12.00");
        assert_eq!(decimal_text(7, 0), "7");
    }
}
