//! Answers that are too long, too late, cut off or from elsewhere.

use serde_json::json;

use super::{
    server::{Reply, Server},
    *,
};

fn client(server: &Server) -> Http {
    Http::new(UpstreamName::Vault, Some(server.ca())).unwrap().with_deadline(Duration::from_secs(2))
}

async fn ask(http: &Http, url: &str) -> Result<Answer, UpstreamError> {
    let url = url::Url::parse(url).unwrap();
    http.send("asking", http.request(reqwest::Method::GET, url)).await
}

async fn class_of(reply: fn() -> Reply) -> (ErrorClass, String) {
    let server = Server::start(move |_| reply()).await;
    let error = ask(&client(&server), &server.url).await.err().unwrap();
    (error.class(), error.to_string())
}

#[tokio::test]
async fn an_endless_body_ends_at_the_limit() {
    let (class, text) = class_of(|| Reply::Endless).await;
    assert_eq!(class, ErrorClass::BadReply);
    assert!(text.contains("more than 1048576 bytes"), "{text}");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Server::start(|_| Reply::Json(200, json!({}))).await;
    let target = elsewhere.url.clone();
    let server = Server::start(move |_| Reply::With(307, ("location", target.clone()), json!({}))).await;
    let error = ask(&client(&server), &server.url).await.err().unwrap();
    assert_eq!(error.class(), ErrorClass::BadReply);
    assert!(elsewhere.seen().is_empty());
}

#[tokio::test]
async fn silence_ends_at_the_deadline() {
    let server = Server::start(|_| Reply::Silence).await;
    let http = client(&server).with_deadline(Duration::from_millis(200));
    let error = ask(&http, &server.url).await.err().unwrap();
    assert_eq!(error.class(), ErrorClass::Unreachable);
    assert!(error.to_string().contains("200ms"), "{error}");
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_no_answer() {
    let (class, text) = class_of(|| Reply::CutOff).await;
    assert_eq!(class, ErrorClass::Unreachable);
    assert!(text.contains("broke off"), "{text}");
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused_before_anything_is_sent() {
    let server = Server::start(|_| Reply::Json(200, json!({}))).await;
    let other = Server::start(|_| Reply::Json(200, json!({}))).await;
    let error = ask(&client(&other), &server.url).await.err().unwrap();
    assert!(error.to_string().contains("certificate"), "{error}");
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn certificates_that_ended_have_not_begun_or_are_for_others_are_refused_before_anything_is_sent() {
    let expired = Server::with_certificate(|leaf| leaf.not_after = rcgen::date_time_ymd(2020, 1, 1)).await;
    let future = Server::with_certificate(|leaf| leaf.not_before = rcgen::date_time_ymd(2200, 1, 1)).await;
    let other_host = Server::with_certificate(|leaf| {
        leaf.subject_alt_names = vec![rcgen::SanType::DnsName("vault.example.com".try_into().unwrap())];
    })
    .await;
    let for_clients = Server::with_certificate(|leaf| {
        leaf.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    })
    .await;
    for (what, server) in [
        ("expired", expired),
        ("of tomorrow", future),
        ("another host's", other_host),
        ("a client's", for_clients),
    ] {
        let error = ask(&client(&server), &server.url).await.err().unwrap();
        assert_eq!(error.class(), ErrorClass::Unreachable, "{what}: {error}");
        assert!(error.to_string().contains("certificate"), "{what}: {error}");
        assert!(server.seen().is_empty(), "{what}: something was sent");
    }
}

#[tokio::test]
async fn plain_http_is_refused() {
    let server = Server::start(|_| Reply::Json(200, json!({}))).await;
    let plain = server.url.replace("https", "http");
    assert!(ask(&client(&server), &plain).await.is_err());
}

#[tokio::test]
async fn both_forms_of_retry_after_are_read_and_bounded() {
    let later = time::OffsetDateTime::now_utc() + Duration::from_mins(2);
    let format = time::macros::format_description!(
        "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
    );
    for (value, least, most) in [
        ("7".to_owned(), 7, 7),
        ("99999999999".to_owned(), 3600, 3600),
        (later.format(format).unwrap(), 110, 120),
        ("Wed, 21 Oct 2015 07:28:00 GMT".to_owned(), 0, 0),
    ] {
        let header = value.clone();
        let server =
            Server::start(move |_| Reply::With(429, ("retry-after", header.clone()), json!({}))).await;
        let wait = ask(&client(&server), &server.url).await.unwrap().retry_after().unwrap().as_secs();
        assert!((least..=most).contains(&wait), "{value}: {wait}");
    }
    let server = Server::start(|_| Reply::With(429, ("retry-after", "soon".to_owned()), json!({}))).await;
    assert_eq!(ask(&client(&server), &server.url).await.unwrap().retry_after(), None);
}

#[test]
fn a_ca_file_that_is_missing_or_empty_is_named() {
    let error = Http::new(UpstreamName::Vault, Some(Path::new("/no/ca.pem"))).err().unwrap();
    assert!(error.to_string().contains("/no/ca.pem"), "{error}");
    let empty = tempfile::NamedTempFile::new().unwrap();
    assert!(Http::new(UpstreamName::Vault, Some(empty.path())).is_err());
}

#[test]
fn a_body_that_grows_keeps_every_byte() {
    let mut body = Zeroizing::new(Vec::with_capacity(4));
    for _ in 0..100 {
        append(&mut body, Bytes::from_static(b"abcdefg"));
    }
    assert_eq!(*body, b"abcdefg".repeat(100));
}
