//! A world for third-party clients: every stand-in, a broker, and what each client needs to log in, as
//! environment variables.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use keyferry_proto::{
    connect::{Address, connect},
    v1::GetTokenRequest,
};
use keyferry_stand_in_snowflake::{Effect, Fault, Trigger};

use crate::{
    process::{Process, User, copy_program, tail},
    sample::{every_type, text, tpch},
    world::{
        ACCOUNT, BrokerSetup, JUDGE_KEY_USER, Options, PipelineSetup, SOURCE_DATABASE, TARGET_DATABASE,
        TARGET_SCHEMA, World,
    },
};

const PIPELINE: &str = "judges";

/// What the judge asked for.
#[derive(Clone, Debug)]
pub struct Bench {
    /// The client and its arguments.
    pub command: Vec<PathBuf>,
    /// Whether the loader moves the sample tables first.
    pub loaded: bool,
    /// TPC-H's scale factor of the sample tables.
    pub scale: f64,
}

/// Starts a world with a broker, gets a token as a caller that policy allows one, and runs the command with it.
pub(super) async fn run(dir: &Path, bench: &Bench) -> Result<bool> {
    let world = World::start(dir, &Options { judges: true, ..Options::default() }).await?;
    let judge =
        if world.users.separate { User { uid: 10_004, ..world.users.loader } } else { world.users.loader };
    let policy = format!(
        "{{ caller: {{ uid: {} }}, pipeline: {PIPELINE}, allow: {{ analytics: token }} }}",
        judge.uid
    );
    let policy = [vec![policy], world.reports_policy()].concat();
    let setup = BrokerSetup { grants: world.reports_grant(), policy, ..BrokerSetup::default() };
    let broker = world.start_broker(&setup).await?;
    if bench.loaded {
        load(&world, bench.scale).await?;
    }
    let token = fetch(&world, judge).await?;
    let (program, arguments) = bench.command.split_first().context("a command to judge with")?;
    let status = Command::new(program)
        .args(arguments)
        .envs(sqlserver(&world))
        .envs(snowflake(&world, token))
        .envs(identity(&world))
        .env("BROKER_SOCKET", world.socket())
        .env("BROKER_UID", world.users.broker.uid.to_string())
        .env("BROKER_GID", world.users.loader.gid.to_string())
        .env("JUDGE_UID", judge.uid.to_string())
        .env("WORLD", dir)
        .env("REQUESTS_CA_BUNDLE", world.ca_file())
        .env("SSL_CERT_FILE", world.ca_file())
        .status()
        .with_context(|| format!("run {}", program.display()))?;
    broker.stop(Duration::from_secs(20)).await?;
    world.stop().await;
    Ok(status.success())
}

type Variables = Vec<(&'static str, String)>;

fn sqlserver(world: &World) -> Variables {
    let port = world.sqlserver.addr().port();
    let (login, password) = world.sql_login();
    vec![
        ("SQLSERVER_HOST", "localhost".to_owned()),
        ("SQLSERVER_PORT", port.to_string()),
        ("SQLSERVER_DATABASE", SOURCE_DATABASE.to_owned()),
        ("SQLSERVER_LOGIN", login.to_owned()),
        ("SQLSERVER_PASSWORD", password.to_owned()),
        ("SQLSERVER_SPN", format!("MSSQLSvc/localhost:{port}")),
        ("SQLSERVER_CA", world.ca_file().display().to_string()),
        ("KRB5CCNAME", format!("FILE:{}", world.judge_ticket().display())),
        ("KRB5_PRINCIPAL", world.judge_principal()),
    ]
}

fn snowflake(world: &World, token: String) -> Variables {
    vec![
        ("SNOWFLAKE_URL", world.snowflake.url.clone()),
        ("SNOWFLAKE_OBJECTS", world.snowflake.objects_addr.to_string()),
        ("SNOWFLAKE_CA", world.ca_file().display().to_string()),
        ("SNOWFLAKE_ACCOUNT", ACCOUNT.to_owned()),
        ("SNOWFLAKE_USER", "SVC_LOADER".to_owned()),
        ("SNOWFLAKE_ROLE", "LOADER".to_owned()),
        ("SNOWFLAKE_WAREHOUSE", "LOAD_WH".to_owned()),
        ("SNOWFLAKE_DATABASE", TARGET_DATABASE.to_owned()),
        ("SNOWFLAKE_SCHEMA", TARGET_SCHEMA.to_owned()),
        ("SNOWFLAKE_TOKEN", token),
        ("SNOWFLAKE_KEY_USER", JUDGE_KEY_USER.to_owned()),
        ("SNOWFLAKE_PRIVATE_KEY_FILE", world.judge_key_file().display().to_string()),
    ]
}

fn identity(world: &World) -> Variables {
    let ca = world.ca_file().display().to_string();
    let access = world.auditor();
    vec![
        ("VAULT_ADDR", world.vault.url()),
        ("VAULT_CACERT", ca.clone()),
        ("VAULT_TOKEN", world.vault.root_token().to_owned()),
        ("VAULT_ROLE_ID", world.secrets.role_id.clone()),
        ("VAULT_UNSEAL_KEY", world.vault.unseal_key()),
        ("ENTRA_AUTHORITY", world.entra.url()),
        ("ENTRA_TENANT", world.tenant().to_owned()),
        ("ENTRA_CLIENT_ID", access.client_id),
        ("ENTRA_CLIENT_SECRET", access.client_secret),
        ("ENTRA_SCOPE", access.scope),
        ("ENTRA_KEY_FILE", world.judge_key_file().display().to_string()),
        ("ENTRA_CERTIFICATE_FILE", world.judge_certificate_file().display().to_string()),
        ("ENTRA_CA", ca),
    ]
}

/// The loader moves the sample tables, as it does in the demo.
async fn load(world: &World, scale: f64) -> Result<()> {
    let mut tables = tpch::tables(scale);
    tables.push(every_type::table());
    tables.push(text::table());
    world.fill(&tables).await?;
    let names: Vec<&str> = tables.iter().map(|table| table.name).collect();
    let pipeline = PipelineSetup::of(&names).write(world, "pipeline")?;
    // The staged files stay, so that a judge can fetch what the loader sent: their removal is refused.
    let removal = Trigger::Statement("REMOVE".to_owned());
    let kept = world.snowflake.faults.arm(Fault::once(removal, Effect::Refused("003001")).times(u32::MAX));
    let loader = world.spawn_loader("loader", &["run", &pipeline.display().to_string()], &[])?;
    let ended = loader.wait(Duration::from_mins(10)).await?;
    world.snowflake.faults.disarm(kept);
    ensure!(ended.status.success(), "the loader ended with {}:\n{}", ended.status, tail(&ended.stderr));
    Ok(())
}

/// The token as that user gets it: by a process of its own at the socket.
async fn fetch(world: &World, judge: User) -> Result<String> {
    let program = world.dir.join("local-dev.bin");
    copy_program(&std::env::current_exe()?, &program)?;
    let arguments =
        ["--get-token".to_owned(), world.socket().display().to_string(), world.users.broker.uid.to_string()];
    let caller = Process::start("get-token", &program, &arguments, &[], judge, &world.dir.join("logs"))?;
    let ended = caller.wait(Duration::from_secs(30)).await?;
    ensure!(ended.status.success(), "the broker gave no token: {}", ended.output());
    Ok(ended.stdout.trim().to_owned())
}

/// The caller itself: prints the token that policy allows it.
pub async fn print_token(socket: &Path, server_uid: u32) -> Result<()> {
    use std::io::Write as _;
    let address = Address {
        socket: socket.to_owned(),
        server_uid,
        patience: Duration::from_secs(5),
        service_account_token: None,
    };
    let mut client = connect(&address).await?;
    let request = GetTokenRequest {
        grant: "analytics".to_owned(),
        pipeline: PIPELINE.to_owned(),
        ..Default::default()
    };
    let token = client.get_token(request).await?.into_inner();
    let mut out = std::io::stdout();
    out.write_all(&token.value)?;
    out.flush()?;
    Ok(())
}
