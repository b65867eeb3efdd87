//! A result set on its way into a reply: its first rows inside, the others in parts that the client fetches.

use std::io::Write as _;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use keyferry_sql::{Column, Row, Rows, Value};
use serde_json::{Value as Json, json};

use super::{arrow::Encoder, row_type, write_row};
use crate::{reply::Refusal, server::Shared};

/// What a reply itself holds.
const INLINE_BYTES: usize = 256 << 10;
/// The first part; later ones grow up to sixteen times that.
const PART_BYTES: usize = 1 << 20;
const LARGEST_PART: usize = 16 << 20;

/// The two result formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Text in JSON arrays.
    Json,
    /// Arrow IPC streams.
    Arrow,
}

/// A result as members of `data`; JSON rows stand apart, so that they are not parsed again.
pub(crate) struct Laid {
    pub(crate) members: Json,
    pub(crate) rowset: Option<Vec<u8>>,
}

/// Lays a result out; `stopped` ends it between two rows.
pub(crate) fn lay_out(
    server: &Shared,
    query_id: &str,
    columns: &[Column],
    rows: Rows,
    format: Format,
) -> Result<Laid, Refusal> {
    let mut parts = Parts { server, query_id, key: String::new(), listed: Vec::new() };
    let (rowset, inline, count) = match format {
        Format::Json => json_rows(&mut parts, columns, rows)?,
        Format::Arrow => arrow_rows(&mut parts, columns, rows)?,
    };
    let mut members = json!({
        "rowtype": columns.iter().map(row_type).collect::<Vec<_>>(),
        "total": count, "returned": count,
        "queryResultFormat": if format == Format::Arrow { "arrow" } else { "json" },
    });
    if let Some(stream) = inline {
        members["rowsetBase64"] = json!(stream);
    }
    if !parts.listed.is_empty() {
        members["chunks"] = json!(parts.listed);
        members["qrmk"] = json!(parts.key);
        members["chunkHeaders"] = json!({
            "x-amz-server-side-encryption-customer-algorithm": "AES256",
            "x-amz-server-side-encryption-customer-key": parts.key,
        });
    }
    Ok(Laid { members, rowset })
}

/// The rows inside the reply (JSON, Arrow) and the number of all.
type Inside = (Option<Vec<u8>>, Option<String>, u64);

fn json_rows(parts: &mut Parts<'_>, columns: &[Column], rows: Rows) -> Result<Inside, Refusal> {
    let (mut inline, mut buffer, mut held, mut count) = (None, Vec::new(), 0, 0);
    for row in rows {
        let row = row?;
        if held > 0 {
            buffer.push(b',');
        }
        write_row(&mut buffer, columns, &row);
        (held, count) = (held + 1, count + 1);
        match inline {
            None if buffer.len() >= INLINE_BYTES => {
                inline = Some(std::mem::take(&mut buffer));
                held = 0;
            }
            Some(_) if buffer.len() >= parts.next_size() => {
                parts.add(&buffer, held);
                buffer.clear();
                held = 0;
            }
            _ => {}
        }
    }
    if inline.is_some() && held > 0 {
        parts.add(&buffer, held);
    }
    let inside = inline.unwrap_or(buffer);
    let mut rowset = Vec::with_capacity(inside.len() + 2);
    rowset.push(b'[');
    rowset.extend_from_slice(&inside);
    rowset.push(b']');
    Ok((Some(rowset), None, count))
}

fn arrow_rows(parts: &mut Parts<'_>, columns: &[Column], rows: Rows) -> Result<Inside, Refusal> {
    let rows = rows.collect_all()?;
    if rows.is_empty() {
        return Ok((None, Some(String::new()), 0));
    }
    let encoder = Encoder::new(columns, &rows);
    let inside = fitting(&rows, INLINE_BYTES);
    let inline = STANDARD.encode(encoder.stream(&rows[..inside])?);
    let mut left = &rows[inside..];
    while !left.is_empty() {
        let (these, rest) = left.split_at(fitting(left, parts.next_size()));
        parts.add(&encoder.stream(these)?, these.len() as u64);
        left = rest;
    }
    Ok((None, Some(inline), rows.len() as u64))
}

/// How many rows from the front are about so many bytes; at least one.
fn fitting(rows: &[Row], limit: usize) -> usize {
    let mut size = 0;
    for (at, row) in rows.iter().enumerate() {
        size += row.iter().map(weight).sum::<usize>();
        if size >= limit {
            return at + 1;
        }
    }
    rows.len()
}

fn weight(value: &Value) -> usize {
    match value {
        Value::Text(text) => 8 + text.utf16_len(),
        Value::Bytes(bytes) => 8 + bytes.len(),
        Value::Variant(_) => 128,
        _ => 12,
    }
}

/// The parts of one result, in the store.
struct Parts<'a> {
    server: &'a Shared,
    query_id: &'a str,
    key: String,
    listed: Vec<Json>,
}

impl Parts<'_> {
    fn next_size(&self) -> usize {
        (PART_BYTES << self.listed.len().min(8)).min(LARGEST_PART)
    }

    fn add(&mut self, data: &[u8], rows: u64) {
        if self.key.is_empty() {
            let bytes = [*uuid::Uuid::new_v4().as_bytes(), *uuid::Uuid::new_v4().as_bytes()].concat();
            self.key = STANDARD.encode(bytes);
        }
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        // Writing to memory does not fail.
        let _ = packed.write_all(data);
        let packed = Bytes::from(packed.finish().unwrap_or_default());
        let size = packed.len();
        let path = self.server.results.keep(self.query_id, self.listed.len(), &self.key, packed);
        self.listed.push(json!({
            "url": format!("https://{}/{path}", self.server.objects_address()), "rowCount": rows,
            "uncompressedSize": data.len(), "compressedSize": size,
        }));
    }
}
