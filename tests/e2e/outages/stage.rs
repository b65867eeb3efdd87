//! The stage's storage: busy, slow, cut, deaf, and credentials that end.

use std::time::Duration;

use anyhow::{Result, ensure};
use keyferry_stand_in_snowflake::{Effect, Trigger};
use libtest_mimic::Trial;

use super::{Scene, fault};

pub(super) fn trials(trials: &mut Vec<Trial>) {
    fault(trials, "stage 503", "a_busy_stage_is_sent_the_file_again", || passes(Effect::Unavailable, 3));
    fault(trials, "stage slow", "a_slow_stage_is_waited_for", || {
        passes(Effect::Delay(Duration::from_secs(1)), 3)
    });
    fault(trials, "upload cut in the middle", "an_upload_that_is_cut_is_sent_again", || {
        passes(Effect::CutBefore, 3)
    });
    fault(trials, "upload done, reply lost", "an_upload_whose_reply_is_lost_is_harmless", || {
        passes(Effect::CutAfter, 3)
    });
    fault(
        trials,
        "stage credentials expired in mid-upload",
        "stage_credentials_that_expire_are_asked_for_again",
        || passes(Effect::TokenExpired, 3),
    );
    fault(trials, "stage 503 that stays", "a_stage_that_stays_busy_stops_the_run", stays_busy);
    fault(trials, "stage refuses (403)", "a_stage_that_refuses_stops_the_run", refuses);
}

fn uploads() -> Trigger {
    Trigger::Object { method: "PUT".to_owned(), key: String::new() }
}

async fn passes(effect: Effect, times: u32) -> Result<String> {
    let scene = Scene::new().await?;
    let id = scene.arm(uploads(), effect, 1, times);
    let ended = scene.run().await?;
    scene.fired(id, times.into())?;
    let happened = scene.completed(&ended).await?;
    let left = scene.stage.world.snowflake.staged_objects();
    ensure!(left.is_empty(), "staged files were left behind: {left:?}");
    scene.end().await?;
    Ok(happened)
}

async fn stays_busy() -> Result<String> {
    let mut scene = Scene::loaded().await?;
    scene.setup.patience = 1;
    let id = scene.arm(uploads(), Effect::Unavailable, 1, 100_000);
    let ended = scene.run().await?;
    scene.fired(id, 2)?;
    scene.stage.world.snowflake.faults.disarm(id);
    let happened = scene.stopped(&ended, 69, &["could not upload", "nothing was committed"]).await?;
    scene.runs_again().await?;
    scene.end().await?;
    Ok(happened)
}

async fn refuses() -> Result<String> {
    let scene = Scene::loaded().await?;
    let id = scene.arm(uploads(), Effect::Forbidden, 1, 100_000);
    let ended = scene.run().await?;
    scene.fired(id, 1)?;
    scene.stage.world.snowflake.faults.disarm(id);
    let happened = scene.stopped(&ended, 69, &["refused", "AccessDenied"]).await?;
    scene.runs_again().await?;
    scene.end().await?;
    Ok(happened)
}
