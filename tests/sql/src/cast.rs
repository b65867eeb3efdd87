//! Conversions between types, with each dialect's roundings and refusals.

use crate::{
    cast::{
        numbers::{to_decimal, to_float, to_int},
        strings::{fit_bytes, fit_text, to_bytes, to_text},
        times::to_temporal,
    },
    error::{SqlError, quote},
    types::{DataType, Dialect},
    value::{Value, Variant},
};

pub(crate) mod numbers;
pub(crate) mod strings;
pub(crate) mod times;

/// How a conversion was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// CAST and friends: text that is too long is cut.
    Explicit,
    /// Storing into a column: text that is too long is refused.
    Assign,
}

/// The rules of one conversion.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cast {
    pub dialect: Dialect,
    pub mode: Mode,
    /// The third argument of CONVERT.
    pub style: i32,
}

impl Cast {
    pub(crate) fn explicit(dialect: Dialect) -> Self {
        Self { dialect, mode: Mode::Explicit, style: 0 }
    }

    pub(crate) fn assign(dialect: Dialect) -> Self {
        Self { dialect, mode: Mode::Assign, style: 0 }
    }

    /// Converts a value of type `from`.
    pub(crate) fn apply(&self, value: Value, from: &DataType, to: &DataType) -> Result<Value, SqlError> {
        let value = match value {
            Value::Null => return Ok(Value::Null),
            Value::Typed(typed) if *to != DataType::SqlVariant => {
                return self.apply(typed.1.clone(), &typed.0, to);
            }
            Value::Variant(variant) if !to.is_semi_structured() => return self.from_variant(&variant, to),
            value => value,
        };
        match to {
            DataType::Null => Ok(value),
            DataType::Bit | DataType::Boolean => self.to_bool(&value, from, to),
            DataType::TinyInt | DataType::SmallInt | DataType::Int | DataType::BigInt => {
                to_int(self, &value, from, to)
            }
            DataType::Decimal { .. } | DataType::Money | DataType::SmallMoney | DataType::Number { .. } => {
                to_decimal(self, &value, from, to)
            }
            DataType::Real | DataType::Float | DataType::Double => to_float(self, &value, from, to),
            to if to.is_temporal() => to_temporal(self, &value, from, to),
            // A class of the runtime converts from and to its bytes only; text goes through its methods.
            DataType::Clr(_) if from != to && !from.is_binary() => Err(self.refused(from, to)),
            to if to.is_text() => fit_text(self, to_text(self, &value, from, to)?, to),
            to if to.is_binary() => fit_bytes(self, to_bytes(self, &value, from, to)?, from, to),
            DataType::UniqueIdentifier => self.to_uuid(&value, from, to),
            DataType::SqlVariant => Ok(match value {
                Value::Typed(_) => value,
                value => Value::Typed(std::sync::Arc::new((from.clone(), value))),
            }),
            _ => self.to_variant(value, from, to),
        }
    }

    fn from_variant(&self, variant: &Variant, to: &DataType) -> Result<Value, SqlError> {
        match variant {
            Variant::Scalar(Value::Null) => Ok(Value::Null),
            Variant::Scalar(value) => {
                let from = scalar_type(value);
                self.apply(value.clone(), &from, to)
            }
            Variant::Array(_) | Variant::Object(_) if to.is_text() => {
                fit_text(self, crate::json::text_of(variant).into(), to)
            }
            _ => Err(SqlError::snowflake(
                100_071,
                "22000",
                format!(
                    "Failed to cast variant value {} to {}",
                    quote(crate::json::text_of(variant)),
                    to.name()
                ),
            )),
        }
    }

    fn to_variant(&self, value: Value, from: &DataType, to: &DataType) -> Result<Value, SqlError> {
        let Value::Variant(variant) = value else {
            if matches!(to, DataType::Variant) {
                return Ok(Value::Variant(std::sync::Arc::new(Variant::Scalar(value))));
            }
            return Err(self.refused(from, to));
        };
        match (variant.as_ref(), to) {
            (Variant::Scalar(Value::Null), DataType::Object | DataType::Array) => Ok(Value::Null),
            (_, DataType::Variant)
            | (Variant::Array(_), DataType::Array)
            | (Variant::Object(_), DataType::Object) => Ok(Value::Variant(variant)),
            (_, DataType::Array) => {
                Ok(Value::Variant(std::sync::Arc::new(Variant::Array(vec![variant.as_ref().clone()]))))
            }
            _ => Err(self.refused(from, to)),
        }
    }

    fn to_bool(&self, value: &Value, from: &DataType, to: &DataType) -> Result<Value, SqlError> {
        Ok(Value::Bool(match value {
            Value::Bool(value) => *value,
            Value::Int(value) => *value != 0,
            Value::Decimal(value) => value.unscaled != 0,
            Value::Real(value) => *value != 0.0,
            Value::Float(value) => *value != 0.0,
            Value::Bytes(bytes) => bytes.iter().any(|byte| *byte != 0),
            Value::Text(text) => {
                let word = text.lossy().trim().to_ascii_lowercase();
                match (word.as_str(), self.dialect) {
                    ("true" | "1", _) | ("t" | "yes" | "y" | "on", Dialect::Snowflake) => true,
                    ("false" | "0", _) | ("f" | "no" | "n" | "off", Dialect::Snowflake) => false,
                    (_, Dialect::Snowflake) => {
                        let message = format!("Boolean value '{}' is not recognized", quote(text.lossy()));
                        return Err(SqlError::snowflake(100_037, "22018", message));
                    }
                    (word, Dialect::SqlServer) => match word.parse::<i64>() {
                        Ok(number) => number != 0,
                        Err(_) => return Err(conversion_failed(text, from, to)),
                    },
                }
            }
            _ => return Err(self.refused(from, to)),
        }))
    }

    fn to_uuid(&self, value: &Value, from: &DataType, to: &DataType) -> Result<Value, SqlError> {
        match value {
            Value::Uuid(_) => Ok(value.clone()),
            Value::Text(text) => {
                let text = text.lossy();
                let text = text.trim().trim_start_matches('{');
                let text: String = text.chars().take(36).collect();
                uuid::Uuid::try_parse(&text)
                    .ok()
                    .filter(|_| text.len() == 36)
                    .map(|id| Value::Uuid(*id.as_bytes()))
                    .ok_or_else(|| {
                        SqlError::mssql(
                            8169,
                            "Conversion failed when converting from a character string to uniqueidentifier.",
                        )
                        .with_state(2)
                    })
            }
            Value::Bytes(bytes) => {
                let mut storage = [0; 16];
                let length = bytes.len().min(16);
                storage[..length].copy_from_slice(&bytes[..length]);
                Ok(Value::Uuid(uuid::Uuid::from_bytes_le(storage).into_bytes()))
            }
            _ => Err(self.refused(from, to)),
        }
    }

    /// The conversion does not exist.
    pub(crate) fn refused(&self, from: &DataType, to: &DataType) -> SqlError {
        match self.dialect {
            Dialect::SqlServer => SqlError::mssql(
                529,
                format!(
                    "Explicit conversion from data type {} to {} is not allowed.",
                    from.name(),
                    to.name()
                ),
            ),
            Dialect::Snowflake => SqlError::snowflake(
                2016,
                "22000",
                format!(
                    "SQL compilation error:\ninvalid type [CAST({from} AS {to})] for parameter 'TO_{}'",
                    to.name()
                ),
            ),
        }
    }
}

/// The type that a scalar of a VARIANT has by itself.
pub(crate) fn scalar_type(value: &Value) -> DataType {
    match value {
        Value::Bool(_) => DataType::Boolean,
        Value::Int(_) => DataType::Number { precision: 19, scale: 0 },
        Value::Decimal(value) => DataType::Number { precision: 38, scale: value.scale },
        Value::Real(_) | Value::Float(_) => DataType::Double,
        Value::Date(_) => DataType::Date,
        Value::Time(_) => DataType::Time { scale: 9 },
        Value::DateTime { .. } => DataType::TimestampNtz { scale: 9 },
        Value::DateTimeOffset { .. } => DataType::TimestampTz { scale: 9 },
        Value::Bytes(_) => DataType::Bytes { length: DataType::SNOWFLAKE_BYTES },
        Value::Text(_) | Value::Uuid(_) => DataType::String { length: DataType::SNOWFLAKE_TEXT },
        Value::Typed(typed) => typed.0.clone(),
        Value::Null | Value::Variant(_) => DataType::Variant,
    }
}

pub(crate) fn conversion_failed(text: &crate::text::Text, from: &DataType, to: &DataType) -> SqlError {
    SqlError::mssql(
        245,
        format!(
            "Conversion failed when converting the {} value '{}' to data type {}.",
            from.name(),
            quote(text.lossy()),
            to.name()
        ),
    )
}

pub(crate) fn overflow(cast: &Cast, value: &str, to: &DataType) -> SqlError {
    match cast.dialect {
        Dialect::SqlServer => {
            let name = if matches!(to, DataType::Decimal { .. }) { "numeric" } else { to.name() };
            SqlError::mssql(
                8115,
                format!("Arithmetic overflow error converting expression to data type {name}."),
            )
            .with_state(2)
        }
        Dialect::Snowflake => {
            SqlError::snowflake(100_039, "22003", format!("Numeric value '{}' is out of range", quote(value)))
        }
    }
}
