//! External OAuth: the token's signature, issuer, audience and times, checked against the issuer's published keys.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use jsonwebtoken::{
    Algorithm, DecodingKey, Validation, dangerous::insecure_decode_claims, decode, decode_header,
    errors::ErrorKind,
};
use reqwest::Client;
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::sync::Mutex;

use crate::{AnyRole, SecurityIntegration, Stats, reply::Refusal};

/// Between two fetches for a key id that is not known: a client cannot make us hammer the issuer.
const REFETCH_GAP: Duration = Duration::from_secs(1);
/// A key set is fetched anew after this time.
const KEYS_LIFE: Duration = Duration::from_hours(1);
/// The largest key set that is read.
const KEY_SET_LIMIT: usize = 1 << 20;

/// What a token that was accepted says.
#[derive(Debug)]
pub(crate) struct Subject {
    /// The Snowflake user that the mapping claim names.
    pub(crate) user: String,
    /// Roles that the token allows; `None`: any.
    pub(crate) roles: Option<Vec<String>>,
}

/// All integrations of the account.
pub(crate) struct ExternalOauth {
    integrations: Vec<Integration>,
    stats: Arc<Stats>,
}

struct Integration {
    rules: SecurityIntegration,
    client: Client,
    keys: Mutex<Keys>,
}

#[derive(Default)]
struct Keys {
    by_id: HashMap<String, DecodingKey>,
    fetched: Option<Instant>,
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Key>,
}

#[derive(Deserialize)]
struct Key {
    kty: String,
    #[serde(default)]
    kid: String,
    #[serde(rename = "use", default)]
    usage: Option<String>,
    #[serde(default)]
    n: String,
    #[serde(default)]
    e: String,
}

impl ExternalOauth {
    /// Fails when a certificate authority cannot be read.
    pub(crate) fn new(rules: &[SecurityIntegration], stats: Arc<Stats>) -> Result<Self, reqwest::Error> {
        let integrations = rules.iter().cloned().map(Integration::new).collect::<Result<_, _>>()?;
        Ok(Self { integrations, stats })
    }

    /// Checks one access token. Every refusal has the service's own code and no detail of the token.
    pub(crate) async fn check(&self, token: &str) -> Result<Subject, Refusal> {
        let invalid = |why: &str| {
            tracing::info!(why, "access token refused");
            Refusal::new("390303", "08001", "Invalid OAuth access token.")
        };
        let header = decode_header(token).map_err(|_| invalid("not a JWT"))?;
        if header.alg != Algorithm::RS256 {
            return Err(invalid("not RS256"));
        }
        let unverified: Map<String, Value> =
            insecure_decode_claims(token).map_err(|_| invalid("claims are not an object"))?;
        let issuer = unverified.get("iss").and_then(Value::as_str).unwrap_or_default();
        let integration = self
            .integrations
            .iter()
            .find(|integration| integration.rules.issuer == issuer)
            .ok_or_else(|| invalid("no integration for this issuer"))?;
        let key = integration
            .key(header.kid.as_deref().unwrap_or_default(), &self.stats)
            .await
            .ok_or_else(|| invalid("key id not published by the issuer"))?;
        let claims = verify(token, &key, &integration.rules).map_err(|kind| match kind {
            ErrorKind::ExpiredSignature => {
                tracing::info!("access token expired");
                Refusal::new("390318", "08001", "OAuth access token expired.")
            }
            ErrorKind::InvalidAudience => invalid("audience not in the integration's list"),
            ErrorKind::ImmatureSignature => invalid("not valid yet"),
            ErrorKind::InvalidSignature => invalid("signature"),
            _ => invalid("claims"),
        })?;
        let subject = claims
            .get(&integration.rules.mapping_claim)
            .and_then(Value::as_str)
            .ok_or_else(|| invalid("mapping claim is missing"))?;
        let user =
            integration.rules.mapping.get(subject).ok_or_else(|| invalid("mapping claim names no user"))?;
        let roles = match integration.rules.any_role {
            AnyRole::Enabled => None,
            AnyRole::Disabled => roles_of(&claims),
        };
        Ok(Subject { user: user.clone(), roles })
    }
}

fn verify(
    token: &str,
    key: &DecodingKey,
    rules: &SecurityIntegration,
) -> Result<Map<String, Value>, ErrorKind> {
    let mut validation = Validation::new(Algorithm::RS256);
    validation.set_required_spec_claims(&["exp", "iss", "aud"]);
    validation.set_issuer(&[&rules.issuer]);
    validation.set_audience(&rules.audiences);
    validation.validate_nbf = true;
    validation.leeway = 0;
    decode::<Map<String, Value>>(token, key, &validation)
        .map(|data| data.claims)
        .map_err(jsonwebtoken::errors::Error::into_kind)
}

/// `session:role:NAME` of `scp`, as text or list; `session:role-any` allows all.
fn roles_of(claims: &Map<String, Value>) -> Option<Vec<String>> {
    let scopes: Vec<String> = match claims.get("scp").or_else(|| claims.get("roles")) {
        Some(Value::String(text)) => text.split_whitespace().map(str::to_lowercase).collect(),
        Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).map(str::to_lowercase).collect(),
        _ => Vec::new(),
    };
    if scopes.iter().any(|scope| scope == "session:role-any") {
        return None;
    }
    Some(
        scopes
            .iter()
            .filter_map(|scope| scope.strip_prefix("session:role:"))
            .map(str::to_uppercase)
            .collect(),
    )
}

impl Integration {
    fn new(rules: SecurityIntegration) -> Result<Self, reqwest::Error> {
        let mut builder = Client::builder()
            .https_only(true)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(10));
        if let Some(pem) = &rules.jwks_ca_pem {
            builder = builder.tls_certs_only(reqwest::Certificate::from_pem_bundle(pem.as_bytes())?);
        }
        Ok(Self { rules, client: builder.build()?, keys: Mutex::new(Keys::default()) })
    }

    /// The key with this id; an unknown one makes the set be fetched again.
    async fn key(&self, id: &str, stats: &Stats) -> Option<DecodingKey> {
        let mut keys = self.keys.lock().await;
        let age = keys.fetched.map(|at| at.elapsed());
        let fresh = age.is_some_and(|age| age < KEYS_LIFE);
        if fresh && let Some(key) = keys.by_id.get(id) {
            return Some(key.clone());
        }
        if age.is_none_or(|age| age >= REFETCH_GAP) {
            stats.key_set_fetches();
            match self.fetch().await {
                Ok(by_id) => *keys = Keys { by_id, fetched: Some(Instant::now()) },
                Err(error) => {
                    tracing::warn!(%error, url = self.rules.jwks_url, "the issuer's key set was not read");
                }
            }
        }
        keys.by_id.get(id).cloned()
    }

    async fn fetch(&self) -> anyhow::Result<HashMap<String, DecodingKey>> {
        let mut response = self.client.get(&self.rules.jwks_url).send().await?.error_for_status()?;
        let mut body = Vec::new();
        while let Some(part) = response.chunk().await? {
            anyhow::ensure!(
                body.len() + part.len() <= KEY_SET_LIMIT,
                "key set larger than {KEY_SET_LIMIT} bytes"
            );
            body.extend_from_slice(&part);
        }
        let set: KeySet = serde_json::from_slice(&body)?;
        let signing = set.keys.iter().filter(|key| key.kty == "RSA" && key.usage.as_deref() != Some("enc"));
        Ok(signing
            .filter_map(|key| Some((key.kid.clone(), DecodingKey::from_rsa_components(&key.n, &key.e).ok()?)))
            .collect())
    }
}
