//! How far a run is: counters that every stage adds to, shown as a bar on a terminal and as a log line otherwise.

use std::{
    io::IsTerminal as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};
use tokio_util::sync::CancellationToken;

use crate::{config::ByteSize, report::grouped};

/// A line this often when nobody watches a bar.
const LINE_EVERY: Duration = Duration::from_secs(5);
const REDRAW_EVERY: Duration = Duration::from_millis(100);

/// Counters of one run.
#[derive(Debug, Default)]
pub struct Progress {
    rows: AtomicU64,
    bytes: AtomicU64,
    staged_bytes: AtomicU64,
    chunks: AtomicU64,
    /// Rows expected, by the plan.
    expected_rows: AtomicU64,
    /// Chunks in all.
    expected_chunks: AtomicU64,
    /// Time spent waiting for the source's rows.
    pub source: Waited,
    /// Time spent waiting for the encoder to take a batch.
    pub encoder: Waited,
    /// Time spent in uploads.
    pub upload: Waited,
    /// Time spent in commits.
    pub commit: Waited,
}

/// Time that all tasks together spent on one thing: the longest names the bottleneck.
#[derive(Debug, Default)]
pub struct Waited(AtomicU64);

impl Waited {
    /// Counts until the returned value is dropped.
    pub fn start(&self) -> Waiting<'_> {
        Waiting { total: self, since: Instant::now() }
    }

    /// The sum so far.
    pub fn total(&self) -> Duration {
        Duration::from_micros(self.0.load(Relaxed))
    }
}

/// Adds its own life to a [`Waited`].
#[derive(Debug)]
pub struct Waiting<'a> {
    total: &'a Waited,
    since: Instant,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let micros = u64::try_from(self.since.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.total.0.fetch_add(micros, Relaxed);
    }
}

impl Progress {
    /// What is expected in all.
    pub fn expect(&self, rows: u64, chunks: u64) {
        self.expected_rows.store(rows, Relaxed);
        self.expected_chunks.store(chunks, Relaxed);
    }

    /// A batch was read.
    pub fn read(&self, rows: u64, bytes: u64) {
        self.rows.fetch_add(rows, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
    }

    /// Files were staged and committed.
    pub fn staged(&self, bytes: u64) {
        self.staged_bytes.fetch_add(bytes, Relaxed);
    }

    /// A chunk is finished.
    pub fn chunk(&self) {
        self.chunks.fetch_add(1, Relaxed);
    }

    /// Compressed bytes that crossed.
    pub fn staged_bytes(&self) -> u64 {
        self.staged_bytes.load(Relaxed)
    }

    fn line(&self, since: Instant) -> String {
        let rows = self.rows.load(Relaxed);
        let rate = (rows as f64 / since.elapsed().as_secs_f64().max(0.001)) as u64;
        let (chunks, expected) = (self.chunks.load(Relaxed), self.expected_chunks.load(Relaxed));
        format!(
            "{chunks}/{expected} chunks, {} rows, {} read, {} rows/s",
            grouped(rows),
            ByteSize(self.bytes.load(Relaxed)),
            grouped(rate)
        )
    }
}

/// Shows the counters until `done`; then takes the bar away.
pub async fn show(progress: Arc<Progress>, done: CancellationToken) {
    let since = Instant::now();
    if !std::io::stderr().is_terminal() {
        loop {
            tokio::select! {
                () = tokio::time::sleep(LINE_EVERY) => tracing::info!("{}", progress.line(since)),
                () = done.cancelled() => return,
            }
        }
    }
    let bar = ProgressBar::new(progress.expected_rows.load(Relaxed));
    let style = ProgressStyle::with_template("{elapsed_precise} {bar:30} {percent:>3}%  {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    loop {
        bar.set_position(progress.rows.load(Relaxed));
        bar.set_message(progress.line(since));
        tokio::select! {
            () = tokio::time::sleep(REDRAW_EVERY) => {}
            () = done.cancelled() => break,
        }
    }
    bar.finish_and_clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_chunks_rows_and_bytes() {
        let progress = Progress::default();
        progress.expect(2000, 4);
        progress.read(1234, 3 << 20);
        progress.chunk();
        let line = progress.line(Instant::now());
        assert!(line.starts_with("1/4 chunks, 1,234 rows, 3.0 MiB read, "), "{line}");
    }

    #[test]
    fn waiting_adds_up() {
        let waited = Waited::default();
        drop(waited.start());
        std::thread::sleep(Duration::from_millis(2));
        let waiting = waited.start();
        std::thread::sleep(Duration::from_millis(5));
        drop(waiting);
        assert!(waited.total() >= Duration::from_millis(5));
    }
}
