//! One stand-in by itself, for somebody who needs only that.
#![allow(clippy::print_stdout, clippy::print_stderr)] // what it prints is what it is for

use std::{net::Ipv4Addr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use keyferry_sql::{Database, Dialect};
use keyferry_stand_in_identity::{
    certs::Authority,
    entra::Entra,
    kdc::{Kdc, Lifetimes},
    vault::Vault,
};

/// Starts one stand-in on loopback and prints how to reach it. Ctrl-C ends it.
///
/// Example: stand-in --dir /tmp/vault vault
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// A folder for certificates and databases
    #[arg(long)]
    dir: PathBuf,
    #[command(subcommand)]
    which: Which,
}

#[derive(Subcommand)]
enum Which {
    /// HashiCorp Vault: AppRole, tokens, wrapping, KV v2, policies
    Vault,
    /// Microsoft Entra ID: client credentials, JWKS
    Entra {
        /// The tenant's id
        #[arg(long, default_value = "9f3c1d52-5a7e-4a55-9d0f-5d2f4c1b7a10")]
        tenant: String,
    },
    /// A real MIT KDC with a throw-away realm
    Kdc {
        /// The realm's name
        #[arg(long, default_value = "KEYFERRY.TEST")]
        realm: String,
    },
    /// SQL Server with a SQL login and one empty database
    Sqlserver {
        /// The port; 0 takes a free one
        #[arg(long, default_value_t = 0)]
        port: u16,
        /// The login's name
        #[arg(long, default_value = "sa")]
        login: String,
        /// A file with the login's password
        #[arg(long)]
        password_file: PathBuf,
    },
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    std::fs::create_dir_all(&arguments.dir).with_context(|| format!("create {}", arguments.dir.display()))?;
    let authority = Authority::new("Keyferry stand-in")?;
    let ca = arguments.dir.join("ca.pem");
    authority.write_pem(&ca)?;
    let names = &["localhost", "127.0.0.1"];
    println!("CA {}", ca.display());
    match arguments.which {
        Which::Vault => {
            let vault = Vault::start(authority.server(names)?).await?;
            println!("VAULT_ADDR={}\nVAULT_TOKEN={}", vault.url(), vault.root_token());
            until_ctrl_c().await?;
            vault.stop().await;
        }
        Which::Entra { tenant } => {
            let entra = Entra::start(
                authority.server(names)?,
                &tenant,
                &["api://snowflake"],
                Duration::from_secs(3600),
            )
            .await?;
            println!("authority {}\nissuer {}\nJWKS {}", entra.url(), entra.issuer(), entra.jwks_url());
            until_ctrl_c().await?;
            entra.stop().await;
        }
        Which::Kdc { realm } => {
            let kdc = Kdc::start(&arguments.dir.join("kdc"), &realm, Lifetimes::default())?;
            println!("KDC {}\nKRB5_CONFIG={}", kdc.address(), kdc.client_config().display());
            until_ctrl_c().await?;
        }
        Which::Sqlserver { port, login, password_file } => {
            let password = std::fs::read_to_string(&password_file)
                .with_context(|| format!("read {}", password_file.display()))?;
            let database: Arc<Database> = Database::new(Dialect::SqlServer, "master");
            let listen = (Ipv4Addr::LOCALHOST, port).into();
            let mut config = keyferry_stand_in_sqlserver::Config::new(listen, database);
            let identity = authority.issue(names)?;
            config.tls = Some(keyferry_stand_in_sqlserver::TlsIdentity {
                certificates: identity.chain,
                key: identity.key,
            });
            config.logins = vec![keyferry_stand_in_sqlserver::SqlLogin::new(login, password.trim_end())];
            let server = keyferry_stand_in_sqlserver::Server::start(config).await?;
            println!("SQL Server {}", server.addr());
            until_ctrl_c().await?;
            server.stop().await;
        }
    }
    Ok(())
}

async fn until_ctrl_c() -> Result<()> {
    tokio::signal::ctrl_c().await.context("wait for Ctrl-C")
}
