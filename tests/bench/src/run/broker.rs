//! The broker beside a bare tonic echo on the same kind of socket, called by the same callers.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use keyferry_e2e::{
    process::{Process, copy_program},
    world::{BrokerSetup, Options, World},
};

use super::Wishes;
use crate::{
    callers::{Answered, PIPELINE},
    stats::{grouped, median, ratio},
    table::Table,
    usage::{peak_kib, status_kib},
};

/// As long as a token from the stand-in.
const TOKEN_BYTES: usize = 1_000;
const PATIENCE: Duration = Duration::from_mins(2);
/// Closed loops are run so often, alternately, and the middle one counts.
const ROUNDS: usize = 3;

struct Caller<'a> {
    world: &'a World,
    socket: PathBuf,
    server_uid: u32,
    seconds: f64,
}

impl Caller<'_> {
    async fn call(&self, call: &str, more: &[(&str, String)]) -> Result<Answered> {
        let program = self.world.dir.join("bench.bin");
        copy_program(&std::env::current_exe()?, &program)?;
        let mut arguments = vec!["call".to_owned(), call.to_owned()];
        let all = [
            ("socket", self.socket.display().to_string()),
            ("server-uid", self.server_uid.to_string()),
            ("seconds", self.seconds.to_string()),
        ];
        for (name, value) in all.iter().chain(more) {
            arguments.extend([format!("--{name}"), value.clone()]);
        }
        let logs = self.world.dir.join("logs");
        let callers = Process::start("callers", &program, &arguments, &[], self.world.users.loader, &logs)?;
        let ended = callers.wait(PATIENCE).await?;
        ensure!(ended.status.success(), "the callers failed: {}", ended.output());
        let answered: Answered = serde_json::from_str(&ended.stdout)
            .with_context(|| format!("the callers said {}", ended.output()))?;
        ensure!(answered.failed == 0, "{call}: {} of {} calls failed", answered.failed, answered.calls);
        Ok(answered)
    }
}

pub(super) async fn measure(dir: &Path, wishes: &Wishes) -> Result<String> {
    use std::os::unix::fs::PermissionsExt as _;
    // On tmpfs the log's flush costs no disk's time: what is compared is the two programs.
    let memory = Path::new("/dev/shm").join(format!("keyferry-bench-{}", std::process::id()));
    let mut rows = Vec::new();
    let mut text = String::new();
    for (place, folder) in [("memory", memory.as_path()), ("disk", dir)] {
        std::fs::create_dir_all(folder)?;
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))?;
        let measured = at(folder, wishes, place, &mut rows, &mut text).await;
        drop(std::fs::remove_dir_all(folder));
        measured?;
    }
    let mut table = Table::new(&["call", "requests/s", "of the echo's", "p50 ms", "p99 ms", "longest ms"]);
    for row in rows {
        table.row(row);
    }
    Ok(format!("{}\n{text}", table.markdown()))
}

async fn at(
    dir: &Path,
    wishes: &Wishes,
    place: &str,
    rows: &mut Vec<Vec<String>>,
    text: &mut String,
) -> Result<()> {
    use std::fmt::Write as _;
    let world = World::start(dir, &Options::default()).await?;
    let uid = world.users.loader.uid;
    let policy = vec![
        format!(
            "{{ caller: {{ uid: {uid} }}, pipeline: {PIPELINE}, allow: {{ analytics: token, sales-sql: relay }} }}"
        ),
        format!(
            "{{ caller: {{ uid: {uid} }}, pipeline: {PIPELINE}-sessions, allow: {{ analytics: session }} }}"
        ),
    ];
    let limits = "limits: { calls_per_second: 1000000, connections_per_uid: 256, sessions_per_uid: 256, relays_per_uid: 256 }\n";
    let setup = BrokerSetup { policy, extra: limits.to_owned(), ..BrokerSetup::default() };
    let started = Instant::now();
    let broker = world.start_broker(&setup).await?;
    let ready = started.elapsed();
    let pid = broker.id().to_string();
    let idle = status_kib(&pid, "VmRSS:")?;

    let socket = world.dir.join("socket").join("echo.sock");
    let program = world.dir.join("bench.bin");
    copy_program(&std::env::current_exe()?, &program)?;
    let arguments = ["echo".to_owned(), socket.display().to_string(), TOKEN_BYTES.to_string()];
    let logs = world.dir.join("logs");
    let echo = Process::start("echo", &program, &arguments, &[], world.users.broker, &logs)?;

    let seconds = if wishes.quick { 1.0 } else { 5.0 };
    let server_uid = world.users.broker.uid;
    let of_echo = Caller { world: &world, socket, server_uid, seconds };
    let of_broker = Caller { world: &world, socket: world.socket(), server_uid, seconds };
    let per_second = |answered: &Answered| answered.calls as f64 / answered.seconds;
    let cells = |name: String, answered: &Answered, base: Option<f64>| {
        vec![
            name,
            grouped(per_second(answered)),
            base.map(|base| ratio(per_second(answered), base)).unwrap_or_default(),
            format!("{:.2}", answered.p50_ms),
            format!("{:.2}", answered.p99_ms),
            format!("{:.2}", answered.most_ms),
        ]
    };
    let on = if place == "memory" { "audit log on tmpfs" } else { "audit log on this disk" };
    let closed = [("callers", "64".to_owned())];
    let (mut echoes, mut tokens) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        echoes.push(of_echo.call("token", &closed).await?);
        tokens.push(of_broker.call("token", &closed).await?);
    }
    let middle = |all: &[Answered]| {
        let wanted = median(&all.iter().map(per_second).collect::<Vec<_>>());
        all.iter().find(|answered| per_second(answered).to_bits() == wanted.to_bits()).cloned()
    };
    let echoed = middle(&echoes).context("an echo")?;
    let token = middle(&tokens).context("a token")?;
    let base = Some(per_second(&echoed));
    if place == "memory" {
        rows.push(cells("echo, 64 callers".to_owned(), &echoed, base));
    }
    rows.push(cells(format!("cached GetToken, 64 callers, {on}"), &token, base));
    let offered = [("per-second", "1000".to_owned())];
    if place == "memory" {
        rows.push(cells("echo, 1,000/s offered".to_owned(), &of_echo.call("token", &offered).await?, None));
    }
    let answered = of_broker.call("token", &offered).await?;
    rows.push(cells(format!("cached GetToken, 1,000/s offered, {on}"), &answered, None));
    let few = [("callers", "4".to_owned())];
    rows.push(cells(format!("Kerberos relay, 4 callers, {on}"), &of_broker.call("relay", &few).await?, None));
    rows.push(cells(format!("OpenSession, 4 callers, {on}"), &of_broker.call("session", &few).await?, None));
    if place == "memory" {
        let mib = |kib: u64| kib as f64 / 1024.0;
        let _ = writeln!(
            text,
            "Broker: ready {:.0} ms after its start; resident {:.1} MiB before the first call, {:.1} MiB after all of these, \
             {:.1} MiB at its peak.\n",
            ready.as_secs_f64() * 1e3,
            mib(idle),
            mib(status_kib(&pid, "VmRSS:")?),
            mib(peak_kib(&pid)?),
        );
    } else {
        let _ = writeln!(text, "One flush of a line to this disk (`fdatasync`) takes {}.\n", flush(dir)?);
    }
    drop(echo);
    broker.stop(Duration::from_secs(20)).await?;
    world.stop().await;
    Ok(())
}

/// What the disk alone takes for one line.
fn flush(dir: &Path) -> Result<String> {
    use std::io::Write as _;
    let path = dir.join("flush");
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(&path)?;
    let mut times = Vec::new();
    for _ in 0..200 {
        file.write_all(&[b'x'; 400])?;
        let before = Instant::now();
        file.sync_data()?;
        times.push(before.elapsed().as_secs_f64() * 1e3);
    }
    std::fs::remove_file(&path)?;
    times.sort_by(f64::total_cmp);
    let at = |share| crate::stats::percentile(&times, share);
    Ok(format!("{:.2} ms (p50), {:.2} ms (p99)", at(0.5), at(0.99)))
}
