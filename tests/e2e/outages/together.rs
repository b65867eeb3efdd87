//! All faults together: a seed chooses which, where and when; the oracle holds. `KEYFERRY_SEED=N` replays one.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fastrand::Rng;
use keyferry_e2e::{process::Ended, world::Options};
use keyferry_stand_in_snowflake::{Effect, Trigger};
use keyferry_stand_in_sqlserver::{Fault, When};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;

use super::{CHUNK_ROWS, Scene, copies, fault, until};
use crate::harness::{PATIENCE, ordinary};

const SEEDS: [(u64, &str); 3] = [
    (20_261, "all_faults_together_first_seed"),
    (40_961, "all_faults_together_second_seed"),
    (77_003, "all_faults_together_third_seed"),
];

pub(super) fn trials(trials: &mut Vec<Trial>) {
    for (seed, name) in SEEDS {
        fault(trials, "all faults together", name, move || async move {
            let given = std::env::var("KEYFERRY_SEED").ok().and_then(|text| text.parse().ok());
            let seed = given.unwrap_or(seed);
            all_together(seed).await.with_context(|| format!("replay with KEYFERRY_SEED={seed}"))
        });
    }
}

/// A fault that waits in a stand-in: its name, and how often it fired.
type Armed = (&'static str, Box<dyn Fn(&Scene) -> u64>);

async fn all_together(seed: u64) -> Result<String> {
    let mut random = Rng::with_seed(seed);
    let options = Options {
        idle_transaction: Duration::from_secs(2),
        token_life: Duration::from_secs(6),
        ..Options::default()
    };
    let mut scene = Scene::with(&options).await?;
    scene.load_all_but_the_last_chunk().await?;
    scene.setup.patience = 30;
    let mut kinds: Vec<usize> = (0..FAULTS).collect();
    random.shuffle(&mut kinds);
    let armed: Vec<Armed> = kinds.iter().take(8).map(|kind| arm(&scene, *kind, &mut random)).collect();
    let mut events: Vec<usize> = (0..EVENTS).collect();
    random.shuffle(&mut events);
    let loader = scene.start()?;
    let mut happened = Vec::new();
    for event in events.into_iter().take(4) {
        tokio::time::sleep(Duration::from_millis(random.u64(200..900))).await;
        happened.push(strike(&mut scene, event).await.context("an event of the outside world")?);
    }
    let ended = loader.wait(PATIENCE).await?;
    let outcome = judge(&scene, &ended).await?;
    let mut fired = 0;
    for (name, count) in &armed {
        let times = count(&scene);
        ensure!(times > 0, "{name} never fired (together with {happened:?})");
        fired += times;
    }
    scene.stage.world.sqlserver.faults().clear();
    scene.end().await?;
    Ok(format!("seed {seed}: {fired} faults of {} kinds, {}; {outcome}", armed.len(), happened.join(", ")))
}

/// Complete and exact, or a stop with a reason after which the next run is.
async fn judge(scene: &Scene, ended: &Ended) -> Result<String> {
    if ended.code() == Some(0) {
        return scene.completed(ended).await;
    }
    let code = ended.code().unwrap_or(-1);
    ensure!(matches!(code, 69 | 75), "an unexpected end with {code}:\n{}", ended.output());
    let happened = scene.stopped(ended, code, &["error[L"]).await?;
    scene.runs_again().await?;
    Ok(happened)
}

const FAULTS: usize = 13;

/// Arms the fault of this number somewhere that every run passes.
fn arm(scene: &Scene, kind: usize, random: &mut Rng) -> Armed {
    let skip = random.u32(0..4);
    let at = |text: &str| Trigger::Statement(text.to_owned());
    let upload = || Trigger::Object { method: "PUT".to_owned(), key: String::new() };
    let in_rows =
        When { after_rows: random.u64(1..450), statement_contains: Some(CHUNK_ROWS.to_owned()), times: 2 };
    let source = scene.stage.world.sqlserver.faults();
    let struck = |armed: keyferry_stand_in_sqlserver::Armed| -> Box<dyn Fn(&Scene) -> u64> {
        Box::new(move |_| armed.fired())
    };
    let error = |number| Fault::Error { number, class: 13, message: format!("Injected error {number}.") };
    let (name, on, effect, times) = match kind {
        0 => return ("connection cut in mid-row", struck(source.arm(in_rows, Fault::Drop))),
        1 => return ("deadlock victim", struck(source.arm(in_rows, error(1205)))),
        2 => return ("snapshot conflict", struck(source.arm(in_rows, error(3960)))),
        3 => return ("logins refused", struck(source.refuse_logins(40613, 2))),
        4 => ("503 at statements", Trigger::Path("/queries".to_owned()), Effect::Unavailable, 3),
        5 => ("COPY's reply lost", copies(), Effect::CutAfter, 1),
        6 => ("COMMIT's reply lost", at("COMMIT"), Effect::CutAfter, 1),
        7 => ("390112 at a claim", at("UPDATE"), Effect::TokenExpired, 2),
        8 => ("stage 503", upload(), Effect::Unavailable, 2),
        9 => ("upload's reply lost", upload(), Effect::CutAfter, 1),
        10 => ("stage credentials ended", upload(), Effect::TokenExpired, 2),
        11 => ("slow COPY", copies(), Effect::Delay(Duration::from_millis(400)), 3),
        _ => ("COPY cut before it ran", copies(), Effect::CutBefore, 1),
    };
    let id = scene.arm(on, effect, skip, times);
    (name, Box::new(move |scene| scene.stage.world.snowflake.faults.fired(id)))
}

const EVENTS: usize = 6;

/// Something happens outside.
async fn strike(scene: &mut Scene, event: usize) -> Result<&'static str> {
    Ok(match event {
        0 => {
            scene.stage.world.snowflake.expire_session_tokens();
            "all session tokens ended"
        }
        1 => {
            scene.stage.world.snowflake.expire_stage_credentials();
            "all stage credentials ended"
        }
        2 => {
            scene.stage.world.vault.seal(true);
            tokio::time::sleep(Duration::from_millis(500)).await;
            scene.stage.world.vault.seal(false);
            "Vault sealed for a while"
        }
        3 => {
            scene.stage.world.kdc.stop();
            tokio::time::sleep(Duration::from_millis(500)).await;
            scene.stage.world.kdc.serve()?;
            "KDC down for a while"
        }
        4 => {
            let broker = scene.broker.take().context("a broker")?;
            broker.signal(Signal::SIGKILL)?;
            broker.wait(PATIENCE).await?;
            scene.broker = Some(scene.stage.world.start_broker(&ordinary()).await?);
            "broker killed and restarted"
        }
        _ => {
            let entra = &scene.stage.world.entra;
            let fired = entra.fired();
            entra.faults(|faults| faults.unavailable = 1);
            until("a call of the busy Entra", || entra.fired() > fired).await?;
            "Entra busy"
        }
    })
}
