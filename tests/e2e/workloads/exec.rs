//! `brokerctl exec`: the command's environment, its signals and its exit code.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;

use super::{Site, in_an_argument, until};
use crate::harness::{PATIENCE, expect, test};

pub(super) fn trials(trials: &mut Vec<Trial>) {
    trials.push(test(
        "a_command_gets_token_and_settings_by_its_environment_and_takes_brokerctls_place",
        replaced,
    ));
    trials.push(test("a_command_beside_which_brokerctl_stays_finds_its_file_kept_current", beside));
    trials.push(test("signals_reach_the_command_and_its_exit_code_comes_back", signals));
}

async fn replaced() -> Result<()> {
    let site = Site::new().await?;
    let (token, _) = site.token().await?;
    let command = site.start(&["exec", "analytics", "--", "sh", "-c", "echo $$; env; exit 7"])?;
    let id = command.id();
    let ended = command.wait(PATIENCE).await?;
    expect(&ended, 7, &[])?;
    let lines: Vec<&str> = ended.stdout.lines().collect();
    ensure!(lines.first() == Some(&id.to_string().as_str()), "it ran beside brokerctl: {lines:?}");
    let port = site.world().snowflake.url.rsplit(':').next().context("a port")?;
    for expected in [
        &format!("SNOWFLAKE_TOKEN={token}"),
        "SNOWFLAKE_ACCOUNT=keyferry-demo",
        "SNOWFLAKE_USER=SVC_LOADER",
        "SNOWFLAKE_AUTHENTICATOR=oauth",
        "SNOWFLAKE_HOST=127.0.0.1",
        &format!("SNOWFLAKE_PORT={port}"),
        "SNOWFLAKE_ROLE=LOADER",
        "SNOWFLAKE_WAREHOUSE=LOAD_WH",
    ] {
        ensure!(lines.contains(&expected), "{expected} is not among {lines:#?}");
    }
    let arguments = ["exec", "analytics", "--env", "MY_TOKEN", "--no-settings", "--", "env"];
    let ended = site.run(&arguments).await?;
    expect(&ended, 0, &[&format!("MY_TOKEN={token}")])?;
    ensure!(!ended.stdout.contains("SNOWFLAKE_"), "{}", ended.stdout);
    expect(&site.run(&["exec", "analytics", "--", "no-such-command"]).await?, 127, &["no-such-command"])?;
    expect(&site.run(&["exec", "analytics", "--", "/etc/passwd"]).await?, 126, &["/etc/passwd"])?;
    expect(
        &site.run(&["exec", "analytics", "--", "sh", "-c", "kill -KILL $$"]).await.map(killed)?,
        137,
        &[],
    )?;
    site.end().await
}

/// What a shell would say of it.
fn killed(mut ended: keyferry_e2e::process::Ended) -> keyferry_e2e::process::Ended {
    use std::os::unix::process::ExitStatusExt as _;
    if let Some(signal) = ended.status.signal() {
        ended.status = std::process::ExitStatus::from_raw((128 + signal) << 8);
    }
    ended
}

/// The first line that a command has printed.
async fn first_line(command: &keyferry_e2e::process::Process) -> Result<String> {
    until("a line of the command", || command.stdout().contains('\n')).await?;
    Ok(command.stdout().lines().next().unwrap_or_default().to_owned())
}

async fn beside() -> Result<()> {
    let mut site = Site::new().await?;
    let script =
        "echo $TOKEN_FILE; stat -c %a:%u $TOKEN_FILE; env; trap 'exit 3' TERM; while :; do sleep 0.1; done";
    let command = site.start(&["exec", "analytics", "--file-env", "TOKEN_FILE", "--", "sh", "-c", script])?;
    let file = first_line(&command).await?;
    let content = || fs::read_to_string(&file).unwrap_or_default();
    let (first, _) = site.token().await?;
    ensure!(content() == first, "the file holds another token");
    ensure!(Path::new(&file).starts_with("/dev/shm"), "{file}");
    until("the command's lines", || command.stdout().contains("SNOWFLAKE_ACCOUNT=")).await?;
    ensure!(command.stdout().contains(&format!("600:{}", site.user.uid)), "{}", command.stdout());
    ensure!(!command.stdout().contains(&first), "the token is in the environment too");
    ensure!(!in_an_argument(&first)?, "the token is in the arguments of a process");
    let (second, _) = site.renew().await?;
    until("the renewed token", || content() == second).await?;
    // A broker that goes does not end the command.
    site.broker.take().context("a broker")?.stop(PATIENCE).await?;
    site.start_broker().await?;
    until("the token of the next broker", || content() != second).await?;
    command.signal(Signal::SIGTERM)?;
    let ended = command.wait(PATIENCE).await?;
    expect(&ended, 3, &[])?;
    ensure!(!ended.stderr.contains(&first) && !ended.stderr.contains(&second), "a token is in the log");
    let folder = Path::new(&file).parent().context("a folder")?;
    ensure!(!folder.exists(), "{} is left behind", folder.display());
    site.end().await
}

async fn signals() -> Result<()> {
    let site = Site::new().await?;
    for (signal, name, code) in
        [(Signal::SIGINT, "INT", 11), (Signal::SIGHUP, "HUP", 12), (Signal::SIGUSR1, "USR1", 13)]
    {
        // A signal that is ignored when a shell starts (by nohup, say) cannot be trapped: `env` resets it.
        let script = format!("trap 'exit {code}' {name}; echo ready; while :; do sleep 0.1; done");
        for options in [&["--file-env", "F"][..], &[]] {
            let start = [
                &["exec", "analytics"][..],
                options,
                &["--", "env", "--default-signal", "sh", "-c", &script],
            ]
            .concat();
            let command = site.start(&start)?;
            first_line(&command).await?;
            command.signal(signal)?;
            expect(&command.wait(PATIENCE).await?, code, &[])?;
        }
    }
    let start = ["exec", "analytics", "--file-env", "F", "--", "sh", "-c", "echo ready; exec sleep 600"];
    let command = site.start(&start)?;
    first_line(&command).await?;
    command.signal(Signal::SIGTERM)?;
    expect(&command.wait(Duration::from_secs(60)).await?, 128 + 15, &[])?;
    site.end().await
}
