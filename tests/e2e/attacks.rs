//! What a caller may send that no client would: bytes that are no message, frames that are no conversation.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use keyferry_e2e::{process::Process, redteam, world::World};
use keyferry_proto::{
    connect::{self, Address},
    v1::WhoAmIRequest,
};
use libtest_mimic::Trial;

use crate::harness::{Stage, ordinary, test};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADERS: u8 = 0x1;
const RST_STREAM: u8 = 0x3;
const SETTINGS: u8 = 0x4;
const PING: u8 = 0x6;
const GOAWAY: u8 = 0x7;
const WINDOW_UPDATE: u8 = 0x8;
const CONTINUATION: u8 = 0x9;
/// What a flood may cost the broker, in KiB.
const GROWTH_KIB: u64 = 16 * 1024;

pub(crate) fn trials(trials: &mut Vec<Trial>) {
    trials.push(test("every_row_of_security_names_tests_that_exist", rows));
    trials.push(test("no_socket_of_the_broker_has_an_abstract_name", pathnames));
    trials.push(test("messages_that_are_none_are_answered_with_a_status_and_the_broker_goes_on", garbage));
    trials.push(test("a_prefix_of_four_gigabytes_is_refused_and_costs_no_memory", prefix));
    trials.push(test("floods_of_frames_end_their_connection_and_nobody_elses", floods));
    trials.push(test("five_thousand_connections_at_once_leave_the_broker_serving", backlog));
}

async fn rows() -> Result<()> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the project's folder")?;
    let rows = redteam::rows(&fs::read_to_string(root.join("SECURITY.md"))?)?;
    let unknown = redteam::unknown(&rows, root)?;
    ensure!(unknown.is_empty(), "SECURITY.md names tests that do not exist: {unknown:?}");
    let absent = redteam::absent(&rows);
    ensure!(absent.is_empty(), "threats that have no row in SECURITY.md: {absent:?}");
    Ok(())
}

async fn pathnames() -> Result<()> {
    let stage = Stage::new().await?;
    let broker = stage.world.start_broker(&ordinary()).await?;
    let own: BTreeSet<String> = fs::read_dir(format!("/proc/{}/fd", broker.id()))?
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .filter_map(|link| link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']').map(str::to_owned))
        .collect();
    let table = fs::read_to_string("/proc/net/unix")?;
    let names: Vec<&str> = table
        .lines()
        .filter(|line| line.split_whitespace().nth(6).is_some_and(|inode| own.contains(inode)))
        .filter_map(|line| line.split_whitespace().nth(7))
        .collect();
    ensure!(
        names.iter().any(|name| name.ends_with("broker.sock")),
        "the broker's socket is not in {names:?}"
    );
    ensure!(!names.iter().any(|name| name.starts_with('@')), "abstract names: {names:?}");
    stage.end(Some(broker)).await
}

/// A connection that speaks for itself.
struct Raw(UnixStream);

impl Raw {
    fn open(world: &World) -> Result<Self> {
        let mut stream = UnixStream::connect(world.socket())?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.set_write_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(PREFACE)?;
        let mut raw = Self(stream);
        raw.frame(SETTINGS, 0, 0, &[])?;
        Ok(raw)
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, body: &[u8]) -> std::io::Result<()> {
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes();
        let mut bytes = vec![length[1], length[2], length[3], kind, flags];
        bytes.extend(stream.to_be_bytes());
        bytes.extend(body);
        self.0.write_all(&bytes)
    }

    /// The headers of a call, in HPACK's literal form.
    fn call(method: &str) -> Vec<u8> {
        let path = format!("/keyferry.v1.Credentials/{method}");
        let fields = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path.as_str()),
            (":authority", "broker"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            ("keyferry", "1"),
        ];
        let mut block = Vec::new();
        for (name, value) in fields {
            block.push(0);
            for text in [name, value] {
                block.push(text.len() as u8);
                block.extend(text.as_bytes());
            }
        }
        block
    }

    /// Everything that comes until the broker ends the connection, or until it is silent for a while.
    fn rest(&mut self) -> (Vec<u8>, bool) {
        let mut all = Vec::new();
        let mut buffer = [0; 16 * 1024];
        loop {
            match self.0.read(&mut buffer) {
                Ok(0) => return (all, true),
                Ok(count) => all.extend(&buffer[..count]),
                Err(error) => {
                    let waiting =
                        matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut);
                    return (all, !waiting);
                }
            }
        }
    }

    /// The kinds of frames in what came.
    fn kinds(bytes: &[u8]) -> BTreeSet<u8> {
        let (mut kinds, mut at) = (BTreeSet::new(), 0);
        while let Some(head) = bytes.get(at..at + 9) {
            kinds.insert(head[3]);
            at += 9 + u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        }
        kinds
    }
}

async fn serves(world: &World) -> Result<()> {
    let address = Address {
        socket: world.socket(),
        server_uid: world.users.broker.uid,
        patience: Duration::from_secs(10),
        service_account_token: None,
    };
    let mut client = connect::connect(&address).await?;
    tokio::time::timeout(Duration::from_secs(10), client.who_am_i(WhoAmIRequest {}))
        .await
        .context("the broker does not answer")??;
    Ok(())
}

fn resident_kib(broker: &Process) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", broker.id()))?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).context("no VmHWM")?;
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).context("no number")
}

async fn garbage() -> Result<()> {
    let stage = Stage::new().await?;
    let broker = stage.world.start_broker(&ordinary()).await?;
    let mut random = fastrand::Rng::with_seed(21);
    let methods = [
        "WhoAmI",
        "GetToken",
        "WatchToken",
        "Initiate",
        "OpenSession",
        "GetSettings",
        "ReportOutcome",
        "None",
    ];
    for round in 0..40 {
        let mut raw = Raw::open(&stage.world)?;
        raw.0.set_read_timeout(Some(Duration::from_millis(300)))?;
        for (number, method) in methods.iter().enumerate() {
            let mut body = vec![u8::from(random.u8(..) < 8)];
            let length = random.usize(0..200);
            let message: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(length).collect();
            let claimed = if random.u8(..) < 32 { random.u32(..) } else { message.len() as u32 };
            body.extend(claimed.to_be_bytes());
            body.extend(message);
            let stream = (number * 2 + 1) as u32;
            raw.frame(HEADERS, 0x4, stream, &Raw::call(method))?;
            if raw.frame(0, 0x1, stream, &body).is_err() {
                break;
            }
        }
        let (bytes, _) = raw.rest();
        ensure!(!bytes.is_empty(), "round {round}: no answer at all");
    }
    serves(&stage.world).await?;
    ensure!(!broker.stderr().contains("panicked"), "a panic:\n{}", broker.stderr());
    stage.end(Some(broker)).await
}

async fn prefix() -> Result<()> {
    let stage = Stage::new().await?;
    let broker = stage.world.start_broker(&ordinary()).await?;
    serves(&stage.world).await?;
    let before = resident_kib(&broker)?;
    for _ in 0..20 {
        let mut raw = Raw::open(&stage.world)?;
        raw.frame(HEADERS, 0x4, 1, &Raw::call("GetToken"))?;
        raw.frame(0, 0, 1, &[0, 0xFF, 0xFF, 0xFF, 0xFF])?;
        raw.frame(0, 0, 1, &[1; 1024])?;
        raw.0.set_read_timeout(Some(Duration::from_millis(300)))?;
        let (bytes, _) = raw.rest();
        // Trailers with a status other than 0, which HPACK may have packed: a frame of headers came for the stream.
        ensure!(Raw::kinds(&bytes).contains(&HEADERS), "no status came");
    }
    let grown = resident_kib(&broker)?.saturating_sub(before);
    ensure!(grown < 2048, "the broker grew by {grown} KiB");
    serves(&stage.world).await?;
    stage.end(Some(broker)).await
}

/// Sends until the broker has had enough; says what came back and whether the connection was ended.
fn flood(
    world: &World,
    most: u32,
    mut send: impl FnMut(&mut Raw, u32) -> std::io::Result<()>,
) -> Result<(BTreeSet<u8>, bool)> {
    let mut raw = Raw::open(world)?;
    let began = Instant::now();
    let mut refused = false;
    for number in 0..most {
        if send(&mut raw, number).is_err() {
            refused = true;
            break;
        }
        ensure!(began.elapsed() < Duration::from_secs(60), "the flood was swallowed for a minute");
    }
    raw.0.set_read_timeout(Some(Duration::from_secs(2)))?;
    let (bytes, ended) = raw.rest();
    Ok((Raw::kinds(&bytes), ended || refused))
}

async fn floods() -> Result<()> {
    let stage = Stage::new().await?;
    let broker = stage.world.start_broker(&ordinary()).await?;
    serves(&stage.world).await?;
    let before = resident_kib(&broker)?;
    let world = &stage.world;
    let block = Raw::call("WhoAmI");
    let reset = flood(world, 20_000, |raw, number| {
        let stream = number * 2 + 1;
        raw.frame(HEADERS, 0x4, stream, &block)?;
        raw.frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())
    })?;
    let continued = flood(world, 20_000, |raw, number| match number {
        0 => raw.frame(HEADERS, 0, 1, &block),
        _ => raw.frame(CONTINUATION, 0, 1, &[0, 1, b'a', 1, b'b']),
    })?;
    let windows =
        flood(world, 20_000, |raw, _| raw.frame(WINDOW_UPDATE, 0, 0, &0x7FFF_FFFF_u32.to_be_bytes()))?;
    for (what, (kinds, ended)) in
        [("streams that are reset", reset), ("headers without end", continued), ("windows", windows)]
    {
        ensure!(ended || kinds.contains(&GOAWAY), "{what}: the connection goes on; frames {kinds:?}");
    }
    // Pings and settings may be answered without end: whoever does not read the answers is stopped by its own socket.
    for kind in [PING, SETTINGS] {
        let body: &[u8] = if kind == PING { &[0; 8] } else { &[] };
        let mut raw = Raw::open(world)?;
        raw.0.set_write_timeout(Some(Duration::from_secs(2)))?;
        let mut sent = 0;
        while sent < 200_000 && raw.frame(kind, 0, 0, body).is_ok() {
            sent += 1;
        }
        serves(world).await.with_context(|| format!("while {sent} frames of kind {kind} wait"))?;
    }
    let grown = resident_kib(&broker)?.saturating_sub(before);
    ensure!(grown < GROWTH_KIB, "the broker grew by {grown} KiB");
    serves(world).await?;
    stage.end(Some(broker)).await
}

async fn backlog() -> Result<()> {
    let stage = Stage::new().await?;
    let broker = stage.world.start_broker(&ordinary()).await?;
    let mut open = Vec::new();
    let mut turned_away = 0;
    for number in 0..5000 {
        match UnixStream::connect(stage.world.socket()) {
            Ok(stream) => open.push(stream),
            Err(_) => turned_away += 1,
        }
        if number % 500 == 499 {
            // What is held open is bounded by the uid's share, so that this process does not run out of descriptors first.
            open.drain(..open.len().saturating_sub(100));
        }
    }
    drop(open);
    // Whoever is turned away while the broker still works through them may come again.
    let deadline = Instant::now() + Duration::from_secs(90);
    while let Err(error) = serves(&stage.world).await {
        ensure!(
            Instant::now() < deadline,
            "after 5,000 connections, {turned_away} of them turned away, nobody is served: {error:#}"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    stage.end(Some(broker)).await
}
