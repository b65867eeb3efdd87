//! What `deploy/` gives to operators is what works: every configuration in it is read by the program that it is for, and
//! the set-up of SQL Server lets the loader's account read and no more. (Vault's policy, Snowflake's set-up and krb5.conf
//! are what every other test runs with.)

use std::{
    collections::BTreeSet,
    fs,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use keyferry_broker::config::{Config, GrantConfig, GrantName};
use keyferry_e2e::{process::Ended, world::World};
use keyferry_loader::config::Pipeline;
use keyferry_sql::{Database, Dialect, Identity, Session};
use libtest_mimic::Trial;

use crate::{
    harness::{PATIENCE, Stage, expect, ordinary, test},
    live, rotation,
};

const SQL_SERVER: &str = include_str!("../../deploy/sqlserver/setup.sql");
const CHANGE_TRACKING: &str = include_str!("../../deploy/sqlserver/change-tracking.sql");

pub(crate) fn trials(trials: &mut Vec<Trial>) {
    trials.push(test("setup_every_configuration_in_deploy_is_read_and_fits_its_neighbour", configurations));
    trials.push(test("setup_of_sql_server_lets_the_loader_read_and_no_more", sql_server));
    trials.push(test("policy_is_explained_with_an_exit_code", explained));
    trials.push(test("setup_health_is_an_exit_code_and_a_served_log_verifies", health_and_audit));
}

async fn configurations() -> Result<()> {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("a parent")?.join("deploy");
    let (mut brokers, mut pipelines) = (find(&deploy, "broker.yaml")?, find(&deploy, "pipeline.yaml")?);
    ensure!(brokers.len() >= 4 && pipelines.len() >= 4, "only {brokers:?} and {pipelines:?}");
    brokers.sort();
    pipelines.sort();
    for (broker, pipeline) in brokers.iter().zip(&pipelines) {
        ensure!(broker.parent() == pipeline.parent(), "{} stands alone", broker.display());
        let text = fs::read_to_string(broker)?;
        let config =
            Config::parse(&text, broker, Path::new("/")).with_context(|| broker.display().to_string())?;
        let text = fs::read_to_string(pipeline)?;
        let pipeline = Pipeline::parse(pipeline, &text).with_context(|| pipeline.display().to_string())?;
        fit(&config, &pipeline).with_context(|| broker.display().to_string())?;
    }
    // The readers bite.
    let text = fs::read_to_string(&brokers[0])?;
    for (from, to) in [("socket:", "sockets:"), ("allow:", "alow:"), ("https://vault", "http://vault")] {
        ensure!(text.contains(from), "{from} is not in {}", brokers[0].display());
        let wrong = text.replacen(from, to, 1);
        ensure!(Config::parse(&wrong, &brokers[0], Path::new("/")).is_err(), "{to} was taken");
    }
    Ok(())
}

/// The pipeline asks for what the broker grants to the loader's user, where the broker serves.
fn fit(config: &Config, pipeline: &Pipeline) -> Result<()> {
    ensure!(
        config.socket.path == pipeline.broker.socket,
        "another socket: {}",
        pipeline.broker.socket.display()
    );
    ensure!(pipeline.broker.server_uid == 10_001, "another broker: {}", pipeline.broker.server_uid);
    let entry = config.policy.iter().find(|entry| entry.caller.uid == Some(10_002));
    let entry = entry.context("policy does not name the loader's user")?;
    ensure!(entry.pipeline.as_str() == pipeline.name, "policy is for {}", entry.pipeline);
    let allowed: BTreeSet<&str> = entry.allow.keys().map(GrantName::as_str).collect();
    ensure!(allowed.contains(pipeline.source.grant.as_str()), "the source's grant is not allowed");
    ensure!(allowed.contains(pipeline.target.grant.as_str()), "the target's grant is not allowed");
    let target = config.grants.iter().find(|(name, _)| name.as_str() == pipeline.target.grant);
    let Some((_, GrantConfig::Snowflake(snowflake))) = target else { anyhow::bail!("no Snowflake grant") };
    let named = |list: &[keyferry_broker::config::SnowflakeName], name: &str| {
        list.iter().any(|one| one.as_str() == name)
    };
    ensure!(named(&snowflake.roles, &pipeline.target.role), "the role {}", pipeline.target.role);
    ensure!(named(&snowflake.warehouses, &pipeline.target.warehouse), "{}", pipeline.target.warehouse);
    ensure!(config.admin.listen.port() != 0, "`broker health` needs a port");
    Ok(())
}

fn find(folder: &Path, name: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(find(&path, name)?);
        } else if path.file_name().is_some_and(|file| file == name) {
            found.push(path);
        }
    }
    Ok(found)
}

async fn sql_server() -> Result<()> {
    const LOGIN: &str = "CORP\\svc_loader";
    let database = Database::new(Dialect::SqlServer, "SalesDB");
    database.administrator("sa");
    database.check_permissions();
    let session = |user: &str| {
        let identity = Identity { user: user.to_owned(), ..Identity::default() };
        Session::new(&database, identity)
    };
    let mut admin = session("sa");
    run(&mut admin, "CREATE TABLE dbo.Customers (Id int NOT NULL PRIMARY KEY, Name nvarchar(20))").await?;
    run(&mut admin, "INSERT INTO dbo.Customers VALUES (1, N'a')").await?;
    run(&mut admin, "ALTER DATABASE SalesDB SET ALLOW_SNAPSHOT_ISOLATION OFF").await?;
    let reads =
        "SET TRANSACTION ISOLATION LEVEL SNAPSHOT; BEGIN TRANSACTION; SELECT Id FROM dbo.Customers; COMMIT";
    ensure!(run(&mut session(LOGIN), reads).await.is_err(), "it may read before the set-up");

    let both = SQL_SERVER.lines().chain(CHANGE_TRACKING.lines());
    let text = both.filter(|line| !line.starts_with("--")).collect::<Vec<_>>().join("\n");
    let text = text.replace("$(Login)", LOGIN).replace("$(Database)", "SalesDB").replace("$(Schema)", "dbo");
    for statement in text.split(';').map(str::trim).filter(|text| !text.is_empty()) {
        run(&mut admin, statement).await?;
    }
    run(&mut session(LOGIN), reads).await?;
    for forbidden in [
        "INSERT INTO dbo.Customers VALUES (2, N'b')",
        "UPDATE dbo.Customers SET Name = N'b'",
        "DELETE FROM dbo.Customers",
        "CREATE TABLE dbo.Own (Id int)",
    ] {
        ensure!(run(&mut session(LOGIN), forbidden).await.is_err(), "{forbidden} is allowed");
    }
    Ok(())
}

async fn run(session: &mut Session, sql: &str) -> Result<()> {
    for outcome in session.execute(sql).await {
        outcome.map_err(|error| anyhow::anyhow!("{sql}: {error}"))?;
    }
    Ok(())
}

/// `broker health` and `broker audit verify` as a pod and an auditor use them, with a log that Vault's key signs.
async fn health_and_audit() -> Result<()> {
    let stage = Stage::new().await?;
    let world = &stage.world;
    let public = sign_with_a_new_key(world)?;
    let port = std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
    let listen = format!("127.0.0.1:{port}");
    // The system's log is a datagram socket, to which the sandbox must let the copies go.
    let syslog = UnixDatagram::bind(world.dir.join("syslog"))?;
    syslog.set_nonblocking(true)?;
    world.users.broker.own(&world.dir.join("syslog"), 0o600)?;
    let signed = format!(
        "audit: {{ path: audit.log, signing_key: audit_signing_key, copy: \"syslog:{}\" }}",
        world.dir.join("syslog").display()
    );
    let changes = [("127.0.0.1:0", listen.as_str()), ("audit: { path: audit.log }", signed.as_str())];
    let config = live::configure(world, &ordinary(), &changes)?;
    let config_text = config.display().to_string();
    let health = ["health", "--config", &config_text, "--wait", "20s"];
    expect(&ask(world, &health[..3]).await?, 69, &["B709", &listen])?;

    let live = live::serve(world, &config).await?;
    expect(&ask(world, &health).await?, 0, &["ok"])?;
    for path in ["/metrics", "/prometheus"] {
        let text = live.get(path).await?;
        for metric in
            ["upstream_up{upstream=\"vault\"", "upstream_seconds_left{", "audit_writable 1", "audit_lines "]
        {
            ensure!(text.contains(&format!("keyferry_broker_{metric}")), "{path} has no {metric}: {text}");
        }
    }
    live.process.stop(PATIENCE).await?;
    let mut message = [0; 4096];
    let length = syslog.recv(&mut message).context("the first copy")?;
    let copy = String::from_utf8_lossy(&message[..length]).into_owned();
    ensure!(
        copy.starts_with("<86>1 20") && copy.contains("keyferry-broker") && copy.contains("\"Start\""),
        "{copy}"
    );

    let log = world.dir.join("broker").join("audit.log");
    let (log_text, key) = (log.display().to_string(), public.display().to_string());
    let verify = ["audit", "verify", log_text.as_str(), "--key", key.as_str()];
    expect(&ask(world, &verify).await?, 0, &["as it was written", "2 signed by key"])?;
    expect(&ask(world, &verify[..3]).await?, 75, &["B608", "nothing signed was checked"])?;
    let text = fs::read_to_string(&log)?;
    let whole: Vec<&str> = text.lines().collect();
    fs::write(&log, text.replacen("\"Start\"", "\"Stort\"", 1))?;
    expect(&ask(world, &verify).await?, 65, &["B606", "line 2"])?;
    fs::write(&log, whole[..whole.len() - 1].join("\n") + "\n")?;
    expect(&ask(world, &verify).await?, 75, &["B608", "not signed yet"])?;
    let known = whole.len().to_string();
    let verify = [&verify[..], &["--at-least", known.as_str()]].concat();
    expect(&ask(world, &verify).await?, 65, &["B606", "are known to have been written"])?;
    stage.end(None).await
}

/// The broker's own configuration, asked as an operator would before a pipeline is added.
async fn explained() -> Result<()> {
    let stage = Stage::new().await?;
    let world = &stage.world;
    let config = ordinary().write(world)?.display().to_string();
    let caller = format!("uid={},gid={}", world.users.loader.uid, world.users.loader.gid);
    let explain = |more: &[&str]| {
        let all = [&["policy", "explain", "--config", &config, "--caller"], more].concat();
        all.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let asked = async |more: &[&str]| -> Result<Ended> {
        let arguments = explain(more);
        ask(world, &arguments.iter().map(String::as_str).collect::<Vec<_>>()).await
    };
    expect(
        &asked(&[&caller, "--grant", "analytics"]).await?,
        0,
        &["allowed  analytics as session", "role "],
    )?;
    let nobody = asked(&["uid=4711", "--grant", "analytics"]).await?;
    expect(&nobody, 77, &["denied   analytics as session", "it wants uid"])?;
    let json = asked(&[&caller, "--output", "json"]).await?;
    let found: serde_json::Value = serde_json::from_str(&json.stdout)?;
    ensure!(found["allowed"] == true && found["decisions"][0]["because"].is_string(), "{found:#}");
    expect(&asked(&["me"]).await?, 2, &["a caller reads `uid=10002`"])?;
    stage.end(None).await
}

/// Runs a command of the broker beside whatever serves.
async fn ask(world: &World, arguments: &[&str]) -> Result<Ended> {
    world.spawn_broker_as("asked", arguments)?.wait(PATIENCE).await
}

/// Puts a new Ed25519 key beside the other fields of the Vault secret; returns the file with its public half.
fn sign_with_a_new_key(world: &World) -> Result<PathBuf> {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519)?;
    let mut fields = rotation::fields(world);
    fields["audit_signing_key"] = pair.serialize_pem().into();
    rotation::put(world, &fields);
    world.users.broker.file(&world.dir.join("audit.pub"), 0o444, pair.public_key_pem())
}
