//! Tokens and refusals, as Entra answers them.

use serde_json::{Value, json};

use super::*;
use crate::upstream::http::server::{Reply, Seen, Server};

const APPLICATION: &str = "2b1d8f0a-6c11-4f0e-8f39-0d6f3f0c9a01";

async fn issuer(answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> (Server, Issuer) {
    let server = Server::start(answer).await;
    let config: EntraLogin = serde_json::from_value(json!({
        "tenant_key": "tenant", "client_id_key": "id", "client_secret_key": "secret",
        "scope": "api://snowflake/.default", "authority": server.url, "ca_file": server.ca(),
    }))
    .unwrap();
    let issuer = Issuer::new(&config).unwrap();
    (server, issuer)
}

fn bundle(tenant: &str) -> Bundle {
    let fields = json!({ "tenant": tenant, "id": APPLICATION, "secret": "p&ss=w%rd ü\n" });
    Bundle::new(1, "secret/a".to_owned(), serde_json::from_value(fields).unwrap())
}

fn token(expires_in: &Value) -> Value {
    json!({ "token_type": "Bearer", "expires_in": expires_in, "ext_expires_in": 1, "access_token": "eyJ.the.token" })
}

#[tokio::test]
async fn a_token_comes_with_the_life_that_the_issuer_gave_it() {
    let (server, issuer) = issuer(|_| Reply::Json(200, token(&json!(4199)))).await;
    let grant = issuer.bearer(&bundle("contoso.example")).await.unwrap();
    assert_eq!(grant.value(), b"eyJ.the.token");
    let life = grant.expires_at().duration_since(SystemTime::now()).unwrap().as_secs();
    assert!((4190..=4199).contains(&life), "{life}");

    let [seen] = server.seen().try_into().ok().unwrap();
    assert_eq!(seen.target, "/contoso.example/oauth2/v2.0/token");
    assert_eq!(seen.header("content-type"), "application/x-www-form-urlencoded");
    assert_eq!(seen.header("authorization"), "");
    let mut form: Vec<_> = form_urlencoded::parse(&seen.body).into_owned().collect();
    form.sort();
    let expected = [
        ("client_id", APPLICATION),
        // Without the line end that Vault's field has.
        ("client_secret", "p&ss=w%rd ü"),
        ("grant_type", "client_credentials"),
        ("scope", "api://snowflake/.default"),
    ];
    assert_eq!(form, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
    let other = issuer.bearer(&bundle("contoso.example")).await.unwrap();
    assert_ne!(grant.generation(), other.generation());
}

#[tokio::test]
async fn an_absurd_life_is_not_believed_and_a_long_one_is_cut() {
    for odd in [json!(-1), json!(0), json!(9_223_372_036_854_775_807_u64), json!(1e300), Value::Null] {
        let (_server, issuer) = issuer({
            let odd = odd.clone();
            move |_| Reply::Json(200, token(&odd))
        })
        .await;
        let error = issuer.bearer(&bundle("t.example")).await.err().unwrap();
        assert_eq!(error.class(), ErrorClass::BadReply, "{odd}: {error}");
        assert!(!error.to_string().contains("eyJ"), "{error}");
    }
    let (_server, issuer) = issuer(|_| Reply::Json(200, token(&json!(2_000_000)))).await;
    let grant = issuer.bearer(&bundle("t.example")).await.unwrap();
    assert!(grant.expires_at() <= SystemTime::now() + LONGEST_LIFE);
}

#[tokio::test]
async fn a_refusal_is_judged_by_its_word_and_printed_with_its_number() {
    let cases = [
        ("invalid_client", 7_000_215, ErrorClass::Credential),
        ("invalid_client", 7_000_222, ErrorClass::Credential),
        ("unauthorized_client", 700_016, ErrorClass::Denied),
        ("invalid_scope", 70_011, ErrorClass::Configuration),
        ("invalid_request", 90_002, ErrorClass::Configuration),
        ("invalid_grant", 53_003, ErrorClass::Denied),
        ("temporarily_unavailable", 90_033, ErrorClass::Busy),
        ("something_new", 1, ErrorClass::Denied),
    ];
    for (word, number, class) in cases {
        let body = json!({ "error": word, "error_codes": [number], "trace_id": "TRACE",
            "error_description": format!("AADSTS{number}: SENTINEL. Trace ID: TRACE") });
        let (_server, issuer) = issuer(move |_| Reply::Json(401, body.clone())).await;
        let error = issuer.bearer(&bundle("t.example")).await.err().unwrap();
        assert_eq!((error.class(), error.code()), (class, Some(format!("AADSTS{number}").as_str())));
        assert!(!error.to_string().contains("SENTINEL") && !error.to_string().contains("TRACE"), "{error}");
    }
}

#[tokio::test]
async fn an_issuer_that_asks_for_silence_gets_it() {
    let (server, issuer) =
        issuer(|_| Reply::With(429, ("retry-after", "30".to_owned()), json!({ "error": "x" }))).await;
    let first = issuer.bearer(&bundle("t.example")).await.err().unwrap();
    assert_eq!((first.class(), first.retry_after()), (ErrorClass::Busy, Some(Duration::from_secs(30))));
    for _ in 0..10 {
        let error = issuer.bearer(&bundle("t.example")).await.err().unwrap();
        assert!(!error.is_permanent() && error.retry_after().unwrap() > Duration::from_secs(25), "{error}");
    }
    assert_eq!(server.seen().len(), 1);
    *issuer.window() = Some(Instant::now());
    assert!(issuer.bearer(&bundle("t.example")).await.is_err());
    assert_eq!(server.seen().len(), 2, "after the window it is asked again");
}

#[tokio::test]
async fn an_answer_that_is_no_oauth_answer_is_refused() {
    for body in [json!("<html>"), json!({ "access_token": "" , "token_type": "Bearer", "expires_in": 60 })] {
        let (_server, issuer) = issuer(move |_| Reply::Json(200, body.clone())).await;
        assert_eq!(issuer.bearer(&bundle("t.example")).await.err().unwrap().class(), ErrorClass::BadReply);
    }
    let (_server, issuer) = issuer(|_| Reply::Endless).await;
    assert_eq!(issuer.bearer(&bundle("t.example")).await.err().unwrap().class(), ErrorClass::BadReply);
}

#[tokio::test]
async fn a_tenant_that_would_change_the_path_is_refused_before_anything_is_sent() {
    let (server, issuer) = issuer(|_| Reply::Json(200, token(&json!(60)))).await;
    for tenant in ["../common", "a/b.example", "a?b.example", "a#b", "a b", "..", "common"] {
        let error = issuer.bearer(&bundle(tenant)).await.err().unwrap();
        assert_eq!(error.class(), ErrorClass::Configuration, "{tenant}");
    }
    assert!(server.seen().is_empty());
}
