//! Vault and Entra refuse what the real ones refuse, over HTTPS.
#![allow(clippy::unwrap_used)] // a test that cannot go on says where

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use keyferry_stand_in_identity::{
    certs::Authority,
    entra::{Application, ClientSecret, Entra},
    vault::{Role, Vault},
};
use reqwest::{Client, tls::Certificate};
use serde_json::{Value, json};

fn client(authority: &Authority) -> Client {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    Client::builder()
        .tls_certs_only([Certificate::from_pem(authority.pem().as_bytes()).unwrap()])
        .build()
        .unwrap()
}

fn role(ttl: u64, max: u64, uses: u32) -> Role {
    Role {
        token_ttl: Duration::from_secs(ttl),
        token_max_ttl: Duration::from_secs(max),
        secret_id_num_uses: uses,
        secret_id_ttl: Duration::ZERO,
        policies: vec!["loader".to_owned()],
    }
}

async fn vault() -> (Vault, Client) {
    let authority = Authority::new("test").unwrap();
    let vault = Vault::start(authority.server(&["127.0.0.1"]).unwrap()).await.unwrap();
    vault.write_policy("loader", "path \"secret/data/pipelines/*\" { capabilities = [\"read\"] }").unwrap();
    vault.put("secret", "pipelines/a", json!({"user": "one"}));
    vault.put("secret", "other", json!({"user": "two"}));
    (vault, client(&authority))
}

async fn post(client: &Client, url: String, token: &str, body: Value) -> (u16, Value) {
    let reply = client.post(url).header("x-vault-token", token).json(&body).send().await.unwrap();
    let status = reply.status().as_u16();
    (status, reply.json().await.unwrap_or(Value::Null))
}

async fn get(client: &Client, url: String, token: &str) -> (u16, Value) {
    let reply = client.get(url).header("x-vault-token", token).send().await.unwrap();
    let status = reply.status().as_u16();
    (status, reply.json().await.unwrap_or(Value::Null))
}

async fn login(client: &Client, vault: &Vault, role_id: &str, secret_id: &str) -> (u16, Value) {
    let body = json!({"role_id": role_id, "secret_id": secret_id});
    let reply =
        client.post(format!("{}/v1/auth/approle/login", vault.url())).json(&body).send().await.unwrap();
    (reply.status().as_u16(), reply.json().await.unwrap())
}

#[tokio::test]
async fn a_login_reads_what_its_policy_allows_and_nothing_else() {
    let (vault, client) = vault().await;
    let role_id = vault.create_role("loader", role(3600, 7200, 0));
    let secret_id = vault.issue_secret_id("loader").unwrap();
    let (status, body) = login(&client, &vault, &role_id, "wrong").await;
    assert_eq!((status, body["errors"][0].as_str()), (400, Some("invalid role or secret ID")));
    let (status, body) = login(&client, &vault, &role_id, &secret_id).await;
    assert_eq!(status, 200);
    let token = body["auth"]["client_token"].as_str().unwrap().to_owned();
    let (status, body) = get(&client, format!("{}/v1/secret/data/pipelines/a", vault.url()), &token).await;
    assert_eq!(
        (status, body["data"]["data"]["user"].as_str(), body["data"]["metadata"]["version"].as_u64()),
        (200, Some("one"), Some(1))
    );
    assert_eq!(get(&client, format!("{}/v1/secret/data/other", vault.url()), &token).await.0, 403);
    assert_eq!(get(&client, format!("{}/v1/secret/data/pipelines/a", vault.url()), "hvs.guess").await.0, 403);
    assert_eq!(
        post(&client, format!("{}/v1/auth/token/revoke-self", vault.url()), &token, json!({})).await.0,
        204
    );
    assert_eq!(get(&client, format!("{}/v1/secret/data/pipelines/a", vault.url()), &token).await.0, 403);
    vault.seal(true);
    assert_eq!(login(&client, &vault, &role_id, &secret_id).await.0, 503);
}

#[tokio::test]
async fn a_counted_secret_id_logs_in_as_often_as_it_may() {
    let (vault, client) = vault().await;
    let role_id = vault.create_role("loader", role(60, 60, 2));
    let secret_id = vault.issue_secret_id("loader").unwrap();
    let mut answers = Vec::new();
    for _ in 0..3 {
        answers.push(login(&client, &vault, &role_id, &secret_id).await.0);
    }
    assert_eq!(answers, [200, 200, 400]);
}

#[tokio::test]
async fn a_renewal_does_not_pass_the_maximum_life() {
    let (vault, client) = vault().await;
    let role_id = vault.create_role("loader", role(100, 150, 0));
    let secret_id = vault.issue_secret_id("loader").unwrap();
    let (_, body) = login(&client, &vault, &role_id, &secret_id).await;
    let token = body["auth"]["client_token"].as_str().unwrap();
    let (status, body) = post(
        &client,
        format!("{}/v1/auth/token/renew-self", vault.url()),
        token,
        json!({"increment": "1000s"}),
    )
    .await;
    assert_eq!(status, 200);
    assert!(body["auth"]["lease_duration"].as_u64().unwrap() <= 150, "{body}");
}

#[tokio::test]
async fn a_wrapped_secret_id_is_unwrapped_once() {
    let (vault, client) = vault().await;
    vault.create_role("loader", role(60, 60, 0));
    let wrapping = vault.wrap_secret_id("loader", Duration::from_secs(60)).unwrap();
    let url = |what: &str| format!("{}/v1/sys/wrapping/{what}", vault.url());
    let (_, looked) = post(&client, url("lookup"), "", json!({"token": wrapping})).await;
    assert_eq!(looked["data"]["creation_path"], "auth/approle/role/loader/secret-id");
    let (status, body) = post(&client, url("unwrap"), &wrapping, json!({})).await;
    assert_eq!(status, 200);
    assert!(body["data"]["secret_id"].as_str().is_some_and(|id| !id.is_empty()));
    assert_eq!(post(&client, url("unwrap"), &wrapping, json!({})).await.0, 400);
}

#[tokio::test]
async fn entra_issues_to_a_registered_secret_and_refuses_by_its_own_codes() {
    let authority = Authority::new("test").unwrap();
    let tls = authority.server(&["127.0.0.1"]).unwrap();
    let entra = Arc::new(
        Entra::start(tls, "tenant-1", &["api://snowflake"], Duration::from_secs(3600)).await.unwrap(),
    );
    let hour = Duration::from_secs(3600);
    entra.register(Application {
        client_id: "app".to_owned(),
        object_id: "object".to_owned(),
        secrets: vec![
            ClientSecret { value: "good".to_owned(), expires: SystemTime::now() + hour },
            ClientSecret { value: "old".to_owned(), expires: SystemTime::now() - hour },
        ],
        roles: vec![],
    });
    let client = client(&authority);
    let ask = async |tenant: &str, id: &str, secret: &str, scope: &str| {
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", id),
            ("client_secret", secret),
            ("scope", scope),
        ];
        let reply = client
            .post(format!("{}/{tenant}/oauth2/v2.0/token", entra.url()))
            .form(&form)
            .send()
            .await
            .unwrap();
        let status = reply.status().as_u16();
        let body: Value = reply.json().await.unwrap();
        (status, body["error_codes"][0].as_u64(), body)
    };
    let scope = "api://snowflake/.default";
    let (status, _, body) = ask("tenant-1", "app", "good", scope).await;
    assert_eq!((status, body["token_type"].as_str()), (200, Some("Bearer")));
    assert_eq!(ask("tenant-1", "app", "bad", scope).await.1, Some(7_000_215));
    assert_eq!(ask("tenant-1", "app", "old", scope).await.1, Some(7_000_222));
    assert_eq!(ask("tenant-1", "nobody", "good", scope).await.1, Some(700_016));
    assert_eq!(ask("tenant-2", "app", "good", scope).await.1, Some(90_002));
    assert_eq!(ask("tenant-1", "app", "good", "api://snowflake").await.1, Some(1_002_012));
    entra.faults(|faults| faults.throttle = Some((1, Duration::from_secs(60))));
    assert_eq!(ask("tenant-1", "app", "good", scope).await.0, 429);
    assert_eq!(ask("tenant-1", "app", "good", scope).await.0, 200);
    assert_eq!(entra.fired(), 1);
    let keys: Value = client.get(entra.jwks_url()).send().await.unwrap().json().await.unwrap();
    entra.roll_key().unwrap();
    let after: Value = client.get(entra.jwks_url()).send().await.unwrap().json().await.unwrap();
    assert_eq!((keys["keys"].as_array().unwrap().len(), after["keys"].as_array().unwrap().len()), (1, 2));
}
