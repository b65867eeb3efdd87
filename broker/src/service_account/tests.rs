use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header as JwtHeader, jwk::Jwk};
use serde_json::{Value, json};

use super::*;
use crate::events;

const NOW: u64 = 1_800_000_000;
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
const POD: &str = "0b6a8b9e-9d0c-4b7e-8b57-3f9a1c2d4e5f";

/// A key of a cluster, and what it signs.
struct ClusterKey {
    id: &'static str,
    algorithm: Algorithm,
    key: EncodingKey,
}

impl ClusterKey {
    fn ec(id: &'static str) -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        Self { id, algorithm: Algorithm::ES256, key: EncodingKey::from_ec_der(&key.serialize_der()) }
    }

    fn rsa(id: &'static str) -> Self {
        let key =
            rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
        Self {
            id,
            algorithm: Algorithm::RS256,
            key: EncodingKey::from_rsa_pem(key.serialize_pem().as_bytes()).unwrap(),
        }
    }

    fn public(&self) -> Value {
        let mut jwk = Jwk::from_encoding_key(&self.key, self.algorithm).unwrap();
        jwk.common.key_id = Some(self.id.to_owned());
        serde_json::to_value(jwk).unwrap()
    }

    fn sign(&self, claims: &Value) -> String {
        let header = JwtHeader { kid: Some(self.id.to_owned()), ..JwtHeader::new(self.algorithm) };
        jsonwebtoken::encode(&header, claims, &self.key).unwrap()
    }

    /// A token whose header and claims are these texts, whatever they are.
    fn sign_texts(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &self.key, self.algorithm).unwrap();
        format!("{message}.{signature}")
    }
}

fn claims() -> Value {
    json!({
        "iss": ISSUER, "aud": ["keyferry"], "iat": NOW - 60, "nbf": NOW - 60, "exp": NOW + 540,
        "sub": "system:serviceaccount:analytics:dbt", "jti": "1",
        "kubernetes.io": {
            "namespace": "analytics",
            "node": { "name": "n1", "uid": "1" },
            "pod": { "name": "dbt-0", "uid": POD },
            "serviceaccount": { "name": "dbt", "uid": "5a1f" },
            "warnafter": NOW + 500
        }
    })
}

fn changed(change: impl FnOnce(&mut Value)) -> Value {
    let mut claims = claims();
    change(&mut claims);
    claims
}

struct Bench {
    folder: tempfile::TempDir,
    verifier: Verifier,
    told: tokio::sync::mpsc::Receiver<Event>,
}

impl Bench {
    fn with(keys: &[&ClusterKey]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        write(&folder.path().join("keys.json"), keys);
        fs::write(folder.path().join("uid"), format!("{POD}\n")).unwrap();
        let config = ServiceAccountsConfig {
            issuer: ISSUER.to_owned(),
            audience: "keyferry".to_owned(),
            keys_file: folder.path().join("keys.json"),
            pod_uid_file: Some(folder.path().join("uid")),
            max_life: Duration::from_hours(1),
        };
        let (events, told) = events::channel();
        Self { verifier: Verifier::open(&config, events).unwrap(), folder, told }
    }

    fn verify(&self, token: &str) -> Result<String, TokenError> {
        let now = UNIX_EPOCH + Duration::from_secs(NOW);
        self.verifier.verify(token, now).map(|account| account.to_string())
    }

    fn replace_keys(&self, keys: &[&ClusterKey]) {
        write(&self.folder.path().join("keys.json"), keys);
    }
}

fn write(path: &Path, keys: &[&ClusterKey]) {
    let keys: Vec<Value> = keys.iter().map(|key| key.public()).collect();
    fs::write(path, json!({ "keys": keys }).to_string()).unwrap();
}

#[tokio::test]
async fn a_token_of_the_cluster_proves_its_account() {
    let (ec, rsa) = (ClusterKey::ec("one"), ClusterKey::rsa("two"));
    let bench = Bench::with(&[&ec, &rsa]);
    for key in [&ec, &rsa] {
        let token = key.sign(&claims());
        for _ in 0..2 {
            assert_eq!(bench.verify(&token).as_deref(), Ok("analytics/dbt"));
        }
    }
    let one_audience = ec.sign(&changed(|claims| claims["aud"] = json!("keyferry")));
    assert_eq!(bench.verify(&one_audience).as_deref(), Ok("analytics/dbt"));
}

#[tokio::test]
async fn tokens_that_are_too_old_too_new_or_somebody_elses_are_refused() {
    let key = ClusterKey::ec("one");
    let bench = Bench::with(&[&key]);
    let expected = |error: &TokenError| error.to_string();
    let audience = TokenError::Audience { expected: "keyferry".to_owned() };
    let cases: Vec<(&str, Value, TokenError)> = vec![
        ("expired", changed(|c| c["exp"] = json!(NOW)), TokenError::NotNow),
        ("of tomorrow", changed(|c| c["nbf"] = json!(NOW + 61)), TokenError::NotNow),
        ("issued tomorrow", changed(|c| c["iat"] = json!(NOW + 61)), TokenError::NotNow),
        ("for the API server", changed(|c| c["aud"] = json!(["kubernetes"])), audience),
        ("of another cluster", changed(|c| c["iss"] = json!("https://elsewhere")), TokenError::Issuer),
        (
            "of another pod",
            changed(|c| c["kubernetes.io"]["pod"]["uid"] = json!("other")),
            TokenError::OtherPod,
        ),
        (
            "of no pod",
            changed(|c| drop(c["kubernetes.io"].as_object_mut().unwrap().remove("pod"))),
            TokenError::OtherPod,
        ),
        ("that lives for a year", changed(|c| c["exp"] = json!(NOW + 31_536_000)), TokenError::LivesTooLong),
        (
            "with another subject",
            changed(|c| c["sub"] = json!("system:serviceaccount:analytics:admin")),
            TokenError::Form("it is not a service account's"),
        ),
    ];
    for (what, claims, wanted) in cases {
        let found = bench.verify(&key.sign(&claims)).unwrap_err();
        assert_eq!(expected(&found), expected(&wanted), "a token {what}");
    }
    let stranger = ClusterKey::ec("one").sign(&claims());
    assert_eq!(bench.verify(&stranger), Err(TokenError::Signature));
    let token = key.sign(&claims());
    assert!(bench.verify(&token).is_ok());
    let later = UNIX_EPOCH + Duration::from_secs(NOW + 540);
    assert_eq!(
        bench.verifier.verify(&token, later).map(|a| a.to_string()),
        Err(TokenError::NotNow),
        "remembered"
    );
}

#[tokio::test]
async fn tricks_with_headers_and_claims_are_refused() {
    let (ec, rsa) = (ClusterKey::ec("one"), ClusterKey::rsa("two"));
    let bench = Bench::with(&[&ec, &rsa]);
    let good = claims().to_string();
    let header = |text: &str| ec.sign_texts(text, &good);
    let unsigned =
        |header: &str| format!("{}.{}.", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(&good));
    let public = rsa.public()["n"].as_str().unwrap().to_owned();
    let swapped = ClusterKey {
        id: "two",
        algorithm: Algorithm::HS256,
        key: EncodingKey::from_secret(public.as_bytes()),
    };
    let body = |text: String| ec.sign_texts(r#"{"alg":"ES256","kid":"one"}"#, &text);
    let tricks: BTreeMap<&str, String> = BTreeMap::from([
        ("no algorithm", unsigned(r#"{"alg":"none","kid":"one"}"#)),
        ("no signature", unsigned(r#"{"alg":"ES256","kid":"one"}"#)),
        ("HS256 with the public key as the secret", swapped.sign(&claims())),
        ("the other key's algorithm", header(r#"{"alg":"RS256","kid":"one"}"#)),
        ("a key id that climbs", header(r#"{"alg":"ES256","kid":"../../one"}"#)),
        ("no key id", header(r#"{"alg":"ES256"}"#)),
        (
            "a key from an address",
            header(r#"{"alg":"ES256","kid":"one","jku":"https://attacker.example.com/keys"}"#),
        ),
        ("a key in the header", header(r#"{"alg":"ES256","kid":"one","jwk":{"kty":"EC"}}"#)),
        ("a critical extension", header(r#"{"alg":"ES256","kid":"one","crit":["b64"],"b64":false}"#)),
        ("two key ids", header(r#"{"alg":"ES256","kid":"two","kid":"one"}"#)),
        ("an end that is a text", body(changed(|c| c["exp"] = json!((NOW + 540).to_string())).to_string())),
        ("no end", body(changed(|c| drop(c.as_object_mut().unwrap().remove("exp"))).to_string())),
        ("two ends", body(good.replacen('{', &format!("{{\"exp\":{},", NOW + 86_400), 1))),
        ("an end before the age of man", body(changed(|c| c["exp"] = json!(-1)).to_string())),
        (
            "no claims of Kubernetes",
            body(changed(|c| drop(c.as_object_mut().unwrap().remove("kubernetes.io"))).to_string()),
        ),
        ("a name that climbs", body(good.replace("\"dbt\"", "\"../dbt\"").replace(":dbt\"", ":../dbt\""))),
        ("a megabyte", "a".repeat(1 << 20)),
        ("four parts", format!("{}.a", ec.sign(&claims()))),
        ("nothing", String::new()),
        ("dots", "..".to_owned()),
    ]);
    for (what, token) in tricks {
        let error = bench.verify(&token).expect_err(what);
        assert!(error.to_string().len() < 300, "{what}: {error}");
        assert!(!error.to_string().contains("attacker"), "{what}: {error}");
    }
}

#[tokio::test(start_paused = true)]
async fn both_keys_of_a_rollover_count_and_a_withdrawn_one_does_not() {
    let (old, new) = (ClusterKey::ec("old"), ClusterKey::rsa("new"));
    let mut bench = Bench::with(&[&old]);
    let (by_old, by_new) = (old.sign(&claims()), new.sign(&claims()));
    assert!(bench.verify(&by_old).is_ok());
    assert_eq!(bench.verify(&by_new), Err(TokenError::UnknownKey));
    bench.replace_keys(&[&old, &new]);
    tokio::time::advance(LOOK_AGAIN_AT_ONCE).await;
    assert!(bench.verify(&by_new).is_ok(), "an unknown key is looked for at once");
    assert!(bench.verify(&by_old).is_ok());
    assert_eq!(bench.told.try_recv().unwrap().kind(), "ClusterKeysTaken");
    fs::write(bench.folder.path().join("keys.json"), "{}").unwrap();
    for _ in 0..3 {
        tokio::time::advance(LOOK_AGAIN).await;
        assert!(bench.verify(&by_new).is_ok(), "a broken file changes nothing");
    }
    assert_eq!(bench.told.try_recv().unwrap().kind(), "ClusterKeysRefused");
    assert!(bench.told.try_recv().is_err(), "the same broken file is told once");
    bench.replace_keys(&[&new]);
    tokio::time::advance(LOOK_AGAIN).await;
    assert_eq!(bench.verify(&by_old), Err(TokenError::UnknownKey), "what was remembered is forgotten");
    assert!(bench.verify(&by_new).is_ok());
}

#[test]
fn files_that_are_no_public_keys_of_a_cluster_are_refused_with_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    let key = ClusterKey::ec("one").public();
    let without = |field: &str| {
        let mut key = key.clone();
        key.as_object_mut().unwrap().remove(field);
        key
    };
    let with = |field: &str, value: &str| {
        let mut key = key.clone();
        key[field] = json!(value);
        key
    };
    for (text, part) in [
        (String::new(), "no JSON Web Key Set"),
        (json!({ "keys": [] }).to_string(), "it has no keys"),
        (json!({ "keys": [without("kid")] }).to_string(), "it has no `kid`"),
        (json!({ "keys": [key, key] }).to_string(), "the same `kid`"),
        (json!({ "keys": [with("use", "enc")] }).to_string(), "not for signatures"),
        (json!({ "keys": [with("alg", "RS256")] }).to_string(), "its `alg` is not ES256"),
        (
            json!({ "keys": [{ "kty": "oct", "kid": "one", "k": "c2VjcmV0" }] }).to_string(),
            "not a cluster's public key",
        ),
        (" ".repeat(300 * 1024), "more than a set of keys"),
    ] {
        fs::write(&path, text).unwrap();
        let error = Keys::read(&path).err().unwrap().to_string();
        assert!(error.contains(part) && error.contains("keys.json"), "{error}");
    }
    assert!(Keys::read(&folder.path().join("none")).is_err());
    assert!(pod_uid(&path).is_err());
}
