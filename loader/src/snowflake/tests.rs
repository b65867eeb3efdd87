use std::time::SystemTime;

use keyferry_proto::grant::Grant;
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
};

use super::{
    mini::{Act, Log, Seen, serve},
    *,
};
use crate::grants::{Refusal, SessionInfo, TokenState};

struct Bench {
    session: Session,
    seen: Log,
    tokens: watch::Sender<TokenState>,
    refusals: mpsc::Receiver<Refusal>,
}

impl Bench {
    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

fn token(generation: &str) -> TokenState {
    let value = format!("token-{generation}").into_bytes();
    TokenState::Live(Grant::new(value, SystemTime::now() + Duration::from_hours(1), generation))
}

/// A session against a server that answers its requests by number, counted from 0.
async fn bench(act: impl Fn(usize, &Seen) -> Act + Send + 'static) -> Bench {
    let (address, seen) = serve(act).await;
    let url = format!("http://{address}");
    let (tokens, tokens_rx) = watch::channel(token("1"));
    let (refusals_tx, refusals) = mpsc::channel(2);
    let info = SessionInfo {
        url,
        account: "org-account".into(),
        user: "SVC".into(),
        role: "LOADER".into(),
        warehouse: "WH".into(),
        session_id: "4711".into(),
        audit_id: "a-1".into(),
    };
    let grant = SessionGrant::new(info, tokens_rx, refusals_tx);
    let mut options = SessionOptions::new("analytics", "LOADER", "WH");
    options.query_tag = "{\"pipeline\":\"p\"}".into();
    options.patience = Duration::from_millis(600);
    let session = Session::from_grant(grant, HttpClients::new(None).unwrap(), options).unwrap();
    Bench { session, seen, tokens, refusals }
}

fn body(seen: &Seen) -> Value {
    serde_json::from_slice(&seen.body).unwrap()
}

fn one() -> Act {
    Act::json(&json!({ "success": true, "code": null, "message": null, "data": {
        "queryId": "01b0", "queryResultFormat": "json", "total": 1, "returned": 1,
        "rowtype": [{ "name": "N", "type": "fixed" }, { "name": "T", "type": "TEXT" }],
        "rowset": [["1", null]],
    }}))
}

fn refusal(code: &str) -> Act {
    Act::json(
        &json!({ "success": false, "code": code, "message": "two\nlines", "data": { "queryId": "01b1" } }),
    )
}

fn running(url: &str) -> Act {
    Act::json(
        &json!({ "success": true, "code": "333334", "message": "running", "data": { "getResultUrl": url } }),
    )
}

#[tokio::test]
async fn a_statement_carries_its_ids_its_tag_and_the_token_and_brings_rows() {
    let mut bench = bench(|_, _| one()).await;
    let answer = bench.session.execute("SELECT 1, NULL").await.unwrap();
    assert_eq!(answer.rows, vec![vec![Some("1".to_owned()), None]]);
    assert_eq!(answer.columns[1], Column { name: "T".into(), kind: "text".into() });
    let seen = &bench.seen()[0];
    assert_eq!(seen.path, "/queries/v1/query-request");
    assert_eq!(seen.headers["authorization"], "Snowflake Token=\"token-1\"");
    assert!(seen.query.contains_key("requestId") && seen.query.contains_key("request_guid"));
    assert!(!seen.query.contains_key("retry"));
    assert_eq!(body(seen)["sqlText"], "SELECT 1, NULL");
    assert_eq!(body(seen)["parameters"]["QUERY_TAG"], "{\"pipeline\":\"p\"}");
}

#[tokio::test]
async fn a_running_statement_is_polled_until_it_is_done() {
    let mut bench = bench(|number, _| match number {
        0 => running("/queries/01b0/result"),
        1 => Act::json(&json!({ "success": true, "code": "333333", "data": {} })),
        2 => Act::CutAfterReading,
        _ => one(),
    })
    .await;
    assert_eq!(bench.session.execute_once("COMMIT").await.unwrap().value(0, 0), Some("1"));
    let seen = bench.seen();
    assert!(seen[1..].iter().all(|poll| poll.path == "/queries/01b0/result"), "{seen:#?}");
    assert_eq!(seen.len(), 4);
}

#[tokio::test]
async fn an_expired_token_is_reported_and_the_same_request_sent_with_the_next_one() {
    let mut bench =
        bench(
            |_, seen| {
                if seen.headers["authorization"].contains("token-1") { refusal("390112") } else { one() }
            },
        )
        .await;
    let tokens = bench.tokens.clone();
    let mut refusals = bench.refusals;
    let broker = tokio::spawn(async move {
        let refusal = refusals.recv().await.unwrap();
        tokens.send_replace(token("2"));
        refusal
    });
    bench.session.execute("COPY INTO t").await.unwrap();
    let refused = broker.await.unwrap();
    assert_eq!(refused, Refusal { generation: "1".into(), code: "390112".into() });
    let seen = bench.seen.lock().unwrap().clone();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0].query["requestId"], seen[1].query["requestId"]);
    assert_ne!(seen[0].query["request_guid"], seen[1].query["request_guid"]);
}

#[tokio::test]
async fn without_another_token_the_session_is_over_and_the_statement_was_not_executed() {
    let mut bench = bench(|_, _| refusal("390112")).await;
    let error = bench.session.execute("BEGIN").await.unwrap_err();
    assert!(matches!(error, SnowflakeError::Expired { .. }), "{error}");
    assert!(error.is_session_gone() && !error.is_unknown());
    assert!(bench.session.is_poisoned());
}

#[tokio::test]
async fn a_session_whose_renewed_tokens_are_refused_too_is_given_up() {
    let mut bench = bench(|_, _| refusal("390112")).await;
    let tokens = bench.tokens.clone();
    let mut refusals = bench.refusals;
    let broker = tokio::spawn(async move {
        for generation in 2..100 {
            if refusals.recv().await.is_none() {
                break;
            }
            tokens.send_replace(token(&generation.to_string()));
        }
    });
    let error = bench.session.execute("BEGIN").await.unwrap_err();
    assert!(matches!(error, SnowflakeError::Expired { .. }), "{error}");
    broker.abort();
}

#[tokio::test]
async fn an_answer_that_announces_more_than_is_accepted_is_refused_at_once() {
    let mut bench = bench(|_, _| Act::Respond {
        status: 200,
        headers: vec![("x-filler", String::new())],
        body: " ".repeat(rows::LARGEST_ANSWER + 1),
    })
    .await;
    let error = bench.session.execute("SELECT * FROM big").await.unwrap_err();
    assert!(
        matches!(&error, SnowflakeError::Answer { .. }) && error.to_string().contains("longer"),
        "{error}"
    );
    assert_eq!(bench.seen().len(), 1);
}

#[tokio::test]
async fn a_session_that_the_broker_ended_sends_nothing_more() {
    let mut bench = bench(|_, _| one()).await;
    bench.tokens.send_replace(TokenState::Ended("the broker stops".into()));
    let error = bench.session.execute("SELECT 1").await.unwrap_err();
    assert!(error.to_string().contains("the broker stops"), "{error}");
    assert!(bench.seen().is_empty());
}

#[tokio::test]
async fn a_lost_reply_is_asked_for_again_under_the_same_request_id() {
    let mut bench = bench(|number, _| match number {
        0 => Act::CutAfterReading,
        1 => Act::status(503, "an upstream's secret words"),
        _ => one(),
    })
    .await;
    bench.session.execute("COPY INTO t").await.unwrap();
    let seen = bench.seen();
    assert_eq!(seen.len(), 3);
    for again in &seen[1..] {
        assert_eq!(again.query["requestId"], seen[0].query["requestId"]);
        assert_ne!(again.query["request_guid"], seen[0].query["request_guid"]);
        assert_eq!(again.query["retry"], "true");
        assert_eq!(body(again)["sqlText"], body(&seen[0])["sqlText"]);
    }
}

#[tokio::test]
async fn a_commit_whose_reply_is_lost_is_unknown_is_not_sent_again_and_ends_the_session() {
    let mut bench = bench(|_, _| Act::CutAfterReading).await;
    let error = bench.session.execute_once("COMMIT").await.unwrap_err();
    assert!(error.is_unknown(), "{error}");
    assert_eq!(bench.seen().len(), 1);
    let error = bench.session.execute("SELECT 1").await.unwrap_err();
    assert!(matches!(error, SnowflakeError::Poisoned { .. }), "{error}");
    assert_eq!(bench.seen().len(), 1);
}

#[tokio::test]
async fn a_reply_that_stays_lost_is_unknown() {
    let mut bench = bench(|_, _| Act::status(500, "an upstream's secret words")).await;
    let error = bench.session.execute("COPY INTO t").await.unwrap_err();
    assert!(error.is_unknown() && !error.to_string().contains("secret"), "{error}");
    assert!(bench.seen().len() > 2);
}

#[tokio::test]
async fn a_refusal_after_a_lost_reply_to_an_expired_token_is_unknown_not_expired() {
    let mut bench =
        bench(|number, _| if number == 0 { Act::CutAfterReading } else { refusal("390114") }).await;
    assert!(bench.session.execute("COPY INTO t").await.unwrap_err().is_unknown());
}

#[tokio::test]
async fn a_server_that_is_not_there_was_sent_nothing() {
    let mut bench = bench(|_, _| one()).await;
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    bench.session.base = url::Url::parse(&format!("http://{nobody}")).unwrap();
    let error = bench.session.execute_once("COMMIT").await.unwrap_err();
    assert!(
        matches!(&error, SnowflakeError::Unreachable { host, .. } if *host == nobody.to_string()),
        "{error}"
    );
}

#[tokio::test]
async fn a_refusal_keeps_code_sentence_and_query_id() {
    let mut bench = bench(|_, _| refusal("002003")).await;
    let error = bench.session.execute("SELECT * FROM missing").await.unwrap_err();
    assert!(error.is_missing() && !error.is_transient());
    let text = error.to_string();
    assert!(text.contains("002003: two lines (query 01b1)"), "{text}");
    assert!(!bench.session.is_poisoned());
}

#[tokio::test]
async fn the_token_follows_no_result_to_another_host() {
    let mut bench = bench(|_, _| running("https://evil.example/queries/01b0/result")).await;
    let error = bench.session.execute("SELECT 1").await.unwrap_err();
    assert!(error.is_unknown() && error.to_string().contains("another host"), "{error}");
    assert_eq!(bench.seen().len(), 1);
}

#[tokio::test]
async fn an_answer_in_parts_is_fetched_from_allowed_hosts_only() {
    let mut bench = bench(|_, _| {
        Act::json(&json!({ "success": true, "data": {
            "rowtype": [{ "name": "N", "type": "fixed" }], "rowset": [["1"]], "total": 2,
            "chunks": [{ "url": "https://evil.example/part", "rowCount": 1 }],
        }}))
    })
    .await;
    let error = bench.session.execute("SELECT 1").await.unwrap_err();
    assert!(error.to_string().contains("evil.example"), "{error}");
}

#[tokio::test]
async fn an_answer_in_arrow_is_refused() {
    let mut bench = bench(|_, _| {
        Act::json(
            &json!({ "success": true, "data": { "queryResultFormat": "arrow", "rowsetBase64": "AA==" } }),
        )
    })
    .await;
    let error = bench.session.execute("SELECT 1").await.unwrap_err();
    assert!(matches!(error, SnowflakeError::Answer { .. }), "{error}");
}

#[tokio::test]
async fn a_statement_that_nobody_waits_for_any_more_poisons_the_session() {
    let mut bench = bench(|_, _| Act::Hang).await;
    let waiting = tokio::time::timeout(Duration::from_millis(200), bench.session.execute("COPY INTO t"));
    assert!(waiting.await.is_err());
    assert!(bench.session.is_poisoned());
    assert!(matches!(bench.session.execute("SELECT 1").await, Err(SnowflakeError::Poisoned { .. })));
}

#[tokio::test]
async fn a_plain_http_address_or_a_broken_one_is_refused_outside_tests_and_always_if_it_is_none() {
    let (_tokens, tokens) = watch::channel(token("1"));
    let (refusals, _refusals) = mpsc::channel(1);
    let info = SessionInfo {
        url: "ftp://x".into(),
        account: String::new(),
        user: String::new(),
        role: String::new(),
        warehouse: String::new(),
        session_id: String::new(),
        audit_id: String::new(),
    };
    let grant = SessionGrant::new(info, tokens, refusals);
    let options = SessionOptions::new("g", "r", "w");
    let error = Session::from_grant(grant, HttpClients::new(None).unwrap(), options).unwrap_err();
    assert!(matches!(error, SnowflakeError::Setup(_)), "{error}");
}

#[test]
fn a_ca_file_without_certificates_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = HttpClients::new(Some(file.path())).unwrap_err().to_string();
    assert!(
        error.contains("target.ca_file") && error.contains(&file.path().display().to_string()),
        "{error}"
    );
}
