//! `brokerctl watch`: the file, whatever happens to the token and to the broker.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;

use super::{Site, in_an_argument, until};
use crate::harness::{PATIENCE, expect, test};

pub(super) fn trials(trials: &mut Vec<Trial>) {
    trials.push(test("a_watched_file_is_replaced_at_each_renewal_and_outlives_the_broker", renewed));
    trials.push(test("a_watch_that_wants_one_token_ends_with_its_commands_exit_code", once));
    trials.push(test("a_watch_refuses_a_place_that_others_could_change", unsafe_places));
}

/// A folder of the workload's own.
fn folder(site: &Site) -> Result<PathBuf> {
    site.user.folder(&site.world().dir.join("workload"), 0o700)
}

fn content(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

async fn renewed() -> Result<()> {
    let mut site = Site::new().await?;
    let file = folder(&site)?.join("token");
    let path = file.display().to_string();
    let mut watch = site.start(&["watch", "analytics", "--file", &path, "--remove-on-exit"])?;
    let (first, _) = site.token().await?;
    until("the file", || content(&file) == first).await?;
    let before = fs::metadata(&file)?;
    ensure!(before.mode() & 0o7777 == 0o600, "mode {:o}", before.mode());
    ensure!(before.uid() == site.user.uid, "owner {}", before.uid());
    ensure!(!in_an_argument(&first)?, "the token is in the arguments of a process");

    // A reader never finds a part of a token, nor none.
    let reader = tokio::task::spawn_blocking({
        let file = file.clone();
        move || {
            let mut seen = std::collections::BTreeSet::new();
            while seen.len() < 2 {
                seen.insert(fs::read_to_string(&file).unwrap_or_else(|error| error.to_string()));
            }
            seen
        }
    });
    let (second, _) = site.renew().await?;
    until("the renewed token", || content(&file) == second).await?;
    let seen = tokio::time::timeout(PATIENCE, reader).await??;
    ensure!(
        seen == [first.clone(), second.clone()].into(),
        "a reader found something else: {} texts",
        seen.len()
    );
    ensure!(fs::metadata(&file)?.ino() != before.ino(), "the file was written over, not replaced");

    // Killed, then told to stop: each time the watch finds the next broker.
    site.broker.take().context("a broker")?.signal(Signal::SIGKILL)?;
    ensure!(content(&file) == second, "the file went with the broker");
    site.start_broker().await?;
    until("the token of the second broker", || content(&file) != second).await?;
    let third = content(&file);
    site.broker.take().context("a broker")?.stop(PATIENCE).await?;
    site.start_broker().await?;
    until("the token of the third broker", || content(&file) != third).await?;
    ensure!(content(&file) == site.token().await?.0, "the file holds another token than the broker");
    ensure!(watch.runs(), "{}", watch.stderr());

    watch.signal(Signal::SIGTERM)?;
    let ended = watch.wait(PATIENCE).await?;
    expect(&ended, 0, &["holds a token until", "next try in"])?;
    for token in [&first, &second, &third] {
        ensure!(!ended.output().contains(token.as_str()), "a token is in the log");
    }
    ensure!(!file.exists(), "the file is left behind");
    ensure!(fs::read_dir(folder(&site)?)?.count() == 0, "something is left beside it");
    site.end().await
}

async fn once() -> Result<()> {
    let site = Site::new().await?;
    let file = folder(&site)?.join("token");
    let path = file.display().to_string();
    let arguments = ["watch", "analytics", "--file", &path, "--once", "--mode", "0440", "--"];
    let ended = site
        .run(&[&arguments[..], &["sh", "-c", "test -s \"$KEYFERRY_TOKEN_FILE\" && exit 7"]].concat())
        .await?;
    expect(&ended, 7, &["holds a token until"])?;
    ensure!(content(&file) == site.token().await?.0, "the file holds another token");
    ensure!(fs::metadata(&file)?.mode() & 0o7777 == 0o440, "mode {:o}", fs::metadata(&file)?.mode());
    site.end().await
}

async fn unsafe_places() -> Result<()> {
    let site = Site::new().await?;
    let folder = folder(&site)?;
    let open = site.user.folder(&folder.join("open"), 0o777)?;
    let link = folder.join("link");
    std::os::unix::fs::symlink(folder.join("elsewhere"), &link)?;
    let mut places = vec![(open.join("token"), "others may write"), (link.clone(), "a symbolic link")];
    if site.world().users.separate {
        // Another user's folder, which lets this one in.
        let foreign = keyferry_e2e::process::User { uid: 10_009, gid: site.user.gid };
        places.push((foreign.folder(&folder.join("foreign"), 0o755)?.join("token"), "belongs to uid 10009"));
    }
    for (place, why) in places {
        let ended =
            site.run(&["watch", "analytics", "--once", "--file", &place.display().to_string()]).await?;
        expect(&ended, 73, &[why])?;
        ensure!(!place.is_file(), "{} was written", place.display());
    }
    let ended =
        site.run(&["watch", "analytics", "--file", &link.display().to_string(), "--mode", "0644"]).await?;
    expect(&ended, 64, &["nobody else may read"])?;
    site.end().await
}
