//! What the children do: many callers of one broker, well behaved or not.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use keyferry_proto::{
    connect::{self, Address, Client},
    v1::{GetTokenRequest, GssClient},
};
use serde::{Deserialize, Serialize};
use tokio::{io::AsyncWriteExt as _, net::UnixStream, task::JoinSet};

/// Connections over which a burst comes.
const CONNECTIONS: usize = 25;
/// Calls of a steady caller that are open at once.
const STEADY: usize = 4;

/// What callers found.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Report {
    pub(crate) served: usize,
    pub(crate) refused: usize,
    /// How many different tokens they were given.
    pub(crate) generations: usize,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
}

/// The child's work; arguments are mode, socket, the broker's uid and a count.
pub(crate) fn call_broker(arguments: &[String]) -> Result<()> {
    let [mode, socket, uid, count] = arguments else { bail!("mode, socket, uid and count are needed") };
    let address = Address {
        socket: PathBuf::from(socket),
        server_uid: uid.parse()?,
        patience: Duration::from_secs(20),
        service_account_token: None,
    };
    let count: usize = count.parse()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        match mode.as_str() {
            "burst" => print(&burst(&address, count).await?),
            "steady" => print(&steady(&address, count).await?),
            "greedy" => greedy(&address, count).await,
            "stuck" => stuck(&address, count).await,
            other => bail!("no mode {other}"),
        }
    })
}

fn print(report: &Report) -> Result<()> {
    println!("{}", serde_json::to_string(report)?);
    Ok(())
}

/// One call: how long it took, and which token came.
async fn token(mut client: Client) -> (Duration, Option<String>) {
    let before = Instant::now();
    let request =
        GetTokenRequest { grant: "analytics".into(), pipeline: "burst".into(), ..GetTokenRequest::default() };
    let token = client.get_token(request).await.ok().map(|token| token.into_inner().generation);
    (before.elapsed(), token)
}

fn report(outcomes: &[(Duration, Option<String>)]) -> Report {
    let mut times: Vec<f64> = outcomes.iter().map(|(time, _)| time.as_secs_f64() * 1000.0).collect();
    times.sort_by(f64::total_cmp);
    let at = |share: usize| times.get((times.len() * share / 100).min(times.len() - 1)).copied();
    let served = outcomes.iter().filter(|(_, token)| token.is_some()).count();
    let generations: BTreeSet<_> = outcomes.iter().filter_map(|(_, token)| token.as_ref()).collect();
    Report {
        served,
        refused: outcomes.len() - served,
        generations: generations.len(),
        p50_ms: at(50).unwrap_or_default(),
        p99_ms: at(99).unwrap_or_default(),
    }
}

/// All calls at once.
async fn burst(address: &Address, count: usize) -> Result<Report> {
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(connect::connect(address).await?);
    }
    let mut calls = JoinSet::new();
    for number in 0..count {
        calls.spawn(token(clients[number % CONNECTIONS].clone()));
    }
    Ok(report(&calls.join_all().await))
}

/// A few calls at a time, with a breath after each.
async fn steady(address: &Address, count: usize) -> Result<Report> {
    let mut callers = JoinSet::new();
    for _ in 0..STEADY {
        let client = connect::connect(address).await?;
        callers.spawn(async move {
            let mut outcomes = Vec::new();
            for _ in 0..count / STEADY {
                outcomes.push(token(client.clone()).await);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            outcomes
        });
    }
    Ok(report(&callers.join_all().await.concat()))
}

/// Calls without a breath until it is ended.
async fn greedy(address: &Address, tasks: usize) -> Result<()> {
    let mut calls = JoinSet::new();
    for _ in 0..tasks {
        let address = address.clone();
        calls.spawn(async move {
            while let Ok(client) = connect::connect(&address).await {
                for _ in 0..100_000 {
                    token(client.clone()).await;
                }
            }
        });
    }
    calls.join_all().await;
    Ok(())
}

/// Connections that say nothing, that stop in the middle of the preface, and exchanges that never begin; all stay
/// open until this is ended.
async fn stuck(address: &Address, count: usize) -> Result<()> {
    let mut held = Vec::new();
    let client = connect::connect(address).await.context("one connection that speaks gRPC")?;
    let mut exchanges = Vec::new();
    loop {
        for number in 0..count {
            // Beyond its share the broker hangs up; that is what is wanted of it.
            if let Ok(mut stream) = UnixStream::connect(&address.socket).await {
                if number % 2 == 0 {
                    drop(stream.write_all(b"PRI * HTTP/2.0\r\n").await);
                }
                held.push(stream);
            }
        }
        for _ in 0..8 {
            let (sender, receiver) = tokio::sync::mpsc::channel::<GssClient>(1);
            let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
            let mut client = client.clone();
            let call = tokio::spawn(async move { client.initiate(stream).await.map(drop) });
            exchanges.push((sender, call));
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        held.clear();
        exchanges.clear();
    }
}
