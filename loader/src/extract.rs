//! One chunk to RecordBatches.
