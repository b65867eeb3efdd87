//! Closed loops (each caller waits for its answer) and an open one (calls begin by the clock).

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use keyferry_proto::{
    connect::{self, Address, Client},
    v1::{GetTokenRequest, GssBegin, GssClient, OpenSessionRequest, gss_client::Message},
};
use tokio::{task::JoinSet, time::Instant};
use tokio_stream::wrappers::ReceiverStream;

use super::{Answered, Calling, PIPELINE};
use crate::stats::percentile;

/// Calls before the measurement: connections are made, the token is in the cache.
const WARM: usize = 50;

#[derive(Clone, Copy)]
enum Call {
    Token,
    Relay,
    Session,
}

pub(super) async fn run(calling: &Calling) -> Result<Answered> {
    let call = match calling.call.as_str() {
        "token" => Call::Token,
        "relay" => Call::Relay,
        "session" => Call::Session,
        other => bail!("no call {other}"),
    };
    let address = Address {
        socket: calling.socket.clone(),
        server_uid: calling.server_uid,
        patience: Duration::from_secs(20),
        service_account_token: None,
    };
    let mut clients = Vec::new();
    for _ in 0..calling.connections.max(1) {
        clients.push(connect::connect(&address).await?);
    }
    for number in 0..WARM {
        one(call, clients[number % clients.len()].clone()).await.context("a call before the measurement")?;
    }
    let time = Duration::from_secs_f64(calling.seconds);
    match calling.per_second {
        None => closed(call, &clients, calling.callers, time).await,
        Some(rate) => open(call, &clients, rate, time).await,
    }
}

/// The token itself, for a client that logs in to Snowflake.
pub async fn token(socket: PathBuf, server_uid: u32) -> Result<Vec<u8>> {
    let address =
        Address { socket, server_uid, patience: Duration::from_secs(20), service_account_token: None };
    Ok(fetch(connect::connect(&address).await?).await?)
}

async fn closed(call: Call, clients: &[Client], callers: usize, time: Duration) -> Result<Answered> {
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for number in 0..callers {
        let client = clients[number % clients.len()].clone();
        tasks.spawn(async move {
            let (mut times, mut failed) = (Vec::new(), 0);
            while started.elapsed() < time {
                let before = Instant::now();
                match one(call, client.clone()).await {
                    Ok(()) => times.push(before.elapsed()),
                    Err(_) => failed += 1,
                }
            }
            (times, failed)
        });
    }
    summary(started, tasks.join_all().await)
}

/// A call's time runs from the moment at which it was due, so that one that holds up others is counted for them too.
async fn open(call: Call, clients: &[Client], rate: u64, time: Duration) -> Result<Answered> {
    let started = Instant::now();
    let calls = (rate as f64 * time.as_secs_f64()) as u64;
    let mut tasks = JoinSet::new();
    for number in 0..calls {
        let due = started + Duration::from_nanos(number * 1_000_000_000 / rate);
        tokio::time::sleep_until(due).await;
        // The timer ticks by the millisecond: what is late by its rounding is not the broker's doing.
        let begun = Instant::now();
        let client = clients[number as usize % clients.len()].clone();
        tasks.spawn(async move {
            match one(call, client).await {
                Ok(()) => (vec![begun.elapsed()], 0),
                Err(_) => (Vec::new(), 1),
            }
        });
    }
    summary(started, tasks.join_all().await)
}

fn summary(started: Instant, found: Vec<(Vec<Duration>, u64)>) -> Result<Answered> {
    let seconds = started.elapsed().as_secs_f64();
    let failed = found.iter().map(|(_, failed)| failed).sum();
    let mut times: Vec<f64> =
        found.into_iter().flat_map(|(times, _)| times).map(|time| time.as_secs_f64() * 1e3).collect();
    ensure!(!times.is_empty(), "no call was answered, {failed} failed");
    times.sort_by(f64::total_cmp);
    Ok(Answered {
        calls: times.len() as u64,
        failed,
        seconds,
        p50_ms: percentile(&times, 0.5),
        p99_ms: percentile(&times, 0.99),
        most_ms: percentile(&times, 1.0),
    })
}

async fn one(call: Call, mut client: Client) -> Result<()> {
    match call {
        Call::Token => ensure!(!fetch(client).await?.is_empty(), "a token without a value"),
        Call::Relay => {
            let begin = GssBegin {
                grant: "sales-sql".to_owned(),
                pipeline: PIPELINE.to_owned(),
                ..GssBegin::default()
            };
            let (sender, receiver) = tokio::sync::mpsc::channel(1);
            sender.send(GssClient { message: Some(Message::Begin(begin)) }).await?;
            let mut answers = client.initiate(ReceiverStream::new(receiver)).await?.into_inner();
            let answer = answers.message().await?.context("no token")?;
            ensure!(!answer.token.is_empty(), "an empty token");
        }
        Call::Session => {
            let request = OpenSessionRequest {
                grant: "analytics".to_owned(),
                pipeline: format!("{PIPELINE}-sessions"),
                role: "LOADER".to_owned(),
                warehouse: "LOAD_WH".to_owned(),
                ..OpenSessionRequest::default()
            };
            let mut sessions = client.open_session(request).await?.into_inner();
            sessions.message().await?.context("no session")?;
        }
    }
    Ok(())
}

async fn fetch(mut client: Client) -> Result<Vec<u8>, tonic::Status> {
    let request = GetTokenRequest {
        grant: "analytics".to_owned(),
        pipeline: PIPELINE.to_owned(),
        ..GetTokenRequest::default()
    };
    Ok(client.get_token(request).await?.into_inner().value)
}
