//! Microsoft Entra ID: client credentials against one tenant, one access token for each call.
//!
//! The OAuth crate writes the request and reads the answer. The client secret is not given to it, for it
//! would keep it in plain strings: [`Issuer::send`] adds it to the form in a buffer that is wiped.

use std::{
    pin::Pin,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use keyferry_proto::grant::Grant;
use oauth2::{
    AsyncHttpClient, AuthType, Client, ClientId, EmptyExtraTokenFields, ErrorResponse, HttpRequest,
    HttpResponse, RequestTokenError, Scope, StandardRevocableToken, StandardTokenIntrospectionResponse,
    StandardTokenResponse, TokenResponse as _, TokenUrl,
    basic::{BasicRevocationErrorResponse, BasicTokenType},
};
use reqwest::header;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use url::{Url, form_urlencoded};
use zeroize::Zeroizing;

use super::{
    bundle::Bundle,
    error::{ErrorClass, UpstreamError, UpstreamName},
    http::{Answer, Http, wiped_body},
    secret::Secret,
    shape::Shape,
};
use crate::config::EntraLogin;

/// Entra's tokens live 60 to 90 minutes, 28 hours at most. Longer is cut, much longer is not believed.
const LONGEST_LIFE: Duration = Duration::from_hours(28);
const ABSURD_LIFE: Duration = Duration::from_hours(366 * 24);
/// What 429 and 5xx without a Retry-After get.
const DEFAULT_PATIENCE: Duration = Duration::from_secs(5);

/// One application's way to access tokens.
pub(super) struct Issuer {
    http: Http,
    config: EntraLogin,
    /// No call before this moment: the issuer asked to be left alone.
    window: Mutex<Option<Instant>>,
}

/// The token end point's refusal. Entra's description is long and holds identifiers, so that only its number
/// is kept.
#[derive(Debug, Deserialize, Serialize)]
struct Refusal {
    error: String,
    #[serde(default)]
    error_codes: Vec<u64>,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.error)
    }
}

impl ErrorResponse for Refusal {}

type Answered = StandardTokenResponse<EmptyExtraTokenFields, BasicTokenType>;
type OAuth = Client<
    Refusal,
    Answered,
    StandardTokenIntrospectionResponse<EmptyExtraTokenFields, BasicTokenType>,
    StandardRevocableToken,
    BasicRevocationErrorResponse,
>;

impl Issuer {
    pub(super) fn new(config: &EntraLogin) -> Result<Self, UpstreamError> {
        let http = Http::new(UpstreamName::Entra, config.ca_file.as_deref())?;
        Ok(Self { http, config: config.clone(), window: Mutex::new(None) })
    }

    /// What the bundle holds of this application: tenant, client id and client secret.
    fn credential<'a>(&self, bundle: &'a Bundle) -> Result<(&'a str, &'a str, &'a Secret), UpstreamError> {
        Ok((
            bundle.setting(self.config.tenant_key.as_str(), Shape::Tenant)?,
            bundle.setting(self.config.client_id_key.as_str(), Shape::Application)?,
            bundle.secret(self.config.client_secret_key.as_str())?,
        ))
    }

    /// Whether the bundle has all that a token needs, as far as looking at it tells.
    pub(super) fn check(&self, bundle: &Bundle) -> Result<(), UpstreamError> {
        self.credential(bundle).map(drop)
    }

    /// True when both bundles hold the same credential.
    pub(super) fn same_credential(&self, one: &Bundle, other: &Bundle) -> bool {
        let EntraLogin { tenant_key, client_id_key, client_secret_key, .. } = &self.config;
        one.agrees(other, &[tenant_key.as_str(), client_id_key.as_str(), client_secret_key.as_str()])
    }

    /// Asks for one access token with the application's credentials as the bundle holds them.
    pub(super) async fn bearer(&self, bundle: &Bundle) -> Result<Grant, UpstreamError> {
        let (tenant, client_id, secret) = self.credential(bundle)?;
        let attempted = format!("asking {} for a token with `{}`", self.host(), self.config.client_id_key);
        self.refuse_inside_window(&attempted)?;
        let text = format!("{}/{tenant}/oauth2/v2.0/token", self.config.authority.as_str());
        let url = Url::parse(&text).map_err(|_| odd(&attempted, "no address"))?;
        let oauth = OAuth::new(ClientId::new(client_id.to_owned()))
            .set_auth_type(AuthType::RequestBody)
            .set_token_uri(TokenUrl::from_url(url));
        let sender = Sender { issuer: self, attempted: &attempted, secret };
        let asked_at = SystemTime::now();
        let answered = oauth
            .exchange_client_credentials()
            .add_scope(Scope::new(self.config.scope.clone()))
            .request_async(&sender)
            .await;
        match answered {
            Ok(token) => {
                let life = believable(&attempted, token.expires_in())?;
                let value = token.access_token().secret().as_bytes().to_vec();
                if value.is_empty() || value.len() > 32 * 1024 || !value.iter().all(u8::is_ascii_graphic) {
                    return Err(odd(&attempted, "a token that no header could carry"));
                }
                // The version is a part of the name: it tells which secret the token came from.
                let generation = format!("v{}-{}", bundle.version(), uuid::Uuid::new_v4().simple());
                Ok(Grant::new(value, asked_at + life, generation))
            }
            Err(RequestTokenError::Request(error)) => {
                if let Some(wait) = error.retry_after() {
                    *self.window() = Some(Instant::now() + wait);
                }
                Err(error)
            }
            Err(RequestTokenError::ServerResponse(refusal)) => Err(refused(&attempted, &refusal)),
            Err(RequestTokenError::Parse(..) | RequestTokenError::Other(_)) => {
                Err(odd(&attempted, "an answer that is no OAuth answer"))
            }
        }
    }

    /// Sends what the OAuth crate wrote, with the secret added.
    async fn send(
        &self,
        attempted: &str,
        request: HttpRequest,
        secret: &Secret,
    ) -> Result<HttpResponse, UpstreamError> {
        let (parts, form) = request.into_parts();
        let url = Url::parse(&parts.uri.to_string()).map_err(|_| odd(attempted, "no address"))?;
        let request = self
            .http
            .request(parts.method, url)
            .headers(parts.headers)
            .body(wiped_body(with_secret(&form, secret)));
        let answer = self.http.send(attempted, request).await?;
        busy(attempted, &answer)?;
        let mut response = HttpResponse::new(answer.body.to_vec());
        *response.status_mut() = answer.status;
        if let Some(kind) = answer.headers.get(header::CONTENT_TYPE) {
            response.headers_mut().insert(header::CONTENT_TYPE, kind.clone());
        }
        Ok(response)
    }

    fn refuse_inside_window(&self, attempted: &str) -> Result<(), UpstreamError> {
        let until = *self.window();
        match until.map(|t| t.saturating_duration_since(Instant::now())) {
            Some(left) if !left.is_zero() => Err(UpstreamError::new(
                UpstreamName::Entra,
                ErrorClass::Busy,
                attempted,
                format!("the issuer asked for {} more seconds of silence; nothing was sent", left.as_secs()),
                "wait",
            )
            .with_retry_after(Some(left))),
            _ => Ok(()),
        }
    }

    fn host(&self) -> &str {
        self.config.authority.as_str().trim_start_matches("https://")
    }

    fn window(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends what the OAuth crate wrote.
struct Sender<'a> {
    issuer: &'a Issuer,
    attempted: &'a str,
    secret: &'a Secret,
}

impl<'c> AsyncHttpClient<'c> for Sender<'_> {
    type Error = UpstreamError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, UpstreamError>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(self.issuer.send(self.attempted, request, self.secret))
    }
}

/// `form&client_secret=...`, percent-encoded into a buffer that is large enough from the start.
fn with_secret(form: &[u8], secret: &Secret) -> Zeroizing<Vec<u8>> {
    let mut body = Zeroizing::new(Vec::with_capacity(form.len() + 32 + secret.expose().len() * 3));
    body.extend_from_slice(form);
    body.extend_from_slice(b"&client_secret=");
    for piece in form_urlencoded::byte_serialize(without_line_end(secret).as_bytes()) {
        body.extend_from_slice(piece.as_bytes());
    }
    body
}

/// The secret as Entra knows it: a file that was written to Vault with `@FILE` brings its last line end along.
fn without_line_end(secret: &Secret) -> &str {
    secret.expose().trim_end_matches(['\r', '\n'])
}

fn busy(attempted: &str, answer: &Answer) -> Result<(), UpstreamError> {
    let status = answer.status.as_u16();
    if status != 429 && status < 500 {
        return Ok(());
    }
    let found = if status == 429 { "too many requests" } else { "the issuer failed" };
    let advice = "nothing to do: it is tried again when the issuer allows";
    let wait = answer.retry_after().unwrap_or(DEFAULT_PATIENCE);
    Err(UpstreamError::new(UpstreamName::Entra, ErrorClass::Busy, attempted, found, advice)
        .with_code(format!("HTTP {status}"))
        .with_retry_after(Some(wait)))
}

/// `expires_in` as far as it can be true.
fn believable(attempted: &str, life: Option<Duration>) -> Result<Duration, UpstreamError> {
    match life {
        None => Err(odd(attempted, "a token without expires_in")),
        Some(life) if life.is_zero() => Err(odd(attempted, "a token that has ended already")),
        Some(life) if life > ABSURD_LIFE => Err(odd(attempted, "a token said to live for more than a year")),
        Some(life) => Ok(life.min(LONGEST_LIFE)),
    }
}

fn odd(attempted: &str, found: &str) -> UpstreamError {
    let advice = "check that `authority` is the issuer's own address";
    UpstreamError::new(UpstreamName::Entra, ErrorClass::BadReply, attempted, found, advice)
}

/// Decides by OAuth's word, which is stable, and prints Entra's number, which says more.
fn refused(attempted: &str, refusal: &Refusal) -> UpstreamError {
    let (class, found, advice) = match refusal.error.as_str() {
        "invalid_client" => (
            ErrorClass::Credential,
            "the client secret is wrong or has lapsed, or the application is not in this tenant",
            "make a new client secret for the application and write it to Vault",
        ),
        "unauthorized_client" => (
            ErrorClass::Denied,
            "the application may not do this here",
            "correct client id and tenant in Vault, and check that the application is enabled",
        ),
        "invalid_scope" | "invalid_resource" => (
            ErrorClass::Configuration,
            "the scope names nothing that the application may ask for",
            "correct `scope` (it reads api://APPLICATION/.default), and consent to it in Entra",
        ),
        "invalid_grant" | "access_denied" | "interaction_required" => (
            ErrorClass::Denied,
            "a policy of the tenant forbids it",
            "look the number up in the tenant's sign-in log: a conditional-access policy may block this address",
        ),
        "invalid_request" | "unsupported_grant_type" | "invalid_tenant" => (
            ErrorClass::Configuration,
            "the request is refused",
            "correct tenant, client id and scope; the number says which is wrong",
        ),
        "temporarily_unavailable" | "server_error" => {
            (ErrorClass::Busy, "the issuer is busy", "nothing to do: it is tried again")
        }
        _ => (ErrorClass::Denied, "refused", "look the number up in the tenant's sign-in log"),
    };
    let error = UpstreamError::new(UpstreamName::Entra, class, attempted, found, advice);
    match refusal.error_codes.first() {
        Some(number) => error.with_code(format!("AADSTS{number}")),
        None if refusal.error.len() <= 40
            && refusal.error.chars().all(|c| c.is_ascii_lowercase() || c == '_') =>
        {
            error.with_code(refusal.error.clone())
        }
        None => error,
    }
}

#[cfg(test)]
mod tests;
