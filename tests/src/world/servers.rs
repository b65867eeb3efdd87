//! What each stand-in of a world is set up with: applications, secrets, logins, users.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use keyferry_sql::{Database, Identity, Session};
use keyferry_stand_in_identity::{
    certs::Authority,
    entra::{Application, ClientSecret, Entra},
    kdc::Kdc,
    vault::{Role, Vault},
};
use keyferry_stand_in_snowflake as snowflake;
use keyferry_stand_in_sqlserver as sqlserver;
use serde_json::json;

use super::{
    ACCOUNT, AUDITOR_APP, JUDGE_KEY_USER, LOADER_APP, Options, REALM, SNOWFLAKE_SETUP, TENANT, VAULT_POLICY,
    judges,
};

pub(super) fn register(entra: &Entra, client_id: &str, secret: &str) {
    entra.register(Application {
        client_id: client_id.to_owned(),
        object_id: format!("object-of-{client_id}"),
        secrets: vec![ClientSecret {
            value: secret.to_owned(),
            expires: SystemTime::now() + Duration::from_secs(30 * 86_400),
        }],
        roles: Vec::new(),
    });
}

pub(super) fn fill_vault(
    vault: &Vault,
    options: &Options,
    [client_secret, reports_secret]: [&str; 2],
    keytab: &[u8],
) -> Result<(String, String)> {
    vault.write_policy("loader", VAULT_POLICY)?;
    let mut fields = json!({
            "mssql_spn": format!("svc_loader@{REALM}"),
            "keytab_base64": BASE64_STANDARD.encode(keytab),
            "mssql_server_fqdn": "localhost",
            "sf_user": "SVC_LOADER",
            "tenant_id": TENANT,
            "client_id": LOADER_APP,
            "client_secret": client_secret,
    });
    if options.judges {
        fields["reports_client_id"] = json!(judges::REPORTS_APP);
        fields["reports_client_secret"] = json!(reports_secret);
    }
    vault.put("secret", "pipelines/mssql_to_snowflake", fields);
    let role_id = vault.create_role(
        "loader",
        Role {
            token_ttl: options.vault_ttl,
            token_max_ttl: options.vault_ttl * 4,
            secret_id_num_uses: 0,
            secret_id_ttl: Duration::ZERO,
            policies: vec!["loader".to_owned()],
        },
    );
    Ok((role_id, vault.issue_secret_id("loader")?))
}

pub(super) async fn start_sqlserver(
    dir: &Path,
    authority: &Authority,
    kdc: &Kdc,
    database: &Arc<Database>,
    encrypt: sqlserver::Encrypt,
) -> Result<sqlserver::Server> {
    // The service principal names the port, so the port is chosen first.
    let port = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let spn = format!("MSSQLSvc/localhost:{port}");
    kdc.add_service(&spn)?;
    kdc.export_keytab(&spn, &service_keytab(dir))?;
    serve_sqlserver(dir, authority, port, database, encrypt).await
}

fn service_keytab(dir: &Path) -> PathBuf {
    dir.join("kdc").join("sqlserver.keytab")
}

pub(super) async fn serve_sqlserver(
    dir: &Path,
    authority: &Authority,
    port: u16,
    database: &Arc<Database>,
    encrypt: sqlserver::Encrypt,
) -> Result<sqlserver::Server> {
    let identity = authority.issue(&["localhost", "127.0.0.1"])?;
    let mut config =
        sqlserver::Config::new(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), Arc::clone(database));
    config.tls = Some(sqlserver::TlsIdentity { certificates: identity.chain, key: identity.key });
    config.encrypt = encrypt;
    config.logins = vec![sqlserver::SqlLogin::new(judges::LOGIN, judges::PASSWORD)];
    config.kerberos = Some(sqlserver::Kerberos {
        keytab: service_keytab(dir),
        spn: format!("MSSQLSvc/localhost:{port}"),
        logins: ["svc_loader", judges::PRINCIPAL]
            .map(|name| (format!("{name}@{REALM}"), format!("KEYFERRY\\{name}")))
            .into(),
    });
    sqlserver::Server::start(config).await.context("start the SQL Server stand-in")
}

pub(super) async fn start_snowflake(
    authority: &Authority,
    entra: &Entra,
    database: &Arc<Database>,
    options: &Options,
    judges_key: Option<snowflake::KeyPair>,
) -> Result<snowflake::Handle> {
    let mut admin = Session::new(database, Identity::default());
    let extra = ["CREATE ROLE IF NOT EXISTS READER", "GRANT USAGE ON DATABASE RAW_ZONE TO ROLE READER"];
    let reports = if options.judges { statements_of(judges::REPORTS_SETUP) } else { Vec::new() };
    let statements =
        statements_of(SNOWFLAKE_SETUP).into_iter().chain(extra.map(str::to_owned)).chain(reports);
    for statement in statements {
        for outcome in admin.execute(&statement).await {
            outcome.map_err(|error| anyhow::anyhow!("{statement}: {error}"))?;
        }
    }
    let mut names = vec!["localhost", "127.0.0.1"];
    if judges_key.is_some() {
        names.extend(judges::SNOWFLAKE_HOSTS);
    }
    let mut config = snowflake::Config::new(ACCOUNT, authority.server(&names)?, Arc::clone(database));
    config.session_ttl = options.session_ttl;
    config.idle_transaction = options.idle_transaction;
    config.stage_credentials_ttl = options.stage_credentials;
    config.polling = options.polling;
    config.external_oauth = vec![snowflake::SecurityIntegration {
        issuer: entra.issuer(),
        jwks_url: entra.jwks_url(),
        jwks_ca_pem: Some(authority.pem()),
        audiences: vec![match options.audience.as_str() {
            "" => set_up("EXTERNAL_OAUTH_AUDIENCE_LIST")?,
            other => other.to_owned(),
        }],
        mapping_claim: set_up("EXTERNAL_OAUTH_TOKEN_USER_MAPPING_CLAIM")?,
        mapping: BTreeMap::from([
            (LOADER_APP.to_owned(), "SVC_LOADER".to_owned()),
            (AUDITOR_APP.to_owned(), "AUDITOR".to_owned()),
            (judges::REPORTS_APP.to_owned(), judges::REPORTS_USER.to_owned()),
        ]),
        any_role: snowflake::AnyRole::Enabled,
    }];
    config.users = vec![
        snowflake::User {
            roles: vec!["LOADER".to_owned(), "READER".to_owned()],
            ..snowflake::User::new("SVC_LOADER", "LOADER", "LOAD_WH")
        },
        snowflake::User::new("AUDITOR", "ACCOUNTADMIN", "LOAD_WH"),
    ];
    if judges_key.is_some() {
        config.users.push(snowflake::User {
            roles: vec!["LOADER".to_owned(), "READER".to_owned()],
            key_pair: judges_key,
            ..snowflake::User::new(JUDGE_KEY_USER, "LOADER", "LOAD_WH")
        });
        config.users.push(snowflake::User::new(judges::REPORTS_USER, "REPORTER", "LOAD_WH"));
    }
    snowflake::Server::start(config).await.context("start the Snowflake stand-in")
}

/// What the security integration of `deploy/snowflake/setup.sql` says.
fn set_up(key: &str) -> Result<String> {
    let line = SNOWFLAKE_SETUP.lines().find_map(|line| line.trim().strip_prefix(key));
    let value = line.and_then(|rest| rest.split('\'').nth(1));
    value.map(with_variables).with_context(|| format!("{key} is not in deploy/snowflake/setup.sql"))
}

/// A text of a set-up file with its variables replaced.
fn with_variables(text: &str) -> String {
    [
        ("&tenant_id", TENANT),
        ("&client_id", LOADER_APP),
        ("&resource_id", "snowflake"),
        ("&allowed_ips", "'127.0.0.1/32'"),
    ]
    .iter()
    .fold(text.to_owned(), |text, (name, value)| text.replace(name, value))
}

/// The statements of a set-up file, with its variables replaced.
fn statements_of(file: &str) -> Vec<String> {
    let file = with_variables(file);
    let commentless: Vec<&str> = file.lines().filter(|line| !line.starts_with("--")).collect();
    let commentless = commentless.join("\n");
    commentless.split(';').map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned).collect()
}
