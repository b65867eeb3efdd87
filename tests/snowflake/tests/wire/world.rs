//! A running stand-in with its own certificate authority and token issuer, and a client made by hand.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use jsonwebtoken::{Algorithm, EncodingKey, Header, jwk::Jwk};
use keyferry_sql::{Database, Dialect, Identity};
use keyferry_stand_in_snowflake::{AnyRole, Config, Handle, SecurityIntegration, Server, User};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer as Signer, KeyPair, PKCS_RSA_SHA256};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

pub(crate) const ACCOUNT: &str = "myorg-myaccount";
pub(crate) const AUDIENCE: &str = "api://snowflake";
pub(crate) const SUBJECT: &str = "0b5e-service-principal";

/// A certificate authority and one server certificate for 127.0.0.1.
pub(crate) struct Pki {
    pub(crate) ca_pem: String,
    pub(crate) server: Arc<rustls::ServerConfig>,
}

impl Pki {
    pub(crate) fn new() -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let ca_key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.distinguished_name.push(rcgen::DnType::CommonName, "stand-in test authority");
        ca.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::DigitalSignature];
        let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
        let signer = Signer::new(ca, ca_key);
        let key = KeyPair::generate().unwrap();
        let mut leaf = CertificateParams::new(vec!["127.0.0.1".into(), "localhost".into()]).unwrap();
        leaf.use_authority_key_identifier_extension = true;
        let certificate = leaf.signed_by(&key, &signer).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let server = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        Self { ca_pem, server: Arc::new(server) }
    }
}

/// An issuer of access tokens that publishes its keys.
pub(crate) struct Issuer {
    pub(crate) url: String,
    published: Arc<Mutex<Vec<Value>>>,
    key: EncodingKey,
    kid: String,
}

impl Issuer {
    pub(crate) async fn start(pki: &Pki) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let published = Arc::new(Mutex::new(Vec::new()));
        let acceptor = TlsAcceptor::from(Arc::clone(&pki.server));
        let keys = Arc::clone(&published);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, keys) = (acceptor.clone(), Arc::clone(&keys));
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(move |_: Request<Incoming>| {
                        let body = json!({ "keys": *keys.lock().unwrap() }).to_string();
                        async move {
                            Ok::<_, std::convert::Infallible>(Response::new(Full::new(Bytes::from(body))))
                        }
                    });
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        let mut issuer = Self { url, published, key: rsa_key().0, kid: String::new() };
        issuer.rotate("key-1");
        issuer
    }

    /// A new signing key under this id; the old one is no longer published.
    pub(crate) fn rotate(&mut self, kid: &str) {
        let (key, _) = rsa_key();
        let mut jwk = serde_json::to_value(Jwk::from_encoding_key(&key, Algorithm::RS256).unwrap()).unwrap();
        jwk["kid"] = json!(kid);
        jwk["use"] = json!("sig");
        *self.published.lock().unwrap() = vec![jwk];
        (self.key, self.kid) = (key, kid.to_owned());
    }

    pub(crate) fn claims(&self) -> Value {
        let now = now();
        json!({ "iss": self.url, "aud": AUDIENCE, "sub": SUBJECT, "iat": now, "nbf": now - 5, "exp": now + 3600 })
    }

    pub(crate) fn sign(&self, claims: &Value) -> String {
        let mut header = Header::new(Algorithm::RS256);
        header.kid = Some(self.kid.clone());
        jsonwebtoken::encode(&header, claims, &self.key).unwrap()
    }

    pub(crate) fn token(&self) -> String {
        self.sign(&self.claims())
    }

    /// `exp`, `aud` or another claim changed.
    pub(crate) fn token_with(&self, name: &str, value: Value) -> String {
        let mut claims = self.claims();
        claims[name] = value;
        self.sign(&claims)
    }
}

/// A private key and its public half as PEM.
pub(crate) fn rsa_key() -> (EncodingKey, String) {
    let pair = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
    (EncodingKey::from_rsa_pem(pair.serialize_pem().as_bytes()).unwrap(), pair.public_key_pem())
}

pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// The stand-in, its issuer, and an HTTP client that trusts their authority.
#[allow(dead_code, reason = "the example that shares this file writes the authority to a file")]
pub(crate) struct World {
    pub(crate) handle: Handle,
    pub(crate) issuer: Issuer,
    pub(crate) http: reqwest::Client,
    pub(crate) pki: Pki,
    pub(crate) database: Arc<Database>,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// With the schema SALES, on which LOADER may do everything and READER may see what it was granted.
    pub(crate) async fn ready() -> Self {
        Self::ready_with(|_| {}).await
    }

    pub(crate) async fn ready_with(change: impl FnOnce(&mut Config)) -> Self {
        let world = Self::start_with(change).await;
        admin(&world.database, ADMIN_SQL).await;
        world
    }

    /// A database RAW and the user SVC with the roles LOADER and READER.
    pub(crate) async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let pki = Pki::new();
        let issuer = Issuer::start(&pki).await;
        let database = Database::new(Dialect::Snowflake, "RAW");
        let mut config = Config::new(ACCOUNT, Arc::clone(&pki.server), Arc::clone(&database));
        config.external_oauth = vec![SecurityIntegration {
            issuer: issuer.url.clone(),
            jwks_url: format!("{}/keys", issuer.url),
            jwks_ca_pem: Some(pki.ca_pem.clone()),
            audiences: vec![AUDIENCE.into()],
            mapping_claim: "sub".into(),
            mapping: BTreeMap::from([(SUBJECT.into(), "SVC".into())]),
            any_role: AnyRole::Enabled,
        }];
        let mut user = User::new("SVC", "LOADER", "LOAD_WH");
        user.roles.push("READER".into());
        config.users = vec![user];
        change(&mut config);
        let handle = Server::start(config).await.unwrap();
        let http = client(&pki);
        Self { handle, issuer, http, pki, database }
    }

    pub(crate) async fn login(&self) -> Client {
        self.login_as("LOADER").await
    }

    pub(crate) async fn login_as(&self, role: &str) -> Client {
        let reply = self.try_login(&self.issuer.token(), "SVC", role).await;
        assert_eq!(reply["success"], true, "{reply}");
        Client {
            http: self.http.clone(),
            url: self.handle.url.clone(),
            token: text(&reply["data"]["token"]),
            master: text(&reply["data"]["masterToken"]),
            session_id: reply["data"]["sessionId"].as_u64().unwrap(),
        }
    }

    pub(crate) async fn try_login(&self, token: &str, user: &str, role: &str) -> Value {
        let body = json!({ "data": {
            "ACCOUNT_NAME": ACCOUNT, "LOGIN_NAME": user, "AUTHENTICATOR": "OAUTH", "TOKEN": token,
            "CLIENT_APP_ID": "test", "CLIENT_APP_VERSION": "0",
        } });
        self.post_login(role, &body).await
    }

    pub(crate) async fn post_login(&self, role: &str, body: &Value) -> Value {
        let url = format!(
            "{}/session/v1/login-request?databaseName=RAW&schemaName=SALES&warehouse=LOAD_WH&roleName={role}",
            self.handle.url
        );
        let reply = self.http.post(url).json(body).send().await.unwrap();
        assert_eq!(reply.status(), 200);
        reply.json().await.unwrap()
    }
}

/// What an administrator would run once.
const ADMIN_SQL: &[&str] = &[
    "CREATE SCHEMA IF NOT EXISTS RAW.SALES",
    "CREATE ROLE IF NOT EXISTS LOADER",
    "CREATE ROLE IF NOT EXISTS READER",
    "GRANT USAGE ON DATABASE RAW TO ROLE LOADER",
    "GRANT ALL ON SCHEMA RAW.SALES TO ROLE LOADER",
    "GRANT USAGE ON DATABASE RAW TO ROLE READER",
    "GRANT USAGE ON SCHEMA RAW.SALES TO ROLE READER",
];

/// Statements outside the wire, without any check of privileges.
pub(crate) async fn admin(database: &Arc<Database>, statements: &[&str]) {
    let mut session = keyferry_sql::Session::new(database, Identity::default());
    for statement in statements {
        for answer in session.execute(statement).await {
            answer.unwrap_or_else(|error| panic!("{statement}: {error}"));
        }
    }
}

pub(crate) fn client(pki: &Pki) -> reqwest::Client {
    reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([reqwest::Certificate::from_pem(pki.ca_pem.as_bytes()).unwrap()])
        .timeout(Duration::from_mins(1))
        .build()
        .unwrap()
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("not a text: {value}")).to_owned()
}

/// One session.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) http: reqwest::Client,
    pub(crate) url: String,
    pub(crate) token: String,
    pub(crate) master: String,
    pub(crate) session_id: u64,
}

impl Client {
    pub(crate) async fn post(&self, path: &str, token: &str, body: &Value) -> Result<Value, reqwest::Error> {
        self.http
            .post(format!("{}{path}", self.url))
            .header("Authorization", format!("Snowflake Token=\"{token}\""))
            .json(body)
            .send()
            .await?
            .json()
            .await
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let request = self
            .http
            .get(format!("{}{path}", self.url))
            .header("Authorization", format!("Snowflake Token=\"{}\"", self.token));
        request.send().await.unwrap().json().await.unwrap()
    }

    /// Sends one statement; the first reply, whatever it says.
    pub(crate) async fn send(&self, request_id: &str, body: &Value) -> Result<Value, reqwest::Error> {
        self.post(&format!("/queries/v1/query-request?requestId={request_id}"), &self.token, body).await
    }

    /// Sends one statement and polls until it is done.
    pub(crate) async fn run_as(&self, request_id: &str, sql: &str) -> Result<Value, reqwest::Error> {
        let mut reply = self.send(request_id, &json!({ "sqlText": sql })).await?;
        while reply["code"] == "333333" || reply["code"] == "333334" {
            reply = self.get(reply["data"]["getResultUrl"].as_str().unwrap()).await;
        }
        Ok(reply)
    }

    pub(crate) async fn run(&self, sql: &str) -> Value {
        self.run_as(&uuid::Uuid::new_v4().to_string(), sql).await.unwrap()
    }

    /// A statement that must succeed; its `data`.
    pub(crate) async fn ok(&self, sql: &str) -> Value {
        let reply = self.run(sql).await;
        assert_eq!(reply["success"], true, "{sql}\n{reply}");
        reply["data"].clone()
    }

    /// The rows of a statement that must succeed.
    pub(crate) async fn rows(&self, sql: &str) -> Value {
        self.ok(sql).await["rowset"].clone()
    }

    /// A statement that must be refused; its code.
    pub(crate) async fn refused(&self, sql: &str) -> String {
        let reply = self.run(sql).await;
        assert_eq!(reply["success"], false, "{sql}\n{reply}");
        text(&reply["code"])
    }

    pub(crate) async fn renew(&mut self) -> Value {
        let body = json!({ "oldSessionToken": self.token, "requestType": "RENEW" });
        let reply = self.post("/session/token-request", &self.master, &body).await.unwrap();
        if reply["success"] == true {
            self.token = text(&reply["data"]["sessionToken"]);
            self.master = text(&reply["data"]["masterToken"]);
        }
        reply
    }

    pub(crate) async fn close(&self) -> Value {
        self.post("/session?delete=true", &self.token, &json!({})).await.unwrap()
    }
}

/// The address of the object store as a driver joins it from a PUT reply.
pub(crate) fn endpoint(put: &Value) -> (String, SocketAddr) {
    let info = &put["stageInfo"];
    let (bucket, path) = info["location"].as_str().unwrap().split_once('/').unwrap();
    let host = format!("{bucket}.{}", info["endPoint"].as_str().unwrap());
    (path.to_owned(), host.parse().unwrap())
}
