//! Logins, renewals and refusals, as Vault answers them.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    sync::atomic::{AtomicU32, Ordering},
};

use serde_json::{Value, json};

use super::*;
use crate::{
    testing::fault_row,
    upstream::http::server::{Reply, Seen, Server},
};

struct Bench {
    server: Server,
    folder: tempfile::TempDir,
    vault: Arc<Vault>,
    board: Arc<Board>,
    told: tokio::sync::mpsc::Receiver<Event>,
}

/// A Vault client with its files, against a server that answers as told.
async fn bench(wrapped: bool, answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Bench {
    let server = Server::start(answer).await;
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        path
    };
    let config: VaultConfig = serde_json::from_value(json!({
        "address": server.url, "ca_file": server.ca(), "namespace": "team",
        "auth": { "approle": {
            "mount": "approle", "role_id_file": write("role-id", "the-role-id\n"),
            "secret_id_file": write("secret-id", "the-secret-id\n"), "wrapped": wrapped } },
        "secret": { "mount": "secret", "path": "pipelines/a" },
    }))
    .unwrap();
    let board = Arc::new(Board::default());
    let (events, told) = crate::events::channel();
    let spent = folder.path().join("unwrapped");
    let vault = Arc::new(Vault::new(&config, spent, Arc::clone(&board), events).unwrap());
    Bench { server, folder, vault, board, told }
}

fn token(name: &str, lease: u64) -> Reply {
    Reply::Json(
        200,
        json!({ "auth": { "client_token": name, "lease_duration": lease, "renewable": true }, "data": null }),
    )
}

fn kv(version: u64, data: &Value) -> Reply {
    Reply::Json(200, json!({ "data": { "data": data, "metadata": { "version": version } }, "auth": null }))
}

fn error(status: u16, text: &str) -> Reply {
    Reply::Json(status, json!({ "errors": [text] }))
}

const LOGIN: &str = "/v1/auth/approle/login";
const RENEW: &str = "/v1/auth/token/renew-self";
const READ: &str = "/v1/secret/data/pipelines/a";

#[tokio::test]
async fn logging_in_and_reading_gives_the_bundle_with_its_version() {
    let bench = bench(false, |seen| match seen.target.as_str() {
        LOGIN => token("hvs.one", 3600),
        _ => kv(7, &json!({ "client_secret": "s3cr3t", "count": 3 })),
    })
    .await;
    bench.vault.log_in().await.unwrap();
    let bundle = bench.vault.read_bundle().await.unwrap();
    assert_eq!(bundle.version(), 7);
    assert_eq!(bundle.secret("client_secret").unwrap().expose(), "s3cr3t");

    let [login, read] = bench.server.seen().try_into().ok().unwrap();
    assert_eq!(login.json(), json!({ "role_id": "the-role-id", "secret_id": "the-secret-id" }));
    assert_eq!((login.method.as_str(), login.header("x-vault-token")), ("POST", ""));
    assert_eq!((read.method.as_str(), read.header("x-vault-token")), ("GET", "hvs.one"));
    assert_eq!(read.header("x-vault-namespace"), "team");
    let [status] = bench.board.list().try_into().unwrap();
    assert!(status.ok && status.valid_until.unwrap() > SystemTime::now() + Duration::from_secs(3500));
}

#[tokio::test]
async fn a_refused_secret_id_is_shown_once_and_again_only_when_its_file_changes() {
    let bench = bench(false, |seen| match seen.json()["secret_id"].as_str() {
        Some("a-new-one") => token("hvs.two", 60),
        _ => error(400, "invalid role or secret ID"),
    })
    .await;
    for _ in 0..5 {
        let error = bench.vault.log_in().await.unwrap_err();
        assert_eq!((error.class(), error.code()), (ErrorClass::Credential, Some("HTTP 400")));
        assert!(!error.to_string().contains("invalid role or secret ID"), "no upstream's words: {error}");
    }
    assert_eq!(bench.server.seen().len(), 1);
    let file = bench.folder.path().join("secret-id");
    fs::remove_file(&file).unwrap();
    fs::write(&file, "a-new-one").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o400)).unwrap();
    bench.vault.log_in().await.unwrap();
    fault_row(
        "secret_id exhausted",
        "permanent: shown once, and again only when its file changes",
        "a_refused_secret_id_is_shown_once_and_again_only_when_its_file_changes",
    );
}

#[tokio::test]
async fn each_status_has_its_class() {
    let cases = [
        (503, ErrorClass::Sealed, "unseal"),
        (429, ErrorClass::Busy, "too many"),
        (472, ErrorClass::Busy, "disaster-recovery"),
        (473, ErrorClass::Busy, "performance standby"),
        (412, ErrorClass::Busy, "replica"),
        (403, ErrorClass::Denied, "permission denied"),
        (400, ErrorClass::Configuration, "KV version 2"),
        (404, ErrorClass::NotFound, "newest version is deleted"),
        (500, ErrorClass::Busy, "failed"),
        (418, ErrorClass::BadReply, "unexpected"),
    ];
    for (status, class, says) in cases {
        let bench = bench(false, move |seen| match seen.target.as_str() {
            LOGIN => token("hvs.one", 3600),
            _ => error(status, "SENTINEL"),
        })
        .await;
        bench.vault.log_in().await.unwrap();
        let error = bench.vault.read_bundle().await.err().unwrap();
        assert_eq!((error.class(), error.code()), (class, Some(format!("HTTP {status}").as_str())));
        let text = error.to_string();
        assert!(text.contains(says) && !text.contains("SENTINEL"), "{text}");
    }
    fault_row(
        "Vault 503, 500, 429, 472, 473, 400, 404",
        "each named with its class and what to do; nothing of the answer repeated",
        "each_status_has_its_class",
    );
}

#[tokio::test]
async fn a_wrong_namespace_is_permanent_and_named() {
    for status in [403, 404] {
        let bench = bench(false, move |_| error(status, "SENTINEL")).await;
        let error = bench.vault.log_in().await.unwrap_err();
        assert!(error.is_permanent() && error.to_string().contains("`vault.namespace`"), "{error}");
    }
    fault_row("Vault namespace wrong", "permanent, named", "a_wrong_namespace_is_permanent_and_named");
}

#[tokio::test]
async fn an_answer_that_is_not_vaults_is_refused_without_being_repeated() {
    for answer in
        [json!("hvs.LEAK"), json!({ "auth": null }), json!({ "auth": { "client_token": "hvs.LEAK" } })]
    {
        let bench = bench(false, move |_| Reply::Json(200, answer.clone())).await;
        let error = bench.vault.log_in().await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::BadReply);
        assert!(!error.to_string().contains("LEAK"), "{error}");
    }
}

#[tokio::test]
async fn a_deleted_version_is_not_found() {
    let bench = bench(false, |seen| match seen.target.as_str() {
        LOGIN => token("hvs.one", 3600),
        _ => kv(3, &Value::Null),
    })
    .await;
    bench.vault.log_in().await.unwrap();
    let error = bench.vault.read_bundle().await.err().unwrap();
    assert!(error.class() == ErrorClass::NotFound && error.to_string().contains("version 3"), "{error}");
}

#[tokio::test]
async fn a_revoked_token_is_replaced_by_one_login_however_many_were_refused() {
    let logins = AtomicU32::new(0);
    let bench = bench(false, move |seen| match (seen.target.as_str(), seen.header("x-vault-token")) {
        (LOGIN, _) => token(&format!("hvs.{}", logins.fetch_add(1, Ordering::Relaxed)), 3600),
        (READ, "hvs.0") => error(403, "permission denied"),
        _ => kv(1, &json!({})),
    })
    .await;
    bench.vault.log_in().await.unwrap();
    let reads = (0..8).map(|_| bench.vault.read_bundle());
    for outcome in futures_util::future::join_all(reads).await {
        outcome.unwrap();
    }
    assert_eq!(bench.server.paths().iter().filter(|p| *p == LOGIN).count(), 2);
}

#[tokio::test]
async fn a_policy_that_denies_the_path_causes_one_login_and_no_more() {
    let bench = bench(false, |seen| match seen.target.as_str() {
        LOGIN => token("hvs.one", 3600),
        _ => error(403, "permission denied"),
    })
    .await;
    bench.vault.log_in().await.unwrap();
    for _ in 0..5 {
        assert_eq!(bench.vault.read_bundle().await.err().unwrap().class(), ErrorClass::Denied);
    }
    assert_eq!(bench.server.paths().iter().filter(|p| *p == LOGIN).count(), 2);
}

#[tokio::test]
async fn a_replica_that_is_behind_is_asked_again_with_the_index_it_should_reach() {
    let reads = AtomicU32::new(0);
    let bench = bench(false, move |seen| match seen.target.as_str() {
        LOGIN => {
            let Reply::Json(status, body) = token("hvs.one", 3600) else { unreachable!() };
            Reply::With(status, ("x-vault-index", "index-42".to_owned()), body)
        }
        _ if reads.fetch_add(1, Ordering::Relaxed) < 2 => error(412, "required index state not present"),
        _ => kv(1, &json!({})),
    })
    .await;
    bench.vault.log_in().await.unwrap();
    bench.vault.read_bundle().await.unwrap();
    let last = bench.server.seen().pop().unwrap();
    assert_eq!(last.header("x-vault-index"), "index-42");
    fault_row(
        "Vault 412, a replica that is behind",
        "asked again with the index, four times at most",
        "a_replica_that_is_behind_is_asked_again_with_the_index_it_should_reach",
    );
}

#[tokio::test]
async fn the_token_is_renewed_at_two_thirds_and_replaced_before_its_maximum_life() {
    // A lease of 3 s that renewals can stretch to 1 s only: the second renewal must be a login.
    let bench = bench(false, |seen| match seen.target.as_str() {
        LOGIN => token("hvs.login", 3),
        RENEW => token("hvs.login", 1),
        _ => error(404, ""),
    })
    .await;
    bench.vault.log_in().await.unwrap();
    let shutdown = CancellationToken::new();
    let renewal = tokio::spawn(Arc::clone(&bench.vault).keep_fresh(shutdown.clone()));
    let started = std::time::Instant::now();
    while bench.server.paths().len() < 3 {
        assert!(started.elapsed() < Duration::from_secs(8), "{:?}", bench.server.paths());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    shutdown.cancel();
    renewal.await.unwrap();
    assert_eq!(bench.server.paths()[..3], [LOGIN, RENEW, LOGIN]);
    assert!(started.elapsed() > Duration::from_millis(1700), "not before its time");
    let renewal = &bench.server.seen()[1];
    assert_eq!((renewal.header("x-vault-token"), &renewal.json()["increment"]), ("hvs.login", &json!("3s")));
}

#[tokio::test]
async fn a_renewal_that_leaves_less_than_a_second_is_followed_by_a_login() {
    let bench = bench(false, |seen| match seen.target.as_str() {
        LOGIN => token("hvs.login", 1),
        RENEW => token("hvs.login", 0),
        _ => error(404, ""),
    })
    .await;
    bench.vault.log_in().await.unwrap();
    let shutdown = CancellationToken::new();
    let renewal = tokio::spawn(Arc::clone(&bench.vault).keep_fresh(shutdown.clone()));
    let started = std::time::Instant::now();
    while bench.server.paths().len() < 3 {
        assert!(started.elapsed() < Duration::from_secs(20), "{:?}", bench.server.paths());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    shutdown.cancel();
    renewal.await.unwrap();
    assert_eq!(bench.server.paths()[2], LOGIN, "a lease of nothing is no endless one");
}

#[test]
fn renewal_is_due_at_two_thirds_whatever_the_lease() {
    let token = |lease, first_lease, renewable| Token {
        secret: Secret::new("x".to_owned()).unwrap(),
        login: 1,
        obtained: Instant::now(),
        lease: Duration::from_secs(lease),
        first_lease: Duration::from_secs(first_lease),
        renewable,
    };
    for _ in 0..100 {
        let due = token(3600, 3600, true).renew_in().as_secs();
        assert!((2200..2600).contains(&due), "{due}");
        assert!(
            token(3600, 3600, false).renew_in().as_secs() > 2000,
            "a batch token is replaced in time too"
        );
        assert!(token(600, 3600, true).renew_in().as_secs() <= 5);
    }
    assert!(!token(3600, 3600, false).is_worth_renewing() && !token(600, 3600, true).is_worth_renewing());
}

#[tokio::test]
async fn a_wrapped_secret_id_is_looked_up_unwrapped_once_and_kept_for_the_next_login() {
    let bench = bench(true, |seen| match seen.target.as_str() {
        "/v1/sys/wrapping/lookup" => {
            assert_eq!(seen.json()["token"], "the-secret-id");
            Reply::Json(
                200,
                json!({ "data": { "creation_path": "auth/approle/role/loader/secret-id",
                "creation_time": "2026-11-21T00:00:00Z", "creation_ttl": 300 } }),
            )
        }
        "/v1/sys/wrapping/unwrap" => {
            assert_eq!(seen.header("x-vault-token"), "the-secret-id");
            Reply::Json(200, json!({ "data": { "secret_id": "the-inner-one", "secret_id_accessor": "a" } }))
        }
        _ => {
            assert_eq!(seen.json()["secret_id"], "the-inner-one");
            token("hvs.one", 60)
        }
    })
    .await;
    bench.vault.log_in().await.unwrap();
    bench.vault.log_in().await.unwrap();
    let expected = ["/v1/sys/wrapping/lookup", "/v1/sys/wrapping/unwrap", LOGIN, LOGIN];
    assert_eq!(bench.server.paths(), expected);
}

#[tokio::test]
async fn a_wrapping_token_that_was_used_or_made_elsewhere_is_an_alarm_and_nothing_is_unwrapped() {
    for made_by in [None, Some("sys/wrapping/wrap"), Some("auth/approle/login")] {
        let mut bench = bench(true, move |_| match made_by {
            None => error(400, "wrapping token is not valid or does not exist"),
            Some(path) => Reply::Json(200, json!({ "data": { "creation_path": path } })),
        })
        .await;
        for _ in 0..3 {
            let error = bench.vault.log_in().await.unwrap_err();
            assert_eq!(error.class(), ErrorClass::Intercepted, "{error}");
        }
        assert_eq!(bench.server.paths(), ["/v1/sys/wrapping/lookup"], "asked once");
        assert!(matches!(bench.told.try_recv(), Ok(Event::SecretIdIntercepted(_))));
        assert!(bench.told.try_recv().is_err(), "one alarm for one delivery");
    }
    fault_row(
        "wrapping token used by somebody else, or made elsewhere",
        "an alarm; nothing is unwrapped",
        "a_wrapping_token_that_was_used_or_made_elsewhere_is_an_alarm_and_nothing_is_unwrapped",
    );
}

#[tokio::test]
async fn the_token_is_revoked_once_at_the_end() {
    let bench = bench(false, |seen| match seen.target.as_str() {
        LOGIN => token("hvs.one", 60),
        _ => Reply::Json(204, Value::Null),
    })
    .await;
    bench.vault.log_in().await.unwrap();
    bench.vault.revoke().await;
    bench.vault.revoke().await;
    assert_eq!(bench.server.paths(), [LOGIN, "/v1/auth/token/revoke-self"]);
    assert_eq!(bench.server.seen()[1].header("x-vault-token"), "hvs.one");
    assert!(bench.vault.read_bundle().await.is_err());
}
