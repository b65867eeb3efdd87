//! One wrong value in a batch that is right otherwise. Each function gives the batch and the first value of the row
//! that it changed, or nothing where the batch has no such column.

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, Decimal128Array, Int32Array, RecordBatch, StringArray, TimestampMicrosecondArray,
    TimestampMillisecondArray,
};

const HOUR_IN_SECONDS: i64 = 3600;

/// The decimal in the middle, one unit larger.
pub(super) fn another_number(batch: &RecordBatch) -> Option<(RecordBatch, String)> {
    replace(batch, |array| {
        let numbers: &Decimal128Array = array.as_any().downcast_ref()?;
        let row = middle(array)?;
        let mut values = numbers.values().to_vec();
        values[row] += 1;
        let changed = Decimal128Array::try_new(values.into(), numbers.nulls().cloned()).ok()?;
        Some((Arc::new(changed.with_data_type(numbers.data_type().clone())), row))
    })
}

/// The text in the middle, its first letter `a` to `y` replaced by the next.
pub(super) fn another_character(batch: &RecordBatch) -> Option<(RecordBatch, String)> {
    replace(batch, |array| {
        let texts: &StringArray = array.as_any().downcast_ref()?;
        let row = middle(array)?;
        let text = texts.value(row);
        let (at, letter) = text.char_indices().find(|(_, c)| ('a'..='y').contains(c))?;
        let next = char::from_u32(u32::from(letter) + 1)?;
        let changed = format!("{}{next}{}", &text[..at], &text[at + 1..]);
        let with = |(index, text): (usize, Option<&str>)| {
            if index == row { Some(changed.clone()) } else { text.map(str::to_owned) }
        };
        Some((Arc::new(texts.iter().enumerate().map(with).collect::<StringArray>()), row))
    })
}

/// Every timestamp of a column an hour later, as a wrong time zone would have it.
pub(super) fn an_hour_later(batch: &RecordBatch) -> Option<(RecordBatch, String)> {
    replace(batch, |array| {
        let shifted: ArrayRef = if let Some(micros) =
            array.as_any().downcast_ref::<TimestampMicrosecondArray>()
        {
            let hour = HOUR_IN_SECONDS * 1_000_000;
            Arc::new(micros.unary::<_, arrow_array::types::TimestampMicrosecondType>(|t| t + hour))
        } else {
            let millis: &TimestampMillisecondArray = array.as_any().downcast_ref()?;
            Arc::new(
                millis
                    .unary::<_, arrow_array::types::TimestampMillisecondType>(|t| t + HOUR_IN_SECONDS * 1000),
            )
        };
        Some((shifted, 0))
    })
}

/// All rows but the last.
pub(super) fn without_the_last(batch: &RecordBatch) -> Option<(RecordBatch, String)> {
    let last = batch.num_rows().checked_sub(1)?;
    Some((batch.slice(0, last), first_value(batch, last)))
}

fn middle(array: &dyn Array) -> Option<usize> {
    let middle = array.len() / 2;
    (middle..array.len()).find(|row| array.is_valid(*row))
}

/// Replaces the first column that can be.
fn replace(
    batch: &RecordBatch,
    change: impl Fn(&dyn Array) -> Option<(ArrayRef, usize)>,
) -> Option<(RecordBatch, String)> {
    for (index, column) in batch.columns().iter().enumerate() {
        if let Some((array, row)) = change(column.as_ref()) {
            let mut columns = batch.columns().to_vec();
            columns[index] = array;
            let changed = RecordBatch::try_new(batch.schema(), columns).ok()?;
            return Some((changed, first_value(batch, row)));
        }
    }
    None
}

fn first_value(batch: &RecordBatch, row: usize) -> String {
    let numbers = batch.columns().first().and_then(|c| c.as_any().downcast_ref::<Int32Array>());
    numbers.map_or("?".to_owned(), |numbers| numbers.value(row).to_string())
}
