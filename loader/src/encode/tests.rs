#![allow(clippy::from_iter_instead_of_collect)] // the type reads first

use std::{path::Path, sync::Arc};

use arrow_array::{
    ArrayRef, BinaryArray, Date32Array, Decimal128Array, Float64Array, Int32Array, StringArray,
    TimestampMicrosecondArray, TimestampMillisecondArray,
};
use arrow_schema::{Field, Schema, TimeUnit};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use parquet::{
    arrow::arrow_reader::ParquetRecordBatchReaderBuilder,
    basic::{LogicalType, TimeUnit as ParquetUnit},
    file::reader::{FileReader as _, SerializedFileReader},
};

use super::*;
use crate::stage::tests::decrypted;

const MASTER: [u8; 16] = [3; 16];

fn schema() -> SchemaRef {
    let fields = vec![
        Field::new("ID", DataType::Int32, false),
        Field::new("NAME", DataType::Utf8, true),
        Field::new("PRICE", DataType::Decimal128(19, 4), true),
        Field::new("WEIGHT", DataType::Float64, true),
        Field::new("DAY", DataType::Date32, true),
        Field::new("AT_MS", DataType::Timestamp(TimeUnit::Millisecond, None), true),
        Field::new("AT_US", DataType::Timestamp(TimeUnit::Microsecond, None), true),
        Field::new("RAW", DataType::Binary, true),
    ];
    Arc::new(Schema::new(fields))
}

fn batch(first: i32, rows: i32) -> RecordBatch {
    let ids: Vec<i32> = (first..first + rows).collect();
    let money =
        Decimal128Array::from_iter(ids.iter().map(|&id| (id % 5 != 0).then(|| i128::from(id) * 10_001)));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int32Array::from(ids.clone())),
        Arc::new(StringArray::from_iter(
            ids.iter().map(|id| (id % 3 != 0).then(|| format!("name {}", id % 7))),
        )),
        Arc::new(money.with_precision_and_scale(19, 4).unwrap()),
        Arc::new(Float64Array::from_iter(ids.iter().map(|&id| Some(f64::from(id) / 3.0)))),
        Arc::new(Date32Array::from_iter(ids.iter().map(|&id| Some(-719_162 + id)))),
        Arc::new(TimestampMillisecondArray::from_iter(ids.iter().map(|&id| Some(i64::from(id) * 333)))),
        Arc::new(TimestampMicrosecondArray::from_iter(
            ids.iter().map(|&id| Some(-62_135_596_800_000_000 + i64::from(id))),
        )),
        Arc::new(BinaryArray::from_iter(ids.iter().map(|&id| Some(id.to_be_bytes())))),
    ];
    RecordBatch::try_new(schema(), columns).unwrap()
}

fn options(dir: &Path, row_group_bytes: usize) -> EncodeOptions {
    EncodeOptions {
        row_group_bytes,
        spool: SpoolDir::new(dir.to_owned(), 7 << 20, std::time::Duration::from_secs(1)),
    }
}

fn writer(options: &EncodeOptions) -> Result<FileWriter, EncodeError> {
    let master = MasterKey::new(&BASE64.encode(MASTER), "q".into(), "1".into()).unwrap();
    FileWriter::under(schema(), &master, options.spool.enter_now(), options)
}

async fn written(row_group_bytes: usize, batches: &[RecordBatch]) -> Bytes {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = writer(&options(dir.path(), row_group_bytes)).unwrap();
    for batch in batches {
        writer.write(batch.clone()).unwrap();
    }
    let file = writer.finish().unwrap();
    assert_eq!(file.rows, batches.iter().map(|batch| batch.num_rows() as u64).sum::<u64>());
    Bytes::from(decrypted(&file, &MASTER).await)
}

#[tokio::test]
async fn what_goes_in_comes_out_of_the_decrypted_file() {
    let batches = [batch(0, 1000), batch(1000, 500)];
    let bytes = written(1 << 20, &batches).await;
    let reader =
        ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().with_batch_size(1000).build().unwrap();
    let back: Vec<RecordBatch> = reader.map(Result::unwrap).collect();
    for (before, after) in batches.iter().zip(&back) {
        assert_eq!(before.columns(), after.columns());
    }
    assert_eq!(back.len(), 2);
}

#[tokio::test]
async fn row_groups_close_by_bytes() {
    let batches: Vec<RecordBatch> = (0..20).map(|n| batch(n * 1000, 1000)).collect();
    let reader = SerializedFileReader::new(written(60_000, &batches).await).unwrap();
    assert!(reader.metadata().num_row_groups() > 3, "{}", reader.metadata().num_row_groups());
}

#[tokio::test]
async fn timestamps_have_no_zone_and_only_text_has_a_dictionary() {
    let reader = SerializedFileReader::new(written(1 << 20, &[batch(0, 1000)]).await).unwrap();
    let metadata = reader.metadata();
    let columns = metadata.file_metadata().schema_descr().columns();
    for (index, unit) in [(5, ParquetUnit::MILLIS), (6, ParquetUnit::MICROS)] {
        let expected = LogicalType::timestamp(false, unit);
        assert_eq!(columns[index].logical_type_ref(), Some(&expected));
    }
    for (index, column) in metadata.row_group(0).columns().iter().enumerate() {
        let path = columns[index].name();
        assert_eq!(column.dictionary_page_offset().is_some(), path == "NAME", "{path}");
        assert!(matches!(column.compression(), Compression::ZSTD(_)), "{path}");
    }
    assert!(metadata.file_metadata().key_value_metadata().is_none());
}

#[tokio::test]
async fn a_large_value_is_one_page_without_statistics() {
    let fields =
        vec![Field::new("ID", DataType::Int32, false), Field::new("DOC", DataType::LargeBinary, true)];
    let schema: SchemaRef = Arc::new(Schema::new(fields));
    let large = vec![7_u8; 3 << 20];
    let batch = |values: Vec<Option<&[u8]>>| {
        let ids = Int32Array::from_iter_values(0..values.len() as i32);
        let docs = arrow_array::LargeBinaryArray::from_iter(values);
        RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(ids), Arc::new(docs)]).unwrap()
    };
    let dir = tempfile::tempdir().unwrap();
    let master = MasterKey::new(&BASE64.encode(MASTER), "q".into(), "1".into()).unwrap();
    let options = options(dir.path(), 1 << 20);
    let place = options.spool.enter_now();
    let mut writer = FileWriter::under(Arc::clone(&schema), &master, place, &options).unwrap();
    writer.write(batch(vec![Some(&b"small"[..]), None])).unwrap();
    assert!(writer.in_progress_bytes() > 0);
    writer.write(batch(vec![Some(&large), Some(&b""[..])])).unwrap();
    assert_eq!(writer.in_progress_bytes(), 0, "a row group is closed when the batch is gone");
    writer.write(batch(vec![None])).unwrap();
    let file = writer.finish().unwrap();
    let reader = SerializedFileReader::new(Bytes::from(decrypted(&file, &MASTER).await)).unwrap();
    assert_eq!(reader.metadata().num_row_groups(), 2);
    let group = reader.get_row_group(0).unwrap();
    assert!(
        group.metadata().column(1).statistics().is_none()
            && group.metadata().column(0).statistics().is_none()
    );
    assert_eq!(group.get_column_page_reader(1).unwrap().count(), 1);
}

#[test]
fn a_missing_spool_directory_is_named_with_its_key() {
    let error = writer(&options(Path::new("/nonexistent/spool"), 1 << 20)).err().unwrap();
    let text = error.to_string();
    assert!(text.contains("/nonexistent/spool") && text.contains("limits.spool_dir"), "{text}");
}

#[test]
fn a_full_disk_is_told_apart_also_through_the_parquet_writer() {
    let options = options(Path::new("/spool"), 1);
    let full = || io::Error::from(io::ErrorKind::StorageFull);
    assert!(matches!(spool_error(&options, full()), EncodeError::DiskFull { .. }));
    assert!(matches!(encode_error(&options, ParquetError::from(full())), EncodeError::DiskFull { .. }));
    let other = ParquetError::General("x".into());
    assert!(matches!(encode_error(&options, other), EncodeError::Parquet(_)));
}
