//! Microsoft Entra ID's token end point for client credentials, with its keys and its error codes.

mod assertion;

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};
use aws_lc_rs::{
    rsa::KeySize,
    signature::{KeyPair as _, RsaKeyPair},
};
use base64::{Engine as _, prelude::BASE64_STANDARD, prelude::BASE64_URL_SAFE_NO_PAD};
use hyper::Method;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rustls::ServerConfig;
use serde_json::{Value, json};

use self::assertion::Certificate;
use crate::http::{Call, Reply, Server};

/// An app registration that may ask for tokens.
#[derive(Clone, Debug)]
pub struct Application {
    /// The application (client) id.
    pub client_id: String,
    /// The object id of its service principal: the token's `sub` and `oid`.
    pub object_id: String,
    /// Its client secrets.
    pub secrets: Vec<ClientSecret>,
    /// App roles that go into the token's `roles`.
    pub roles: Vec<String>,
}

/// One client secret.
#[derive(Clone, Debug)]
pub struct ClientSecret {
    /// The secret's value.
    pub value: String,
    /// When it lapses.
    pub expires: SystemTime,
}

/// How the next answers differ from the real thing's good days. Each counts how often it fired.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Answers that many calls with 429 and this `Retry-After`.
    pub throttle: Option<(u32, Duration)>,
    /// Answers that many calls with 503.
    pub unavailable: u32,
    /// Signs tokens that say this audience instead of the resource's own.
    pub audience: Option<String>,
    /// Moves `exp` (and `iat`, `nbf`) into the past by this much.
    pub age: Duration,
    /// How many answers a fault has changed.
    pub fired: u64,
}

struct Key {
    id: String,
    signing: EncodingKey,
    modulus: String,
    exponent: String,
}

struct State {
    tenant: String,
    token_life: Duration,
    resources: Vec<String>,
    applications: HashMap<String, Application>,
    certificates: HashMap<String, Vec<Certificate>>,
    keys: Vec<Key>,
    faults: Faults,
    calls: u64,
    /// Until when a throttled caller was asked to wait, and who called all the same.
    window: Option<Instant>,
    impatient: u64,
}

/// A running Entra stand-in.
pub struct Entra {
    state: Arc<Mutex<State>>,
    server: Server,
}

impl Entra {
    /// Serves `tenant` on a free loopback port. `resources` are the application id URIs that tokens
    /// can be asked for, such as `api://snowflake`.
    pub async fn start(
        tls: Arc<ServerConfig>,
        tenant: &str,
        resources: &[&str],
        token_life: Duration,
    ) -> Result<Self> {
        let state = Arc::new(Mutex::new(State {
            tenant: tenant.to_owned(),
            token_life,
            resources: resources.iter().map(ToString::to_string).collect(),
            applications: HashMap::new(),
            certificates: HashMap::new(),
            keys: vec![new_key()?],
            faults: Faults::default(),
            calls: 0,
            window: None,
            impatient: 0,
        }));
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let handler_state = Arc::clone(&state);
        let server = Server::start(listen, tls, move |call| {
            let state = Arc::clone(&handler_state);
            async move { answer(&state, &call) }
        })
        .await?;
        Ok(Self { state, server })
    }

    /// The authority: `https://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// What a token's `iss` says.
    pub fn issuer(&self) -> String {
        format!("{}/{}/v2.0", self.url(), self.lock().tenant)
    }

    /// Where the public keys are.
    pub fn jwks_url(&self) -> String {
        format!("{}/{}/discovery/v2.0/keys", self.url(), self.lock().tenant)
    }

    /// Registers an application.
    pub fn register(&self, application: Application) {
        self.lock().applications.insert(application.client_id.clone(), application);
    }

    /// Registers a certificate of an application: assertions signed by its key are credentials like its secrets.
    pub fn add_certificate(&self, client_id: &str, pem: &str) -> Result<()> {
        let certificate = Certificate::read(pem)?;
        self.lock().certificates.entry(client_id.to_owned()).or_default().push(certificate);
        Ok(())
    }

    /// Adds a signing key and signs with it from now on; the old ones stay in the JWKS.
    pub fn roll_key(&self) -> Result<()> {
        let key = new_key()?;
        self.lock().keys.push(key);
        Ok(())
    }

    /// How many calls came inside a window that a `Retry-After` had asked for.
    pub fn impatient_calls(&self) -> u64 {
        self.lock().impatient
    }

    /// Changes how the next answers go wrong.
    pub fn faults(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.lock().faults);
    }

    /// How often the token end point was called.
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// How many answers a fault has changed.
    pub fn fired(&self) -> u64 {
        self.lock().faults.fired
    }

    /// Stops serving.
    pub async fn stop(&self) {
        self.server.stop().await;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn new_key() -> Result<Key> {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).ok().context("generate an RSA key")?;
    let pkcs8 = aws_lc_rs::encoding::AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&pair)
        .ok()
        .context("encode an RSA key")?;
    let body = BASE64_STANDARD.encode(pkcs8.as_ref());
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n");
    let public = pair.public_key();
    Ok(Key {
        id: uuid::Uuid::new_v4().simple().to_string(),
        signing: EncodingKey::from_rsa_pem(pem.as_bytes())?,
        modulus: BASE64_URL_SAFE_NO_PAD.encode(public.modulus().big_endian_without_leading_zero()),
        exponent: BASE64_URL_SAFE_NO_PAD.encode(public.exponent().big_endian_without_leading_zero()),
    })
}

fn answer(state: &Mutex<State>, call: &Call) -> Reply {
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    let Some((tenant, rest)) = call.path.trim_start_matches('/').split_once('/') else {
        return Reply::json(404, json!({"error": "not_found"}));
    };
    if !tenant.eq_ignore_ascii_case(&state.tenant) {
        return refuse(400, "invalid_request", 90002, &format!("Tenant '{tenant}' not found."));
    }
    let host = call.header("host").unwrap_or("127.0.0.1").to_owned();
    match (&call.method, rest) {
        (&Method::POST, "oauth2/v2.0/token") => token(&mut state, call, &host),
        (&Method::GET, "discovery/v2.0/keys") => jwks(&state),
        (&Method::GET, "v2.0/.well-known/openid-configuration") => configuration(&state, &host),
        _ => Reply::json(404, json!({"error": "not_found"})),
    }
}

fn configuration(state: &State, host: &str) -> Reply {
    let base = format!("https://{host}/{}", state.tenant);
    Reply::json(
        200,
        json!({
            "token_endpoint": format!("{base}/oauth2/v2.0/token"),
            "authorization_endpoint": format!("{base}/oauth2/v2.0/authorize"),
            "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt", "client_secret_basic"],
            "jwks_uri": format!("{base}/discovery/v2.0/keys"),
            "issuer": format!("{base}/v2.0"),
            "id_token_signing_alg_values_supported": ["RS256"],
            "subject_types_supported": ["pairwise"],
            "response_types_supported": ["code"],
        }),
    )
}

fn jwks(state: &State) -> Reply {
    let keys: Vec<Value> = state
        .keys
        .iter()
        .map(|key| json!({"kty": "RSA", "use": "sig", "kid": key.id, "n": key.modulus, "e": key.exponent, "alg": "RS256"}))
        .collect();
    Reply::json(200, json!({ "keys": keys }))
}

fn token(state: &mut State, call: &Call, host: &str) -> Reply {
    state.calls += 1;
    if state.window.is_some_and(|until| Instant::now() < until) {
        state.impatient += 1;
    }
    if let Some((left, wait)) = state.faults.throttle.take_if(|(left, _)| *left > 0) {
        state.faults.throttle = (left > 1).then_some((left - 1, wait));
        state.window = Some(Instant::now() + wait);
        state.faults.fired += 1;
        return refuse(
            429,
            "temporarily_unavailable",
            50196,
            "The server terminated an operation because it encountered a client request loop.",
        )
        .with("retry-after", wait.as_secs().to_string());
    }
    if state.faults.unavailable > 0 {
        state.faults.unavailable -= 1;
        state.faults.fired += 1;
        return refuse(
            503,
            "temporarily_unavailable",
            90033,
            "A transient error has occurred. Please try again.",
        );
    }
    match grant(state, call, host) {
        Ok(body) => Reply::json(200, body).with("cache-control", "no-store"),
        Err(reply) => correlated(reply, call),
    }
}

fn grant(state: &mut State, call: &Call, host: &str) -> Result<Value, Reply> {
    let field = |name: &str| call.form(name).filter(|value| !value.is_empty());
    match field("grant_type").as_deref() {
        Some("client_credentials") => {}
        Some(other) => {
            return Err(refuse(
                400,
                "unsupported_grant_type",
                70003,
                &format!("The app requested an unsupported grant type '{other}'."),
            ));
        }
        None => {
            return Err(refuse(
                400,
                "invalid_request",
                900_144,
                "The request body must contain the following parameter: 'grant_type'.",
            ));
        }
    }
    let client_id = field("client_id").ok_or_else(|| {
        refuse(
            400,
            "invalid_request",
            900_144,
            "The request body must contain the following parameter: 'client_id'.",
        )
    })?;
    let application = state.applications.get(&client_id).cloned().ok_or_else(|| {
        refuse(
            400,
            "unauthorized_client",
            700_016,
            &format!("Application with identifier '{client_id}' was not found in the directory."),
        )
    })?;
    match (field("client_secret"), field("client_assertion")) {
        (Some(secret), _) => check_secret(&application, &secret)?,
        (None, Some(assertion)) => {
            let base = format!("https://{host}/{}", state.tenant);
            let audiences = ["/oauth2/v2.0/token", "/v2.0", ""].map(|end| format!("{base}{end}"));
            let known = state.certificates.get(&client_id).map(Vec::as_slice).unwrap_or_default();
            if field("client_assertion_type").as_deref() != Some(assertion::KIND) {
                return Err(refuse(
                    400,
                    "invalid_request",
                    900_144,
                    "The request body must contain the following parameter: 'client_assertion_type'.",
                ));
            }
            assertion::check(&assertion, &client_id, known, &audiences)
                .map_err(|(code, text)| refuse(401, "invalid_client", code, &text))?;
        }
        (None, None) => {
            return Err(refuse(
                401,
                "invalid_client",
                7_000_218,
                "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.",
            ));
        }
    }
    let scope = field("scope").unwrap_or_default();
    let resource = scope.strip_suffix("/.default").ok_or_else(|| {
        refuse(400, "invalid_scope", 1_002_012, &format!("The provided value for scope {scope} is not valid. Client credential flows must have a scope value with /.default suffixed to the resource identifier."))
    })?;
    if !state.resources.iter().any(|known| known == resource) {
        return Err(refuse(
            400,
            "invalid_resource",
            500_011,
            &format!("The resource principal named {resource} was not found in the tenant."),
        ));
    }
    Ok(issue(state, &application, resource, host))
}

fn check_secret(application: &Application, given: &str) -> Result<(), Reply> {
    match application.secrets.iter().find(|secret| secret.value == given) {
        Some(secret) if secret.expires > SystemTime::now() => Ok(()),
        Some(_) => Err(refuse(
            401,
            "invalid_client",
            7_000_222,
            &format!("The provided client secret keys for app '{}' are expired.", application.client_id),
        )),
        None => Err(refuse(
            401,
            "invalid_client",
            7_000_215,
            "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID.",
        )),
    }
}

fn issue(state: &mut State, application: &Application, resource: &str, host: &str) -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let from = now.saturating_sub(state.faults.age).as_secs();
    let until = from + state.token_life.as_secs();
    let audience = state.faults.audience.clone();
    if audience.is_some() || !state.faults.age.is_zero() {
        state.faults.fired += 1;
    }
    let claims = json!({
        "aud": audience.unwrap_or_else(|| resource.to_owned()),
        "iss": format!("https://{host}/{}/v2.0", state.tenant),
        "iat": from, "nbf": from, "exp": until,
        "appid": application.client_id, "azp": application.client_id, "azpacr": "1", "idtyp": "app",
        "oid": application.object_id, "sub": application.object_id, "tid": state.tenant,
        "roles": application.roles, "uti": uuid::Uuid::new_v4().simple().to_string(), "ver": "2.0",
    });
    let signed = state.keys.last().map(|key| {
        let header = Header { kid: Some(key.id.clone()), ..Header::new(Algorithm::RS256) };
        jsonwebtoken::encode(&header, &claims, &key.signing)
    });
    match signed {
        Some(Ok(token)) => {
            let life = state.token_life.as_secs();
            json!({"token_type": "Bearer", "expires_in": life, "ext_expires_in": life, "access_token": token})
        }
        _ => json!({"error": "server_error"}),
    }
}

/// A caller that named its request finds the name in the refusal.
fn correlated(mut reply: Reply, call: &Call) -> Reply {
    if let (Some(id), Some(body)) = (call.header("client-request-id"), reply.body.as_mut()) {
        let own = body["correlation_id"].as_str().unwrap_or_default().to_owned();
        let text = body["error_description"].as_str().unwrap_or_default();
        body["error_description"] =
            json!(text.replace(&format!("Correlation ID: {own}"), &format!("Correlation ID: {id}")));
        body["correlation_id"] = json!(id);
    }
    reply
}

fn refuse(status: u16, error: &str, code: u32, text: &str) -> Reply {
    let (trace, correlation) = (uuid::Uuid::new_v4(), uuid::Uuid::new_v4());
    let now = time::OffsetDateTime::now_utc();
    let now = format!("{} {:02}:{:02}:{:02}Z", now.date(), now.hour(), now.minute(), now.second());
    Reply::json(
        status,
        json!({
            "error": error,
            "error_description": format!("AADSTS{code}: {text} Trace ID: {trace} Correlation ID: {correlation} Timestamp: {now}"),
            "error_codes": [code],
            "timestamp": now,
            "trace_id": trace.to_string(),
            "correlation_id": correlation.to_string(),
            "error_uri": format!("https://login.microsoftonline.com/error?code={code}"),
        }),
    )
}
