//! The whole zone, against the Vault and Entra stand-ins and a real KDC.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use keyferry_stand_in_identity::{
    certs::Authority,
    entra::{Application, ClientSecret, Entra},
    vault::{self, Role},
};
use serde_json::{Value, json};

use super::{
    http::server::{Reply, Server},
    kerberos::realm::{CLIENT, SERVICE, accept, in_realm},
    *,
};

pub(super) const APPLICATION: &str = "2b1d8f0a-6c11-4f0e-8f39-0d6f3f0c9a01";
const POLICY: &str = r#"path "secret/data/pipelines/a" { capabilities = ["read"] }"#;

/// Vault, Entra and Snowflake, and the folder with the configuration's files.
pub(super) struct Upstreams {
    pub(super) vault: vault::Vault,
    pub(super) entra: Entra,
    snowflake: Server,
    pub(super) folder: tempfile::TempDir,
}

/// A broker's upstreams with their renewal tasks.
pub(super) struct Running {
    pub(super) upstream: Arc<Upstream>,
    pub(super) told: tokio::sync::mpsc::Receiver<crate::events::Event>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

impl Running {
    pub(super) async fn stop(self) {
        self.shutdown.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.upstream.close().await;
    }
}

pub(super) async fn upstreams(fields: Value) -> Upstreams {
    upstreams_with(fields, Duration::from_hours(1), |_| ()).await
}

pub(super) async fn upstreams_with(
    fields: Value,
    token_life: Duration,
    change: impl FnOnce(&mut Role),
) -> Upstreams {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("test").unwrap();
    authority.write_pem(&folder.path().join("ca.pem")).unwrap();
    let tls = || authority.server(&["127.0.0.1"]).unwrap();
    let vault = vault::Vault::start(tls()).await.unwrap();
    vault.write_policy("keyferry", POLICY).unwrap();
    let mut role = Role {
        token_ttl: Duration::from_mins(1),
        token_max_ttl: Duration::from_hours(1),
        secret_id_num_uses: 0,
        secret_id_ttl: Duration::ZERO,
        policies: vec!["keyferry".to_owned()],
    };
    change(&mut role);
    write(folder.path(), "role-id", &vault.create_role("keyferry", role));
    write(folder.path(), "secret-id", &vault.issue_secret_id("keyferry").unwrap());
    vault.put("secret", "pipelines/a", fields);
    let entra = Entra::start(tls(), "contoso.example", &["api://snowflake"], token_life).await.unwrap();
    register(&entra, &["the-client-secret"]);
    let snowflake = Server::start(|_| {
        Reply::Json(
            200,
            json!({ "success": true, "data": {
            "token": "session-1", "validityInSeconds": 3600, "masterToken": "master-1", "sessionId": 42,
            "sessionInfo": { "roleName": "LOADER", "warehouseName": "LOAD_WH" } } }),
        )
    })
    .await;
    Upstreams { vault, entra, snowflake, folder }
}

/// The application with exactly these secrets.
pub(super) fn register(entra: &Entra, secrets: &[&str]) {
    let hour = SystemTime::now() + Duration::from_hours(1);
    entra.register(Application {
        client_id: APPLICATION.to_owned(),
        object_id: "object-1".to_owned(),
        secrets: secrets
            .iter()
            .map(|value| ClientSecret { value: (*value).to_owned(), expires: hour })
            .collect(),
        roles: Vec::new(),
    });
}

fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
}

impl Upstreams {
    pub(super) fn config(&self, kerberos: Option<(&Path, &Path)>) -> Config {
        let mut grants = json!({ "analytics": { "snowflake": {
            "account": "myorg-myaccount", "url": self.snowflake.url, "ca_file": self.snowflake.ca(),
            "user_key": "sf_user", "roles": ["LOADER", "READER"], "warehouses": ["LOAD_WH"],
            "login": { "entra": { "tenant_key": "tenant_id", "client_id_key": "client_id",
                "client_secret_key": "client_secret", "scope": "api://snowflake/.default",
                "authority": self.entra.url(), "ca_file": "ca.pem" } } } } });
        let mut config = json!({
            "socket": { "path": "broker.sock" },
            "vault": {
                "address": self.vault.url(), "ca_file": "ca.pem",
                "auth": { "approle": { "role_id_file": "role-id", "secret_id_file": "secret-id" } },
                "secret": { "mount": "secret", "path": "pipelines/a" } },
            "policy": [], "audit": { "path": "audit.log" },
        });
        if let Some((tmpfs, profile)) = kerberos {
            config["kerberos"] = json!({ "principal_key": "mssql_spn", "keytab_key": "keytab_base64",
                "tmpfs": tmpfs, "krb5_conf": profile });
            grants["sales-sql"] = json!({ "kerberos": { "spn": SERVICE, "host_key": "host" } });
        }
        config["grants"] = grants;
        // JSON is YAML.
        Config::parse(&config.to_string(), Path::new("broker.yaml"), self.folder.path()).unwrap()
    }

    /// Starts the broker's side with its renewal tasks, looking for new versions this often.
    pub(super) async fn run(&self, mut config: Config, refresh: Duration) -> Running {
        config.vault.secret.refresh = refresh;
        let (tasks, shutdown) = (TaskTracker::new(), CancellationToken::new());
        let (events, told) = crate::events::channel();
        let started = Upstream::start(&config, &tasks, &shutdown, &CancellationToken::new(), events).await;
        Running { upstream: started.unwrap().unwrap(), told, tasks, shutdown }
    }

    /// Writes the next version of the secret.
    pub(super) fn put(&self, fields: &Value) -> u64 {
        self.vault.put("secret", "pipelines/a", fields.clone())
    }

    async fn start(&self, config: &Config) -> Result<Arc<Upstream>, UpstreamError> {
        let (tasks, shutdown) = (TaskTracker::new(), CancellationToken::new());
        let (events, _) = crate::events::channel();
        let started = Upstream::start(config, &tasks, &shutdown, &CancellationToken::new(), events).await;
        shutdown.cancel();
        tasks.close();
        tasks.wait().await;
        started.map(Option::unwrap)
    }
}

pub(super) fn fields() -> Value {
    json!({ "sf_user": "SVC_LOADER", "tenant_id": "contoso.example", "client_id": APPLICATION,
        "client_secret": "the-client-secret", "host": "sql01.keyferry.test" })
}

pub(super) fn name(text: &str) -> GrantName {
    text.parse().unwrap()
}

#[test]
fn one_bundle_gives_a_relayed_exchange_and_a_snowflake_session_and_leaves_nothing_behind() {
    let test = "upstream::tests::one_bundle_gives_a_relayed_exchange_and_a_snowflake_session_and_leaves_nothing_behind";
    in_realm(test, |realm| {
        let keytab = STANDARD.encode(fs::read(realm.folder.join("client.keytab")).unwrap());
        let mut fields = fields();
        fields["mssql_spn"] = json!(CLIENT);
        fields["keytab_base64"] = json!(keytab);
        tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
            let upstreams = upstreams(fields).await;
            let kerberos = realm.config();
            let config = upstreams.config(Some((&kerberos.tmpfs, &kerberos.krb5_conf)));
            prepare(&config).unwrap();
            let upstream = upstreams.start(&config).await.unwrap();

            let (mut relay, first) = upstream.begin_relay(&name("sales-sql")).await.unwrap();
            let (answer, _server) = accept(&first.token).unwrap();
            assert!(relay.step(&answer).await.unwrap().mutual);
            let settings = upstream.settings(&name("sales-sql")).unwrap();
            assert!(
                matches!(settings, GrantSettings::SqlServer { host, port: 1433, .. } if host == "sql01.keyferry.test")
            );

            let analytics = name("analytics");
            let bearer = upstream.bearer(&analytics).await.unwrap();
            let session = upstream.open_session(&analytics, &bearer, "", "LOAD_WH").await.unwrap();
            assert_eq!((session.session_id(), session.role()), ("42", "LOADER"));
            session.close().await;
            let error = upstream.open_session(&analytics, &bearer, "SYSADMIN", "").await.err().unwrap();
            assert!(error.to_string().contains("ask for one of LOADER, READER"), "{error}");
            assert!(upstream.begin_relay(&analytics).await.is_err());
            assert!(upstream.bearer(&name("sales-sql")).await.is_err());

            let mut well: Vec<_> =
                upstream.status().into_iter().filter(|s| s.ok).map(|s| s.name.as_str()).collect();
            well.dedup();
            assert_eq!(well, ["vault", "kerberos", "entra", "snowflake"]);
            assert_eq!(realm.keytabs().len(), 1);
            assert_eq!(upstreams.vault.live_tokens().len(), 1);
            upstream.close().await;
            assert!(realm.keytabs().is_empty() && upstreams.vault.live_tokens().is_empty());
        });
    });
}

#[tokio::test]
async fn a_start_that_fails_names_the_field_and_gives_its_vault_token_back() {
    let mut incomplete = fields();
    incomplete.as_object_mut().unwrap().remove("sf_user");
    let upstreams = upstreams(incomplete).await;
    let error = upstreams.start(&upstreams.config(None)).await.err().unwrap();
    assert!(error.to_string().contains("`sf_user`"), "{error}");
    assert_eq!(upstreams.vault.logins(), 1);
    assert!(upstreams.vault.live_tokens().is_empty());
}

#[tokio::test]
async fn a_sealed_vault_stops_the_start_with_what_to_do() {
    let upstreams = upstreams(fields()).await;
    upstreams.vault.seal(true);
    let error = upstreams.start(&upstreams.config(None)).await.err().unwrap();
    assert_eq!(error.class(), ErrorClass::Sealed);
    assert!(error.to_string().contains("vault operator unseal"), "{error}");
}

#[tokio::test]
async fn a_wrong_client_secret_is_named_with_entras_number() {
    let mut fields = fields();
    fields["client_secret"] = json!("another");
    let upstreams = upstreams(fields).await;
    let upstream = upstreams.start(&upstreams.config(None)).await.unwrap();
    let error = upstream.bearer(&name("analytics")).await.err().unwrap();
    assert_eq!((error.class(), error.code()), (ErrorClass::Credential, Some("AADSTS7000215")));
    let status = upstream.status();
    let entra = status.iter().find(|s| s.name == UpstreamName::Entra).unwrap();
    assert!(!entra.ok && entra.last_code.as_deref() == Some("AADSTS7000215"));
}

#[tokio::test]
async fn a_stop_in_the_middle_of_the_start_gives_the_vault_token_back() {
    let upstreams = upstreams(fields()).await;
    // Each answer of Vault takes a while, so that the stop falls into the login, and then behind it.
    upstreams.vault.faults(|faults| faults.latency = Duration::from_millis(300));
    for after in [Duration::from_millis(100), Duration::from_millis(450)] {
        let logins = upstreams.vault.logins();
        let (tasks, end, stop) = (TaskTracker::new(), CancellationToken::new(), CancellationToken::new());
        let (events, _told) = crate::events::channel();
        let config = upstreams.config(None);
        let stopping = async {
            tokio::time::sleep(after).await;
            stop.cancel();
        };
        let (started, ()) = tokio::join!(Upstream::start(&config, &tasks, &end, &stop, events), stopping);
        assert!(started.unwrap().is_none(), "it does not serve");
        assert_eq!(upstreams.vault.logins(), logins + 1, "the token had been made");
        assert!(upstreams.vault.live_tokens().is_empty(), "it is given back");
    }
}
