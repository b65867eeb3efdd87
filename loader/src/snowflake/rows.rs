//! Small answers: columns and rows as text, from the reply itself and from the parts that lie in cloud storage.

use std::{io::Read as _, time::Duration};

use serde::Deserialize as _;

use super::{
    SnowflakeError,
    http::{self, BodyError, network_reason},
    wire::{Chunk, Data},
};
use crate::stage::endpoint;

/// The largest answer that is accepted, in bytes of JSON, parts included.
pub(super) const LARGEST_ANSWER: usize = 64 * 1024 * 1024;

/// Between two attempts at one part; doubled each time, and at the longest one given up.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// One column of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// As Snowflake names it.
    pub name: String,
    /// Snowflake's word for the type, lower case: `fixed`, `text`, `real`, `date`, `timestamp_ntz`, ...
    pub kind: String,
}

/// A statement's answer. Values are as Snowflake sends them in JSON: a DATE is days since 1970, a timestamp is seconds
/// with a fraction; cast to VARCHAR where text is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The columns, in order.
    pub columns: Vec<Column>,
    /// The rows; `None` is NULL.
    pub rows: Vec<Vec<Option<String>>>,
    /// Snowflake's id of the statement.
    pub query_id: String,
    /// For INSERT, UPDATE, DELETE and MERGE: the rows inserted, updated and deleted together.
    pub affected: Option<u64>,
}

impl Answer {
    /// The value at `row` and `column`, if there is one and it is not NULL.
    pub fn value(&self, row: usize, column: usize) -> Option<&str> {
        self.rows.get(row)?.get(column)?.as_deref()
    }

    /// The index of the column with this name, in any case.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name.eq_ignore_ascii_case(name))
    }

    pub(super) fn from_data(data: Data) -> Self {
        let columns: Vec<Column> = data
            .rowtype
            .unwrap_or_default()
            .into_iter()
            .map(|column| Column { name: column.name, kind: column.kind.to_ascii_lowercase() })
            .collect();
        let rows = data.rowset.unwrap_or_default();
        let affected = affected(&columns, &rows);
        Self { columns, rows, query_id: data.query_id.unwrap_or_default(), affected }
    }
}

/// DML answers with one row whose columns are called "number of rows inserted", "... updated", "... deleted".
fn affected(columns: &[Column], rows: &[Vec<Option<String>>]) -> Option<u64> {
    let [row] = rows else { return None };
    let counted = ["number of rows inserted", "number of rows updated", "number of rows deleted"];
    let mut sum = None;
    for (column, value) in columns.iter().zip(row) {
        if counted.contains(&column.name.to_ascii_lowercase().as_str()) {
            let count: u64 = value.as_deref()?.parse().ok()?;
            sum = Some(sum.unwrap_or(0) + count);
        }
    }
    sum
}

/// Fetches the parts of an answer that is too large for one reply, and appends their rows.
pub(super) async fn fetch_parts(
    client: &reqwest::Client,
    allow: &[String],
    attempted: &str,
    data: &Data,
    answer: &mut Answer,
) -> Result<(), SnowflakeError> {
    let mut left = LARGEST_ANSWER;
    for part in data.chunks.as_deref().unwrap_or_default() {
        let mut pause = FIRST_PAUSE;
        let rows = loop {
            match fetch_part(client, allow, data, part, &mut left).await {
                Ok(rows) => break rows,
                Err(Unfetched::Passing(reason)) if pause < LONGEST_PAUSE => {
                    tracing::warn!(%attempted, reason, "a part of an answer was not fetched, asking again");
                    tokio::time::sleep(pause.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
                    pause *= 2;
                }
                Err(Unfetched::Passing(reason) | Unfetched::Stale(reason)) => {
                    return Err(SnowflakeError::Part { attempted: attempted.to_owned(), reason });
                }
                Err(Unfetched::Broken(found)) => {
                    return Err(SnowflakeError::Answer { attempted: attempted.to_owned(), found });
                }
            }
        };
        answer.rows.extend(rows);
    }
    match data.total {
        Some(total) if answer.affected.is_none() && total != answer.rows.len() as u64 => {
            Err(SnowflakeError::Answer {
                attempted: attempted.to_owned(),
                found: format!("incomplete: {} rows of the {total} that it announces", answer.rows.len()),
            })
        }
        _ => Ok(()),
    }
}

/// Why a part was not fetched.
enum Unfetched {
    /// The network or the storage, for the moment.
    Passing(String),
    /// Its address is no longer good: only the statement, sent anew, brings another.
    Stale(String),
    /// Asking again would bring the same.
    Broken(String),
}

impl From<String> for Unfetched {
    fn from(found: String) -> Self {
        Self::Broken(found)
    }
}

async fn fetch_part(
    client: &reqwest::Client,
    allow: &[String],
    data: &Data,
    part: &Chunk,
    left: &mut usize,
) -> Result<Vec<Vec<Option<String>>>, Unfetched> {
    let url = url::Url::parse(&part.url).map_err(|e| format!("in parts at an address that is none: {e}"))?;
    endpoint::check(&url, allow).map_err(|e| format!("in parts elsewhere: {e}"))?;
    let mut request = client.get(url);
    if let Some(headers) = &data.chunk_headers {
        for (name, value) in headers {
            request = request.header(name, value);
        }
    } else if let Some(key) = &data.qrmk {
        request = request
            .header("x-amz-server-side-encryption-customer-algorithm", "AES256")
            .header("x-amz-server-side-encryption-customer-key", key);
    }
    let response = request.send().await.map_err(|e| Unfetched::Passing(network_reason(&e)))?;
    let status = response.status();
    if status.is_server_error() || matches!(status.as_u16(), 408 | 429) {
        return Err(Unfetched::Passing(format!("the storage answers with {status}")));
    }
    if !status.is_success() {
        return Err(Unfetched::Stale(format!("the storage answers with {status}")));
    }
    let body = http::body(response, *left).await.map_err(|error| match error {
        BodyError::Broken(_) => Unfetched::Passing(error.to_string()),
        BodyError::TooLong(_) => Unfetched::Broken(format!("in a part that is {error}")),
    })?;
    let text = unpacked(&body, *left)?;
    *left = left.saturating_sub(text.len());
    let rows = rows_of(&text)?;
    if part.row_count != 0 && rows.len() as u64 != part.row_count {
        let found = format!("in a part of {} rows where {} were announced", rows.len(), part.row_count);
        return Err(Unfetched::Broken(found));
    }
    Ok(rows)
}

/// Parts are gzip as a rule and plain JSON sometimes; the bytes tell.
fn unpacked(body: &[u8], limit: usize) -> Result<Vec<u8>, String> {
    if !body.starts_with(&[0x1f, 0x8b]) {
        return Ok(body.to_vec());
    }
    let mut text = Vec::new();
    flate2::read::MultiGzDecoder::new(body)
        .take(limit as u64 + 1)
        .read_to_end(&mut text)
        .map_err(|e| format!("in a part that is no whole gzip file: {e}"))?;
    if text.len() > limit {
        return Err(format!("larger than the {LARGEST_ANSWER} bytes that are accepted"));
    }
    Ok(text)
}

/// A part is JSON rows with commas between and no brackets around.
fn rows_of(text: &[u8]) -> Result<Vec<Vec<Option<String>>>, String> {
    let broken = |e: serde_json::Error| format!("in a part that is no JSON rowset: {e}");
    if text.trim_ascii_start().starts_with(b"[[") {
        return serde_json::from_slice(text).map_err(broken);
    }
    let bracketed = b"[".as_slice().chain(text).chain(b"]".as_slice());
    let mut reader = serde_json::Deserializer::from_reader(std::io::BufReader::new(bracketed));
    Vec::deserialize(&mut reader).map_err(broken)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_part_that_the_network_keeps_back_is_a_failure_in_passing() {
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let data = Data {
            chunks: Some(vec![Chunk { url: format!("https://{nobody}/part"), row_count: 1 }]),
            ..Data::default()
        };
        let client = super::super::HttpClients::new(None).unwrap().objects;
        let allow = [nobody.to_string()];
        let outcome = fetch_parts(&client, &allow, "SELECT 1", &data, &mut Answer::default()).await;
        let error = outcome.unwrap_err();
        assert!(matches!(error, SnowflakeError::Part { .. }) && error.is_transient(), "{error}");
    }

    #[test]
    fn a_part_is_read_plain_or_packed() {
        let plain = br#"["1","a"],["2",null]"#;
        let expected = vec![vec![Some("1".into()), Some("a".into())], vec![Some("2".to_owned()), None]];
        assert_eq!(rows_of(&unpacked(plain, 1000).unwrap()).unwrap(), expected);
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(plain).unwrap();
        let packed = packer.finish().unwrap();
        assert_eq!(rows_of(&unpacked(&packed, 1000).unwrap()).unwrap(), expected);
    }

    #[test]
    fn a_part_that_unpacks_to_more_than_allowed_is_refused() {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        packer.write_all(&vec![b' '; 100_000]).unwrap();
        assert!(unpacked(&packer.finish().unwrap(), 10_000).is_err());
    }

    #[test]
    fn the_rows_that_dml_touched_are_added_up() {
        let columns: Vec<Column> = ["number of rows inserted", "number of rows updated"]
            .iter()
            .map(|name| Column { name: (*name).into(), kind: "fixed".into() })
            .collect();
        let row = |a: &str, b: &str| vec![vec![Some(a.to_owned()), Some(b.to_owned())]];
        assert_eq!(affected(&columns, &row("3", "4")), Some(7));
        assert_eq!(affected(&columns[..0], &row("3", "4")), None);
    }
}
