use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::SystemTime,
};

use keyferry_proto::grant::Grant;
use tokio::task::JoinSet;

use super::*;
use crate::{
    caller::Caller,
    config::{CallerMatch, GrantName, PolicyEntry, Use},
    grants::{Demand, Freshness, GrantError, Grants},
    policy::{Permit, Policy},
};

const MINUTE: Duration = Duration::from_mins(1);

/// Issues numbered tokens of one life; can be told to fail or to hang.
struct Mint {
    calls: AtomicU64,
    failing: AtomicBool,
    hanging: AtomicBool,
    life: Mutex<Duration>,
}

impl Mint {
    fn new(life: Duration) -> Arc<Self> {
        Arc::new(Self {
            calls: AtomicU64::new(0),
            failing: AtomicBool::new(false),
            hanging: AtomicBool::new(false),
            life: Mutex::new(life),
        })
    }

    fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }
}

impl Issuer for Mint {
    async fn issue(&self, _: &GrantName) -> Result<Grant, UpstreamError> {
        let number = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
        if self.hanging.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        if self.failing.load(Ordering::SeqCst) {
            return Err(too_slow());
        }
        let life = *self.life.lock().unwrap();
        Ok(Grant::new(b"token".to_vec(), SystemTime::now() + life, format!("g{number}")))
    }
}

struct Bench {
    mint: Arc<Mint>,
    grants: Arc<Grants>,
    shutdown: CancellationToken,
}

fn permit() -> Permit {
    let grant: GrantName = "snow".parse().unwrap();
    let entry = PolicyEntry {
        caller: CallerMatch { uid: Some(7), ..CallerMatch::default() },
        pipeline: "p".parse().unwrap(),
        allow: [(grant.clone(), Use::Token)].into(),
    };
    Policy::new(vec![entry]).authorize(&Caller::new(7, 7), None, &grant, Use::Token).unwrap()
}

fn start(mint: Arc<Mint>) -> Bench {
    let grants = Arc::new(Grants::new(["snow".parse().unwrap()]));
    let shutdown = CancellationToken::new();
    for slot in grants.slots() {
        let metrics = Arc::new(Metrics::default());
        tokio::spawn(keep_fresh(Arc::clone(&mint), Arc::clone(slot), MINUTE, metrics, shutdown.clone()));
    }
    Bench { mint, grants, shutdown }
}

impl Bench {
    async fn ask(&self, demand: Demand<'_>) -> Result<(String, Freshness), GrantError> {
        let served = self.grants.current(&permit(), demand).await?;
        Ok((served.grant.generation().to_owned(), served.freshness))
    }
}

#[tokio::test(start_paused = true)]
async fn a_thousand_callers_wait_for_one_call() {
    let bench = start(Mint::new(MINUTE * 60));
    let mut callers = JoinSet::new();
    for _ in 0..1000 {
        let grants = Arc::clone(&bench.grants);
        callers.spawn(async move { grants.current(&permit(), Demand::default()).await.unwrap().grant });
    }
    let tokens = callers.join_all().await;
    assert!(tokens.iter().all(|grant| grant.generation() == "g1"));
    assert_eq!(bench.mint.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_reports_of_one_refused_token_cause_one_call() {
    let bench = start(Mint::new(MINUTE * 60));
    assert_eq!(bench.ask(Demand::default()).await.unwrap().0, "g1");
    let mut callers = JoinSet::new();
    for _ in 0..1000 {
        let grants = Arc::clone(&bench.grants);
        let demand = Demand { rejected: Some("g1"), ..Demand::default() };
        callers.spawn(async move { grants.current(&permit(), demand).await.unwrap().grant });
    }
    assert!(callers.join_all().await.iter().all(|grant| grant.generation() == "g2"));
    assert_eq!(bench.mint.calls(), 2);
    let late = bench.ask(Demand { rejected: Some("g1"), ..Demand::default() }).await.unwrap();
    assert_eq!(late, ("g2".to_owned(), Freshness::Cached), "the refused one is long gone");
}

#[tokio::test(start_paused = true)]
async fn one_callers_rejection_takes_the_token_from_nobody_else() {
    let bench = start(Mint::new(MINUTE * 60));
    assert_eq!(bench.ask(Demand::default()).await.unwrap().0, "g1");
    bench.mint.failing.store(true, Ordering::SeqCst);
    let rejecting = Demand { rejected: Some("g1"), ..Demand::default() };
    assert!(bench.ask(rejecting).await.is_err(), "the issuer is away");
    for _ in 0..10 {
        let served = bench.ask(Demand::default()).await.unwrap();
        assert_eq!(served, ("g1".to_owned(), Freshness::UpstreamDown), "the others go on with what is held");
    }
    assert_eq!(bench.mint.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn rejections_without_end_cause_a_few_calls_and_then_one_each_twenty_seconds() {
    let bench = start(Mint::new(MINUTE * 60));
    let mut held = bench.ask(Demand::default()).await.unwrap().0;
    let before = Instant::now();
    let (mut renewed, mut refused) = (0, 0);
    while before.elapsed() < Duration::from_secs(100) {
        match bench.ask(Demand { rejected: Some(&held), ..Demand::default() }).await {
            Ok((newer, _)) => {
                assert_ne!(newer, held);
                held = newer;
                renewed += 1;
            }
            Err(GrantError::TooOften { wait, .. }) => {
                assert!(wait <= Duration::from_secs(20));
                assert_eq!(bench.ask(Demand::default()).await.unwrap().0, held, "others are served");
                refused += 1;
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!((6..=8).contains(&renewed) && refused > 100, "{renewed} renewed, {refused} refused");
    assert_eq!(bench.mint.calls(), renewed + 1);
    let before = bench.mint.calls();
    for _ in 0..40 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let _ = bench.ask(Demand { min_ttl: Duration::from_millis(3_599_500), ..Demand::default() }).await;
    }
    assert!(bench.mint.calls() - before <= 4, "a long min_ttl is no way around it");
}

#[tokio::test(start_paused = true)]
async fn a_token_is_renewed_behind_before_it_ends() {
    let bench = start(Mint::new(MINUTE * 60));
    assert_eq!(bench.ask(Demand::default()).await.unwrap(), ("g1".to_owned(), Freshness::Fresh));
    tokio::time::sleep(MINUTE * 41).await;
    assert_eq!(bench.ask(Demand::default()).await.unwrap(), ("g1".to_owned(), Freshness::Cached));
    tokio::time::sleep(MINUTE * 8).await;
    assert_eq!(bench.ask(Demand::default()).await.unwrap(), ("g2".to_owned(), Freshness::Cached));
    assert_eq!(bench.mint.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_invisible_while_the_token_lives_and_named_afterwards() {
    let bench = start(Mint::new(MINUTE * 60));
    bench.ask(Demand::default()).await.unwrap();
    bench.mint.failing.store(true, Ordering::SeqCst);
    tokio::time::sleep(MINUTE * 55).await;
    assert_eq!(bench.ask(Demand::default()).await.unwrap(), ("g1".to_owned(), Freshness::UpstreamDown));
    tokio::time::sleep(MINUTE * 6).await;
    let error = bench.ask(Demand::default()).await.unwrap_err();
    assert!(matches!(error, GrantError::Upstream(_)), "{error}");
    bench.mint.failing.store(false, Ordering::SeqCst);
    tokio::time::sleep(MINUTE * 2).await;
    assert!(bench.ask(Demand::default()).await.is_ok(), "served again once the upstream is back");
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_hangs_delays_nobody_who_can_be_served() {
    let bench = start(Mint::new(MINUTE * 60));
    bench.ask(Demand::default()).await.unwrap();
    bench.mint.hanging.store(true, Ordering::SeqCst);
    tokio::time::sleep(MINUTE * 48 + Duration::from_secs(5)).await;
    let before = Instant::now();
    assert_eq!(bench.ask(Demand::default()).await.unwrap().0, "g1");
    assert_eq!(before.elapsed(), Duration::ZERO);
    assert!(bench.mint.calls() >= 2);
}

#[tokio::test(start_paused = true)]
async fn failures_are_not_repeated_for_each_caller() {
    let mint = Mint::new(MINUTE * 60);
    mint.failing.store(true, Ordering::SeqCst);
    let bench = start(mint);
    for _ in 0..100 {
        assert!(bench.ask(Demand::default()).await.is_err());
    }
    assert_eq!(bench.mint.calls(), 1, "the pause after a failure holds for everybody");
}

#[tokio::test(start_paused = true)]
async fn min_ttl_beyond_the_whole_life_is_an_error_that_says_so() {
    let bench = start(Mint::new(MINUTE * 60));
    bench.ask(Demand::default()).await.unwrap();
    let error = bench.ask(Demand { min_ttl: MINUTE * 61, ..Demand::default() }).await.unwrap_err();
    assert!(matches!(error, GrantError::TtlTooLong { .. }), "{error}");
    tokio::time::sleep(MINUTE * 30).await;
    let renewed = bench.ask(Demand { min_ttl: MINUTE * 45, ..Demand::default() }).await.unwrap();
    assert_eq!(renewed, ("g2".to_owned(), Freshness::Fresh));
}

#[tokio::test(start_paused = true)]
async fn a_token_that_had_ended_when_it_came_is_not_kept() {
    let bench = start(Mint::new(Duration::ZERO));
    let error = bench.ask(Demand::default()).await.unwrap_err();
    assert!(error.to_string().contains("already ended"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_absurd_life_is_clamped() {
    let bench = start(Mint::new(MINUTE * 60 * 24 * 365 * 50));
    bench.ask(Demand::default()).await.unwrap();
    assert_eq!(bench.grants.slots().next().unwrap().longest_life(), schedule::LONGEST_LIFE);
}

#[tokio::test(start_paused = true)]
async fn the_loop_ends_with_the_shutdown_and_the_tokens_are_forgotten() {
    let bench = start(Mint::new(MINUTE * 60));
    bench.ask(Demand::default()).await.unwrap();
    bench.shutdown.cancel();
    bench.grants.wipe();
    tokio::time::sleep(MINUTE * 120).await;
    assert_eq!(bench.mint.calls(), 1);
    assert!(bench.grants.slots().next().unwrap().state().left.is_none());
}
