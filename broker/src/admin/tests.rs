use std::time::SystemTime;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::*;
use crate::{
    audit::AuditLog,
    config::Limits,
    grants::Grants,
    metrics::Metrics,
    policy::Policy,
    renew,
    run::bearers,
    testing::{self, Fake, Handle, TOKEN, until, upstream_error},
    upstream::{ErrorClass, SecretStatus, UpstreamName, UpstreamStatus},
};

struct Admin {
    fake: Arc<Fake>,
    broker: Arc<Broker<Handle>>,
    address: SocketAddr,
    draining: CancellationToken,
    _folder: tempfile::TempDir,
}

impl Admin {
    async fn start() -> Self {
        let folder = testing::folder();
        let config = testing::config(folder.path());
        let audit = AuditLog::open(&config.audit.path).unwrap();
        Self::with(folder, audit).await
    }

    async fn with(folder: tempfile::TempDir, audit: AuditLog) -> Self {
        let config = testing::config(folder.path());
        let fake = Arc::new(Fake::default());
        let policy = Policy::new(config.policy.clone());
        let grants = Arc::new(Grants::new(bearers(&config, &policy)));
        let (metrics, end) = (Arc::new(Metrics::default()), CancellationToken::new());
        let upstreams = Arc::new(Handle(Arc::clone(&fake)));
        let limits = Limits::default();
        let broker = Arc::new(Broker::new(
            upstreams,
            (policy, None),
            grants,
            audit,
            Arc::clone(&metrics),
            &limits,
            end.clone(),
        ));
        for slot in broker.grants.slots() {
            let (issuer, margin) = (Arc::clone(&broker.upstreams), limits.refresh_margin);
            tokio::spawn(renew::keep_fresh(
                issuer,
                Arc::clone(slot),
                margin,
                Arc::clone(&metrics),
                end.clone(),
            ));
        }
        let listener = bind(config.admin.listen).await.unwrap();
        let address = listener.local_addr().unwrap();
        let draining = CancellationToken::new();
        tokio::spawn(serve(Arc::clone(&broker), listener, draining.clone(), end));
        Self { fake, broker, address, draining, _folder: folder }
    }

    async fn tokens_are_held(&self) {
        until("the tokens are held", || self.broker.grants.slots().all(|slot| slot.state().left.is_some()))
            .await;
    }

    async fn ask(&self, request: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(format!("{request} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        assert!(!text.contains(TOKEN));
        let status = text.split(' ').nth(1).unwrap().parse().unwrap();
        (status, text)
    }
}

fn vault(ok: bool, until: Option<SystemTime>) -> UpstreamStatus {
    UpstreamStatus {
        name: UpstreamName::Vault,
        grant: None,
        ok,
        last_error: (!ok).then_some(ErrorClass::Sealed),
        last_code: None,
        valid_until: until,
    }
}

#[tokio::test]
async fn health_says_for_how_many_minutes_each_token_serves() {
    let admin = Admin::start().await;
    admin.tokens_are_held().await;
    let (status, text) = admin.ask("GET /health").await;
    assert_eq!(status, 200);
    assert!(text.contains(r#""status": "ok""#) && text.contains(r#""minutes_left": 59"#), "{text}");
}

#[tokio::test]
async fn an_upstream_that_is_down_degrades_health_until_what_it_gave_has_ended() {
    let admin = Admin::start().await;
    admin.tokens_are_held().await;
    let later = SystemTime::now() + Duration::from_mins(10);
    *admin.fake.status.lock().unwrap() = vec![vault(false, Some(later))];
    let (status, text) = admin.ask("GET /health").await;
    assert_eq!(status, 200);
    assert!(
        text.contains("degraded") && text.contains("sealed") && text.contains(r#""minutes_left": 9"#),
        "{text}"
    );
    *admin.fake.status.lock().unwrap() = vec![vault(false, Some(SystemTime::now()))];
    assert_eq!(admin.ask("GET /health").await.0, 503);
}

#[tokio::test]
async fn a_new_version_of_the_secret_that_does_not_work_degrades_health_and_is_named() {
    let admin = Admin::start().await;
    admin.tokens_are_held().await;
    *admin.fake.secret.lock().unwrap() = SecretStatus {
        version_in_use: 3,
        newest_version: 4,
        problem: Some("version 4 does not work".to_owned()),
        restart_needs: Some("a new wrapped secret_id"),
    };
    let (status, text) = admin.ask("GET /health").await;
    assert_eq!(status, 200, "what is held serves on");
    for says in ["degraded", r#""version_in_use": 3"#, "version 4 does not work", "a new wrapped secret_id"] {
        assert!(text.contains(says), "{says}: {text}");
    }
}

#[tokio::test]
async fn health_is_down_while_a_token_that_policy_names_is_missing() {
    let admin = Admin::start().await;
    *admin.fake.fails.lock().unwrap() = Some(upstream_error(ErrorClass::Credential));
    admin.broker.grants.wipe();
    let (status, text) = admin.ask("GET /health").await;
    assert_eq!(status, 503);
    assert!(text.contains("down"), "{text}");
}

#[tokio::test]
async fn health_is_down_while_the_audit_log_cannot_be_written() {
    let admin = Admin::with(testing::folder(), AuditLog::on_a_full_disk()).await;
    admin.tokens_are_held().await;
    assert_eq!(admin.ask("GET /health").await.0, 200);
    let record = crate::audit::Record::new("GetToken", crate::audit::Outcome::Granted);
    assert!(admin.broker.audit.record(record).await.is_err());
    assert_eq!(admin.ask("GET /health").await.0, 503);
}

#[tokio::test]
async fn a_draining_broker_asks_for_no_more_callers() {
    let admin = Admin::start().await;
    admin.tokens_are_held().await;
    admin.draining.cancel();
    let (status, text) = admin.ask("GET /health").await;
    assert_eq!(status, 503);
    assert!(text.contains("draining"), "{text}");
}

#[tokio::test]
async fn metrics_count_grants_upstream_calls_sessions_and_seconds_to_expiry() {
    let admin = Admin::start().await;
    admin.tokens_are_held().await;
    admin.broker.metrics.answered("analytics", "OpenSession", "granted");
    admin.broker.metrics.refused("not_its_grant");
    let open = admin.broker.metrics.session_opened("analytics");
    let (status, text) = admin.ask("GET /metrics").await;
    assert_eq!(status, 200);
    for line in [
        r#"keyferry_broker_grants_total{grant="analytics",call="OpenSession",outcome="granted"} 1"#,
        r#"keyferry_broker_denied_total{reason="not_its_grant"} 1"#,
        r#"keyferry_broker_events_total{event="SecretIdIntercepted"} 0"#,
        r#"keyferry_broker_upstream_calls_total{call="bearer",outcome="ok"} 2"#,
        r#"keyferry_broker_sessions_open{grant="analytics"} 1"#,
        r#"keyferry_broker_seconds_to_expiry{grant="reporting"} 35"#,
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    drop(open);
    assert!(admin.ask("GET /metrics").await.1.contains(r#"sessions_open{grant="analytics"} 0"#));
}

#[tokio::test]
async fn nothing_else_is_served_and_nothing_can_be_changed() {
    let admin = Admin::start().await;
    assert_eq!(admin.ask("GET /").await.0, 404);
    assert_eq!(admin.ask("POST /health").await.0, 405);
}
