//! Does an existing target take the plan's columns, every value of them?

use std::fmt;

use crate::{
    ledger::sql::literal,
    model::{ColumnPlan, SourceType, TargetName, quoted},
    snowflake::Answer,
};

/// An existing target has other columns than the plan.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the target {table} exists and does not fit: column {column} {found}; {remedy}")]
pub struct ShapeError {
    /// The target.
    pub table: String,
    /// The column.
    pub column: String,
    /// What is wrong with it.
    pub found: String,
    /// What to do.
    pub remedy: String,
}

/// A Snowflake type as far as two of them can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Number { precision: u32, scale: u32 },
    Float,
    Text { length: u64 },
    Binary { length: u64 },
    Timestamp { scale: u32 },
    Date,
    Boolean,
    Other,
}

/// What VARCHAR and BINARY without a length had before 2025; since then they may be longer.
const TEXT_DEFAULT: u64 = 16_777_216;
const BINARY_DEFAULT: u64 = 8_388_608;

/// Reads the columns of a table; no rows if it does not exist or is hidden from the role.
pub(super) fn columns_statement(table: &TargetName) -> String {
    format!(
        "SELECT COLUMN_NAME, DATA_TYPE, NUMERIC_PRECISION, NUMERIC_SCALE, \
         COALESCE(CHARACTER_MAXIMUM_LENGTH, CHARACTER_OCTET_LENGTH), \
         DATETIME_PRECISION, IS_NULLABLE FROM {}.INFORMATION_SCHEMA.COLUMNS WHERE TABLE_SCHEMA = {} \
         AND TABLE_NAME = {} ORDER BY ORDINAL_POSITION",
        quoted(&table.database),
        literal(&table.schema),
        literal(&table.name)
    )
}

/// Compares the plan's columns with those of [`columns_statement`]; the order does not matter.
pub(super) fn check(table: &TargetName, columns: &[ColumnPlan], found: &Answer) -> Result<(), ShapeError> {
    let error = |column: &str, found: String, remedy: String| ShapeError {
        table: table.sql(),
        column: quoted(column),
        found,
        remedy,
    };
    for column in columns {
        let name = &column.target_name;
        let wanted = column.source.snowflake();
        let Some(row) = (0..found.rows.len()).find(|&row| found.value(row, 0) == Some(name)) else {
            let remedy =
                format!("ALTER TABLE {} ADD COLUMN {} {wanted}, or exclude it", table.sql(), quoted(name));
            return Err(error(name, "is missing there".to_owned(), remedy));
        };
        let there = Shape::from_row(found, row);
        if !there.holds(Shape::needed(column.source)) {
            let remedy = "load into another target, or change the column's type".to_owned();
            return Err(error(name, format!("is {there} there and the source needs {wanted}"), remedy));
        }
        if column.nullable && found.value(row, 6) == Some("NO") {
            let remedy = format!("ALTER TABLE {} ALTER COLUMN {} DROP NOT NULL", table.sql(), quoted(name));
            return Err(error(name, "is NOT NULL there and nullable at the source".to_owned(), remedy));
        }
    }
    for row in 0..found.rows.len() {
        let name = found.value(row, 0).unwrap_or_default();
        if !columns.iter().any(|column| column.target_name == name) {
            let remedy = "drop it, or load into another target".to_owned();
            return Err(error(name, "is not in the plan; publishing would empty it".to_owned(), remedy));
        }
    }
    Ok(())
}

impl Shape {
    fn from_row(found: &Answer, row: usize) -> Self {
        let number = |column: usize| found.value(row, column).and_then(|text| text.parse::<u64>().ok());
        let small = |column: usize| number(column).and_then(|value| u32::try_from(value).ok());
        let kind = found.value(row, 1).unwrap_or_default().to_ascii_uppercase();
        match family(&kind) {
            Self::Number { .. } => {
                Self::Number { precision: small(2).unwrap_or(38), scale: small(3).unwrap_or(0) }
            }
            Self::Text { .. } => Self::Text { length: number(4).unwrap_or(TEXT_DEFAULT) },
            Self::Binary { .. } => Self::Binary { length: number(4).unwrap_or(BINARY_DEFAULT) },
            Self::Timestamp { .. } => Self::Timestamp { scale: small(5).unwrap_or(9) },
            other => other,
        }
    }

    /// What a source type needs: less than the plan's own type where a declared length bounds the values.
    fn needed(source: SourceType) -> Self {
        match source {
            SourceType::Char { bytes, .. } | SourceType::VarChar { bytes, .. } => {
                Self::Text { length: bytes.into() }
            }
            SourceType::NChar { units } | SourceType::NVarChar { units } => {
                Self::Text { length: units.into() }
            }
            SourceType::Binary { bytes } | SourceType::VarBinary { bytes } => {
                Self::Binary { length: bytes.into() }
            }
            SourceType::Decimal { scale: 38, .. } => Self::Text { length: 41 },
            other => Self::parse(&other.snowflake()),
        }
    }

    /// Reads a type as the plan writes it, for example `NUMBER(10,2)`.
    fn parse(text: &str) -> Self {
        let (kind, arguments) = text.split_once('(').unwrap_or((text, ""));
        let mut numbers =
            arguments.trim_end_matches(')').split(',').map(|part| part.trim().parse::<u64>().ok());
        let first = numbers.next().flatten();
        let second = numbers.next().flatten();
        match family(kind.trim()) {
            Self::Number { .. } => {
                Self::Number { precision: first.unwrap_or(38) as u32, scale: second.unwrap_or(0) as u32 }
            }
            Self::Text { .. } => Self::Text { length: first.unwrap_or(TEXT_DEFAULT) },
            Self::Binary { .. } => Self::Binary { length: first.unwrap_or(BINARY_DEFAULT) },
            Self::Timestamp { .. } => Self::Timestamp { scale: first.unwrap_or(9) as u32 },
            other => other,
        }
    }

    /// True when every value of `wanted` can be stored here unchanged, with the same meaning.
    fn holds(self, wanted: Self) -> bool {
        match (self, wanted) {
            (Self::Number { precision: p, scale: s }, Self::Number { precision, scale }) => {
                s == scale && p >= precision
            }
            (Self::Text { length: l }, Self::Text { length })
            | (Self::Binary { length: l }, Self::Binary { length }) => l >= length,
            (Self::Timestamp { scale: s }, Self::Timestamp { scale }) => s >= scale,
            (Self::Other, _) | (_, Self::Other) => false,
            (a, b) => a == b,
        }
    }
}

fn family(kind: &str) -> Shape {
    match kind {
        "NUMBER" | "DECIMAL" | "NUMERIC" => Shape::Number { precision: 38, scale: 0 },
        "FLOAT" | "DOUBLE" => Shape::Float,
        "TEXT" | "VARCHAR" | "STRING" => Shape::Text { length: TEXT_DEFAULT },
        "BINARY" | "VARBINARY" => Shape::Binary { length: BINARY_DEFAULT },
        "TIMESTAMP_NTZ" => Shape::Timestamp { scale: 9 },
        "DATE" => Shape::Date,
        "BOOLEAN" => Shape::Boolean,
        _ => Shape::Other,
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number { precision, scale } => write!(f, "NUMBER({precision},{scale})"),
            Self::Float => f.write_str("FLOAT"),
            Self::Text { length } => write!(f, "VARCHAR({length})"),
            Self::Binary { length } => write!(f, "BINARY({length})"),
            Self::Timestamp { scale } => write!(f, "TIMESTAMP_NTZ({scale})"),
            Self::Date => f.write_str("DATE"),
            Self::Boolean => f.write_str("BOOLEAN"),
            Self::Other => f.write_str("of another type"),
        }
    }
}
