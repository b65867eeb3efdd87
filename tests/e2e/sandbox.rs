//! The sandbox around both programs as they really run: every step is active while rows move, the kernel confirms it from
//! outside, and neither program starts where it would be worth nothing.
//!
//! That each step bites is proved with the crate itself, in `proto/sandbox/tests`.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use keyferry_e2e::{
    process::{Ended, Process, User},
    sample::tpch,
    world::{BrokerSetup, PipelineSetup, World},
};
use libtest_mimic::Trial;
use serde_json::Value;

use crate::harness::{PATIENCE, Stage, expect, ordinary, root_test, test};

/// Flags of setpriv that leave nothing to be gained, as `drop: [ALL]` does in a container.
const BARE: &[&str] = &["--bounding-set=-all", "--inh-caps=-all", "--clear-groups"];
/// What the runtime takes for a machine of many processors, unless the program bounds its threads: units and containers do.
const MANY: (&str, &str) = ("TOKIO_WORKER_THREADS", "100");
/// More threads than either program needs for what these tests do.
const MOST_THREADS: usize = 40;
/// Where a loader stops in mid-run until it is killed.
const IN_MID_RUN: &str = "after_copy:1:stop";

pub(crate) fn trials(trials: &mut Vec<Trial>) {
    trials.push(root_test(
        "under_strict_every_step_is_active_while_rows_move_and_the_kernel_confirms_it",
        strict,
    ));
    trials.push(root_test("both_programs_refuse_root", root));
    trials.push(test(
        "a_broker_with_the_uid_of_its_caller_and_a_loader_with_the_brokers_do_not_start",
        one_user,
    ));
    trials
        .push(root_test("a_process_outside_the_sandbox_misses_controls_and_the_selfcheck_says_so", outside));
    trials.push(test(
        "a_port_that_only_the_grant_names_is_closed_and_the_message_says_where_to_list_it",
        closed_port,
    ));
    trials.push(test("a_selfcheck_of_nobody_says_so", nobody));
}

/// Starts a program through `setpriv`, as a container runtime that drops every capability would.
fn bare(
    world: &World,
    name: &str,
    user: User,
    arguments: &[&str],
    environment: &[(&str, &str)],
) -> Result<Process> {
    let program = world.program(name)?.display().to_string();
    let identity = [format!("--reuid={}", user.uid), format!("--regid={}", user.gid)];
    let mut all: Vec<&str> = identity.iter().map(String::as_str).chain(BARE.iter().copied()).collect();
    all.push(&program);
    all.extend(arguments);
    let environment: Vec<_> = environment.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    Process::start(
        name,
        Path::new("/usr/bin/setpriv"),
        &all,
        &environment,
        User::current(),
        &world.dir.join("logs"),
    )
}

/// What a program's own `selfcheck` says of a process.
async fn selfcheck(world: &World, program: &str, pid: u32) -> Result<(Ended, Value)> {
    let pid = pid.to_string();
    let arguments = ["selfcheck", "--pid", &pid, "--output", "json"];
    let process = match program {
        "broker" => world.spawn_broker(&arguments)?,
        _ => world.spawn_loader("selfcheck", &arguments, &[])?,
    };
    let ended = process.wait(PATIENCE).await?;
    let findings =
        serde_json::from_str(&ended.stdout).with_context(|| format!("not JSON: {}", ended.output()))?;
    Ok((ended, findings))
}

fn found<'a>(findings: &'a Value, control: &str) -> Result<&'a Value> {
    let all = findings["controls"].as_array().context("no controls")?;
    all.iter().find(|one| one["control"] == control).with_context(|| format!("no {control} in {findings}"))
}

async fn strict() -> Result<()> {
    const STRICT: &str = "mode: enforce, strict: true";
    let stage = Stage::new().await?;
    let world = &stage.world;
    // Small ones, and one of several chunks.
    let tables: Vec<_> =
        tpch::tables(0.001).into_iter().filter(|table| ["region", "orders"].contains(&table.name)).collect();
    world.fill(&tables).await?;
    let setup = BrokerSetup { sandbox: Some(format!("sandbox: {{ {STRICT} }}\n")), ..ordinary() };
    let config = setup.write(world)?.display().to_string();
    let mut broker = bare(world, "broker", world.users.broker, &["run", "--config", &config], &[MANY])?;
    serving(world, &mut broker).await?;

    let names: Vec<&str> = tables.iter().map(|table| table.name).collect();
    let mut pipeline = PipelineSetup::of(&names);
    pipeline.sandbox = Some(pipeline.sandbox_section(world, STRICT));
    let path = pipeline.write(world, "pipeline")?.display().to_string();
    let loader = bare(
        world,
        "loader",
        world.users.loader,
        &["run", &path],
        &[("KEYFERRY_FAILPOINT", IN_MID_RUN), MANY],
    )?;
    stopped(&loader).await?;

    for (program, process) in [("broker", &broker), ("loader", &loader)] {
        let said = process.stderr();
        ensure!(said.contains("sandbox: every step is active"), "{program} said:\n{said}");
        let (ended, findings) = selfcheck(world, program, process.id()).await?;
        ensure!(ended.code() == Some(0) && findings["holds"] == true, "{program}: {findings:#}");
        let threads = found(&findings, "seccomp")?["found"].as_str().unwrap_or_default().to_owned();
        ensure!(threads.starts_with("2 in ") && !threads.starts_with("2 in 1 "), "{program}: {threads}");
        let threads = std::fs::read_dir(format!("/proc/{}/task", process.id()))?.count();
        ensure!(threads <= MOST_THREADS, "{program} has {threads} threads");
        ensure!(found(&findings, "bounding set")?["verdict"] == "holds", "{findings:#}");
    }
    drop(loader);
    // And the work gets done: what the killed loader left is finished by the next.
    let loader = bare(world, "loader", world.users.loader, &["run", &path], &[])?;
    expect(&loader.wait(PATIENCE).await?, 0, &["every step is active"])?;
    stage.expect_exact(&tables).await?;
    stage.end(Some(broker)).await
}

async fn serving(world: &World, broker: &mut Process) -> Result<()> {
    let deadline = std::time::Instant::now() + PATIENCE;
    while tokio::net::UnixStream::connect(world.socket()).await.is_err() {
        ensure!(
            broker.runs() && std::time::Instant::now() < deadline,
            "no broker came up:\n{}",
            broker.stderr()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Waits until a process has stopped itself at its crash point.
async fn stopped(process: &Process) -> Result<()> {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap_or_default();
        if status.contains("State:\tT") {
            return Ok(());
        }
        ensure!(std::time::Instant::now() < deadline, "it never stopped; it said:\n{}", process.stderr());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn root() -> Result<()> {
    let stage = Stage::new().await?;
    let world = &stage.world;
    let config = ordinary().write(world)?.display().to_string();
    let logs = world.dir.join("logs");
    let broker = world.program("broker")?;
    for verb in ["run", "check"] {
        let broker =
            Process::start("broker", &broker, &[verb, "--config", &config], &[], User::current(), &logs)?;
        expect(&broker.wait(PATIENCE).await?, 78, &["error[B705]", "started as root", "runAsNonRoot"])?;
    }
    ensure!(!world.socket().exists(), "it made a socket all the same");
    let path = PipelineSetup::of(&["region"]).write(world, "pipeline")?.display().to_string();
    let loader = world.spawn_loader_as("loader", &["run", &path], &[], User::current())?;
    expect(&loader.wait(PATIENCE).await?, 78, &["error[L904]", "started as root"])?;
    stage.end(None).await
}

async fn one_user() -> Result<()> {
    let stage = Stage::new().await?;
    let world = &stage.world;
    let enforce = Some("sandbox: { mode: enforce }\n".to_owned());
    let setup =
        BrokerSetup { caller_uid: Some(world.users.broker.uid), sandbox: enforce.clone(), ..ordinary() };
    let config = setup.write(world)?.display().to_string();
    let broker = world.spawn_broker(&["run", "--config", &config])?;
    expect(
        &broker.wait(PATIENCE).await?,
        78,
        &["error[B705]", "broker and caller are one user", "mode: report"],
    )?;
    let setup = PipelineSetup { sandbox: enforce, ..PipelineSetup::of(&["region"]) };
    let path = setup.write(world, "pipeline")?.display().to_string();
    let loader = world.spawn_loader_as("loader", &["run", &path], &[], world.users.broker);
    // The pipeline file is the loader's; with users apart the broker's cannot read it, so it gets one of its own.
    let loader = if world.users.separate {
        drop(loader);
        let own =
            world.users.broker.file(&world.dir.join("broker").join("p.yaml"), 0o400, setup.yaml(world))?;
        world.spawn_loader_as("loader", &["run", &own.display().to_string()], &[], world.users.broker)?
    } else {
        loader?
    };
    expect(&loader.wait(PATIENCE).await?, 78, &["error[L904]", "one user"])?;
    stage.end(None).await
}

async fn outside() -> Result<()> {
    let stage = Stage::new().await?;
    let world = &stage.world;
    let setup = BrokerSetup { sandbox: Some("sandbox: { mode: off }\n".to_owned()), ..ordinary() };
    let broker = world.start_broker(&setup).await?;
    ensure!(broker.stderr().contains("NOT every step is active"), "it said nothing: {}", broker.stderr());
    let (ended, findings) = selfcheck(world, "loader", broker.id()).await?;
    ensure!(ended.code() == Some(65) && findings["holds"] == false, "{findings:#}");
    for control in ["seccomp", "no new privileges", "not dumpable"] {
        ensure!(found(&findings, control)?["verdict"] == "missing", "{control}: {findings:#}");
    }
    stage.end(Some(broker)).await
}

async fn closed_port() -> Result<()> {
    let stage = Stage::new().await?;
    let world = &stage.world;
    world.fill(&tpch::tables(0.0001)[..1]).await?;
    let broker = world.start_broker(&ordinary()).await?;
    let mode = if world.users.separate { "enforce" } else { "report" };
    let closed = PipelineSetup {
        sandbox: Some(format!("sandbox: {{ mode: {mode} }}\n")),
        ..PipelineSetup::of(&["region"])
    };
    let ended = stage.loader("plan", &closed).await?;
    let port = world.sqlserver.addr().port().to_string();
    expect(&ended, 78, &["error[L105]", &port, "sandbox.connect_ports"])?;
    stage.end(Some(broker)).await
}

async fn nobody() -> Result<()> {
    let stage = Stage::new().await?;
    let broker = stage.world.spawn_broker(&["selfcheck", "--pid", "4194305"])?;
    expect(&broker.wait(PATIENCE).await?, 66, &["error[B708]", "4194305"])?;
    let loader = stage.world.spawn_loader("nobody", &["selfcheck", "--pid", "4194305"], &[])?;
    expect(&loader.wait(PATIENCE).await?, 66, &["error[L907]", "4194305"])?;
    stage.end(None).await
}
