//! One request to the object store: which operation it is, and its reply.

use std::{collections::BTreeMap, fmt::Write as _};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{
        CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderName, HeaderValue,
        LAST_MODIFIED, RANGE,
    },
    http::request::Parts,
};
use time::{OffsetDateTime, macros::format_description};

use super::{BUCKET, Object, ObjectStore, chunked, etag, multipart::listed_parts, sigv4};
use crate::{
    faults::Effect,
    http::{Cut, OBJECT_LIMIT, Outcome, read},
    server::Shared,
    stats::Stats,
};

type Reply = Response<Full<Bytes>>;

/// Answers one request.
pub(crate) async fn serve(server: &Shared, request: Request<Incoming>) -> Outcome {
    let Shared { objects: store, faults, stats, .. } = server;
    let (parts, body) = request.into_parts();
    let key = key_of(parts.uri.path());
    let mut cut_after = false;
    for effect in faults.on_object(parts.method.as_str(), &key) {
        match effect {
            Effect::CutBefore => return Err(Cut),
            Effect::CutAfter => cut_after = true,
            Effect::Delay(time) => tokio::time::sleep(time).await,
            Effect::Unavailable => {
                return Ok(error(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "SlowDown",
                    "Please reduce your request rate.",
                ));
            }
            Effect::Forbidden => return Ok(error(StatusCode::FORBIDDEN, "AccessDenied", "Access Denied")),
            Effect::TokenExpired => {
                return Ok(error(StatusCode::BAD_REQUEST, "ExpiredToken", "The provided token has expired."));
            }
            // These are of the service alone.
            Effect::CutDuring | Effect::LockTimeout | Effect::Refused(_) | Effect::RunTwice => {}
        }
    }
    let Ok(body) = read(body, OBJECT_LIMIT).await else {
        return Ok(error(StatusCode::BAD_REQUEST, "IncompleteBody", "The body was cut or is too large."));
    };
    if key.starts_with("results/") {
        let reply = result_part(server, &parts, &key);
        return if cut_after { Err(Cut) } else { Ok(reply) };
    }
    let prefix = match sigv4::check(store, &parts, &body) {
        Ok(prefix) => prefix,
        Err(refused) => {
            stats.objects_refused();
            tracing::info!(code = refused.code, method = %parts.method, key, "object request refused");
            return Ok(error(refused.status, refused.code, refused.message));
        }
    };
    let query: BTreeMap<String, String> = sigv4::query(parts.uri.query().unwrap_or_default()).collect();
    let target = if key.is_empty() { query.get("prefix").cloned().unwrap_or_default() } else { key.clone() };
    if !target.starts_with(&prefix) {
        stats.objects_refused();
        return Ok(error(StatusCode::FORBIDDEN, "AccessDenied", "Access Denied"));
    }
    let chunked = parts.headers.get("x-amz-content-sha256").is_some_and(|value| value == chunked::ANNOUNCED);
    let reply = match if chunked { chunked::decoded(&parts, &body) } else { Ok(body) } {
        Ok(body) => answer(store, stats, &parts, &key, &query, body),
        Err(code) => error(StatusCode::BAD_REQUEST, code, "The chunks are not what was announced."),
    };
    if cut_after { Err(Cut) } else { Ok(reply) }
}

/// A part of a result: its address is signed, and it is read with the key under which it was stored.
fn result_part(server: &Shared, parts: &Parts, key: &str) -> Reply {
    let query: BTreeMap<String, String> = sigv4::query(parts.uri.query().unwrap_or_default()).collect();
    let header =
        |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let signature = query.get("X-Amz-Signature").map_or("", String::as_str);
    let customer_key = header("x-amz-server-side-encryption-customer-key");
    match server.results.fetch(key, signature, customer_key) {
        Ok(data) if parts.method == Method::GET => {
            let mut reply = Response::new(Full::new(data));
            reply.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
            reply
        }
        Ok(_) => error(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", "This operation is not carried."),
        Err(true) => error(StatusCode::FORBIDDEN, "AccessDenied", "Access Denied"),
        Err(false) => error(StatusCode::NOT_FOUND, "NoSuchKey", "The specified key does not exist."),
    }
}

fn answer(
    store: &ObjectStore,
    stats: &Stats,
    parts: &Parts,
    key: &str,
    query: &BTreeMap<String, String>,
    body: Bytes,
) -> Reply {
    let upload = query.get("uploadId").map(String::as_str);
    let part = query.get("partNumber");
    match (&parts.method, upload, part) {
        (&Method::PUT, Some(id), Some(number)) => {
            let number = number.parse().unwrap_or(0);
            match store.add_part(key, id, number, body) {
                Ok(tag) => with_etag(empty(StatusCode::OK), &tag),
                Err(code) => multipart_error(code),
            }
        }
        (&Method::PUT, None, None) => put(store, stats, parts, key, body),
        (&Method::POST, Some(id), None) => {
            let Some(listed) = std::str::from_utf8(&body).ok().and_then(listed_parts) else {
                return multipart_error("MalformedXML");
            };
            match store.complete(key, id, &listed) {
                Ok(tag) => {
                    stats.objects_stored();
                    xml(
                        StatusCode::OK,
                        &format!(
                            "<CompleteMultipartUploadResult><Location>/{BUCKET}/{key}</Location><Bucket>{BUCKET}</Bucket>\
                         <Key>{key}</Key><ETag>&quot;{tag}&quot;</ETag></CompleteMultipartUploadResult>",
                            key = escape(key)
                        ),
                    )
                }
                Err(code) => multipart_error(code),
            }
        }
        (&Method::POST, None, None) if query.contains_key("uploads") => {
            let id = store.begin(key, metadata(parts));
            xml(
                StatusCode::OK,
                &format!(
                    "<InitiateMultipartUploadResult><Bucket>{BUCKET}</Bucket><Key>{}</Key><UploadId>{id}</UploadId>\
                 </InitiateMultipartUploadResult>",
                    escape(key)
                ),
            )
        }
        (&Method::DELETE, Some(id), None) => match store.abandon(key, id) {
            Ok(()) => empty(StatusCode::NO_CONTENT),
            Err(code) => multipart_error(code),
        },
        (&Method::DELETE, None, None) if !key.is_empty() => {
            store.remove(key);
            empty(StatusCode::NO_CONTENT)
        }
        (&Method::GET, None, None) if key.is_empty() => list(store, query),
        (&Method::GET | &Method::HEAD, None, part) => match store.find(key) {
            Some(object) => get(parts, &object, part.map(String::as_str)),
            None => error(StatusCode::NOT_FOUND, "NoSuchKey", "The specified key does not exist."),
        },
        _ => error(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", "This operation is not carried."),
    }
}

fn put(store: &ObjectStore, stats: &Stats, parts: &Parts, key: &str, body: Bytes) -> Reply {
    if key.is_empty() || parts.headers.contains_key("x-amz-copy-source") {
        return error(StatusCode::NOT_IMPLEMENTED, "NotImplemented", "This operation is not carried.");
    }
    let only_new = parts.headers.get("if-none-match").is_some_and(|value| value == "*");
    if only_new && store.find(key).is_some() {
        return error(StatusCode::PRECONDITION_FAILED, "PreconditionFailed", "The object exists.");
    }
    let tag = etag(&body);
    let (etag, modified) = (tag.clone(), OffsetDateTime::now_utc());
    store.store(key, Object { data: body, etag, modified, metadata: metadata(parts), parts: Vec::new() });
    stats.objects_stored();
    with_etag(empty(StatusCode::OK), &tag)
}

/// A whole object, the bytes of `Range`, or one part by its number.
fn get(parts: &Parts, object: &Object, part: Option<&str>) -> Reply {
    let total = object.data.len();
    let asked = parts.headers.get(RANGE).and_then(|value| value.to_str().ok());
    if part.is_some() && asked.is_some() {
        return error(
            StatusCode::BAD_REQUEST,
            "InvalidRequest",
            "Cannot specify both Range header and partNumber.",
        );
    }
    let asked = match part {
        Some(_) if total == 0 => None,
        Some(number) => Some(part_of(number, &object.parts, total)),
        None => asked.map(|text| range_of(text, total)),
    };
    let (status, data, range) = match asked {
        None => (StatusCode::OK, object.data.clone(), None),
        Some(Some((from, to))) => (
            StatusCode::PARTIAL_CONTENT,
            object.data.slice(from..to),
            Some(format!("bytes {from}-{}/{total}", to - 1)),
        ),
        Some(None) => {
            return error(StatusCode::RANGE_NOT_SATISFIABLE, "InvalidRange", "The range is not satisfiable.");
        }
    };
    let length = data.len();
    let body = if parts.method == Method::HEAD { Bytes::new() } else { data };
    let mut reply = with_etag(Response::new(Full::new(body)), &object.etag);
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    if let Ok(value) = HeaderValue::from_str(&http_date(object.modified)) {
        headers.insert(LAST_MODIFIED, value);
    }
    if let Some(Ok(value)) = range.map(|text| HeaderValue::from_str(&text)) {
        headers.insert(CONTENT_RANGE, value);
    }
    if part.is_some() && !object.parts.is_empty() {
        headers.insert("x-amz-mp-parts-count", HeaderValue::from(object.parts.len()));
    }
    for (name, value) in &object.metadata {
        let name = HeaderName::from_bytes(format!("x-amz-meta-{name}").as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(value)) {
            headers.insert(name, value);
        }
    }
    reply
}

fn list(store: &ObjectStore, query: &BTreeMap<String, String>) -> Reply {
    let prefix = query.get("prefix").map_or("", String::as_str);
    let mut body = format!("<ListBucketResult><Name>{BUCKET}</Name><Prefix>{}</Prefix>", escape(prefix));
    let found = store.list(prefix);
    let _ = write!(body, "<KeyCount>{}</KeyCount><IsTruncated>false</IsTruncated>", found.len());
    for (key, object) in found {
        let _ = write!(
            body,
            "<Contents><Key>{}</Key><LastModified>{}</LastModified><ETag>&quot;{}&quot;</ETag><Size>{}</Size></Contents>",
            escape(&key),
            iso_date(object.modified),
            object.etag,
            object.data.len()
        );
    }
    body.push_str("</ListBucketResult>");
    xml(StatusCode::OK, &body)
}

/// First byte and end of `bytes=a-b`, `bytes=a-`, `bytes=-n`.
fn range_of(text: &str, total: usize) -> Option<(usize, usize)> {
    let (from, to) = text.strip_prefix("bytes=")?.split_once('-')?;
    let (from, to) = match (from, to) {
        ("", last) => (total.saturating_sub(last.parse().ok()?), total),
        (from, "") => (from.parse().ok()?, total),
        (from, to) => (from.parse().ok()?, to.parse::<usize>().ok()?.saturating_add(1).min(total)),
    };
    (from < to).then_some((from, to))
}

/// First byte and end of a part; an object that was sent whole has one.
fn part_of(number: &str, parts: &[usize], total: usize) -> Option<(usize, usize)> {
    let before = number.parse::<usize>().ok()?.checked_sub(1)?;
    match parts.get(before) {
        Some(size) => {
            let from: usize = parts[..before].iter().sum();
            Some((from, from + size))
        }
        None => (parts.is_empty() && before == 0).then_some((0, total)),
    }
}

/// The key of a path, in the virtual-host form or with the bucket in front.
fn key_of(path: &str) -> String {
    let plain = String::from_utf8_lossy(&sigv4::decode(path)).into_owned();
    let key = plain.trim_start_matches('/');
    let key = if key == BUCKET { "" } else { key.strip_prefix(&format!("{BUCKET}/")).unwrap_or(key) };
    key.to_owned()
}

fn metadata(parts: &Parts) -> BTreeMap<String, String> {
    parts
        .headers
        .iter()
        .filter_map(|(name, value)| {
            let name = name.as_str().strip_prefix("x-amz-meta-")?;
            Some((name.to_owned(), value.to_str().ok()?.to_owned()))
        })
        .collect()
}

fn empty(status: StatusCode) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::new()));
    *reply.status_mut() = status;
    reply
}

fn with_etag(mut reply: Reply, tag: &str) -> Reply {
    if let Ok(value) = HeaderValue::from_str(&format!("\"{tag}\"")) {
        reply.headers_mut().insert(ETAG, value);
    }
    reply
}

fn xml(status: StatusCode, body: &str) -> Reply {
    let mut reply =
        Response::new(Full::new(Bytes::from(format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{body}"))));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    reply
}

fn error(status: StatusCode, code: &str, message: &str) -> Reply {
    let id = super::random_text(16).to_uppercase();
    xml(
        status,
        &format!(
            "<Error><Code>{code}</Code><Message>{}</Message><RequestId>{id}</RequestId></Error>",
            escape(message)
        ),
    )
}

fn multipart_error(code: &str) -> Reply {
    let status = if code == "NoSuchUpload" { StatusCode::NOT_FOUND } else { StatusCode::BAD_REQUEST };
    error(status, code, "The multipart upload cannot go on so.")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// `Sat, 21 Nov 2026 03:00:00 GMT`.
pub(crate) fn http_date(at: OffsetDateTime) -> String {
    let format = format_description!(
        "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
    );
    at.format(&format).unwrap_or_default()
}

fn iso_date(at: OffsetDateTime) -> String {
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].000Z");
    at.format(&format).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_a_path_name_the_same_key() {
        assert_eq!(key_of("/stages/a/x%20y.parquet"), "stages/a/x y.parquet");
        assert_eq!(key_of("/127/stages/a/x%20y.parquet"), "stages/a/x y.parquet");
        assert_eq!(key_of("/127"), "");
    }

    #[test]
    fn ranges_are_cut_to_the_object() {
        assert_eq!(range_of("bytes=0-9", 5), Some((0, 5)));
        assert_eq!(range_of("bytes=2-3", 5), Some((2, 4)));
        assert_eq!(range_of("bytes=-2", 5), Some((3, 5)));
        assert_eq!(range_of("bytes=5-", 5), None);
        assert_eq!(range_of("lines=1-2", 5), None);
    }

    #[test]
    fn parts_are_found_by_number_and_a_whole_object_has_one() {
        assert_eq!(part_of("1", &[], 5), Some((0, 5)));
        assert_eq!(part_of("2", &[], 5), None);
        assert_eq!(part_of("2", &[3, 2], 5), Some((3, 5)));
        assert_eq!(part_of("3", &[3, 2], 5), None);
        assert_eq!(part_of("0", &[3, 2], 5), None);
        assert_eq!(part_of("x", &[], 5), None);
    }
}
