//! Tests: what callers get while Entra throttles or refuses, and while Vault lets the broker's token run out.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use keyferry_stand_in_identity::entra::{Application, ClientSecret};
use tokio_util::sync::CancellationToken;

use super::{
    ErrorClass,
    tests::{APPLICATION, fields, name, upstreams, upstreams_with},
};
use crate::{
    caller::Caller,
    config::{CallerMatch, PolicyEntry, Use},
    grants::{Demand, Freshness, GrantError, Grants},
    metrics::Metrics,
    policy::{Permit, Policy},
    renew,
    testing::{fault_row, until},
};

const NEVER: Duration = Duration::from_hours(24);

fn permit() -> Permit {
    let grant = name("analytics");
    let entry = PolicyEntry {
        caller: CallerMatch { uid: Some(7), ..CallerMatch::default() },
        pipeline: "p".parse().unwrap(),
        allow: [(grant.clone(), Use::Token)].into(),
    };
    Policy::new(vec![entry]).authorize(&Caller::new(7, 7), None, &grant, Use::Token).unwrap()
}

#[tokio::test]
async fn an_entra_that_asks_for_a_minute_of_silence_gets_it_and_callers_the_held_token_to_its_end() {
    let upstreams = upstreams_with(fields(), Duration::from_secs(7), |_| ()).await;
    let running = upstreams.run(upstreams.config(None), NEVER).await;
    let (grants, end) = (Arc::new(Grants::new([name("analytics")])), CancellationToken::new());
    let slot = Arc::clone(grants.slots().next().unwrap());
    let keeping = tokio::spawn(renew::keep_fresh(
        Arc::clone(&running.upstream),
        Arc::clone(&slot),
        Duration::from_secs(1),
        Arc::new(Metrics::default()),
        end.clone(),
    ));
    let first = grants.current(&permit(), Demand::default()).await.unwrap();
    upstreams.entra.faults(|faults| faults.throttle = Some((1000, Duration::from_mins(1))));
    until("a renewal was refused", || slot.state().error.is_some()).await;
    assert_eq!((upstreams.entra.calls(), upstreams.entra.fired()), (2, 1));
    let served = grants.current(&permit(), Demand::default()).await.unwrap();
    assert_eq!(served.freshness, Freshness::UpstreamDown);
    assert_eq!(served.grant.generation(), first.grant.generation());
    until("the token has ended", || first.grant.expires_at() <= SystemTime::now()).await;
    let error = grants.current(&permit(), Demand::default()).await.unwrap_err();
    let GrantError::Upstream(error) = error else { panic!("{error}") };
    assert!(!error.is_permanent() && error.retry_after().is_some(), "{error}");
    assert_eq!(upstreams.entra.calls(), 2, "no call inside the window");
    end.cancel();
    keeping.await.unwrap();
    running.stop().await;
    fault_row(
        "Entra 429, Retry-After: 60",
        "no call inside the window; the held token served to its true end, then UNAVAILABLE",
        "an_entra_that_asks_for_a_minute_of_silence_gets_it_and_callers_the_held_token_to_its_end",
    );
}

#[tokio::test]
async fn an_entra_that_fails_with_503_is_asked_again_and_the_held_token_serves_meanwhile() {
    let upstreams = upstreams_with(fields(), Duration::from_secs(20), |_| ()).await;
    let running = upstreams.run(upstreams.config(None), NEVER).await;
    let (grants, end) = (Arc::new(Grants::new([name("analytics")])), CancellationToken::new());
    let slot = Arc::clone(grants.slots().next().unwrap());
    let keeping = tokio::spawn(renew::keep_fresh(
        Arc::clone(&running.upstream),
        Arc::clone(&slot),
        Duration::from_secs(1),
        Arc::new(Metrics::default()),
        end.clone(),
    ));
    let first = grants.current(&permit(), Demand::default()).await.unwrap().grant.generation().to_owned();
    upstreams.entra.faults(|faults| faults.unavailable = 1);
    // A caller wants another one, and the issuer fails just then.
    let another = Demand { rejected: Some(&first), ..Demand::default() };
    assert!(grants.current(&permit(), another).await.is_err());
    assert_eq!(upstreams.entra.fired(), 1);
    let served = grants.current(&permit(), Demand::default()).await.unwrap();
    assert_eq!((served.grant.generation(), served.freshness), (first.as_str(), Freshness::UpstreamDown));
    until("it was asked again", || slot.state().error.is_none()).await;
    assert_eq!(upstreams.entra.calls(), 3);
    end.cancel();
    keeping.await.unwrap();
    running.stop().await;
    fault_row(
        "Entra 503",
        "asked again after a pause; the held token served meanwhile",
        "an_entra_that_fails_with_503_is_asked_again_and_the_held_token_serves_meanwhile",
    );
}

#[tokio::test]
async fn a_lapsed_client_secret_is_permanent_by_oauths_word_and_is_not_shown_again_and_again() {
    let upstreams = upstreams(fields()).await;
    let lapsed = SystemTime::now() - Duration::from_secs(1);
    upstreams.entra.register(Application {
        client_id: APPLICATION.to_owned(),
        object_id: "object-1".to_owned(),
        secrets: vec![ClientSecret { value: "the-client-secret".to_owned(), expires: lapsed }],
        roles: Vec::new(),
    });
    let running = upstreams.run(upstreams.config(None), NEVER).await;
    let (grants, end) = (Arc::new(Grants::new([name("analytics")])), CancellationToken::new());
    let slot = Arc::clone(grants.slots().next().unwrap());
    let keeping = tokio::spawn(renew::keep_fresh(
        Arc::clone(&running.upstream),
        slot,
        Duration::from_secs(1),
        Arc::new(Metrics::default()),
        end.clone(),
    ));
    let error = grants.current(&permit(), Demand::default()).await.unwrap_err();
    let GrantError::Upstream(error) = error else { panic!("{error}") };
    assert_eq!((error.class(), error.code()), (ErrorClass::Credential, Some("AADSTS7000222")));
    assert!(error.is_permanent());
    tokio::time::sleep(Duration::from_secs(3)).await;
    for _ in 0..20 {
        assert!(grants.current(&permit(), Demand::default()).await.is_err());
    }
    assert_eq!(upstreams.entra.calls(), 1);
    end.cancel();
    keeping.await.unwrap();
    running.stop().await;
    fault_row(
        "client secret lapsed (7000222) or wrong (7000215)",
        "permanent by invalid_client, printed with the number, shown once a minute at most",
        "a_lapsed_client_secret_is_permanent_by_oauths_word_and_is_not_shown_again_and_again",
    );
}

#[tokio::test]
async fn the_vault_token_is_replaced_by_a_login_before_its_longest_life_ends() {
    let upstreams = upstreams_with(fields(), Duration::from_hours(1), |role| {
        role.token_ttl = Duration::from_secs(3);
        role.token_max_ttl = Duration::from_secs(6);
    })
    .await;
    let running = upstreams.run(upstreams.config(None), NEVER).await;
    let before = std::time::Instant::now();
    while upstreams.vault.logins() < 3 && before.elapsed() < Duration::from_secs(30) {
        assert!(!upstreams.vault.live_tokens().is_empty(), "there was a moment without a token");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(upstreams.vault.logins() >= 3 && upstreams.vault.renewals() >= 1);
    assert_eq!(upstreams.vault.login_attempts(), upstreams.vault.logins(), "none was refused");
    running.stop().await;
    fault_row(
        "Vault token near its max TTL",
        "a login before it ends; never a moment without a token",
        "the_vault_token_is_replaced_by_a_login_before_its_longest_life_ends",
    );
}
