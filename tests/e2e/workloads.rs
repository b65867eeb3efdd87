//! Workloads other than the loader: `brokerctl` under identities of their own, against a real broker.

mod exec;
mod watch;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use keyferry_e2e::{
    process::{Ended, Process, User},
    world::{BrokerSetup, World},
};
use libtest_mimic::Trial;
use serde_json::Value;

use crate::{
    harness::{PATIENCE, Stage, expect, ordinary, root_test, test},
    live::audit,
};

pub(crate) fn trials(trials: &mut Vec<Trial>) {
    trials.push(test("a_workload_that_policy_names_gets_a_token_and_sees_what_it_may_ask_for", served));
    trials.push(test("a_workload_is_told_what_stands_between_it_and_the_broker", unreachable));
    trials.push(root_test("another_uid_gets_no_token_and_exit_code_77", refused));
    watch::trials(trials);
    exec::trials(trials);
}

/// A world whose policy names one workload.
struct Site {
    stage: Stage,
    user: User,
    broker: Option<Process>,
}

impl Site {
    async fn new() -> Result<Self> {
        let stage = Stage::new().await?;
        let users = stage.world.users;
        let user = if users.separate { User { uid: 10_005, ..users.loader } } else { users.loader };
        let mut site = Self { stage, user, broker: None };
        site.start_broker().await?;
        Ok(site)
    }

    fn world(&self) -> &World {
        &self.stage.world
    }

    async fn start_broker(&mut self) -> Result<()> {
        let policy = format!(
            "{{ caller: {{ uid: {} }}, pipeline: reports, allow: {{ analytics: token }} }}",
            self.user.uid
        );
        let setup = BrokerSetup { policy: vec![policy], ..ordinary() };
        self.broker = Some(self.world().start_broker(&setup).await?);
        Ok(())
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("KEYFERRY_SOCKET", self.world().socket().display().to_string()),
            ("KEYFERRY_SERVER_UID", self.world().users.broker.uid.to_string()),
            ("KEYFERRY_PIPELINE", "reports".to_owned()),
        ]
    }

    /// Starts the command as the workload.
    fn start(&self, arguments: &[&str]) -> Result<Process> {
        self.start_as(arguments, self.user)
    }

    fn start_as(&self, arguments: &[&str], user: User) -> Result<Process> {
        let name = format!("brokerctl-{}", uuid::Uuid::new_v4().simple());
        self.world().spawn_brokerctl(&name, arguments, &self.environment(), user)
    }

    /// Runs the command as the workload to its end.
    async fn run(&self, arguments: &[&str]) -> Result<Ended> {
        self.start(arguments)?.wait(PATIENCE).await
    }

    /// The token that the workload gets now, with its generation.
    async fn token(&self) -> Result<(String, String)> {
        printed(&self.run(&["token", "analytics", "--output", "json"]).await?)
    }

    /// Has the broker get another token, as after a refusal by Snowflake.
    async fn renew(&self) -> Result<(String, String)> {
        let (_, generation) = self.token().await?;
        let arguments = ["token", "analytics", "--output", "json", "--rejected", &generation];
        let newer = printed(&self.run(&arguments).await?)?;
        ensure!(newer.1 != generation, "the refused token came again");
        Ok(newer)
    }

    async fn end(self) -> Result<()> {
        self.stage.end(self.broker).await
    }
}

fn printed(ended: &Ended) -> Result<(String, String)> {
    expect(ended, 0, &[])?;
    let json: Value = serde_json::from_str(&ended.stdout).context("the printed JSON")?;
    let word = |name: &str| json[name].as_str().map(str::to_owned).context("a field");
    Ok((word("token")?, word("generation")?))
}

/// Waits until something holds.
async fn until(what: &str, mut holds: impl FnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        ensure!(Instant::now() < deadline, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// True when any process of the machine names `word` among its arguments.
fn in_an_argument(word: &str) -> Result<bool> {
    let mut seen = 0;
    for entry in std::fs::read_dir("/proc")?.flatten() {
        if let Ok(line) = std::fs::read(entry.path().join("cmdline")) {
            seen += 1;
            if line.windows(word.len()).any(|part| part == word.as_bytes()) {
                return Ok(true);
            }
        }
    }
    ensure!(seen > 1, "no process could be looked at");
    Ok(false)
}

async fn served() -> Result<()> {
    let site = Site::new().await?;
    let ended = site.run(&["token", "analytics"]).await?;
    expect(&ended, 0, &[])?;
    ensure!(ended.stderr.is_empty(), "{}", ended.stderr);
    let token = ended.stdout.strip_suffix('\n').context("one line")?;
    let claims = token.split('.').nth(1).context("a JWT")?;
    let claims: Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(claims)?)?;
    ensure!(claims["aud"] == "api://snowflake", "{claims}");

    let ended = site.run(&["whoami", "--output", "json"]).await?;
    expect(&ended, 0, &[])?;
    let who: Value = serde_json::from_str(&ended.stdout)?;
    ensure!(who["uid"] == site.user.uid, "{who:#}");
    let mine: Vec<&Value> =
        who["grants"].as_array().context("grants")?.iter().filter(|g| g["pipeline"] == "reports").collect();
    ensure!(mine.len() == 1 && mine[0]["grant"] == "analytics" && mine[0]["use"] == "token", "{who:#}");
    ensure!(mine[0]["held_until"].is_string(), "{who:#}");
    expect(&site.run(&["whoami"]).await?, 0, &["reports", "analytics", "token"])?;

    // Longer than any token of this issuer lives; then a grant that is not its own.
    let ended = site.run(&["token", "analytics", "--min-ttl", "9h"]).await?;
    expect(&ended, 64, &["ask for less"])?;
    expect(&site.run(&["token", "sales-sql"]).await?, 77, &["does not allow", "whoami"])?;
    let ended = site.run(&["token", "analytics", "--run-id", "nightly-7"]).await?;
    expect(&ended, 0, &[])?;
    let log = audit(site.world())?;
    ensure!(
        log.iter().any(|line| line["event"] == "GetToken" && line["run_id"] == "nightly-7"),
        "no run id in {log:#?}"
    );
    ensure!(!serde_json::to_string(&log)?.contains(token), "the token is in the audit log");
    site.end().await
}

async fn unreachable() -> Result<()> {
    let mut site = Site::new().await?;
    let other = (site.world().users.broker.uid + 7).to_string();
    let ended = site.run(&["--server-uid", &other, "token", "analytics"]).await?;
    expect(&ended, 77, &["nothing was sent", &other])?;
    ensure!(ended.stdout.is_empty(), "{}", ended.stdout);
    let broker = site.broker.take().context("a broker")?;
    broker.stop(PATIENCE).await?;
    let ended = site.run(&["token", "analytics", "--patience", "0s"]).await?;
    expect(&ended, 69, &["cannot reach the broker", "broker run"])?;
    let ended = site.run(&["exec", "analytics", "--patience", "0s", "--", "true"]).await?;
    expect(&ended, 69, &["cannot reach the broker"])?;
    expect(&site.run(&["token"]).await?, 64, &["NAME"])?;
    site.end().await
}

async fn refused() -> Result<()> {
    let site = Site::new().await?;
    let stranger = User { uid: 10_006, ..site.user };
    for arguments in [
        &["token", "analytics"][..],
        &["watch", "analytics", "--file", "/dev/shm/keyferry-stranger/token"],
        &["exec", "analytics", "--", "env"],
    ] {
        let ended = site.start_as(arguments, stranger)?.wait(PATIENCE).await?;
        expect(&ended, 77, &["10006", "policy"])?;
        ensure!(ended.stdout.is_empty(), "{}", ended.stdout);
    }
    drop(std::fs::remove_dir("/dev/shm/keyferry-stranger"));
    // Whom it is, it may know.
    let ended = site.start_as(&["whoami"], stranger)?.wait(PATIENCE).await?;
    expect(&ended, 0, &["uid: 10006", "pipeline: NAME"])?;
    // A user outside the socket's group does not even reach it.
    let outsider = User { uid: 10_006, gid: 10_006 };
    let ended = site.start_as(&["token", "analytics"], outsider)?.wait(PATIENCE).await?;
    expect(&ended, 77, &["ermission denied"])?;
    let denied = audit(site.world())?;
    let denied = denied.iter().filter(|line| line["uid"] == 10_006 && line["outcome"] == "denied").count();
    ensure!(denied == 3, "{denied} refusals in the audit log");
    site.end().await
}
