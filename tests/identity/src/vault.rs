//! HashiCorp Vault's HTTP interface as far as a broker meets it: AppRole, tokens, response
//! wrapping, KV version 2, policies that are enforced, namespaces, health, the seal.

mod approle;
mod kv;
mod policy;
mod routes;
mod store;
mod sys;
mod token;

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result};
use rustls::ServerConfig;
use serde_json::Value;

use store::Store;
pub use store::{Faults, Role};

use crate::http::Server;

/// A running Vault stand-in.
pub struct Vault {
    store: Arc<Mutex<Store>>,
    server: Server,
    root_token: String,
}

impl Vault {
    /// Serves on a free loopback port, unsealed, with a KV v2 engine at `secret/` and AppRole at `approle/`.
    pub async fn start(tls: Arc<ServerConfig>) -> Result<Self> {
        let root_token = format!("hvs.{}", store::random_text(24)?);
        let store = Arc::new(Mutex::new(Store::new(&root_token)?));
        let handler_store = Arc::clone(&store);
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let server = Server::start(listen, tls, move |call| {
            let store = Arc::clone(&handler_store);
            async move {
                let pause = store.lock().unwrap_or_else(PoisonError::into_inner).faults.latency;
                if !pause.is_zero() {
                    tokio::time::sleep(pause).await;
                }
                routes::answer(&mut store.lock().unwrap_or_else(PoisonError::into_inner), &call)
            }
        })
        .await?;
        Ok(Self { store, server, root_token })
    }

    /// `https://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// The token that policies do not bind.
    pub fn root_token(&self) -> &str {
        &self.root_token
    }

    /// Writes an ACL policy: HCL `path "..." { capabilities = [...] }` blocks.
    pub fn write_policy(&self, name: &str, hcl: &str) -> Result<()> {
        let policy = policy::Policy::read(hcl).with_context(|| format!("policy {name}"))?;
        self.lock().root().policies.insert(name.to_owned(), policy);
        Ok(())
    }

    /// Creates an AppRole and returns its role_id.
    pub fn create_role(&self, name: &str, role: Role) -> String {
        self.lock().create_role(name, role)
    }

    /// Issues a secret_id with the role's limits.
    pub fn issue_secret_id(&self, role: &str) -> Result<String> {
        self.lock().issue_secret_id(role).context("no such role")
    }

    /// Destroys every secret_id of a role, as an operator would after an incident.
    pub fn destroy_secret_ids(&self, role: &str) {
        self.lock().destroy_secret_ids(role);
    }

    /// Issues a secret_id and wraps it: the wrapping token, good for one unwrap within `ttl`.
    pub fn wrap_secret_id(&self, role: &str, ttl: Duration) -> Result<String> {
        self.lock().wrap_secret_id(role, ttl).context("no such role")
    }

    /// Writes a new version at `mount/path` and returns its number.
    pub fn put(&self, mount: &str, path: &str, data: Value) -> u64 {
        self.lock().kv_put(mount, path, data)
    }

    /// Revokes every token that a login issued.
    pub fn revoke_all(&self) {
        self.lock().revoke_logins();
    }

    /// The one key that unseals it.
    pub fn unseal_key(&self) -> String {
        self.lock().unseal_key.clone()
    }

    /// Seals or unseals.
    pub fn seal(&self, sealed: bool) {
        self.lock().sealed = sealed;
    }

    /// Changes how the next answers go wrong.
    pub fn faults(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.lock().faults);
    }

    /// How many logins succeeded.
    pub fn logins(&self) -> u64 {
        self.lock().logins
    }

    /// How many logins were tried, whatever came of them.
    pub fn login_attempts(&self) -> u64 {
        self.lock().login_attempts
    }

    /// How often a secret's data were read.
    pub fn reads(&self) -> u64 {
        self.lock().reads
    }

    /// How many renewals succeeded.
    pub fn renewals(&self) -> u64 {
        self.lock().renewals
    }

    /// The tokens that logins issued and that live: what a leak scan must search for.
    pub fn live_tokens(&self) -> Vec<String> {
        self.lock().live_tokens()
    }

    /// Stops serving.
    pub async fn stop(&self) {
        self.server.stop().await;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
