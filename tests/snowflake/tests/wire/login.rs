//! Logins: what is refused, one by one.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use jsonwebtoken::{Algorithm, Header};
use keyferry_stand_in_snowflake::{AnyRole, KeyPair, User};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::world::{ACCOUNT, World, now, rsa_key, text};

#[tokio::test(flavor = "multi_thread")]
async fn a_good_token_opens_a_session_with_two_tokens() {
    let world = World::start().await;
    let reply = world.try_login(&world.issuer.token(), "svc", "LOADER").await;
    assert_eq!(reply["success"], true, "{reply}");
    let data = &reply["data"];
    assert_ne!(text(&data["token"]), text(&data["masterToken"]));
    assert_eq!(data["validityInSeconds"], 3600);
    assert_eq!(data["masterValidityInSeconds"], 14400);
    assert_eq!(data["sessionInfo"]["roleName"], "LOADER");
    assert_eq!(data["sessionInfo"]["warehouseName"], "LOAD_WH");
    assert_eq!(world.handle.stats.snapshot().logins, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_wrong_token_is_refused_with_its_code() {
    let world = World::start().await;
    let issuer = &world.issuer;
    let (stranger, _) = rsa_key();
    let mut header = Header::new(Algorithm::RS256);
    header.kid = Some("key-1".into());
    let forged = jsonwebtoken::encode(&header, &issuer.claims(), &stranger).unwrap();
    let hmac_key = jsonwebtoken::EncodingKey::from_secret(b"public key as a secret");
    let downgraded =
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &issuer.claims(), &hmac_key).unwrap();
    let mut unknown_key = Header::new(Algorithm::RS256);
    unknown_key.kid = Some("key-9".into());
    let unknown_key = jsonwebtoken::encode(&unknown_key, &issuer.claims(), &stranger).unwrap();
    let cases = [
        ("garbage", "not.a.token".to_owned(), "390303"),
        ("a stranger's signature", forged, "390303"),
        ("HS256", downgraded, "390303"),
        ("an unknown key id", unknown_key, "390303"),
        ("another issuer", issuer.token_with("iss", json!("https://elsewhere")), "390303"),
        ("another audience", issuer.token_with("aud", json!("api://other")), "390303"),
        ("an unmapped subject", issuer.token_with("sub", json!("somebody else")), "390303"),
        ("no mapping claim", issuer.token_with("sub", json!(7)), "390303"),
        ("not valid yet", issuer.token_with("nbf", json!(now() + 600)), "390303"),
        ("expired", issuer.token_with("exp", json!(now() - 10)), "390318"),
    ];
    for (what, token, code) in cases {
        let reply = world.try_login(&token, "SVC", "LOADER").await;
        assert_eq!(reply["success"], false, "{what}");
        assert_eq!(reply["code"], code, "{what}: {reply}");
        assert!(reply["data"].get("token").is_none(), "{what}");
    }
    assert_eq!(world.handle.stats.snapshot().logins, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_login_name_role_warehouse_account_or_authenticator_is_refused() {
    let world = World::start().await;
    let token = world.issuer.token();
    assert_eq!(world.try_login(&token, "SOMEBODY", "LOADER").await["code"], "390309");
    assert_eq!(world.try_login(&token, "SVC", "ACCOUNTADMIN").await["code"], "390189");
    let body = |account: &str, authenticator: &str| {
        json!({ "data": { "ACCOUNT_NAME": account, "LOGIN_NAME": "SVC", "AUTHENTICATOR": authenticator,
                          "TOKEN": token, "PASSWORD": "x" } })
    };
    assert_eq!(world.post_login("LOADER", &body("other", "OAUTH")).await["code"], "390100");
    assert_eq!(world.post_login("LOADER", &body(ACCOUNT, "SNOWFLAKE")).await["code"], "390100");
    assert_eq!(
        world.post_login("LOADER&warehouse=SECRET_WH", &body(ACCOUNT, "OAUTH")).await["code"],
        "390201"
    );
    assert_eq!(world.post_login("LOADER", &body(ACCOUNT, "OAUTH")).await["success"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_role_mode_the_token_must_name_the_role() {
    let world = World::start_with(|config| config.external_oauth[0].any_role = AnyRole::Disabled).await;
    let issuer = &world.issuer;
    assert_eq!(world.try_login(&issuer.token(), "SVC", "LOADER").await["code"], "390317");
    let scoped = issuer.token_with("scp", json!("openid session:role:reader"));
    assert_eq!(world.try_login(&scoped, "SVC", "READER").await["success"], true);
    assert_eq!(world.try_login(&scoped, "SVC", "LOADER").await["code"], "390317");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolled_over_key_is_fetched_when_it_is_first_seen() {
    let mut world = World::start().await;
    let old = world.issuer.token();
    assert_eq!(world.try_login(&old, "SVC", "LOADER").await["success"], true);
    world.issuer.rotate("key-2");
    // The set is fetched at most once a second.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    assert_eq!(world.try_login(&world.issuer.token(), "SVC", "LOADER").await["success"], true);
    assert_eq!(world.try_login(&old, "SVC", "LOADER").await["code"], "390303", "the old key is gone");
    assert_eq!(world.handle.stats.snapshot().key_set_fetches, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn key_pair_tokens_are_checked_for_fingerprint_and_age() {
    let (key, public) = rsa_key();
    let (_, second) = rsa_key();
    let (stranger, strange_public) = rsa_key();
    let pair = KeyPair { rsa_public_key: second, rsa_public_key_2: Some(public.clone()) };
    let world = World::start_with(|config| {
        config.users.push(User { key_pair: Some(pair), ..User::new("KEYED", "READER", "LOAD_WH") });
    })
    .await;
    let subject = format!("{}.KEYED", ACCOUNT.to_uppercase());
    let claims = |public: &str, age: u64| {
        let der: String = public.lines().filter(|line| !line.starts_with('-')).collect();
        let print = STANDARD.encode(Sha256::digest(STANDARD.decode(der).unwrap()));
        BTreeMap::from([
            ("iss", json!(format!("{subject}.SHA256:{print}"))),
            ("sub", json!(subject)),
            ("iat", json!(now() - age)),
            ("exp", json!(now() - age + 120)),
        ])
    };
    let sign = |claims: &BTreeMap<&str, serde_json::Value>, key| {
        jsonwebtoken::encode(&Header::new(Algorithm::RS256), claims, key).unwrap()
    };
    let login = async |token: String| {
        let body =
            json!({ "data": { "ACCOUNT_NAME": ACCOUNT, "AUTHENTICATOR": "SNOWFLAKE_JWT", "TOKEN": token } });
        world.post_login("READER", &body).await
    };
    assert_eq!(login(sign(&claims(&public, 0), &key)).await["success"], true, "the second slot counts");
    assert_eq!(login(sign(&claims(&public, 90), &key)).await["code"], "390144", "older than 60 seconds");
    assert_eq!(login(sign(&claims(&public, 200), &key)).await["code"], "390144", "expired");
    assert_eq!(login(sign(&claims(&strange_public, 0), &stranger)).await["code"], "390144");
    assert_eq!(
        login(sign(&claims(&public, 0), &stranger)).await["code"],
        "390144",
        "fingerprint right, key not"
    );
    assert_eq!(login("x".into()).await["code"], "390144");
}
