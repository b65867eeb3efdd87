//! RecordBatches to Parquet files.
