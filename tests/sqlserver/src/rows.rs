//! COLMETADATA, ROW and NBCROW.

use keyferry_sql::{Column, DataType, SqlError, Value};

use crate::tokens::b_varchar;
use crate::types::{Shape, put_type};
use crate::values::{Unfit, put_value};

const COLMETADATA: u8 = 0x81;
const ROW: u8 = 0xD1;
const NBCROW: u8 = 0xD2;

/// Bytes of one PLP chunk; the real server's are of about this size.
const CHUNK: usize = 8_000;
const ROWVERSION_USER_TYPE: u32 = 80;

/// Appends a nullable value with its type, as RETURNVALUE carries it. False where the value does not fit.
pub(crate) fn put_typed(ty: &DataType, value: &Value, into: &mut Vec<u8>) -> bool {
    let column = Column::new("", ty.clone(), true);
    let Some(shape) = put_type(&column, into) else { return false };
    if value.is_null() {
        shape.put_null(into);
        return true;
    }
    put_shaped(ty, shape, value, into).is_ok()
}

/// Encodes the rows of one result set.
pub(crate) struct RowWriter {
    columns: Vec<(Column, Shape)>,
    bitmap: usize,
}

impl RowWriter {
    /// Appends COLMETADATA. Fails for a column type that SQL Server does not have.
    pub(crate) fn begin(columns: Vec<Column>, into: &mut Vec<u8>) -> Result<Self, SqlError> {
        let start = into.len();
        into.push(COLMETADATA);
        into.extend((columns.len() as u16).to_le_bytes());
        let mut shaped = Vec::with_capacity(columns.len());
        for column in columns {
            let version = column.ty == DataType::RowVersion;
            into.extend(if version { ROWVERSION_USER_TYPE } else { 0 }.to_le_bytes());
            into.extend(flags(&column).to_le_bytes());
            let Some(shape) = put_type(&column, into) else {
                into.truncate(start);
                let message = format!(
                    "column '{}' has type {}, which SQL Server does not have",
                    column.name, column.ty
                );
                return Err(SqlError::mssql(2715, message));
            };
            if shape == Shape::Pointer {
                into.extend([1, 0, 0]); // the table's name: one part, empty. Clients refuse a name of no parts
            }
            b_varchar(&column.name, into);
            shaped.push((column, shape));
        }
        let bitmap = shaped.len().div_ceil(8);
        Ok(Self { columns: shaped, bitmap })
    }

    /// Appends one row, as NBCROW when that is shorter.
    pub(crate) fn put(&self, row: &[Value], into: &mut Vec<u8>) -> Result<(), SqlError> {
        if row.len() != self.columns.len() {
            let message = format!("a row of {} values in {} columns", row.len(), self.columns.len());
            return Err(SqlError::mssql(50_000, message));
        }
        let nulls = row.iter().zip(&self.columns).filter(|(value, _)| value.is_null());
        let saved: usize = nulls.map(|(_, (_, shape))| shape.null_size()).sum();
        let compressed = saved > self.bitmap;
        let start = into.len();
        if compressed {
            into.push(NBCROW);
            let mut bits = vec![0_u8; self.bitmap];
            for (index, _) in row.iter().enumerate().filter(|(_, value)| value.is_null()) {
                bits[index / 8] |= 1 << (index % 8);
            }
            into.extend(bits);
        } else {
            into.push(ROW);
        }
        for (value, (column, shape)) in row.iter().zip(&self.columns) {
            if value.is_null() && (compressed || *shape != Shape::Fixed) {
                if !compressed {
                    shape.put_null(into);
                }
            } else if let Err(error) = put_shaped(&column.ty, *shape, value, into) {
                into.truncate(start);
                return Err(SqlError::mssql(50_000, format!("column '{}': {error}", column.name)));
            }
        }
        Ok(())
    }
}

fn flags(column: &Column) -> u16 {
    let case_sensitive = column.ty.collation().is_some_and(keyferry_sql::Collation::is_binary);
    // Whether a column can be updated is unknown; an expression cannot.
    let updatable = if column.computed { 0 } else { 2 };
    u16::from(column.nullable)
        | u16::from(case_sensitive) << 1
        | updatable << 2
        | u16::from(column.identity) << 4
        | u16::from(column.computed) << 5
}

/// Appends a value with its length; a placeholder is filled in once the bytes are there.
fn put_shaped(ty: &DataType, shape: Shape, value: &Value, into: &mut Vec<u8>) -> Result<(), Unfit> {
    let too_long = || Unfit(format!("{ty} of this length"));
    match shape {
        Shape::Fixed => put_value(ty, value, into)?,
        Shape::Byte => {
            let at = into.len();
            into.push(0);
            put_value(ty, value, into)?;
            into[at] = u8::try_from(into.len() - at - 1).map_err(|_| too_long())?;
        }
        Shape::Short => {
            let at = into.len();
            into.extend([0; 2]);
            put_value(ty, value, into)?;
            let length = u16::try_from(into.len() - at - 2).ok().filter(|length| *length <= 8000);
            into[at..at + 2].copy_from_slice(&length.ok_or_else(too_long)?.to_le_bytes());
        }
        Shape::Long => {
            let at = into.len();
            into.extend([0; 4]);
            put_value(ty, value, into)?;
            let length = u32::try_from(into.len() - at - 4).map_err(|_| too_long())?;
            into[at..at + 4].copy_from_slice(&length.to_le_bytes());
        }
        Shape::Pointer => {
            into.push(16);
            into.extend(*b"keyferry textptr");
            into.extend(*b"keyferry");
            let at = into.len();
            into.extend([0; 4]);
            put_value(ty, value, into)?;
            let length = u32::try_from(into.len() - at - 4).map_err(|_| too_long())?;
            into[at..at + 4].copy_from_slice(&length.to_le_bytes());
        }
        Shape::Chunks => {
            let mut whole = Vec::new();
            put_value(ty, value, &mut whole)?;
            into.extend((whole.len() as u64).to_le_bytes());
            for chunk in whole.chunks(CHUNK) {
                into.extend((chunk.len() as u32).to_le_bytes());
                into.extend_from_slice(chunk);
            }
            into.extend([0; 4]);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use keyferry_sql::{Collation, Length};

    use super::*;

    fn varchar_max() -> DataType {
        DataType::VarChar { length: Length::Max, collation: Collation::default() }
    }

    fn encoded(columns: Vec<Column>, row: &[Value]) -> Vec<u8> {
        let writer = RowWriter::begin(columns, &mut Vec::new()).unwrap();
        let mut into = Vec::new();
        writer.put(row, &mut into).unwrap();
        into
    }

    #[test]
    fn a_row_without_nulls_is_a_plain_row_and_one_with_long_nulls_is_compressed() {
        let columns = || vec![Column::new("a", DataType::Int, false), Column::new("b", varchar_max(), true)];
        let row = encoded(columns(), &[Value::Int(1), Value::text("x")]);
        assert_eq!(row, [ROW, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, b'x', 0, 0, 0, 0]);
        assert_eq!(encoded(columns(), &[Value::Int(1), Value::Null]), [NBCROW, 0b10, 1, 0, 0, 0]);
    }

    #[test]
    fn a_short_null_stays_in_a_plain_row() {
        let columns = vec![Column::new("a", DataType::Int, true)];
        assert_eq!(encoded(columns, &[Value::Null]), [ROW, 0]);
    }

    #[test]
    fn an_empty_max_value_is_a_zero_length_and_a_terminator() {
        let columns = vec![Column::new("a", varchar_max(), true)];
        assert_eq!(encoded(columns, &[Value::text("")]), [ROW, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn a_null_in_a_column_without_null_is_an_error_and_writes_nothing() {
        let writer = RowWriter::begin(vec![Column::new("a", DataType::Int, false)], &mut Vec::new()).unwrap();
        let mut into = Vec::new();
        assert!(writer.put(&[Value::Null], &mut into).is_err());
        assert!(into.is_empty());
    }

    #[test]
    fn a_type_of_the_other_dialect_is_refused() {
        assert!(RowWriter::begin(vec![Column::new("a", DataType::Variant, true)], &mut Vec::new()).is_err());
    }
}
