//! Credentials that live shorter than the run: every kind ends several times while rows move, and the rows are exact.

use std::time::Duration;

use anyhow::{Result, ensure};
use keyferry_e2e::world::Options;
use keyferry_stand_in_sqlserver::{Fault, When};
use libtest_mimic::Trial;

use crate::{
    harness::{PATIENCE, test},
    outages::{CHUNK_ROWS, Scene, until},
    table,
};

const NAME: &str = "every_credential_ends_several_times_in_one_run";

pub(crate) fn trials(trials: &mut Vec<Trial>) {
    table::promise("lives", NAME);
    trials.push(test(NAME, everything_expires).with_kind("outage"));
}

/// How often each kind of credential was replaced.
struct Counts {
    sessions: u64,
    tokens: u64,
    vault_tokens: u64,
    vault_logins: u64,
    tickets: u64,
    stage: u64,
}

impl Counts {
    fn of(scene: &Scene) -> Self {
        let (world, stats) = (&scene.stage.world, scene.stage.world.snowflake.stats.snapshot());
        Self {
            sessions: stats.renewals,
            tokens: world.entra.calls(),
            vault_tokens: world.vault.renewals(),
            vault_logins: world.vault.logins(),
            tickets: world.recorder.tickets() as u64,
            stage: stats.objects_refused,
        }
    }
}

async fn everything_expires() -> Result<()> {
    let options = Options {
        session_ttl: Duration::from_secs(2),
        token_life: Duration::from_secs(6),
        vault_ttl: Duration::from_secs(2),
        ticket: Duration::from_secs(6),
        stage_credentials: Duration::from_secs(1),
        ..Options::default()
    };
    let mut scene = Scene::with(&options).await?;
    // Twelve chunks by two connections, each with a pause in its rows that outlives the stage's credentials.
    scene.setup.limits = "connections: 2, committers: 2, chunk_rows: 250".to_owned();
    let faults = scene.stage.world.sqlserver.faults().clone();
    let in_rows =
        |after_rows, times| When { after_rows, statement_contains: Some(CHUNK_ROWS.to_owned()), times };
    let slow = faults.arm(in_rows(100, 0), Fault::Stall(Duration::from_millis(2500)));
    let before = Counts::of(&scene);
    let loader = scene.start()?;
    // When the first tickets have ended, connections are made anew.
    until("two more tickets", || Counts::of(&scene).tickets >= before.tickets + 2).await?;
    let cut = faults.arm(in_rows(101, 2), Fault::Drop);
    let ended = loader.wait(PATIENCE).await?;
    let after = Counts::of(&scene);
    scene.completed(&ended).await?;
    ensure!(slow.fired() >= 12 && cut.fired() == 2, "{} pauses, {} cuts", slow.fired(), cut.fired());
    let kinds = [
        ("Snowflake session tokens (2 s)", after.sessions - before.sessions, 8),
        ("Entra access tokens (6 s)", after.tokens - before.tokens, 2),
        ("Vault tokens (2 s), renewed", after.vault_tokens - before.vault_tokens, 2),
        ("Vault tokens, their longest life over", after.vault_logins - before.vault_logins, 2),
        ("Kerberos tickets (6 s)", after.tickets - before.tickets, 3),
        ("stage credentials (1 s), refused in mid-upload", after.stage - before.stage, 2),
    ];
    for (kind, times, least) in kinds {
        ensure!(times >= least, "{kind}: {times} times, not {least}");
        table::row(
            "lives",
            &[("credential", kind), ("replaced in one exact run", &times.to_string()), ("test", NAME)],
        );
    }
    scene.end().await
}
