//! The positive control of the leak scan: a process that holds every secret in every form.

use std::{fs, io::Write as _, path::Path, time::Duration};

use anyhow::Result;

use crate::{
    process::{Process, copy_program},
    proof::{needles::patterns, scan::Scanner},
    world::World,
};

/// What the same scan found in the decoy.
pub(super) struct Control {
    /// Forms of secrets that were planted.
    pub(super) planted: usize,
    /// Planted forms that the scan found.
    pub(super) found: usize,
}

/// Starts a decoy under the loader's user, plants every pattern of `scanner`, scans it, ends it.
pub(super) fn control(world: &World, scanner: &Scanner, moment: &str) -> Result<Control> {
    let lines: Vec<String> =
        patterns(scanner.needles()).iter().map(|pattern| hex::encode(&pattern.bytes)).collect();
    let reachable = world.dir.join("loader").join(format!("decoy-{moment}"));
    world.users.loader.file(&reachable, 0o400, lines.join("\n"))?;
    let program = world.dir.join("local-dev.bin");
    copy_program(&std::env::current_exe()?, &program)?;
    let name = format!("decoy-{moment}");
    let arguments = ["--decoy".to_owned(), reachable.display().to_string()];
    let mut decoy =
        Process::start(&name, &program, &arguments, &[], world.users.loader, &world.dir.join("logs"))?;
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while !decoy.stdout().contains("ready") {
        anyhow::ensure!(
            decoy.runs() && std::time::Instant::now() < deadline,
            "the decoy did not start: {}",
            decoy.stderr()
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    let report = scanner.process(decoy.id(), &[])?;
    let mut seen: Vec<(String, &str)> = report.hits.into_iter().map(|hit| (hit.secret, hit.form)).collect();
    seen.sort();
    seen.dedup();
    let mut planted: Vec<(String, &str)> = patterns(scanner.needles())
        .iter()
        .map(|p| (scanner.needles()[p.needle].name.clone(), p.form))
        .collect();
    planted.sort();
    planted.dedup();
    let found = planted.iter().filter(|form| seen.contains(form)).count();
    Ok(Control { planted: planted.len(), found })
}

/// The decoy itself: reads what to hold, removes the file, says `ready`, and waits to be killed.
pub fn hold(plan: &Path) -> Result<()> {
    let text = fs::read_to_string(plan)?;
    fs::remove_file(plan)?;
    let held: Vec<Vec<u8>> = text.lines().map(hex::decode).collect::<Result<_, _>>()?;
    drop(text);
    let mut out = std::io::stdout();
    writeln!(out, "ready")?;
    out.flush()?;
    loop {
        std::thread::sleep(Duration::from_secs(1));
        std::hint::black_box(&held);
    }
}
