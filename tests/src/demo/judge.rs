//! A world for a third-party client of Snowflake, which logs in with a token from the broker.

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

use crate::{
    process::{Process, User, copy_program},
    world::{ACCOUNT, BrokerSetup, Options, TARGET_DATABASE, TARGET_SCHEMA, World},
};

const PIPELINE: &str = "judges";

/// Starts a world with a broker, gets a token as a caller that policy allows one, and runs `command` with it.
pub(super) async fn run(dir: &Path, command: &[PathBuf]) -> Result<bool> {
    let world = World::start(dir, &Options::default()).await?;
    let judge =
        if world.users.separate { User { uid: 10_004, ..world.users.loader } } else { world.users.loader };
    let policy = format!(
        "{{ caller: {{ uid: {} }}, pipeline: {PIPELINE}, allow: {{ analytics: token }} }}",
        judge.uid
    );
    let broker = world.start_broker(&BrokerSetup { policy: vec![policy], ..BrokerSetup::default() }).await?;
    let token = fetch(&world, judge).await?;
    let (program, arguments) = command.split_first().context("a command to judge with")?;
    let status = Command::new(program)
        .args(arguments)
        .env("REQUESTS_CA_BUNDLE", world.ca_file())
        .env("SSL_CERT_FILE", world.ca_file())
        .env("SNOWFLAKE_URL", &world.snowflake.url)
        .env("SNOWFLAKE_CA", world.ca_file())
        .env("SNOWFLAKE_ACCOUNT", ACCOUNT)
        .env("SNOWFLAKE_USER", "SVC_LOADER")
        .env("SNOWFLAKE_ROLE", "LOADER")
        .env("SNOWFLAKE_WAREHOUSE", "LOAD_WH")
        .env("SNOWFLAKE_DATABASE", TARGET_DATABASE)
        .env("SNOWFLAKE_SCHEMA", TARGET_SCHEMA)
        .env("SNOWFLAKE_TOKEN", token)
        .status()
        .with_context(|| format!("run {}", program.display()))?;
    broker.stop(Duration::from_secs(20)).await?;
    world.stop().await;
    Ok(status.success())
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
    let address = Address { socket: socket.to_owned(), server_uid, patience: Duration::from_secs(5) };
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
