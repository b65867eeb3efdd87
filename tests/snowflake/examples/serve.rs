//! Starts the stand-in with an issuer and a user, and prints what a client needs, as shell variables.
//! It ends when its standard input does.

#[path = "../tests/wire/world.rs"]
#[allow(dead_code, clippy::unwrap_used, clippy::panic, missing_docs)]
mod world;

use std::io::Read;

use anyhow::Context;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let directory = std::env::args().nth(1).context("give a directory for ca.pem")?;
    let world = world::World::ready().await;
    let authority = std::path::Path::new(&directory).join("ca.pem");
    std::fs::write(&authority, &world.pki.ca_pem)?;
    print_line(&format!("export SNOWFLAKE_URL={}", world.handle.url));
    print_line(&format!("export SNOWFLAKE_CA={}", authority.display()));
    print_line(&format!("export SNOWFLAKE_TOKEN={}", world.issuer.token()));
    print_line(&format!("export SNOWFLAKE_ACCOUNT={}", world::ACCOUNT));
    print_line("export SNOWFLAKE_USER=SVC SNOWFLAKE_ROLE=LOADER SNOWFLAKE_WAREHOUSE=LOAD_WH");
    print_line("export SNOWFLAKE_DATABASE=RAW SNOWFLAKE_SCHEMA=SALES");
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
    world.handle.stop().await;
    Ok(())
}

#[allow(clippy::print_stdout)]
fn print_line(line: &str) {
    println!("{line}");
}
