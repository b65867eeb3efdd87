//! The independent reader: asks Snowflake over HTTP what a table holds, and compares multisets of rows.
//!
//! It logs in under an identity of its own, and knows Snowflake's JSON result format from its
//! documentation alone.

use std::{collections::BTreeMap, io::Read as _};

use anyhow::{Context as _, Result, bail, ensure};
use reqwest::{Client, tls::Certificate};
use serde_json::{Value, json};

use crate::sample::{Table, float_text};

/// Days from 0001-01-01 to 1970-01-01.
const UNIX_EPOCH: i64 = 719_162;

/// How the auditor reaches Entra and Snowflake.
#[derive(Clone, Debug)]
pub struct Access {
    /// PEM of the authority that signed both servers.
    pub ca_pem: String,
    /// Entra's token end point.
    pub token_url: String,
    /// The auditor's application.
    pub client_id: String,
    /// Its client secret.
    pub client_secret: String,
    /// The scope to ask for.
    pub scope: String,
    /// Snowflake's URL.
    pub snowflake_url: String,
    /// The account's name.
    pub account: String,
    /// The user that the application maps to.
    pub user: String,
}

/// A logged-in auditor.
pub struct Auditor {
    http: Client,
    url: String,
    session: String,
    sequence: u64,
}

/// What a comparison found.
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    /// Rows that the generator made.
    pub expected: u64,
    /// Rows that the target holds.
    pub found: u64,
    /// Rows that should be there and are not (with multiplicity).
    pub lost: u64,
    /// Rows that are there and should not be (with multiplicity).
    pub surplus: u64,
    /// Up to three examples, in words.
    pub examples: Vec<String>,
}

impl Comparison {
    /// True when the two multisets are equal.
    pub fn equal(&self) -> bool {
        self.lost == 0 && self.surplus == 0
    }
}

impl Auditor {
    /// Gets a token from Entra and logs in.
    pub async fn login(access: &Access) -> Result<Self> {
        let http = Client::builder()
            .tls_certs_only([Certificate::from_pem(access.ca_pem.as_bytes())?])
            .timeout(std::time::Duration::from_secs(120))
            .build()?;
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", &access.client_id),
            ("client_secret", &access.client_secret),
            ("scope", &access.scope),
        ];
        let token: Value = http.post(&access.token_url).form(&form).send().await?.json().await?;
        let token = token["access_token"].as_str().context("Entra gave the auditor no token")?.to_owned();
        let body = json!({"data": {"CLIENT_APP_ID": "auditor", "CLIENT_APP_VERSION": "1", "ACCOUNT_NAME": access.account,
            "LOGIN_NAME": access.user, "AUTHENTICATOR": "OAUTH", "TOKEN": token, "SESSION_PARAMETERS": {}}});
        let reply: Value = http
            .post(format!(
                "{}/session/v1/login-request?request_id={}",
                access.snowflake_url,
                uuid::Uuid::new_v4()
            ))
            .header("accept", "application/snowflake")
            .json(&body)
            .send()
            .await?
            .json()
            .await?;
        ensure!(
            reply["success"] == true,
            "the auditor's login was refused: {} {}",
            reply["code"],
            reply["message"]
        );
        let session = reply
            .pointer("/data/token")
            .and_then(Value::as_str)
            .context("a login without a token")?
            .to_owned();
        Ok(Self { http, url: access.snowflake_url.clone(), session, sequence: 0 })
    }

    /// Runs a statement; the cells are in the oracle's canonical form.
    pub async fn query(&mut self, sql: &str) -> Result<Vec<Vec<String>>> {
        self.sequence += 1;
        let url = format!("{}/queries/v1/query-request?requestId={}", self.url, uuid::Uuid::new_v4());
        let body = json!({"sqlText": sql, "asyncExec": false, "sequenceId": self.sequence});
        let request = self.http.post(url).json(&body);
        let mut reply = self.send(request).await?;
        while matches!(reply["code"].as_str(), Some("333333" | "333334")) {
            let path =
                reply.pointer("/data/getResultUrl").and_then(Value::as_str).context("nothing to poll")?;
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            reply = self.send(self.http.get(format!("{}{path}", self.url))).await?;
        }
        ensure!(reply["success"] == true, "{sql}: {} {}", reply["code"], reply["message"]);
        let types = reply
            .pointer("/data/rowtype")
            .and_then(Value::as_array)
            .context("a result without rowtype")?
            .clone();
        let mut rows = decode(&types, reply.pointer("/data/rowset"))?;
        for chunk in reply.pointer("/data/chunks").and_then(Value::as_array).into_iter().flatten() {
            let url = chunk["url"].as_str().context("a chunk without url")?;
            let headers = reply.pointer("/data/chunkHeaders").and_then(Value::as_object);
            let mut request = self.http.get(url);
            for (name, value) in headers.into_iter().flatten() {
                request = request.header(name, value.as_str().unwrap_or_default());
            }
            let packed = request.send().await?.error_for_status()?.bytes().await?;
            let mut text = String::new();
            flate2::read::GzDecoder::new(&packed[..]).read_to_string(&mut text)?;
            rows.extend(decode(&types, Some(&serde_json::from_str(&format!("[{text}]"))?))?);
        }
        Ok(rows)
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<Value> {
        let reply = request
            .header("accept", "application/snowflake")
            .header("authorization", format!("Snowflake Token=\"{}\"", self.session))
            .send()
            .await?;
        Ok(reply.json().await?)
    }

    /// Compares the generator's rows with what `target` holds.
    pub async fn compare(&mut self, table: &Table, target: &str) -> Result<Comparison> {
        let columns: Vec<String> =
            table.columns.iter().map(|name| format!("\"{}\"", name.to_uppercase())).collect();
        let found = self.query(&format!("SELECT {} FROM {target}", columns.join(", "))).await?;
        let expected =
            table.rows.iter().map(|row| row.iter().map(super::super::sample::Cell::canonical).collect());
        Ok(compare(expected, found.into_iter()))
    }
}

fn compare(
    expected: impl Iterator<Item = Vec<String>>,
    found: impl Iterator<Item = Vec<String>>,
) -> Comparison {
    let mut balance: BTreeMap<Vec<String>, i64> = BTreeMap::new();
    let mut result = Comparison::default();
    for row in expected {
        result.expected += 1;
        *balance.entry(row).or_default() += 1;
    }
    for row in found {
        result.found += 1;
        *balance.entry(row).or_default() -= 1;
    }
    for (row, count) in balance {
        match count {
            0 => continue,
            1.. => result.lost += count.unsigned_abs(),
            _ => result.surplus += count.unsigned_abs(),
        }
        if result.examples.len() < 3 {
            let word = if count > 0 { "lost" } else { "surplus" };
            result.examples.push(format!("{word}: {}", row.join(" | ")));
        }
    }
    result
}

fn decode(types: &[Value], rowset: Option<&Value>) -> Result<Vec<Vec<String>>> {
    let Some(rows) = rowset.and_then(Value::as_array) else { return Ok(Vec::new()) };
    rows.iter()
        .map(|row| {
            let row = row.as_array().context("a row that is no array")?;
            ensure!(row.len() == types.len(), "a row of {} cells under {} columns", row.len(), types.len());
            row.iter().zip(types).map(|(cell, ty)| decode_cell(ty, cell)).collect()
        })
        .collect()
}

fn decode_cell(ty: &Value, cell: &Value) -> Result<String> {
    if cell.is_null() {
        return Ok("∅".to_owned());
    }
    let text = cell.as_str().context("a cell that is no text")?;
    let name = ty["type"].as_str().unwrap_or_default().to_lowercase();
    Ok(match name.as_str() {
        "fixed" => text.to_owned(),
        "boolean" => matches!(text, "1" | "true" | "TRUE").to_string(),
        "real" => float_text(text.parse().with_context(|| format!("float {text:?}"))?),
        "text" => format!("{text:?}"),
        "binary" => format!("0x{}", text.to_uppercase()),
        "date" => format!("day {}", text.parse::<i64>()? + UNIX_EPOCH),
        "timestamp_ntz" => timestamp(text)?,
        other => bail!("the oracle does not know the type {other}"),
    })
}

/// Seconds since 1970 with a decimal fraction, as Snowflake's JSON has TIMESTAMP_NTZ.
fn timestamp(text: &str) -> Result<String> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let negative = whole.starts_with('-');
    let seconds: i128 = whole.parse().with_context(|| format!("timestamp {text:?}"))?;
    let fraction: i128 = format!("{fraction:0<9}").parse().with_context(|| format!("timestamp {text:?}"))?;
    let ns = seconds * 1_000_000_000 + if negative { -fraction } else { fraction };
    let day_ns = 86_400_000_000_000;
    Ok(format!("day {} + {} ns", ns.div_euclid(day_ns) + i128::from(UNIX_EPOCH), ns.rem_euclid(day_ns)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_before_1970_count_backwards() {
        assert_eq!(timestamp("0.000000000").unwrap(), "day 719162 + 0 ns");
        assert_eq!(timestamp("-0.000000100").unwrap(), "day 719161 + 86399999999900 ns");
        assert_eq!(timestamp("-62135596800.000000000").unwrap(), "day 0 + 0 ns");
    }

    #[test]
    fn a_doubled_row_and_a_lost_one_are_both_seen() {
        let row = |text: &str| vec![text.to_owned()];
        let result = compare([row("a"), row("b")].into_iter(), [row("a"), row("a")].into_iter());
        assert_eq!((result.lost, result.surplus), (1, 1));
        assert!(!result.equal());
    }
}
