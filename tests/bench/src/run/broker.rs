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

use super::{Aim, Part, Wishes};
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

pub(super) async fn measure(dir: &Path, wishes: &Wishes) -> Result<Part> {
    use std::os::unix::fs::PermissionsExt as _;
    // On tmpfs the log's flush costs no disk's time: what is compared is the two programs.
    let memory = Path::new("/dev/shm").join(format!("keyferry-bench-{}", std::process::id()));
    let mut found = Found::default();
    for (place, folder) in [("memory", memory.as_path()), ("disk", dir)] {
        std::fs::create_dir_all(folder)?;
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))?;
        let measured = at(folder, wishes, place, &mut found).await;
        drop(std::fs::remove_dir_all(folder));
        measured?;
    }
    let mut table = Table::new(&["call", "requests/s", "of the echo's", "p50 ms", "p99 ms", "longest ms"]);
    for row in found.rows {
        table.row(row);
    }
    let text = format!("### The broker beside a bare tonic echo\n\n{}\n{}", table.markdown(), found.text);
    Ok(Part { text, aims: found.aims })
}

#[derive(Default)]
struct Found {
    rows: Vec<Vec<String>>,
    text: String,
    aims: Vec<Aim>,
}

async fn at(dir: &Path, wishes: &Wishes, place: &str, found: &mut Found) -> Result<()> {
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
        found.rows.push(cells("echo, 64 callers".to_owned(), &echoed, base));
    }
    found.rows.push(cells(format!("cached GetToken, 64 callers, {on}"), &token, base));
    let offered = [("per-second", "1000".to_owned())];
    if place == "memory" {
        found.rows.push(cells(
            "echo, 1,000/s offered".to_owned(),
            &of_echo.call("token", &offered).await?,
            None,
        ));
    }
    let answered = of_broker.call("token", &offered).await?;
    found.rows.push(cells(format!("cached GetToken, 1,000/s offered, {on}"), &answered, None));
    let few = [("callers", "4".to_owned())];
    found.rows.push(cells(
        format!("Kerberos relay, 4 callers, {on}"),
        &of_broker.call("relay", &few).await?,
        None,
    ));
    found.rows.push(cells(
        format!("OpenSession, 4 callers, {on}"),
        &of_broker.call("session", &few).await?,
        None,
    ));
    if place == "memory" {
        let share = per_second(&token) / per_second(&echoed);
        let resident = peak_kib(&pid)? as f64 / 1024.0;
        found.aims.extend([
            Aim {
                what: "cached GetToken beside the echo, audit log on tmpfs".to_owned(),
                bound: "at least 0.8".to_owned(),
                found: format!("{share:.2}"),
                met: share >= 0.8,
            },
            Aim {
                what: "cached GetToken at 1,000/s, audit log on tmpfs: p99".to_owned(),
                bound: "under 1 ms".to_owned(),
                found: format!("{:.2} ms", answered.p99_ms),
                met: answered.p99_ms < 1.0,
            },
            Aim {
                what: "the broker's memory, at its peak".to_owned(),
                bound: "under 15 MiB".to_owned(),
                found: format!("{resident:.1} MiB"),
                met: resident < 15.0,
            },
        ]);
        let mib = |kib: u64| kib as f64 / 1024.0;
        let _ = writeln!(
            found.text,
            "Broker: ready {:.0} ms after its start; resident {:.1} MiB before the first call, {:.1} MiB after all of these, \
             {:.1} MiB at its peak. Of what is resident {:.1} MiB are its own (anonymous) memory; the rest are mapped pages of the \
             program and of libraries, which the kernel shares and can drop.\n",
            ready.as_secs_f64() * 1e3,
            mib(idle),
            mib(status_kib(&pid, "VmRSS:")?),
            mib(peak_kib(&pid)?),
            mib(status_kib(&pid, "RssAnon:")?),
        );
    } else {
        found.aims.push(Aim {
            what: "the same with the audit log on this disk, which each answer waits for: p99".to_owned(),
            bound: "under 1 ms".to_owned(),
            found: format!("{:.2} ms", answered.p99_ms),
            met: answered.p99_ms < 1.0,
        });
        let _ =
            writeln!(found.text, "One flush of a line to this disk (`fdatasync`) takes {}.\n", flush(dir)?);
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
