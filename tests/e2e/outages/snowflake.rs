//! Snowflake: busy, away, and sessions that end.

use std::time::Duration;

use anyhow::{Result, ensure};
use keyferry_e2e::world::{BrokerSetup, Gate};
use keyferry_stand_in_snowflake::{Effect, Trigger};
use libtest_mimic::Trial;

use super::{Scene, copies, fault, until};
use crate::harness::{PATIENCE, Stage, ordinary};

const QUERIES: &str = "/queries/v1/query-request";
const LOGINS: &str = "/session/v1/login-request";
const RENEWALS: &str = "/session/token-request";

pub(super) fn trials(trials: &mut Vec<Trial>) {
    fault(trials, "Snowflake 503 at statements", "a_busy_snowflake_is_asked_again", busy);
    fault(trials, "Snowflake 503 that stays", "a_snowflake_that_stays_busy_stops_the_run", stays_busy);
    fault(trials, "Snowflake unreachable for a while", "an_unreachable_snowflake_is_waited_for", unreachable);
    fault(trials, "Snowflake 503 at logins", "a_login_service_that_is_busy_is_asked_again", busy_logins);
    fault(trials, "390112 inside HTTP 200", "sessions_that_expire_at_a_statement_are_renewed", expired);
    fault(trials, "390114: master token gone", "a_dead_master_token_means_a_fresh_login", master_gone);
    fault(
        trials,
        "390318: access token ended",
        "an_ended_access_token_is_replaced_before_the_login",
        token_ended,
    );
    fault(
        trials,
        "390303: access token not accepted",
        "an_access_token_that_is_refused_stops_the_run",
        || refused_login("390303", &["390303", "JWKS", "will not help"]),
    );
    fault(trials, "390309: another user's token", "a_token_of_another_user_stops_the_run", || {
        refused_login("390309", &["390309", "LOGIN_NAME", "will not help"])
    });
}

async fn busy() -> Result<String> {
    let scene = Scene::new().await?;
    let any = scene.arm(Trigger::Path(QUERIES.to_owned()), Effect::Unavailable, 12, 3);
    let copy = scene.arm(copies(), Effect::Unavailable, 1, 2);
    let claim = scene.arm(Trigger::Statement("UPDATE".to_owned()), Effect::Unavailable, 3, 2);
    let ended = scene.run().await?;
    scene.fired(any, 3)?;
    scene.fired(copy, 2)?;
    scene.fired(claim, 2)?;
    let happened = scene.completed(&ended).await?;
    scene.end().await?;
    Ok(happened)
}

async fn stays_busy() -> Result<String> {
    let mut scene = Scene::loaded().await?;
    scene.setup.patience = 1;
    let id = scene.arm(Trigger::Path(QUERIES.to_owned()), Effect::Unavailable, 30, u32::MAX - 100);
    let ended = scene.run().await?;
    scene.fired(id, 1)?;
    scene.stage.world.snowflake.faults.disarm(id);
    let happened = scene.stopped(&ended, 75, &["HTTP 503", "the ledger decides"]).await?;
    scene.runs_again().await?;
    scene.end().await?;
    Ok(happened)
}

async fn unreachable() -> Result<String> {
    let stage = Stage::new().await?;
    let gate = Gate::before(&stage.world.snowflake.url).await?;
    let broker = BrokerSetup { snowflake: Some(gate.url()), ..ordinary() };
    let mut scene = Scene::on(stage, &broker).await?;
    scene.setup.patience = 30;
    scene.setup.connect_ports.push(gate.port());
    let loader = scene.start_slowly(Duration::from_millis(300)).await?;
    gate.shut(true);
    until("a connection that is turned away", || gate.turned_away() >= 5).await?;
    gate.shut(false);
    let ended = loader.wait(PATIENCE).await?;
    let happened = scene.completed(&ended).await?;
    scene.end().await?;
    Ok(happened)
}

async fn busy_logins() -> Result<String> {
    let scene = Scene::new().await?;
    let id = scene.arm(Trigger::Path(LOGINS.to_owned()), Effect::Unavailable, 0, 3);
    let ended = scene.run().await?;
    scene.fired(id, 3)?;
    let happened = scene.completed(&ended).await?;
    scene.end().await?;
    Ok(happened)
}

async fn expired() -> Result<String> {
    let scene = Scene::new().await?;
    let copy = scene.arm(copies(), Effect::TokenExpired, 1, 2);
    let loader = scene.start_slowly(Duration::from_millis(300)).await?;
    scene.stage.world.snowflake.expire_session_tokens();
    let ended = loader.wait(PATIENCE).await?;
    scene.fired(copy, 2)?;
    let stats = scene.stage.world.snowflake.stats.snapshot();
    ensure!(stats.renewals >= 3, "only {} renewals", stats.renewals);
    scene.completed(&ended).await?;
    scene.end().await?;
    Ok(format!("completed exactly; {} renewals", stats.renewals))
}

async fn master_gone() -> Result<String> {
    let scene = Scene::new().await?;
    let copy = scene.arm(copies(), Effect::TokenExpired, 1, 1);
    let renewal = scene.arm(Trigger::Path(RENEWALS.to_owned()), Effect::Refused("390114"), 0, 1);
    let ended = scene.run().await?;
    scene.fired(copy, 1)?;
    scene.fired(renewal, 1)?;
    let logins = scene.stage.world.snowflake.stats.snapshot().logins;
    // One for the tables, one for the keeper of claims and one for each committer would be all.
    ensure!(logins == 5, "{logins} logins, not 4 and a fresh one");
    let happened = scene.completed(&ended).await?;
    scene.end().await?;
    Ok(format!("{happened}; one fresh login"))
}

async fn token_ended() -> Result<String> {
    let scene = Scene::new().await?;
    let calls = scene.stage.world.entra.calls();
    let id = scene.arm(Trigger::Path(LOGINS.to_owned()), Effect::Refused("390318"), 1, 1);
    let ended = scene.run().await?;
    scene.fired(id, 1)?;
    let asked = scene.stage.world.entra.calls() - calls;
    ensure!(asked >= 1, "no new access token was asked for");
    let happened = scene.completed(&ended).await?;
    scene.end().await?;
    Ok(happened)
}

async fn refused_login(code: &'static str, words: &[&str]) -> Result<String> {
    let scene = Scene::loaded().await?;
    let id = scene.arm(Trigger::Path(LOGINS.to_owned()), Effect::Refused(code), 1, u32::MAX - 1);
    let ended = scene.run().await?;
    scene.fired(id, 1)?;
    scene.stage.world.snowflake.faults.disarm(id);
    let happened = scene.stopped(&ended, 77, words).await?;
    scene.runs_again().await?;
    scene.end().await?;
    Ok(happened)
}
