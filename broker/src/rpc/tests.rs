use std::{sync::atomic::Ordering, time::Duration};

use keyferry_proto::v1::{
    self, GetSettingsRequest, GetTokenRequest, GssBegin, GssClient, OpenSessionRequest, ReportOutcomeRequest,
    SnowflakeSession, WatchTokenRequest, WhoAmIRequest, credentials_client::CredentialsClient,
    gss_client::Message,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::{
    audit::AuditLog,
    testing::{Bench, TOKEN, dial, until, upstream_error},
    upstream::ErrorClass,
};

fn token_of(grant: &str) -> GetTokenRequest {
    GetTokenRequest { grant: grant.to_owned(), run_id: "run-1".to_owned(), ..GetTokenRequest::default() }
}

fn watch_of(grant: &str) -> WatchTokenRequest {
    WatchTokenRequest { grant: grant.to_owned(), ..WatchTokenRequest::default() }
}

fn session_of(grant: &str) -> OpenSessionRequest {
    OpenSessionRequest { grant: grant.to_owned(), ..OpenSessionRequest::default() }
}

fn rejected(grant: &str, generation: &str) -> ReportOutcomeRequest {
    ReportOutcomeRequest {
        grant: grant.to_owned(),
        generation: generation.to_owned(),
        outcome: v1::Outcome::Rejected.into(),
        code: "390112".to_owned(),
        ..ReportOutcomeRequest::default()
    }
}

impl Bench {
    async fn open(&self) -> Result<Streaming<SnowflakeSession>, Status> {
        Ok(self.client.clone().open_session(session_of("analytics")).await?.into_inner())
    }

    /// The audit lines of one event, as `outcome detail`.
    fn lines(&self, event: &str) -> Vec<String> {
        let lines = self.audit();
        let of_event = lines.iter().filter(|line| line["event"] == event);
        of_event
            .map(|line| {
                format!("{} {}", line["outcome"].as_str().unwrap(), line["detail"].as_str().unwrap_or(""))
            })
            .collect()
    }
}

#[tokio::test]
async fn a_caller_is_told_who_it_is_and_what_it_may_ask_for() {
    let bench = Bench::start().await;
    let answer = bench.client.clone().who_am_i(WhoAmIRequest {}).await.unwrap().into_inner();
    assert_eq!(answer.uid, nix::unistd::geteuid().as_raw());
    let rights: Vec<(&str, v1::Use)> =
        answer.pipelines[0].rights.iter().map(|right| (right.grant.as_str(), right.r#use())).collect();
    assert_eq!(
        rights,
        [("analytics", v1::Use::Session), ("reporting", v1::Use::Token), ("sales-sql", v1::Use::Relay)]
    );
    let held: Vec<bool> = answer.pipelines[0].rights.iter().map(|right| right.held_until.is_some()).collect();
    assert!(!held[2], "a relayed grant has no bearer token");
    assert_eq!(bench.audit()[0]["id"], answer.audit_id.as_str());
    let token = bench.client.clone().get_token(token_of("reporting")).await.unwrap().into_inner();
    let answer = bench.client.clone().who_am_i(WhoAmIRequest {}).await.unwrap().into_inner();
    assert_eq!(answer.pipelines[0].rights[1].held_until, token.expires_at);
}

#[tokio::test]
async fn a_token_is_given_after_its_line_in_the_audit_log() {
    let bench = Bench::start().await;
    let token = bench.client.clone().get_token(token_of("reporting")).await.unwrap().into_inner();
    assert_eq!(token.value, TOKEN.as_bytes());
    let line = bench.audit().into_iter().find(|line| line["event"] == "GetToken").unwrap();
    assert_eq!(line["id"], token.audit_id.as_str());
    assert_eq!((&line["generation"], &line["run_id"]), (&token.generation.as_str().into(), &"run-1".into()));
    let again = bench.client.clone().get_token(token_of("reporting")).await.unwrap().into_inner();
    assert_eq!(
        (again.generation.as_str(), again.freshness()),
        (token.generation.as_str(), v1::Freshness::Cached)
    );
}

#[tokio::test]
async fn a_watch_hands_over_the_token_held_then_each_new_one_each_with_its_line() {
    let bench = Bench::start().await;
    let mut watch = bench.client.clone().watch_token(watch_of("reporting")).await.unwrap().into_inner();
    let first = watch.message().await.unwrap().unwrap();
    assert_eq!(first.value, TOKEN.as_bytes());
    let another = GetTokenRequest { rejected_generation: first.generation.clone(), ..token_of("reporting") };
    let newer = bench.client.clone().get_token(another).await.unwrap().into_inner();
    let second = watch.message().await.unwrap().unwrap();
    assert_eq!(second.generation, newer.generation);
    assert_ne!(second.generation, first.generation);
    let ids: Vec<_> = bench.audit().iter().filter(|line| line["event"] == "WatchToken").cloned().collect();
    assert_eq!((&ids[0]["id"], &ids[1]["id"]), (&first.audit_id.into(), &second.audit_id.into()));
    drop(watch);
    until("its end is noted", || bench.lines("WatchEnded") == ["noted the caller ended it"]).await;
}

#[tokio::test]
async fn a_watch_needs_the_use_token_and_a_place() {
    let bench = Bench::with(|config| config.limits.watches_per_uid = 1).await;
    let mut client = bench.client.clone();
    let status = client.watch_token(watch_of("analytics")).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    let _one = client.watch_token(watch_of("reporting")).await.unwrap().into_inner();
    let status = client.watch_token(watch_of("reporting")).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
}

#[tokio::test]
async fn a_broker_that_stops_ends_its_watches_at_once_and_says_so() {
    let bench = Bench::with(|config| config.limits.drain = Duration::from_mins(10)).await;
    let mut watch = bench.client.clone().watch_token(watch_of("reporting")).await.unwrap().into_inner();
    watch.message().await.unwrap().unwrap();
    bench.shutdown.cancel();
    let status = watch.message().await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    drop((watch, bench.client));
    tokio::time::timeout(Duration::from_secs(20), bench.serving).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn what_policy_does_not_name_is_refused_with_a_line() {
    let bench = Bench::start().await;
    for (grant, reason) in [("analytics", "other_use"), ("nothing", "not_its_grant")] {
        let status = bench.client.clone().get_token(token_of(grant)).await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied, "{status}");
        assert!(bench.lines("GetToken").last().unwrap().starts_with(&format!("denied {reason}")));
    }
    let other = GetTokenRequest { pipeline: "q".to_owned(), ..token_of("reporting") };
    let status = bench.client.clone().get_token(other).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_call_without_the_metadata_key_is_refused() {
    let bench = Bench::start().await;
    let status = CredentialsClient::new(stranger(&bench).await).who_am_i(WhoAmIRequest {}).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    assert_eq!(bench.lines("WhoAmI").len(), 1);
}

/// A channel without the client's own ways: what a stranger could send.
async fn stranger(bench: &Bench) -> tonic::transport::Channel {
    let path = bench.socket.clone();
    let connector = tower::service_fn(move |_: tonic::transport::Uri| {
        let path = path.clone();
        async move { tokio::net::UnixStream::connect(path).await.map(hyper_util::rt::TokioIo::new) }
    });
    tonic::transport::Endpoint::from_static("http://x").connect_with_connector(connector).await.unwrap()
}

/// Posts a message by hand, and returns gRPC's own status.
async fn post(bench: &Bench, method: &str, encoding: Option<&str>, message: &[u8]) -> Code {
    use http_body_util::BodyExt as _;
    use tonic::codegen::{Service as _, http};
    use tower::ServiceExt as _;
    let mut request = http::Request::post(format!("http://x/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header(keyferry_proto::METADATA_KEY, keyferry_proto::METADATA_VALUE);
    if let Some(encoding) = encoding {
        request = request.header("grpc-encoding", encoding);
    }
    let mut frame = vec![u8::from(encoding.is_some())];
    frame.extend((message.len() as u32).to_be_bytes());
    frame.extend(message);
    let body = tonic::body::Body::new(http_body_util::Full::new(bytes::Bytes::from(frame)));
    let mut channel = stranger(bench).await;
    let response = channel.ready().await.unwrap().call(request.body(body).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let trailers = body.collect().await.unwrap().trailers().cloned().unwrap_or_default();
    let status = parts.headers.get("grpc-status").or_else(|| trailers.get("grpc-status")).cloned().unwrap();
    Code::from_bytes(status.as_bytes())
}

const WHO_AM_I: &str = "keyferry.v1.Credentials/WhoAmI";

#[tokio::test]
async fn reflection_and_every_other_service_are_off() {
    let bench = Bench::start().await;
    assert_eq!(post(&bench, WHO_AM_I, None, b"").await, Code::Ok, "the control: this is how to ask");
    for method in [
        "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        "grpc.channelz.v1.Channelz/GetServers",
        "keyferry.v1.Credentials/Everything",
    ] {
        assert_eq!(post(&bench, method, None, b"").await, Code::Unimplemented, "{method}");
    }
}

#[tokio::test]
async fn a_compressed_message_is_refused_unread() {
    let bench = Bench::start().await;
    // The head of a gzip member: what follows it could be a terabyte of zeros.
    let bomb = [0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 3];
    for encoding in ["gzip", "deflate", "zstd"] {
        assert_eq!(post(&bench, WHO_AM_I, Some(encoding), &bomb).await, Code::Unimplemented, "{encoding}");
    }
    let refused = post(&bench, WHO_AM_I, Some("identity"), &bomb).await;
    assert_ne!(refused, Code::Ok, "compressed, and said not to be");
}

#[tokio::test]
async fn malformed_requests_get_one_line_and_an_answer_that_names_the_field() {
    let bench = Bench::start().await;
    let mut client = bench.client.clone();
    let long = "x".repeat(40_000);
    for bad in ["", "../x", "a\0", "a\nb", long.as_str()] {
        let status = client.get_token(token_of(bad)).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().starts_with("`grant`"), "{status}");
        assert!(status.message().len() < 300);
    }
    assert_eq!(bench.lines("GetToken").len(), 5);
    let negative = prost_types::Duration { seconds: -1, nanos: 0 };
    let status = client.get_token(GetTokenRequest { min_ttl: Some(negative), ..token_of("reporting") }).await;
    assert_eq!(status.unwrap_err().code(), Code::InvalidArgument);
    let day = prost_types::Duration { seconds: 86_400, nanos: 0 };
    client.get_token(token_of("reporting")).await.unwrap();
    let status =
        client.get_token(GetTokenRequest { min_ttl: Some(day), ..token_of("reporting") }).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "longer than the token's whole life: {status}");
}

#[tokio::test]
async fn a_message_beyond_64_kib_is_refused() {
    let bench = Bench::start().await;
    let huge = GetTokenRequest { run_id: "x".repeat(63 * 1024), ..token_of("reporting") };
    let status = bench.client.clone().get_token(huge).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "within the limit, the name is refused");
    let mut unbounded = bench.client.clone().max_encoding_message_size(1 << 20);
    let huge = GetTokenRequest { run_id: "x".repeat(65 * 1024), ..token_of("reporting") };
    let status = unbounded.get_token(huge).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status}");
}

#[tokio::test]
async fn nothing_is_granted_while_the_audit_log_cannot_be_written() {
    let bench = Bench::with_audit(|_| (), |_| AuditLog::on_a_full_disk()).await;
    let mut client = bench.client.clone();
    for status in [
        client.get_token(token_of("reporting")).await.unwrap_err(),
        client.open_session(session_of("analytics")).await.unwrap_err(),
        client
            .get_settings(GetSettingsRequest { grant: "analytics".to_owned(), ..Default::default() })
            .await
            .unwrap_err(),
        client.who_am_i(WhoAmIRequest {}).await.unwrap_err(),
        client.get_token(token_of("nothing")).await.unwrap_err(),
    ] {
        assert_eq!(status.code(), Code::Unavailable);
        assert!(status.message().contains("nothing is granted"), "{status}");
    }
    let (_sender, mut answers) = relay(&bench, "sales-sql").await;
    assert_eq!(answers.message().await.unwrap_err().code(), Code::Unavailable);
    until("the session that could not be audited is closed", || {
        bench.fake.closed.load(Ordering::SeqCst) == 1
    })
    .await;
}

#[tokio::test]
async fn a_refusing_upstream_is_permanent_and_one_that_is_down_is_worth_another_try() {
    let bench = Bench::start().await;
    bench.client.clone().get_token(token_of("reporting")).await.unwrap();
    *bench.fake.fails.lock().unwrap() = Some(upstream_error(ErrorClass::Credential));
    let status = bench.open().await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::FailedPrecondition, "entra: asking for a token: no; mend it [B304]")
    );
    *bench.fake.fails.lock().unwrap() = Some(upstream_error(ErrorClass::Unreachable));
    assert_eq!(bench.open().await.unwrap_err().code(), Code::Unavailable);
    let served = bench.client.clone().get_token(token_of("reporting")).await;
    assert!(served.is_ok(), "a token that is held is served whatever the upstream does");
}

#[tokio::test]
async fn a_session_is_renewed_ahead_of_expiry_and_closed_when_the_caller_ends_the_stream() {
    let bench = Bench::start().await;
    *bench.fake.session_life.lock().unwrap() = Duration::from_secs(1);
    let mut stream = bench.open().await.unwrap();
    let first = stream.message().await.unwrap().unwrap();
    assert_eq!(
        (first.role.as_str(), first.warehouse.as_str(), first.user.as_str()),
        ("LOADER", "LOAD_WH", "SVC")
    );
    let second = stream.message().await.unwrap().unwrap();
    assert_eq!(first.session_id, second.session_id);
    assert_ne!(first.generation, second.generation);
    let early = std::time::SystemTime::try_from(first.expires_at.unwrap()).unwrap();
    assert!(std::time::SystemTime::now() < early, "the new one comes before the old one ends");
    drop(stream);
    until("the session is closed upstream", || bench.fake.closed.load(Ordering::SeqCst) == 1).await;
    until("its end is noted", || bench.lines("SessionEnded").len() == 1).await;
    assert_eq!(bench.lines("SessionEnded"), ["noted the caller ended it"]);
}

#[tokio::test]
async fn a_report_that_a_token_was_refused_renews_that_session_at_once_and_only_that() {
    let bench = Bench::start().await;
    let (mut one, mut two) = (bench.open().await.unwrap(), bench.open().await.unwrap());
    let held = one.message().await.unwrap().unwrap().generation;
    two.message().await.unwrap();
    let report = |generation: &str| {
        let (mut client, request) = (bench.client.clone(), rejected("analytics", generation));
        async move { client.report_outcome(request).await.unwrap().into_inner().renewing }
    };
    assert!(!report("session-9-9").await);
    assert!(report(&held).await);
    let newer = one.message().await.unwrap().unwrap();
    assert_ne!(newer.generation, held);
    assert!(!report(&held).await, "the refused one is gone already");
    assert_eq!(bench.fake.renewed.load(Ordering::SeqCst), 1);
    assert!(tokio::time::timeout(Duration::from_millis(50), two.message()).await.is_err());
}

#[tokio::test]
async fn a_report_about_a_bearer_token_is_heard_only_from_who_may_hold_it() {
    let bench = Bench::start().await;
    let mut client = bench.client.clone();
    let token = client.get_token(token_of("reporting")).await.unwrap().into_inner();
    let report = rejected("analytics", &token.generation);
    assert!(!client.report_outcome(report).await.unwrap().into_inner().renewing);
    let report = rejected("reporting", &token.generation);
    assert!(client.report_outcome(report).await.unwrap().into_inner().renewing);
    let another = GetTokenRequest { rejected_generation: token.generation.clone(), ..token_of("reporting") };
    let newer = client.get_token(another).await.unwrap().into_inner();
    assert_ne!(newer.generation, token.generation);
}

#[tokio::test]
async fn a_login_that_refuses_a_held_bearer_token_is_tried_once_with_a_new_one() {
    let bench = Bench::start().await;
    drop(bench.open().await.unwrap());
    let held = bench.audit().len();
    assert!(held > 0);
    // Both grants fetched one at the start; the generation of the one for sessions is one of the two.
    let before = bench.fake.bearers.load(Ordering::SeqCst);
    for generation in ["bearer-1", "bearer-2"] {
        *bench.fake.refuses_bearer.lock().unwrap() = Some(generation.to_owned());
        assert!(bench.open().await.is_ok());
    }
    assert_eq!(bench.fake.bearers.load(Ordering::SeqCst), before + 1);
}

#[tokio::test]
async fn a_caller_that_leaves_in_the_middle_of_the_login_leaves_no_session_behind() {
    let bench = Bench::start().await;
    *bench.fake.login_takes.lock().unwrap() = Duration::from_millis(200);
    let left = tokio::time::timeout(Duration::from_millis(50), bench.open()).await;
    assert!(left.is_err());
    until("the login is over", || bench.fake.opened.load(Ordering::SeqCst) == 1).await;
    until("the session is closed", || bench.fake.closed.load(Ordering::SeqCst) == 1).await;
}

#[tokio::test]
async fn role_warehouse_and_number_of_sessions_are_the_grants_and_the_limits_not_the_callers() {
    let bench = Bench::with(|config| config.limits.sessions_per_uid = 2).await;
    let mut client = bench.client.clone();
    let request = OpenSessionRequest { role: "ACCOUNTADMIN".to_owned(), ..session_of("analytics") };
    let status = client.open_session(request).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(status.message().contains("LOADER, READER"), "{status}");
    let (one, _two) = (bench.open().await.unwrap(), bench.open().await.unwrap());
    assert_eq!(bench.open().await.unwrap_err().code(), Code::ResourceExhausted);
    drop(one);
    until("there is room again", || bench.fake.closed.load(Ordering::SeqCst) == 1).await;
    until("the place is free", || bench.lines("SessionEnded").len() == 1).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(bench.open().await.is_ok());
}

#[tokio::test]
async fn reports_of_a_refused_token_hurry_no_renewal_that_has_just_failed() {
    let bench = Bench::start().await;
    let mut stream = bench.open().await.unwrap();
    let held = stream.message().await.unwrap().unwrap().generation;
    *bench.fake.fails.lock().unwrap() = Some(upstream_error(ErrorClass::Busy));
    let before = std::time::Instant::now();
    for _ in 0..40 {
        bench.client.clone().report_outcome(rejected("analytics", &held)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let tried = bench.fake.renewals_tried.load(Ordering::SeqCst);
    // Pauses are 250 ms at the least after the first failure, and double.
    let most = 1 + before.elapsed().as_millis().div_ceil(250);
    assert!(tried >= 1 && u128::from(tried) <= most, "{tried} attempts, {most} allowed");
    *bench.fake.fails.lock().unwrap() = None;
    let newer = stream.message().await.unwrap().unwrap();
    assert_ne!(newer.generation, held, "it is renewed once Snowflake answers again");
}

#[tokio::test]
async fn a_session_that_is_refused_a_renewal_ends_with_the_reason() {
    let bench = Bench::start().await;
    let mut stream = bench.open().await.unwrap();
    let held = stream.message().await.unwrap().unwrap().generation;
    *bench.fake.fails.lock().unwrap() = Some(upstream_error(ErrorClass::Credential));
    bench.client.clone().report_outcome(rejected("analytics", &held)).await.unwrap();
    assert_eq!(stream.message().await.unwrap_err().code(), Code::FailedPrecondition);
    until("it is closed upstream", || bench.fake.closed.load(Ordering::SeqCst) == 1).await;
}

async fn relay(bench: &Bench, grant: &str) -> (mpsc::Sender<GssClient>, Streaming<v1::GssServer>) {
    let (sender, receiver) = mpsc::channel(4);
    let begin = GssBegin { grant: grant.to_owned(), ..GssBegin::default() };
    sender.send(GssClient { message: Some(Message::Begin(begin)) }).await.unwrap();
    let answers = bench.client.clone().initiate(ReceiverStream::new(receiver)).await.unwrap().into_inner();
    (sender, answers)
}

fn from_server(token: &[u8]) -> GssClient {
    GssClient { message: Some(Message::ServerToken(token.to_vec())) }
}

#[tokio::test]
async fn a_relay_ends_when_the_server_has_proved_itself_and_the_audit_log_says_so() {
    let bench = Bench::start().await;
    let (sender, mut answers) = relay(&bench, "sales-sql").await;
    let first = answers.message().await.unwrap().unwrap();
    assert!(!first.complete && first.token == TOKEN.as_bytes());
    sender.send(from_server(b"server")).await.unwrap();
    let last = answers.message().await.unwrap().unwrap();
    assert!(last.complete && last.token.is_empty());
    assert!(answers.message().await.unwrap().is_none());
    assert_eq!(
        bench.lines("Initiate"),
        ["granted token for one connection attempt", "granted the server proved itself"]
    );
    let mutual: Vec<bool> = bench.audit().iter().filter_map(|line| line["mutual"].as_bool()).collect();
    assert_eq!(mutual, [false, true]);
}

#[tokio::test]
async fn a_server_that_does_not_prove_itself_is_refused() {
    let bench = Bench::start().await;
    bench.fake.proves_itself.store(false, Ordering::SeqCst);
    let (sender, mut answers) = relay(&bench, "sales-sql").await;
    answers.message().await.unwrap();
    sender.send(from_server(b"server")).await.unwrap();
    let status = answers.message().await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(bench.lines("Initiate")[1].starts_with("failed the server did not prove itself"));
}

#[tokio::test]
async fn an_exchange_that_the_caller_leaves_is_noted_as_incomplete() {
    let bench = Bench::start().await;
    let (sender, mut answers) = relay(&bench, "sales-sql").await;
    answers.message().await.unwrap();
    drop(sender);
    assert!(answers.message().await.unwrap().is_none());
    assert_eq!(bench.lines("Initiate")[1], "noted incomplete: the caller ended the exchange");
}

#[tokio::test]
async fn every_way_in_which_an_exchange_ends_early_has_its_line() {
    let bench = Bench::start().await;
    let last = || bench.lines("Initiate").last().cloned().unwrap_or_default();
    let lines = |count| move |bench: &Bench| bench.lines("Initiate").len() == count;

    // The caller hangs up before it has said anything, and with both halves at once.
    let (sender, receiver) = mpsc::channel::<GssClient>(1);
    let answers = bench.client.clone().initiate(ReceiverStream::new(receiver)).await.unwrap();
    drop((sender, answers));
    until("the first is noted", || lines(1)(&bench)).await;
    assert!(
        last().starts_with("noted incomplete: the caller") || last().contains("no message"),
        "{}",
        last()
    );

    // It hangs up in the middle.
    let (sender, mut answers) = relay(&bench, "sales-sql").await;
    answers.message().await.unwrap();
    drop((answers, sender));
    until("the second is noted", || lines(3)(&bench)).await;
    assert!(last().starts_with("noted incomplete: the caller"), "{}", last());

    // The broker stops while one waits for its server.
    let (_sender, mut answers) = relay(&bench, "sales-sql").await;
    answers.message().await.unwrap();
    bench.shutdown.cancel();
    assert!(answers.message().await.is_err());
    until("the third is noted", || lines(5)(&bench)).await;
    assert_eq!(last(), "noted incomplete: the broker stops");
}

#[tokio::test]
async fn a_relay_begins_with_begin_and_needs_the_use_relay() {
    let bench = Bench::start().await;
    let (sender, receiver) = mpsc::channel(4);
    sender.send(from_server(b"server")).await.unwrap();
    let answers = bench.client.clone().initiate(ReceiverStream::new(receiver)).await.unwrap();
    assert_eq!(answers.into_inner().message().await.unwrap_err().code(), Code::InvalidArgument);
    let (_sender, mut answers) = relay(&bench, "analytics").await;
    assert_eq!(answers.message().await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn settings_are_given_for_any_use_of_the_grant() {
    let bench = Bench::start().await;
    let ask = |grant: &str| GetSettingsRequest { grant: grant.to_owned(), ..GetSettingsRequest::default() };
    let mut client = bench.client.clone();
    let settings = client.get_settings(ask("sales-sql")).await.unwrap().into_inner().settings;
    assert!(matches!(settings, Some(v1::settings::Settings::SqlServer(sql)) if sql.host == "sql01"));
    assert!(client.get_settings(ask("analytics")).await.is_ok());
    assert_eq!(client.get_settings(ask("nothing")).await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_call_that_meets_a_defect_fails_alone() {
    let bench = Bench::start().await;
    let mut client = bench.client.clone();
    let ask = || GetSettingsRequest { grant: "sales-sql".to_owned(), ..GetSettingsRequest::default() };
    bench.fake.has_a_defect.store(true, Ordering::SeqCst);
    let mut neighbour = bench.client.clone();
    let (failed, other) = tokio::join!(client.get_settings(ask()), neighbour.who_am_i(WhoAmIRequest {}));
    let failed = failed.unwrap_err();
    assert!(!failed.message().contains("a defect"), "{failed:?}");
    assert!(other.is_ok(), "{other:?}");
    bench.fake.has_a_defect.store(false, Ordering::SeqCst);
    let mut again = dial(&bench.socket).await;
    assert!(again.get_settings(ask()).await.is_ok());
}

#[tokio::test]
async fn calls_beyond_the_rate_are_refused_with_one_line() {
    let bench = Bench::with(|config| config.limits.calls_per_second = 1).await;
    let mut client = bench.client.clone();
    let mut codes = Vec::new();
    for _ in 0..10 {
        codes.push(client.who_am_i(WhoAmIRequest {}).await.err().map(|status| status.code()));
    }
    assert_eq!(codes[..2], [None, None]);
    assert!(codes[2..].iter().filter(|code| **code == Some(Code::ResourceExhausted)).count() >= 7);
    let refused = bench.lines("WhoAmI").iter().filter(|line| line.starts_with("denied rate")).count();
    assert!((1..=2).contains(&refused), "{refused} lines");
}

#[tokio::test]
async fn a_stop_lets_open_sessions_go_on_for_a_while_then_closes_them() {
    let bench = Bench::start().await;
    let mut stream = bench.open().await.unwrap();
    stream.message().await.unwrap();
    bench.shutdown.cancel();
    assert!(tokio::time::timeout(Duration::from_millis(100), stream.message()).await.is_err(), "still open");
    bench.serving.await.unwrap().unwrap();
    assert_eq!(bench.fake.closed.load(Ordering::SeqCst), 1);
    assert!(!bench.socket.exists(), "the socket is gone");
    assert!(stream.message().await.is_err() || stream.message().await.unwrap().is_none());
}

#[tokio::test]
async fn a_stop_with_nothing_open_is_immediate() {
    let bench = Bench::with(|config| config.limits.drain = Duration::from_mins(1)).await;
    let second = dial(&bench.socket).await;
    bench.shutdown.cancel();
    drop(second);
    tokio::time::timeout(Duration::from_secs(5), bench.serving).await.unwrap().unwrap().unwrap();
}
