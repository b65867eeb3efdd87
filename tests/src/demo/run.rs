//! The demo's steps in order.

use std::{
    io::Write as _,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use keyferry_stand_in_sqlserver::{Fault, When};

use super::{
    Wishes,
    decoy::{Control, control},
    table::Proofs,
};
use crate::{
    process::{Process, copy_program},
    proof::{
        oracle::Auditor,
        scan::{Report, Scanner},
    },
    sample::{Table, every_type, text, tpch},
    world::{BrokerSetup, Options, PipelineSetup, TARGET_DATABASE, TARGET_SCHEMA, World},
};

/// Chunks of lineitem that the demo insists on, at the default scale; fewer only where there are fewer rows.
const LINEITEM_CHUNKS: u64 = 12;
/// Rows of a chunk, at most.
const CHUNK_ROWS: u64 = 5000;
const CONNECTIONS: u64 = 4;

/// A scan of the loader at one moment, with its control.
struct Moment {
    name: &'static str,
    report: Report,
    control: Control,
    secrets: usize,
}

pub(super) async fn run(dir: &Path, wishes: &Wishes) -> Result<bool> {
    let started = Instant::now();
    say("stand-ins", "starting Vault, Entra, KDC, SQL Server and Snowflake on free loopback ports");
    // Session tokens live for seconds here, so that the run sees several renewals.
    let options = Options { session_ttl: Duration::from_secs(4), ..Options::default() };
    let world = World::start(dir, &options).await?;
    announce(&world);

    let mut tables = tpch::tables(wishes.scale);
    tables.push(every_type::table());
    tables.push(text::table());
    let rows: usize = tables.iter().map(|table| table.rows.len()).sum();
    say(
        "sample data",
        &format!(
            "{} tables, {rows} rows (TPC-H scale {}, every type, awkward text)",
            tables.len(),
            wishes.scale
        ),
    );
    world.fill(&tables).await?;

    let broker = world.start_broker(&BrokerSetup::default()).await?;
    say(
        "broker",
        &format!(
            "runs as uid {} (pid {}), socket {}",
            world.users.broker.uid,
            broker.id(),
            world.socket().display()
        ),
    );

    let names: Vec<&str> = tables.iter().map(|table| table.name).collect();
    let mut setup = PipelineSetup::of(&names);
    if !world.users.separate {
        // Its memory is searched below, and nobody but root can look into a loader whose sandbox is on.
        setup.sandbox = Some("sandbox: { mode: off }\n".to_owned());
    }
    let pipeline = setup.write(&world, "pipeline")?;
    let loader = world.spawn_loader("loader", &["run", &pipeline.display().to_string()], &[])?;
    say(
        "loader",
        &format!(
            "runs as uid {} (pid {}): loader run {}",
            world.users.loader.uid,
            loader.id(),
            pipeline.display()
        ),
    );
    let (ended, moments, loader_time) = watch(&world, loader).await?;
    println!();
    print!("{}", ended.stdout);
    let mut proofs = Proofs::default();
    proofs.check(
        "the loader ended with success",
        format!("exit code {:?}", ended.code()),
        ended.code() == Some(0),
    );
    if ended.code() == Some(0) {
        let mut auditor = Auditor::login(&world.auditor()).await?;
        compare(&mut auditor, &tables, &mut proofs).await?;
        ledger(&mut auditor, &mut proofs).await?;
    } else {
        eprintln!("{}", crate::process::tail(&ended.stderr));
    }
    leaks(&moments, &mut proofs);
    wire(&world, &mut proofs).await?;
    separation(&world, &mut proofs);
    proofs.print();
    say_what_was_searched_for(&world)?;
    println!(
        "loader {:.1} s, everything {:.1} s; profile {}",
        loader_time.as_secs_f64(),
        started.elapsed().as_secs_f64(),
        if cfg!(debug_assertions) { "dev (opt-level 1)" } else { "release" }
    );
    let holds = proofs.hold();
    if wishes.keep {
        keep(&world, &pipeline).await?;
    }
    let ended = broker.stop(Duration::from_secs(20)).await?;
    if !ended.status.success() {
        eprintln!("the broker ended with {}:\n{}", ended.status, crate::process::tail(&ended.stderr));
    }
    world.stop().await;
    Ok(holds && ended.status.success())
}

fn say(what: &str, text: &str) {
    println!("{what:>11}  {text}");
    drop(std::io::stdout().flush());
}

fn announce(world: &World) {
    say("vault", &world.vault.url());
    say("entra", &world.entra.url());
    say("kdc", &format!("{} (realm {}, a real MIT krb5kdc)", world.kdc.address(), world.kdc.realm()));
    say("sqlserver", &world.sqlserver.addr().to_string());
    say("snowflake", &format!("{} (stage at {})", world.snowflake.url, world.snowflake.objects_addr));
    if !world.users.separate {
        say(
            "note",
            "not root: broker and loader share this user, so the separation of users is NOT proved in this run; the loader's \
             sandbox is off, or nobody could search its memory",
        );
    }
}

/// Waits for the loader's end and scans it at three moments on the way.
async fn watch(world: &World, mut loader: Process) -> Result<(crate::process::Ended, Vec<Moment>, Duration)> {
    let started = Instant::now();
    let mut moments = Vec::new();
    // One answer stands still in the middle of a chunk of lineitem: the scan then meets half-read rows, and the
    // run outlives a session token.
    let stalled = world.sqlserver.faults().arm(
        When { after_rows: 2_500, statement_contains: Some("FROM [dbo].[lineitem]".to_owned()), times: 1 },
        Fault::Stall(Duration::from_secs(4)),
    );
    let mut wanted = vec!["after login", "mid-chunk", "after a renewal"];
    let reached = |moment: &str| match moment {
        "after login" => world.snowflake.stats.snapshot().logins > 0 && world.sqlserver.stats().logins > 0,
        "mid-chunk" => stalled.fired() > 0,
        _ => world.snowflake.stats.snapshot().renewals > 0,
    };
    while loader.runs() {
        anyhow::ensure!(
            started.elapsed() < Duration::from_secs(1800),
            "the loader runs for half an hour; giving up"
        );
        if let Some(at) = wanted.iter().position(|moment| reached(moment)) {
            let name = wanted.remove(at);
            let (pid, logs) = (loader.id(), loader.logs());
            let moment = tokio::task::block_in_place(|| scan(world, name, pid, &logs));
            match moment {
                Ok(moment) => moments.push(moment),
                // It may have ended between the question and the scan.
                Err(error) if !loader.runs() => tracing::debug!(%error, "the loader ended before the scan"),
                Err(error) => return Err(error.context(format!("scan the loader {name}"))),
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let time = started.elapsed();
    Ok((loader.wait(Duration::from_secs(5)).await?, moments, time))
}

fn scan(world: &World, name: &'static str, pid: u32, logs: &[std::path::PathBuf]) -> Result<Moment> {
    let needles = world.needles()?;
    let secrets = needles.len();
    let scanner = Scanner::new(needles)?;
    let report = scanner.process(pid, logs)?;
    let control = control(world, &scanner, &name.replace(' ', "-"))?;
    Ok(Moment { name, report, control, secrets })
}

fn leaks(moments: &[Moment], proofs: &mut Proofs) {
    for name in ["after login", "mid-chunk", "after a renewal"] {
        let Some(moment) = moments.iter().find(|moment| moment.name == name) else {
            proofs.check(
                format!("no long-lived secret in the loader, {name}"),
                "this moment was never reached",
                false,
            );
            continue;
        };
        let report = &moment.report;
        for hit in &report.hits {
            eprintln!("LEAK {name}: {} as {} in {}", hit.secret, hit.form, hit.place);
        }
        for region in &report.unreadable {
            eprintln!("unreadable {name}: {region}");
        }
        let found = format!(
            "{} found of {} secrets; {:.1} MiB memory, {:.1} MiB files and logs, {} of {} regions unreadable",
            report.hits.len(),
            moment.secrets,
            report.memory_bytes as f64 / 1_048_576.0,
            report.other_bytes as f64 / 1_048_576.0,
            report.unreadable.len(),
            report.regions,
        );
        let clean = report.hits.is_empty() && report.unreadable.is_empty() && report.memory_bytes > 0;
        proofs.check(format!("no long-lived secret in the loader, {name}"), found, clean);
        let control = &moment.control;
        proofs.check(
            "  the same scan finds them in a decoy",
            format!("{} of {} forms found", control.found, control.planted),
            control.found == control.planted && control.planted > 0,
        );
    }
}

fn say_what_was_searched_for(world: &World) -> Result<()> {
    let mut kinds: Vec<String> = world.needles()?.into_iter().map(|needle| needle.name).collect();
    kinds.sort();
    kinds.dedup();
    println!("searched for: {}", kinds.join(", "));
    Ok(())
}

async fn compare(auditor: &mut Auditor, tables: &[Table], proofs: &mut Proofs) -> Result<()> {
    for table in tables {
        let target = format!("\"{TARGET_DATABASE}\".\"{TARGET_SCHEMA}\".\"{}\"", table.name.to_uppercase());
        let result =
            auditor.compare(table, &target).await.with_context(|| format!("compare {}", table.name))?;
        for example in &result.examples {
            eprintln!("{}: {example}", table.name);
        }
        proofs.check(
            format!("{}: every row, every value", table.name),
            format!(
                "{} rows made, {} found, {} lost, {} surplus",
                result.expected, result.found, result.lost, result.surplus
            ),
            result.equal(),
        );
    }
    Ok(())
}

async fn ledger(auditor: &mut Auditor, proofs: &mut Proofs) -> Result<()> {
    let sql = format!(
        "SELECT COUNT(*), COUNT(DISTINCT SOURCE_SPID), COUNT(DISTINCT SESSION_ID), SUM(ROW_COUNT) \
         FROM {TARGET_DATABASE}.{TARGET_SCHEMA}.KEYFERRY_LEDGER WHERE TABLE_NAME ILIKE '%LINEITEM%' AND CHUNK >= 0 AND STATE = 'published'"
    );
    let rows = auditor.query(&sql).await?;
    let row = rows.first().context("the ledger answered nothing")?;
    let number = |at: usize| row.get(at).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    let wanted = (number(3) / CHUNK_ROWS).clamp(1, LINEITEM_CHUNKS);
    proofs.check(
        "lineitem crossed in chunks, over several connections",
        format!(
            "{} chunks, {} SQL Server connections, {} Snowflake sessions, {} rows",
            number(0),
            number(1),
            number(2),
            number(3)
        ),
        number(0) >= wanted && number(1) >= wanted.min(CONNECTIONS),
    );
    Ok(())
}

/// Uses the whole contract as the loader's user and searches every byte that the broker sent.
async fn wire(world: &World, proofs: &mut Proofs) -> Result<()> {
    let out = world.dir.join("loader").join("wire.bin");
    let program = world.dir.join("local-dev.bin");
    copy_program(&std::env::current_exe()?, &program)?;
    let arguments =
        ["--record-calls".to_owned(), world.socket().display().to_string(), out.display().to_string()];
    let caller =
        Process::start("wire", &program, &arguments, &[], world.users.loader, &world.dir.join("logs"))?;
    let ended = caller.wait(Duration::from_secs(60)).await?;
    anyhow::ensure!(ended.status.success(), "the wire check failed: {}", ended.output());
    let bytes = std::fs::read(&out)?;
    let scanner = Scanner::new(world.needles()?)?;
    let mut report = Report::default();
    scanner.search(&bytes, "the socket", &mut report);
    for hit in &report.hits {
        eprintln!("LEAK on the socket: {} as {}", hit.secret, hit.form);
    }
    proofs.check(
        "no long-lived secret crosses the socket in any method",
        format!(
            "{} found of {} secrets in {} bytes",
            report.hits.len(),
            scanner.needles().len(),
            bytes.len()
        ),
        report.hits.is_empty() && bytes.len() > 1000,
    );
    Ok(())
}

fn separation(world: &World, proofs: &mut Proofs) {
    let claim = "broker and loader are different unprivileged users";
    if world.users.separate {
        proofs.check(
            claim,
            format!("uid {} and uid {}", world.users.broker.uid, world.users.loader.uid),
            true,
        );
    } else {
        proofs.not_proved(claim, "run as root to prove it");
    }
}

async fn keep(world: &World, pipeline: &Path) -> Result<()> {
    let port = world.sqlserver.addr().port();
    let access = world.auditor();
    println!("\nEverything keeps running until Ctrl-C. Things to try:\n");
    println!("  the folder            {}", world.dir.display());
    println!("  the loader's plan     {}/loader.bin plan {}", world.dir.display(), pipeline.display());
    println!("  run it again          {}/loader.bin run {}", world.dir.display(), pipeline.display());
    if world.users.separate {
        println!(
            "                        (as the loader's user: setpriv --reuid {} --regid {} --clear-groups …)",
            world.users.loader.uid, world.users.loader.gid
        );
    }
    println!("  the audit log         {}/broker/audit.log", world.dir.display());
    println!(
        "  ask the SQL Server    TDSVER=7.4 tsql -H localhost -p {port} -U judge -P Judge-the-server-1 -D SalesDB"
    );
    println!("  Vault                 {} (CA: {})", world.vault.url(), world.ca_file().display());
    println!("  Snowflake from Python (pip install snowflake-connector-python):\n");
    println!(
        "    import os, requests, snowflake.connector\n    os.environ['REQUESTS_CA_BUNDLE'] = '{ca}'\n    \
         form = dict(grant_type='client_credentials', client_id='{id}', client_secret='{secret}', scope='{scope}')\n    \
         token = requests.post('{url}', data=form).json()['access_token']\n    \
         c = snowflake.connector.connect(account='{account}', user='{user}', authenticator='oauth', token=token,\n        \
         host='127.0.0.1', port={snowflake}, database='{TARGET_DATABASE}', schema='{TARGET_SCHEMA}')\n    \
         print(c.cursor().execute('SELECT COUNT(*) FROM LINEITEM').fetchall())\n",
        ca = world.ca_file().display(),
        id = access.client_id,
        secret = access.client_secret,
        scope = access.scope,
        url = access.token_url,
        account = access.account,
        user = access.user,
        snowflake = world.snowflake.addr.port(),
    );
    tokio::signal::ctrl_c().await.context("wait for Ctrl-C")
}
