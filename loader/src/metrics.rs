//! How the last run ended, as a file for a collector that reads such files (node_exporter's textfile collector): a run
//! ends before anybody could scrape it.

use std::{
    fmt::Write as _,
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::{codes::Entry, report::Report, shard::Shard};

/// Every metric, with what it says.
pub const METRICS: [(&str, &str); 5] = [
    (
        "keyferry_loader_run_exit_code",
        "Exit code of the last run: 0 published, 65 data that does not verify or cannot be carried",
    ),
    ("keyferry_loader_run_ended_timestamp_seconds", "When the last run ended"),
    ("keyferry_loader_run_seconds", "How long the last run took"),
    ("keyferry_loader_run_rows", "Rows in the targets that the last run published; 0 when it failed"),
    ("keyferry_loader_run_source_bytes", "Source bytes of what the last run published; 0 when it failed"),
];

/// One run that ended.
#[derive(Clone, Copy, Debug)]
pub struct Ended<'a> {
    /// The pipeline's name.
    pub pipeline: &'a str,
    /// Which part of the run this process was.
    pub shard: Shard,
    /// How long it took.
    pub took: Duration,
    /// What it published, or what ended it.
    pub outcome: Result<&'a Report, &'static Entry>,
}

impl Ended<'_> {
    /// The text format of Prometheus.
    fn text(&self, now: SystemTime) -> String {
        let (exit, code) = self.outcome.err().map_or((0, ""), |entry| (entry.exit, entry.code));
        let sum = |of: fn(&Report) -> u64| self.outcome.map_or(0, of);
        let values = [
            f64::from(exit),
            now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64().floor(),
            self.took.as_secs_f64(),
            sum(|report| report.tables.iter().map(|table| table.rows).sum()) as f64,
            sum(|report| report.tables.iter().map(|table| table.bytes).sum()) as f64,
        ];
        let labels = format!(
            "pipeline=\"{}\",shard=\"{}/{}\",code=\"{code}\"",
            self.pipeline.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"),
            self.shard.index,
            self.shard.count
        );
        let mut text = String::new();
        for ((name, help), value) in METRICS.iter().zip(values) {
            // Writing to a String does not fail.
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n{name}{{{labels}}} {value}");
        }
        text
    }

    /// Writes it over what the run before left. A file that cannot be written does not make a run fail: it is a warning,
    /// and the collector shows the age of what is there.
    pub fn write(&self, file: &MetricsFile) {
        if let Err(error) = file.replace(&self.text(SystemTime::now())) {
            tracing::warn!(path = %file.path.display(), %error, "cannot write the metrics file");
        }
    }
}

/// The file, opened before the sandbox closes: a run needs no right to make or to rename anything outside its spool.
#[derive(Debug)]
pub struct MetricsFile {
    path: PathBuf,
    file: File,
}

impl MetricsFile {
    /// Opens the file, or makes it; what is in it stays until a run has ended.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::options().write(true).create(true).truncate(false).open(path)?;
        Ok(Self { path: path.to_owned(), file })
    }

    fn replace(&self, text: &str) -> io::Result<()> {
        self.file.write_all_at(text.as_bytes(), 0)?;
        self.file.set_len(text.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::codes;

    #[test]
    fn a_run_that_did_not_verify_is_65_with_its_code() {
        let entry = codes::CATALOGUE.iter().find(|entry| entry.exit == 65).unwrap();
        let ended = Ended {
            pipeline: "sales \"x\"",
            shard: Shard::default(),
            took: Duration::from_millis(1500),
            outcome: Err(entry),
        };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sales.prom");
        fs::write(&path, "x".repeat(5000)).unwrap();
        ended.write(&MetricsFile::open(&path).unwrap());
        let text = fs::read_to_string(&path).unwrap();
        let labels = format!("{{pipeline=\"sales \\\"x\\\"\",shard=\"0/1\",code=\"{}\"}}", entry.code);
        for line in [
            format!("keyferry_loader_run_exit_code{labels} 65"),
            format!("keyferry_loader_run_seconds{labels} 1.5"),
            format!("keyferry_loader_run_rows{labels} 0"),
            "# TYPE keyferry_loader_run_exit_code gauge".to_owned(),
        ] {
            assert!(text.contains(&line), "{line} in\n{text}");
        }
        assert!(!text.contains("xx"), "the run before is gone: {text}");
        assert!(MetricsFile::open(&dir.path().join("absent/x.prom")).is_err());
    }
}
