//! Upload to an S3 stage: signed with the session credentials of the PUT's reply, the envelope in the metadata, in
//! parts when the file is large.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use object_store::{
    Attribute, AttributeValue, Attributes, BackoffConfig, ClientOptions, MultipartUpload, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, RetryConfig, StaticCredentialProvider,
    aws::{AmazonS3, AmazonS3Builder, AwsCredential},
    client::{HttpClient, HttpConnector},
    path::Path,
};
use url::Url;

use super::{StageError, StageTarget, UploadOptions, endpoint, spool::SpooledFile};
use crate::snowflake::wire::StageInfo;

/// A rule of S3: every part but the last has at least this size.
const SMALLEST_PART: usize = 5 * 1024 * 1024;
const MOST_PARTS: u64 = 10_000;

/// Where a stage's files lie.
pub(super) struct Place {
    /// The bucket's own address, `https://bucket.s3...`.
    url: Url,
    bucket: String,
    region: String,
    /// Ends with a slash unless it is empty.
    path: String,
}

impl Place {
    /// Builds the address as the vendor's drivers do: the bucket is the location up to its first slash, and it stands
    /// before the reply's end point or before the region's.
    pub(super) fn from_reply(info: &StageInfo, allow: &[String]) -> Result<Self, StageError> {
        let (bucket, path) = info.location.split_once('/').unwrap_or((&info.location, ""));
        let region = info.region.clone().unwrap_or_default();
        let end_point = match info.end_point.as_deref() {
            Some(end_point) if !end_point.is_empty() => end_point.to_owned(),
            _ if region.is_empty() => "s3.amazonaws.com".to_owned(),
            _ if region.starts_with("cn-") => format!("s3.{region}.amazonaws.com.cn"),
            _ => format!("s3.{region}.amazonaws.com"),
        };
        let address = format!("https://{bucket}.{end_point}");
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '_');
        let unusable = || StageError::Reply("for a stage whose address is not a plain host name".to_owned());
        if bucket.is_empty() || !format!("{bucket}.{end_point}").chars().all(plain) {
            return Err(unusable());
        }
        let url = Url::parse(&address).map_err(|_| unusable())?;
        endpoint::check(&url, allow)?;
        let mut path = path.trim_start_matches('/').to_owned();
        if !path.is_empty() && !path.ends_with('/') {
            path.push('/');
        }
        let region = if region.is_empty() { "us-east-1".to_owned() } else { region };
        Ok(Self { url, bucket: bucket.to_owned(), region, path })
    }

    /// Host and port, for messages.
    pub(super) fn host(&self) -> String {
        let port = self.url.port().map(|port| format!(":{port}")).unwrap_or_default();
        format!("{}{port}", self.url.host_str().unwrap_or_default())
    }

    #[cfg(test)]
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    #[cfg(test)]
    pub(super) fn redirect(&mut self, address: &str) {
        if let Ok(url) = Url::parse(address) {
            self.url = url;
        }
    }
}

/// Hands the session's own client to the store, so that both trust the same roots and follow no redirect.
#[derive(Debug)]
struct Shared(reqwest::Client);

impl HttpConnector for Shared {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.0.clone()))
    }
}

pub(super) async fn upload(
    target: &StageTarget,
    name: &str,
    file: &SpooledFile,
    options: &UploadOptions,
) -> Result<(), StageError> {
    match tokio::time::timeout(options.deadline, send(target, name, file, options)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(StageError::Unreachable {
            file: name.to_owned(),
            host: target.place.host(),
            reason: format!("not done within {} s", options.deadline.as_secs()),
        }),
    }
}

async fn send(
    target: &StageTarget,
    name: &str,
    file: &SpooledFile,
    options: &UploadOptions,
) -> Result<(), StageError> {
    let judge = |error: object_store::Error| judge(&error, name, &target.place.host());
    let spool = |source| StageError::Spool { file: name.to_owned(), source };
    let store = store(target, options.deadline).map_err(judge)?;
    let key = Path::parse(format!("{}{name}", target.place.path))
        .map_err(|_| StageError::Reply("for a stage whose path cannot be a key of S3".to_owned()))?;
    let part_bytes = part_bytes(file.cipher_bytes, options.part_bytes);
    // What goes up in one piece is in memory as one, so it is no larger than a part.
    if file.cipher_bytes <= target.threshold.min(part_bytes as u64) {
        let body = file.read_at(0, file.cipher_bytes as usize).await.map_err(spool)?;
        let put = PutOptions { attributes: metadata(file), ..PutOptions::default() };
        store.put_opts(&key, PutPayload::from(Bytes::from(body)), put).await.map_err(judge)?;
        return Ok(());
    }
    let multipart = PutMultipartOptions { attributes: metadata(file), ..PutMultipartOptions::default() };
    let mut parts = store.put_multipart_opts(&key, multipart).await.map_err(judge)?;
    let mut offset = 0;
    while offset < file.cipher_bytes {
        let length = (file.cipher_bytes - offset).min(part_bytes as u64) as usize;
        let body = match file.read_at(offset, length).await {
            Ok(body) => body,
            Err(source) => {
                give_up(&mut *parts).await;
                return Err(spool(source));
            }
        };
        if let Err(error) = parts.put_part(PutPayload::from(Bytes::from(body))).await {
            give_up(&mut *parts).await;
            return Err(judge(error));
        }
        offset += length as u64;
    }
    parts.complete().await.map_err(judge)?;
    Ok(())
}

/// Frees the parts that are up. Best effort: the bucket's own rules remove what is left.
async fn give_up(parts: &mut dyn MultipartUpload) {
    let _ = tokio::time::timeout(Duration::from_secs(10), parts.abort()).await;
}

fn part_bytes(file_bytes: u64, wanted: usize) -> usize {
    let fewest = file_bytes.div_ceil(MOST_PARTS) as usize;
    wanted.max(SMALLEST_PART).max(fewest)
}

fn store(target: &StageTarget, deadline: Duration) -> object_store::Result<AmazonS3> {
    let credential = AwsCredential {
        key_id: target.credentials.key_id.to_string(),
        secret_key: target.credentials.secret_key.to_string(),
        token: Some(target.credentials.token.to_string()).filter(|token| !token.is_empty()),
    };
    let retry = RetryConfig {
        max_retries: 5,
        retry_timeout: deadline,
        backoff: BackoffConfig { max_backoff: Duration::from_secs(10), ..BackoffConfig::default() },
    };
    AmazonS3Builder::new()
        .with_bucket_name(&target.place.bucket)
        .with_region(&target.place.region)
        .with_endpoint(target.place.url.as_str().trim_end_matches('/'))
        .with_virtual_hosted_style_request(true)
        .with_credentials(Arc::new(StaticCredentialProvider::new(credential)))
        .with_http_connector(Shared(target.client.clone()))
        .with_retry(retry)
        .build()
}

/// These names are literal: on the wire each gets S3's own `x-amz-meta-` before it.
fn metadata(file: &SpooledFile) -> Attributes {
    let envelope = &file.envelope;
    [
        ("x-amz-key", &envelope.wrapped_key),
        ("x-amz-iv", &envelope.iv),
        ("x-amz-matdesc", &envelope.description),
        ("sfc-digest", &envelope.digest),
    ]
    .into_iter()
    .map(|(name, value)| (Attribute::Metadata(name.into()), AttributeValue::from(value.clone())))
    .collect()
}

/// Reads S3's own code out of the error and forgets the rest: a body is never repeated.
fn judge(error: &object_store::Error, name: &str, host: &str) -> StageError {
    let (file, host) = (name.to_owned(), host.to_owned());
    let text = error.to_string();
    let code =
        text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>")).map(|(code, _)| code);
    let code = code.filter(|code| code.len() < 64 && code.chars().all(|c| c.is_ascii_alphanumeric()));
    match code {
        Some("ExpiredToken" | "TokenRefreshRequired" | "ExpiredTokenException") => {
            StageError::CredentialsExpired { file }
        }
        Some(code @ ("SlowDown" | "InternalError" | "ServiceUnavailable" | "RequestTimeout")) => {
            StageError::Unreachable { file, host, reason: format!("the storage is busy ({code})") }
        }
        Some(code) => StageError::Refused { file, host, code: code.to_owned() },
        None => match status_of(&text) {
            Some(status) if !status.starts_with('5') && status != "429" => {
                StageError::Refused { file, host, code: format!("HTTP {status}") }
            }
            Some(status) => StageError::Unreachable { file, host, reason: format!("HTTP {status}") },
            None => StageError::Unreachable { file, host, reason: innermost(error) },
        },
    }
}

fn status_of(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("non-2xx status code: ")?;
    rest.get(..3).filter(|status| status.bytes().all(|b| b.is_ascii_digit()))
}

fn innermost(error: &object_store::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string().chars().filter(|c| !c.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(text: &'static str) -> object_store::Error {
        object_store::Error::Generic { store: "S3", source: text.into() }
    }

    #[test]
    fn an_expired_token_asks_for_a_new_put() {
        let error = generic(
            "Error performing PUT https://b/k in 3ms - Server returned non-2xx status code: 400 Bad Request: \
             <Error><Code>ExpiredToken</Code><Message>secret words</Message></Error>",
        );
        assert!(matches!(judge(&error, "f", "h"), StageError::CredentialsExpired { .. }));
    }

    #[test]
    fn a_refusal_shows_its_code_and_never_its_body() {
        let error = generic(
            "Server returned non-2xx status code: 403 Forbidden: <Error><Code>AccessDenied</Code><Message>secret words</Message></Error>",
        );
        let shown = judge(&error, "f", "h").to_string();
        assert!(shown.contains("AccessDenied") && !shown.contains("secret words"), "{shown}");
        let shown =
            judge(&generic("Server returned non-2xx status code: 403 Forbidden: secret words"), "f", "h");
        assert!(shown.to_string().contains("HTTP 403") && !shown.to_string().contains("secret"), "{shown}");
    }

    #[test]
    fn a_busy_storage_is_transient() {
        let error = generic("Server returned non-2xx status code: 503 Service Unavailable: x");
        assert!(judge(&error, "f", "h").is_transient());
    }

    #[test]
    fn parts_are_large_enough_for_s3s_limits() {
        assert_eq!(part_bytes(1, 1), SMALLEST_PART);
        assert!(part_bytes(200 << 30, 8 << 20) as u64 * MOST_PARTS >= 200 << 30);
    }
}
