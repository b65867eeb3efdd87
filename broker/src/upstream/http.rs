//! HTTPS to one upstream: own CA, no redirects, no proxy from the environment, every answer bounded in
//! size and time, request and answer bodies wiped.

use std::{
    path::Path,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use reqwest::{
    Certificate, Client, RequestBuilder, Response, StatusCode,
    header::{HeaderMap, HeaderValue},
};
use zeroize::{Zeroize as _, Zeroizing};

use super::error::{ErrorClass, UpstreamError, UpstreamName};

/// A whole exchange takes at most this long.
const EXCHANGE: Duration = Duration::from_secs(15);
const CONNECT: Duration = Duration::from_secs(5);
/// No answer that the broker needs is near this size.
const LARGEST_ANSWER: usize = 1024 * 1024;
const LONGEST_RETRY_AFTER: Duration = Duration::from_hours(1);

/// An HTTP client for one upstream.
pub(super) struct Http {
    upstream: UpstreamName,
    client: Client,
    deadline: Duration,
}

/// An answer, whole and bounded. Its body is wiped when dropped.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Zeroizing<Vec<u8>>,
}

impl Http {
    /// With `ca_file` only certificates under that file's roots are accepted; without it, the system's.
    pub(super) fn new(upstream: UpstreamName, ca_file: Option<&Path>) -> Result<Self, UpstreamError> {
        // Whoever installed a provider before has installed the same one: there is no other in the tree.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mut builder = Client::builder()
            .tls_backend_rustls()
            .https_only(true)
            .no_proxy()
            .referer(false)
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT)
            // A connection that is kept keeps the last answer in its buffer, which can be a secret.
            .pool_max_idle_per_host(0)
            .user_agent(concat!("keyferry/", env!("CARGO_PKG_VERSION")));
        if let Some(path) = ca_file {
            builder = builder.tls_certs_only(read_roots(upstream, path)?);
        }
        let client = builder.build().map_err(|e| {
            UpstreamError::new(
                upstream,
                ErrorClass::Configuration,
                "preparing TLS",
                innermost(&e),
                "check the CA file that the configuration names, or the system's certificates",
            )
        })?;
        Ok(Self { upstream, client, deadline: EXCHANGE })
    }

    #[cfg(test)]
    pub(super) fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Starts a request; [`Http::send`] sends it.
    pub(super) fn request(&self, method: reqwest::Method, url: url::Url) -> RequestBuilder {
        self.client.request(method, url)
    }

    /// Sends the request and reads the answer, all within the deadline.
    pub(super) async fn send(
        &self,
        attempted: &str,
        request: RequestBuilder,
    ) -> Result<Answer, UpstreamError> {
        let host = |e: &reqwest::Error| e.url().and_then(|u| u.host_str()).unwrap_or("the host").to_owned();
        let exchange = async {
            let response = request.send().await.map_err(|e| {
                let found = format!("no answer from {}: {}", host(&e), innermost(&e));
                self.unreachable(attempted, found)
            })?;
            self.read(attempted, response).await
        };
        tokio::time::timeout(self.deadline, exchange).await.unwrap_or_else(|_| {
            let found = format!("no whole answer within {:?}", self.deadline);
            Err(self.unreachable(attempted, found))
        })
    }

    async fn read(&self, attempted: &str, mut response: Response) -> Result<Answer, UpstreamError> {
        let status = response.status();
        if status.is_redirection() {
            return Err(self.bad_reply(attempted, format!("a redirect (HTTP {})", status.as_u16())));
        }
        let announced = response.content_length().unwrap_or(16 * 1024);
        if announced > LARGEST_ANSWER as u64 {
            return Err(self.bad_reply(attempted, format!("an answer of {announced} bytes")));
        }
        let headers = response.headers().clone();
        let mut body = Zeroizing::new(Vec::with_capacity(announced as usize));
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() <= LARGEST_ANSWER => append(&mut body, chunk),
                Ok(Some(_)) => {
                    let found = format!("an answer of more than {LARGEST_ANSWER} bytes");
                    return Err(self.bad_reply(attempted, found));
                }
                Ok(None) => return Ok(Answer { status, headers, body }),
                Err(e) => {
                    let found = format!("the answer broke off: {}", innermost(&e));
                    return Err(self.unreachable(attempted, found));
                }
            }
        }
    }

    fn unreachable(&self, attempted: &str, found: String) -> UpstreamError {
        let advice = "check the address, the CA file and the network between broker and upstream";
        UpstreamError::new(self.upstream, ErrorClass::Unreachable, attempted, found, advice)
    }

    fn bad_reply(&self, attempted: &str, found: String) -> UpstreamError {
        let advice = "check that the address is the upstream's own, and not a proxy's or a log-in page's";
        UpstreamError::new(self.upstream, ErrorClass::BadReply, attempted, found, advice)
    }
}

impl Answer {
    /// How long the upstream asked to be left alone, in either form of the header, an hour at most.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        let value = self.headers.get(reqwest::header::RETRY_AFTER)?.to_str().ok()?.trim();
        let wait = match value.parse::<u64>() {
            Ok(seconds) => Duration::from_secs(seconds),
            Err(_) => until_http_date(value)?,
        };
        Some(wait.min(LONGEST_RETRY_AFTER))
    }
}

/// A request body that is wiped once the transport has let go of it.
pub(super) fn wiped_body(body: Zeroizing<Vec<u8>>) -> reqwest::Body {
    Bytes::from_owner(body).into()
}

/// A header that prints as "Sensitive" and is wiped once the transport has let go of it. None when the text
/// is not one that a header can carry.
pub(super) fn wiped_header(text: Zeroizing<Vec<u8>>) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(text)).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Grows without leaving the old buffer's content behind, and wipes the chunk where nobody shares it.
fn append(body: &mut Zeroizing<Vec<u8>>, chunk: Bytes) {
    if body.capacity() - body.len() < chunk.len() {
        let mut larger = Zeroizing::new(Vec::with_capacity((body.len() + chunk.len()) * 2));
        larger.extend_from_slice(body);
        *body = larger;
    }
    body.extend_from_slice(&chunk);
    if let Ok(mut own) = chunk.try_into_mut() {
        own.as_mut().zeroize();
    }
}

fn read_roots(upstream: UpstreamName, path: &Path) -> Result<Vec<Certificate>, UpstreamError> {
    let refuse = |found: String| {
        UpstreamError::new(
            upstream,
            ErrorClass::Configuration,
            format!("reading the CA file {}", path.display()),
            found,
            "name a PEM file that holds the root certificates",
        )
    };
    let pem = std::fs::read(path).map_err(|e| refuse(e.to_string()))?;
    let roots = Certificate::from_pem_bundle(&pem).map_err(|e| refuse(innermost(&e)))?;
    if roots.is_empty() {
        return Err(refuse("no certificate in it".to_owned()));
    }
    Ok(roots)
}

/// The deepest cause: "invalid peer certificate: Expired" instead of "error sending request".
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

fn until_http_date(value: &str) -> Option<Duration> {
    use time::{OffsetDateTime, PrimitiveDateTime, macros::format_description};
    let format = format_description!(
        "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
    );
    let then = PrimitiveDateTime::parse(value, format).ok()?.assume_utc();
    let now = OffsetDateTime::from(SystemTime::now());
    Some(Duration::try_from(then - now).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
pub(super) mod server;
#[cfg(test)]
mod tests;
