//! Where and when it was measured, and with which versions.

use std::fs;

/// One line: processor, cores, memory, kernel.
pub fn describe() -> String {
    let field = |path: &str, name: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name)).map(str::to_owned);
        line.and_then(|line| line.split_once(':').map(|(_, value)| value.trim().to_owned()))
            .unwrap_or_default()
    };
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let kib: u64 = field("/proc/meminfo", "MemTotal").trim_end_matches(" kB").parse().unwrap_or(0);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "{}, {cores} cores, {:.0} GiB, Linux {}",
        field("/proc/cpuinfo", "model name"),
        kib as f64 / f64::from(1 << 20),
        kernel.trim()
    )
}

/// Today, in UTC.
pub fn today() -> String {
    time::OffsetDateTime::now_utc().date().to_string()
}
