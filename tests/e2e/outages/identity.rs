//! Vault, the KDC and Entra: what the broker holds serves until its true end.

use std::time::Duration;

use anyhow::{Result, ensure};
use keyferry_e2e::world::{BrokerSetup, Gate, Options};
use keyferry_stand_in_sqlserver::{Fault, When};
use libtest_mimic::Trial;

use super::{CHUNK_ROWS, Scene, fault, until};
use crate::harness::{PATIENCE, Stage, ordinary};

pub(super) fn trials(trials: &mut Vec<Trial>) {
    fault(trials, "Vault sealed in mid-run", "a_sealed_vault_does_not_stop_a_run", vault_sealed);
    fault(trials, "Vault down in mid-run", "a_vault_that_is_away_does_not_stop_a_run", vault_down);
    fault(trials, "KDC down, ticket valid", "a_run_goes_on_with_its_ticket_while_the_kdc_is_down", kdc_down);
    fault(trials, "KDC down, ticket ended", "without_kdc_and_ticket_the_run_stops_and_says_so", ticket_ended);
    fault(
        trials,
        "Entra 429 with Retry-After",
        "entra_is_not_called_inside_the_window_it_asked_for",
        throttled,
    );
    fault(trials, "Entra 503", "a_busy_entra_is_asked_again", entra_busy);
}

/// Vault's token ends several times while Vault cannot be asked.
const SHORT: Duration = Duration::from_secs(3);

async fn vault_sealed() -> Result<String> {
    let scene = Scene::with(&Options { vault_ttl: SHORT, ..Options::default() }).await?;
    let vault = &scene.stage.world.vault;
    let refused = || {
        let mut fired = 0;
        vault.faults(|faults| fired = faults.fired);
        fired
    };
    let loader = scene.start_slowly(Duration::from_millis(500)).await?;
    vault.seal(true);
    let ended = loader.wait(PATIENCE).await?;
    until("a call to the sealed Vault", || refused() >= 1).await?;
    let happened = scene.completed(&ended).await?;
    // A whole run on what the broker holds.
    scene.runs_again().await?;
    vault.seal(false);
    let (logins, renewals) = (vault.logins(), vault.renewals());
    until("the broker's return to Vault", || vault.logins() + vault.renewals() > logins + renewals).await?;
    scene.end().await?;
    Ok(format!("{happened}; the broker came back to Vault by itself"))
}

async fn vault_down() -> Result<String> {
    let stage = Stage::with(&Options { vault_ttl: SHORT, ..Options::default() }).await?;
    let gate = Gate::before(&stage.world.vault.url()).await?;
    let scene = Scene::on(stage, &BrokerSetup { vault: Some(gate.url()), ..ordinary() }).await?;
    let loader = scene.start_slowly(Duration::from_millis(500)).await?;
    gate.shut(true);
    let ended = loader.wait(PATIENCE).await?;
    until("a connection that is turned away", || gate.turned_away() >= 1).await?;
    let happened = scene.completed(&ended).await?;
    gate.shut(false);
    scene.end().await?;
    Ok(happened)
}

fn cut() -> When {
    When { after_rows: 250, statement_contains: Some(CHUNK_ROWS.to_owned()), times: 2 }
}

async fn kdc_down() -> Result<String> {
    let mut scene = Scene::new().await?;
    let loader = scene.start_slowly(Duration::from_millis(500)).await?;
    scene.stage.world.kdc.stop();
    let logins = scene.stage.world.sqlserver.stats().logins;
    // New connections are needed, so tickets are.
    let armed = scene.stage.world.sqlserver.faults().arm(cut(), Fault::Drop);
    let ended = loader.wait(PATIENCE).await?;
    ensure!(armed.fired() == 2, "{} connections were cut", armed.fired());
    let after = scene.stage.world.sqlserver.stats().logins;
    ensure!(after > logins, "no login while the KDC was down");
    let happened = scene.completed(&ended).await?;
    scene.stage.world.kdc.serve()?;
    scene.end().await?;
    Ok(format!("{happened}; {} logins without the KDC", after - logins))
}

async fn ticket_ended() -> Result<String> {
    let life = Duration::from_secs(12);
    let mut scene = Scene::with(&Options { ticket: life, ..Options::default() }).await?;
    scene.setup.patience = 2;
    scene.load_all_but_the_last_chunk().await?;
    let faults = scene.stage.world.sqlserver.faults().clone();
    let stalled = faults.arm(cut(), Fault::Stall(life));
    let loader = scene.start()?;
    until("a read that waits", || stalled.fired() >= 1).await?;
    scene.stage.world.kdc.stop();
    // The fault that was armed first strikes first; both strike the same row, the second time.
    let dropped = faults.arm(When { after_rows: 251, times: 0, ..cut() }, Fault::Drop);
    let ended = loader.wait(PATIENCE).await?;
    ensure!(dropped.fired() >= 1, "no connection was cut");
    let happened = scene.stopped(&ended, 69, &["kerberos", "ticket"]).await?;
    dropped.disarm();
    stalled.disarm();
    scene.stage.world.kdc.serve()?;
    let renewed = scene.stage.world.recorder.tickets();
    until("a new ticket", || scene.stage.world.recorder.tickets() > renewed).await?;
    scene.runs_again().await?;
    scene.end().await?;
    Ok(happened)
}

async fn throttled() -> Result<String> {
    let life = Duration::from_secs(8);
    let scene = Scene::with(&Options { token_life: life, ..Options::default() }).await?;
    let entra = &scene.stage.world.entra;
    let window = Duration::from_secs(3);
    entra.faults(|faults| faults.throttle = Some((1, window)));
    let loader = scene.start_slowly(Duration::from_millis(1500)).await?;
    until("a throttled call", || entra.fired() >= 1).await?;
    let calls = entra.calls();
    until("the next call", || entra.calls() > calls).await?;
    ensure!(entra.impatient_calls() == 0, "{} calls inside the window", entra.impatient_calls());
    let ended = loader.wait(PATIENCE).await?;
    let happened = scene.completed(&ended).await?;
    scene.end().await?;
    Ok(format!("{happened}; no call inside the window"))
}

async fn entra_busy() -> Result<String> {
    let life = Duration::from_secs(8);
    let scene = Scene::with(&Options { token_life: life, ..Options::default() }).await?;
    let entra = &scene.stage.world.entra;
    let loader = scene.start_slowly(Duration::from_millis(1500)).await?;
    entra.faults(|faults| faults.unavailable = 2);
    until("two refused calls", || entra.fired() >= 2).await?;
    let ended = loader.wait(PATIENCE).await?;
    let happened = scene.completed(&ended).await?;
    scene.end().await?;
    Ok(happened)
}
