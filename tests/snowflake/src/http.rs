//! Bodies in, bodies out: bounded, gzip where the client says so.

use std::io::Read;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{
    Response, StatusCode,
    body::Incoming,
    header::{CONTENT_TYPE, HeaderMap},
};
use serde_json::Value;

/// A statement, a login: nothing that a client sends to the service is larger.
pub(crate) const REQUEST_LIMIT: usize = 64 << 20;
/// The largest object or part in one request.
pub(crate) const OBJECT_LIMIT: usize = 1 << 30;

/// What every handler returns; `Err` closes the connection without a reply.
pub(crate) type Outcome = Result<Response<Full<Bytes>>, Cut>;

/// The connection is cut on purpose.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("connection cut by a fault switch")]
pub(crate) struct Cut;

/// Why a body was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    #[error("the body ended early")]
    Broken,
    #[error("the body is not gzip as its header says")]
    NotGzip,
}

/// Reads a whole body of at most `limit` bytes.
pub(crate) async fn read(body: Incoming, limit: usize) -> Result<Bytes, BodyError> {
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(BodyError::TooLarge(limit)),
        Err(_) => Err(BodyError::Broken),
    }
}

/// Undoes `Content-Encoding: gzip`, within the same limit.
pub(crate) fn decoded(headers: &HeaderMap, body: Bytes, limit: usize) -> Result<Bytes, BodyError> {
    let gzip =
        headers.get("content-encoding").is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"gzip"));
    if !gzip {
        return Ok(body);
    }
    let mut plain = Vec::new();
    let read = MultiGzDecoder::new(&body[..]).take(limit as u64 + 1).read_to_end(&mut plain);
    match read {
        Err(_) => Err(BodyError::NotGzip),
        Ok(length) if length > limit => Err(BodyError::TooLarge(limit)),
        Ok(_) => Ok(plain.into()),
    }
}

/// A JSON reply with HTTP 200, as the service answers even when it refuses.
pub(crate) fn json(body: &Value) -> Response<Full<Bytes>> {
    raw_json(Bytes::from(body.to_string()))
}

/// The same from text that is JSON already.
pub(crate) fn raw_json(body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
    response
}

/// A reply with a status and a short text.
pub(crate) fn plain(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    response
}
