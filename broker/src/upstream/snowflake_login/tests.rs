//! Sessions and refusals, as Snowflake answers them.

use serde_json::{Value, json};

use super::*;
use crate::upstream::http::server::{Reply, Seen, Server};

async fn service(answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> (Server, Arc<LoginService>) {
    let server = Server::start(answer).await;
    let service = LoginService::new(&server.url, "myorg-myaccount", Some(server.ca())).unwrap();
    (server, Arc::new(service))
}

fn logged_in(role: &Value, warehouse: &Value, life: i64) -> Reply {
    Reply::Json(
        200,
        json!({ "success": true, "code": null, "message": null, "data": {
            "token": "session-1", "validityInSeconds": life, "masterToken": "master-1",
            "masterValidityInSeconds": 14400, "sessionId": 1_152_921_504_606_846_977_u64, "parameters": [],
            "sessionInfo": { "databaseName": null, "schemaName": null, "warehouseName": warehouse, "roleName": role } } }),
    )
}

fn refused(code: &str) -> Reply {
    Reply::Json(200, json!({ "success": false, "code": code, "message": "SENTINEL", "data": {} }))
}

fn bearer() -> Grant {
    Grant::new(b"eyJ.the.token".to_vec(), SystemTime::now() + Duration::from_mins(10), "g")
}

async fn open(service: &Arc<LoginService>) -> Result<SnowflakeLogin, UpstreamError> {
    service
        .open(&bearer(), Wanted { user: "SVC_LOADER", named: None, role: "LOADER", warehouse: "LOAD_WH" })
        .await
}

#[tokio::test]
async fn a_session_is_opened_renewed_with_both_tokens_and_closed() {
    let (server, service) = service(|seen| match seen.target.split('?').next().unwrap() {
        "/session/v1/login-request" => logged_in(&json!("LOADER"), &json!("LOAD_WH"), 3600),
        "/session/token-request" => {
            let generation = if seen.header("authorization").contains("master-1") { 2 } else { 3 };
            Reply::Json(
                200,
                json!({ "success": true, "data": {
                "sessionToken": format!("session-{generation}"), "validityInSecondsST": 3600,
                "masterToken": format!("master-{generation}"), "validityInSecondsMT": 14400,
                "sessionId": 1 } }),
            )
        }
        _ => Reply::Json(200, json!({ "success": true, "data": null })),
    })
    .await;
    let mut login = open(&service).await.unwrap();
    assert_eq!((login.role(), login.warehouse()), ("LOADER", "LOAD_WH"));
    assert_eq!(login.session_id(), "1152921504606846977");
    assert_eq!(login.grant().value(), b"session-1");
    let first = login.grant().generation().to_owned();
    login.renew().await.unwrap();
    login.renew().await.unwrap();
    assert_eq!(login.grant().value(), b"session-3");
    assert_ne!(login.grant().generation(), first);
    login.close().await;

    let seen = server.seen();
    let data = &seen[0].json()["data"];
    assert_eq!((&data["AUTHENTICATOR"], &data["TOKEN"]), (&json!("OAUTH"), &json!("eyJ.the.token")));
    assert_eq!(
        (&data["LOGIN_NAME"], &data["ACCOUNT_NAME"]),
        (&json!("SVC_LOADER"), &json!("myorg-myaccount"))
    );
    assert_eq!(seen[0].header("authorization"), "Snowflake Token=\"None\"");
    assert_eq!(seen[0].header("accept"), "application/snowflake");
    assert!(seen[0].target.contains("warehouse=LOAD_WH") && seen[0].target.contains("roleName=LOADER"));
    assert_eq!(seen[1].header("authorization"), "Snowflake Token=\"master-1\"");
    assert_eq!(seen[1].json(), json!({ "oldSessionToken": "session-1", "requestType": "RENEW" }));
    assert_eq!(seen[2].header("authorization"), "Snowflake Token=\"master-2\"");
    assert_eq!(seen[2].json()["oldSessionToken"], "session-2");
    assert!(seen[3].target.starts_with("/session?") && seen[3].target.contains("delete=true"));
    assert_eq!(seen[3].header("authorization"), "Snowflake Token=\"session-3\"");
}

#[tokio::test]
async fn a_login_with_another_role_or_without_the_warehouse_is_closed_again_and_refused() {
    let cases = [
        (json!("PUBLIC"), json!("LOAD_WH"), "role LOADER"),
        (Value::Null, json!("LOAD_WH"), "role LOADER"),
        (json!("LOADER"), Value::Null, "warehouse LOAD_WH"),
    ];
    for (role, warehouse, says) in cases {
        let (server, service) = service(move |seen| match seen.target.as_str() {
            target if target.starts_with("/session?") => Reply::Json(200, json!({ "success": true })),
            _ => logged_in(&role, &warehouse, 3600),
        })
        .await;
        let error = open(&service).await.err().unwrap();
        assert!(error.class() == ErrorClass::Denied && error.to_string().contains(says), "{error}");
        assert_eq!(server.paths(), ["/session/v1/login-request", "/session"]);
    }
}

#[tokio::test]
async fn a_role_or_warehouse_without_end_is_refused_and_its_session_closed() {
    let endless = format!("{}LOADER", "\"".repeat(60_000));
    for (role, warehouse) in
        [(json!(endless), json!("LOAD_WH")), (json!("LOADER"), json!(endless.replace("LOADER", "LOAD_WH")))]
    {
        let (server, service) = service(move |seen| match seen.target.as_str() {
            target if target.starts_with("/session?") => Reply::Json(200, json!({ "success": true })),
            _ => logged_in(&role, &warehouse, 3600),
        })
        .await;
        let error = open(&service).await.err().unwrap();
        assert!(error.class() == ErrorClass::BadReply && error.to_string().len() < 300, "{error}");
        assert_eq!(server.paths(), ["/session/v1/login-request", "/session"]);
    }
}

#[test]
fn names_compare_as_snowflake_reads_them() {
    assert!(same_name("loader", "LOADER") && same_name("\"Load\"", "Load") && same_name("", "ANY"));
    assert!(!same_name("LOADER", "LOADER2"));
}

#[tokio::test]
async fn each_refusal_is_printed_with_its_code_and_none_of_its_words() {
    let cases = [
        ("390303", ErrorClass::Credential),
        ("390318", ErrorClass::Expired),
        ("390189", ErrorClass::Denied),
        ("390201", ErrorClass::Denied),
        ("390422", ErrorClass::Denied),
        ("390100", ErrorClass::Credential),
        ("390114", ErrorClass::Expired),
        ("399999", ErrorClass::Denied),
    ];
    for (code, class) in cases {
        let (_server, service) = service(move |_| refused(code)).await;
        let error = open(&service).await.err().unwrap();
        assert_eq!((error.class(), error.code()), (class, Some(code)));
        assert!(!error.to_string().contains("SENTINEL"), "{error}");
    }
    let (_server, service) = service(|_| refused("not a code; DROP")).await;
    assert_eq!(open(&service).await.err().unwrap().code(), None);
}

#[tokio::test]
async fn a_refused_renewal_keeps_the_tokens_that_are_held() {
    let (_server, service) = service(|seen| match seen.target.as_str() {
        target if target.starts_with("/session/v1") => logged_in(&json!("LOADER"), &json!("LOAD_WH"), 3600),
        _ => refused("390114"),
    })
    .await;
    let mut login = open(&service).await.unwrap();
    let error = login.renew().await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Expired);
    assert_eq!((login.grant().value(), login.master.expose()), (&b"session-1"[..], "master-1"));
}

#[tokio::test]
async fn an_answer_that_cannot_be_true_is_refused() {
    for life in [0, -5, i64::MAX] {
        let (_server, service) = service(move |_| logged_in(&json!("LOADER"), &json!("LOAD_WH"), life)).await;
        assert_eq!(open(&service).await.err().unwrap().class(), ErrorClass::BadReply);
    }
    for body in [json!({ "success": true, "data": {} }), json!([]), json!({ "success": true })] {
        let (_server, service) = service(move |_| Reply::Json(200, body.clone())).await;
        assert_eq!(open(&service).await.err().unwrap().class(), ErrorClass::BadReply);
    }
    for (status, class) in [(503, ErrorClass::Busy), (429, ErrorClass::Busy), (403, ErrorClass::NotFound)] {
        let (_server, service) = service(move |_| Reply::Json(status, json!({}))).await;
        assert_eq!(open(&service).await.err().unwrap().class(), class);
    }
}
