//! The calls to Vault: vaultrs says what each request is, this file sends it.
//!
//! vaultrs' own transport is not used. It reads `VAULT_*` from the environment for whatever is left
//! unset, follows redirects, reads answers of any size, adds the system's roots to the CA file, keeps the
//! token in plain strings, and opens a tracing span with the whole request, token and `secret_id` included.

use std::sync::{Mutex, PoisonError};

use reqwest::header::{HeaderName, HeaderValue};
use rustify::Endpoint;
use serde::{Deserialize, de::DeserializeOwned};
use url::Url;
use zeroize::{Zeroize as _, Zeroizing};

use super::{
    super::{
        bundle::Fields,
        error::{ErrorClass, UpstreamError, UpstreamName},
        http::{Answer, Http, wiped_body, wiped_header},
        secret::Secret,
    },
    refusal::{impossible, malformed, refusal, spent},
};
use crate::config::VaultConfig;

const TOKEN: HeaderName = HeaderName::from_static("x-vault-token");
const NAMESPACE: HeaderName = HeaderName::from_static("x-vault-namespace");
/// Names the state that the last answer came from, so that a replica can say whether it has it yet.
const INDEX: HeaderName = HeaderName::from_static("x-vault-index");

/// A Vault token and its lease.
#[derive(Deserialize)]
pub(super) struct Auth {
    pub(super) client_token: Secret,
    pub(super) lease_duration: u64,
    #[serde(default)]
    pub(super) renewable: bool,
}

#[derive(Deserialize)]
struct AuthAnswer {
    auth: Option<Auth>,
}

#[derive(Deserialize)]
struct DataAnswer<T> {
    data: T,
}

#[derive(Deserialize)]
struct KvData {
    data: Option<Fields>,
    metadata: KvMetadata,
}

#[derive(Deserialize)]
struct KvMetadata {
    version: u64,
}

#[derive(Deserialize)]
struct WrapOrigin {
    creation_path: String,
}

#[derive(Deserialize)]
struct WrappedSecretId {
    secret_id: Secret,
}

/// One Vault server, seen from one namespace.
pub(super) struct Calls {
    http: Http,
    base: Url,
    namespace: Option<HeaderValue>,
    index: Mutex<Option<HeaderValue>>,
}

impl Calls {
    pub(super) fn new(config: &VaultConfig, http: Http) -> Result<Self, UpstreamError> {
        let wrong = |what: &str| {
            let advice = "correct `vault` in the configuration";
            UpstreamError::new(
                UpstreamName::Vault,
                ErrorClass::Configuration,
                "reading the configuration",
                what,
                advice,
            )
        };
        let base = Url::parse(config.address.as_str()).map_err(|_| wrong("`vault.address` is no address"))?;
        let namespace = match &config.namespace {
            Some(name) => Some(
                HeaderValue::from_str(name.as_str()).map_err(|_| wrong("`vault.namespace` is no name"))?,
            ),
            None => None,
        };
        Ok(Self { http, base, namespace, index: Mutex::new(None) })
    }

    /// `POST auth/MOUNT/login`
    pub(super) async fn login(
        &self,
        mount: &str,
        role_id: &Secret,
        secret_id: &Secret,
    ) -> Result<Auth, UpstreamError> {
        let mut request = vaultrs::api::auth::approle::requests::LoginWithApproleRequest {
            mount: mount.to_owned(),
            role_id: role_id.expose().to_owned(),
            secret_id: secret_id.expose().to_owned(),
        };
        let attempted = format!("AppRole login at auth/{mount}");
        let answer = self.call(&attempted, &request, None).await;
        request.role_id.zeroize();
        request.secret_id.zeroize();
        auth(&attempted, &answer?)
    }

    /// `POST auth/token/renew-self`
    pub(super) async fn renew_self(&self, token: &Secret, seconds: u64) -> Result<Auth, UpstreamError> {
        let attempted = "renewing the Vault token";
        let request =
            vaultrs::api::token::requests::RenewTokenSelfRequest { increment: Some(format!("{seconds}s")) };
        auth(attempted, &self.call(attempted, &request, Some(token)).await?)
    }

    /// `POST auth/token/revoke-self`
    pub(super) async fn revoke_self(&self, token: &Secret) -> Result<(), UpstreamError> {
        let request = vaultrs::api::token::requests::RevokeTokenSelfRequest {};
        self.call("revoking the Vault token", &request, Some(token)).await.map(drop)
    }

    /// `GET MOUNT/data/PATH`: the newest version's number and fields.
    pub(super) async fn read(
        &self,
        token: &Secret,
        mount: &str,
        path: &str,
    ) -> Result<(u64, Fields), UpstreamError> {
        let attempted = format!("reading {mount}/{path}");
        let request = vaultrs::api::kv2::requests::ReadSecretRequest {
            mount: mount.to_owned(),
            path: path.to_owned(),
            version: None,
        };
        let answer = self.call(&attempted, &request, Some(token)).await?;
        let KvData { data, metadata } = parse::<DataAnswer<KvData>>(&attempted, &answer)?.data;
        let fields = data.ok_or_else(|| {
            let found = format!("version {} is deleted", metadata.version);
            let advice = "undelete it (`vault kv undelete`) or write a new version";
            UpstreamError::new(UpstreamName::Vault, ErrorClass::NotFound, &attempted, found, advice)
        })?;
        Ok((metadata.version, fields))
    }

    /// `POST sys/wrapping/lookup`: the path of the call whose answer was wrapped.
    pub(super) async fn wrapped_by(&self, wrapping: &Secret) -> Result<String, UpstreamError> {
        let mut request =
            vaultrs::api::sys::requests::WrappingLookupRequest { token: wrapping.expose().to_owned() };
        let attempted = "looking up the wrapping token of the secret_id";
        let answer = self.call(attempted, &request, None).await;
        request.token.zeroize();
        let answer = answer.map_err(|e| spent(attempted, e))?;
        Ok(parse::<DataAnswer<WrapOrigin>>(attempted, &answer)?.data.creation_path)
    }

    /// `POST sys/wrapping/unwrap`: works once.
    pub(super) async fn unwrap_secret_id(&self, wrapping: &Secret) -> Result<Secret, UpstreamError> {
        let request = vaultrs::api::sys::requests::UnwrapRequest { token: None };
        let attempted = "unwrapping the secret_id";
        let answer = self.call(attempted, &request, Some(wrapping)).await.map_err(|e| spent(attempted, e))?;
        Ok(parse::<DataAnswer<WrappedSecretId>>(attempted, &answer)?.data.secret_id)
    }

    /// Sends one request; an answer that is no success becomes an error here.
    async fn call<E: Endpoint>(
        &self,
        attempted: &str,
        endpoint: &E,
        token: Option<&Secret>,
    ) -> Result<Answer, UpstreamError> {
        let body = match endpoint.body() {
            Ok(body) => body.map(Zeroizing::new),
            Err(_) => return Err(impossible(attempted, "the request cannot be written")),
        };
        let mut request = self.http.request(endpoint.method().into(), self.url(&endpoint.path())?);
        request = request.header("x-vault-request", "true");
        if let Some(token) = token {
            let value = wiped_header(Zeroizing::new(token.expose().as_bytes().to_vec()))
                .ok_or_else(|| impossible(attempted, "the token is not one that a header can carry"))?;
            request = request.header(TOKEN, value);
        }
        if let Some(namespace) = &self.namespace {
            request = request.header(NAMESPACE, namespace);
        }
        if let Some(index) = self.index().clone() {
            request = request.header(INDEX, index);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(wiped_body(body));
        }
        let answer = self.http.send(attempted, request).await?;
        if let Some(index) = answer.headers.get(INDEX) {
            *self.index() = Some(index.clone());
        }
        if answer.status.is_success() { Ok(answer) } else { Err(refusal(attempted, &answer)) }
    }

    fn url(&self, path: &str) -> Result<Url, UpstreamError> {
        let mut url = self.base.clone();
        match url.path_segments_mut() {
            // vaultrs writes some of its paths with a slash, and some with a tab, in front.
            Ok(mut segments) => {
                segments.pop_if_empty().push("v1").extend(path.trim().trim_matches('/').split('/'));
            }
            Err(()) => return Err(impossible("calling Vault", "`vault.address` is no address")),
        }
        Ok(url)
    }

    fn index(&self) -> std::sync::MutexGuard<'_, Option<HeaderValue>> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn auth(attempted: &str, answer: &Answer) -> Result<Auth, UpstreamError> {
    parse::<AuthAnswer>(attempted, answer)?.auth.ok_or_else(|| malformed(attempted))
}

fn parse<T: DeserializeOwned>(attempted: &str, answer: &Answer) -> Result<T, UpstreamError> {
    // The parser's own error could quote the answer.
    serde_json::from_slice(&answer.body).map_err(|_| malformed(attempted))
}
