//! The broker under load: a thousand callers at once, greedy and stuck neighbours, no descriptors left, no disk left.

mod callers;

use std::{
    fs,
    os::unix::{net::UnixStream, process::CommandExt as _},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use keyferry_e2e::{
    process::{Process, User, copy_program},
    world::{BrokerSetup, World},
};
use keyferry_proto::{
    connect::{self, Address, Client},
    v1::WhoAmIRequest,
};
use libtest_mimic::Trial;

pub(crate) use self::callers::{Report, call_broker};
use crate::{
    harness::{PATIENCE, Stage, ordinary, root_test, test},
    live::{Live, audit, configure, serve},
    table,
};

/// The uid of the neighbours that misbehave; policy names them, so that their calls are real ones.
const GREEDY: u32 = 10_003;
const STUCK: u32 = 10_004;

const TESTS: [&str; 4] = [
    "a_thousand_callers_at_once_cause_one_call_to_entra",
    "slow_half_open_and_greedy_callers_leave_the_others_served",
    "out_of_descriptors_the_broker_pauses_instead_of_spinning_and_serves_again_after",
    "with_no_room_for_the_audit_log_nothing_is_granted_until_there_is_room",
];

pub(crate) fn trials(trials: &mut Vec<Trial>) {
    // The others need root, and leave no row without it.
    let provable = if User::current().uid == 0 { TESTS.len() } else { 1 };
    for name in &TESTS[..provable] {
        table::promise("load", name);
    }
    trials.push(test(TESTS[0], thousand));
    trials.push(root_test(TESTS[1], neighbours));
    trials.push(root_test(TESTS[2], descriptors));
    trials.push(root_test(TESTS[3], disk));
}

fn row(what: &str, happened: &str, test: usize) {
    table::row("load", &[("load", what), ("what happened", happened), ("test", TESTS[test])]);
}

/// A broker that lets the loader's user, and the neighbours, hold tokens for the pipeline `burst`.
async fn broker(world: &World, limits: &str) -> Result<Live> {
    let allow = |uid: u32| {
        format!(
            "{{ caller: {{ uid: {uid} }}, pipeline: burst, allow: {{ analytics: token, sales-sql: relay }} }}"
        )
    };
    let mut policy = vec![allow(world.users.loader.uid)];
    if world.users.separate {
        policy.extend([allow(GREEDY), allow(STUCK)]);
    }
    let setup = BrokerSetup { policy, extra: format!("limits: {{ {limits} }}\n"), ..ordinary() };
    serve(world, &configure(world, &setup, &[])?).await
}

/// Starts this very program as callers of the broker under a uid of their own.
fn callers(world: &World, name: &str, mode: &str, count: usize, uid: u32) -> Result<Process> {
    let program = world.dir.join("callers.bin");
    copy_program(&std::env::current_exe()?, &program)?;
    let arguments = [
        "--call-broker".to_owned(),
        mode.to_owned(),
        world.socket().display().to_string(),
        world.users.broker.uid.to_string(),
        count.to_string(),
    ];
    let user = User { uid, gid: world.users.loader.gid };
    Process::start(name, &program, &arguments, &[], user, &world.dir.join("logs"))
}

async fn report(process: Process) -> Result<Report> {
    let ended = process.wait(PATIENCE).await?;
    ensure!(ended.status.success(), "the callers failed: {}", ended.output());
    serde_json::from_str(&ended.stdout).with_context(|| format!("the callers said {}", ended.output()))
}

async fn thousand() -> Result<()> {
    let stage = Stage::new().await?;
    let world = &stage.world;
    let broker = broker(world, "calls_per_second: 10000").await?;
    let all = report(callers(world, "burst", "burst", 1000, world.users.loader.uid)?).await?;
    ensure!(all.served == 1000 && all.refused == 0, "{all:?}");
    ensure!(all.generations == 1, "{} different tokens", all.generations);
    ensure!(world.entra.calls() == 1, "Entra was called {} times", world.entra.calls());
    let lines = audit(world)?.iter().filter(|line| line["event"] == "GetToken").count();
    ensure!(lines == 1000, "{lines} lines in the audit log");
    row(
        "1,000 callers at once, one key",
        &format!("1,000 served, 1 call to Entra, 1,000 audit lines (p99 {:.0} ms)", all.p99_ms),
        0,
    );
    stage.end(Some(broker.process)).await
}

async fn neighbours() -> Result<()> {
    let stage = Stage::new().await?;
    let world = &stage.world;
    let broker = broker(world, "calls_per_second: 300, connections_per_uid: 32").await?;
    let good = world.users.loader.uid;
    let alone = report(callers(world, "alone", "steady", 400, good)?).await?;
    ensure!(alone.served == 400 && alone.refused == 0, "{alone:?}");

    let misbehaving =
        [callers(world, "greedy", "greedy", 64, GREEDY)?, callers(world, "stuck", "stuck", 200, STUCK)?];
    let refused = |reason: &str| format!("keyferry_broker_denied_total{{reason=\"{reason}\"}}");
    for reason in ["rate", "connections"] {
        let deadline = std::time::Instant::now() + PATIENCE;
        while broker.metric(&refused(reason)).await? == 0 {
            ensure!(std::time::Instant::now() < deadline, "nobody was refused for {reason}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    let before = broker.metric(&refused("rate")).await?;
    let beside = report(callers(world, "beside", "steady", 400, good)?).await?;
    let greed = broker.metric(&refused("rate")).await? - before;
    ensure!(beside.served == 400 && beside.refused == 0, "the others were not served: {beside:?}");
    ensure!(greed > 0, "the greedy neighbour was not at work meanwhile");
    // Time is printed, and only an absurd one fails: all share the machine's cores with the neighbours themselves.
    ensure!(beside.p99_ms <= alone.p99_ms * 20.0 + 1000.0, "alone {alone:?}, beside {beside:?}");
    row(
        "a greedy and a stuck neighbour (64 tasks; 200 half-open connections)",
        &format!(
            "400 of 400 calls served; p99 {:.1} ms alone, {:.1} ms beside them ({:.1} times); {greed} of theirs refused",
            alone.p99_ms,
            beside.p99_ms,
            beside.p99_ms / alone.p99_ms.max(0.001)
        ),
        1,
    );
    drop(misbehaving);
    stage.end(Some(broker.process)).await
}

async fn client(world: &World) -> Result<Client> {
    let address = Address {
        socket: world.socket(),
        server_uid: world.users.broker.uid,
        patience: Duration::from_secs(30),
        service_account_token: None,
    };
    Ok(connect::connect(&address).await?)
}

/// Changes a soft limit of a running process, as its own user: root without CAP_SYS_RESOURCE may not.
fn limit(process: &Process, user: User, limit: &str) -> Result<()> {
    let mut command = Command::new("prlimit");
    if user != User::current() {
        command.uid(user.uid).gid(user.gid);
    }
    let output = command.args(["--pid", &process.id().to_string(), limit]).output();
    let output = output.context("run prlimit (util-linux)")?;
    ensure!(output.status.success(), "{limit}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

async fn descriptors() -> Result<()> {
    let stage = Stage::new().await?;
    let world = &stage.world;
    let broker = broker(world, "connections_per_uid: 1000").await?;
    client(world).await?.who_am_i(WhoAmIRequest {}).await?;
    let open = fs::read_dir(format!("/proc/{}/fd", broker.process.id()))?.count();
    limit(&broker.process, world.users.broker, &format!("--nofile={}:", open + 10))?;
    let crowd: Vec<UnixStream> =
        (0..80).map(|_| UnixStream::connect(world.socket())).collect::<Result<_, _>>()?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    drop(crowd);

    // It comes back by itself; the limit is as low as before.
    let mut client = client(world).await?;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while client.who_am_i(WhoAmIRequest {}).await.is_err() {
        ensure!(tokio::time::Instant::now() < deadline, "it does not serve again");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let failed = broker.metric("keyferry_broker_denied_total{reason=\"accept_failed\"}").await?;
    ensure!(failed > 0, "the broker never ran out of descriptors");
    ensure!(failed < 500, "{failed} failed accepts: the loop spun");
    row(
        "80 connections with 10 descriptors left, for 2 s",
        &format!("{failed} failed accepts with pauses between; served again afterwards"),
        2,
    );
    stage.end(Some(broker.process)).await
}

async fn disk() -> Result<()> {
    let stage = Stage::new().await?;
    let world = &stage.world;
    let broker = broker(world, "calls_per_second: 1000").await?;
    let mut client = client(world).await?;
    client.who_am_i(WhoAmIRequest {}).await?;
    broker.until_health("a token is held", |health| health["status"] == "ok").await?;
    let log = world.dir.join("broker").join("audit.log");
    let (size, lines) = (fs::metadata(&log)?.len(), audit(world)?.len());
    limit(&broker.process, world.users.broker, &format!("--fsize={}:", size + 40))?;
    for _ in 0..20 {
        let status = client.who_am_i(WhoAmIRequest {}).await.err().context("granted without a line")?;
        ensure!(status.message().contains("nothing is granted"), "{status}");
    }
    ensure!(fs::metadata(&log)?.len() == size, "a piece of a line was left in the log");
    let health = broker.health().await?;
    ensure!(health["status"] == "down" && health["audit_writable"] == false, "{health:#}");

    limit(&broker.process, world.users.broker, "--fsize=unlimited:")?;
    client.who_am_i(WhoAmIRequest {}).await.context("there is room again")?;
    broker.until_health("health is well again", |health| health["audit_writable"] == true).await?;
    let after = audit(world)?;
    ensure!(after.len() == lines + 1, "{lines} lines before, {} after", after.len());
    let numbers = after.iter().enumerate().all(|(index, line)| line["n"] == index + 1);
    ensure!(numbers, "the lines are not numbered one by one");
    row(
        "no room for one more audit line",
        "20 of 20 calls refused, no torn line, health down; served again with room",
        3,
    );
    stage.end(Some(broker.process)).await
}
