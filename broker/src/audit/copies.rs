//! The log's second way out: each line once more on standard output, or to the system's log by RFC 5424.
//!
//! The file decides: a grant waits for it and for nothing else. A copy that its taker does not take is counted and
//! dropped, so that a collector that hangs stops nobody.

use std::{
    io::{self, Write as _},
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use serde::Deserialize;

use crate::config::AuditCopy;

/// Lines that wait for their taker at most.
const QUEUE: usize = 1024;

/// How long the last lines are waited for.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Facility 10 (security and authorization messages), RFC 5424 table 1.
const AUTHPRIV: u8 = 10 * 8;

enum Copy {
    Line(Vec<u8>),
    /// Answered when everything before it was taken.
    Flush(SyncSender<()>),
}

/// A handle on the thread that writes the copies.
pub(super) struct Copies {
    queue: SyncSender<Copy>,
    missed: Arc<AtomicU64>,
}

impl Copies {
    /// Starts the thread. `missed` counts the lines that were not taken.
    pub(super) fn start(mut taker: Taker, missed: Arc<AtomicU64>) -> io::Result<Self> {
        let (queue, lines) = sync_channel(QUEUE);
        let counter = Arc::clone(&missed);
        thread::Builder::new().name("audit-copy".to_owned()).spawn(move || {
            take_all(&lines, &mut taker, &counter);
        })?;
        Ok(Self { queue, missed })
    }

    /// Hands over lines that are in the file, each ending in a line feed. Never waits.
    pub(super) fn hand_over(&self, lines: &[u8]) {
        for line in lines.split_inclusive(|&byte| byte == b'\n') {
            if self.queue.try_send(Copy::Line(line.to_vec())).is_err() {
                self.missed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Waits for a moment until everything handed over was taken.
    pub(super) fn flush(&self) {
        let (done, taken) = sync_channel(1);
        if self.queue.try_send(Copy::Flush(done)).is_ok() {
            // What is not taken by then is lost with the process.
            let _ = taken.recv_timeout(LAST_LINES);
        }
    }
}

fn take_all(lines: &Receiver<Copy>, taker: &mut Taker, missed: &AtomicU64) {
    let mut told = false;
    while let Ok(copy) = lines.recv() {
        match copy {
            Copy::Line(line) => match taker.take(&line) {
                Ok(()) => told = false,
                Err(cause) => {
                    missed.fetch_add(1, Ordering::Relaxed);
                    if !told {
                        tracing::warn!(%cause, "the copy of the audit log is not taken; the file has every line");
                        told = true;
                    }
                }
            },
            Copy::Flush(done) => drop(done.try_send(())),
        }
    }
}

/// Whoever takes the copies. It is opened before the sandbox closes, which allows no other datagram socket.
pub enum Taker {
    /// Standard output.
    Stdout(io::Stdout),
    /// The system's log, and its socket.
    Syslog(UnixDatagram, PathBuf),
}

impl Taker {
    pub(super) fn open(to: &AuditCopy) -> io::Result<Self> {
        Ok(match to {
            AuditCopy::Stdout => Self::Stdout(io::stdout()),
            AuditCopy::Syslog(path) => {
                let socket = UnixDatagram::unbound()?;
                socket.set_nonblocking(true)?;
                Self::Syslog(socket, path.clone())
            }
        })
    }

    fn take(&mut self, line: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout(out) => out.write_all(line).and_then(|()| out.flush()),
            // By name each time: a log daemon that was restarted has a new socket there.
            Self::Syslog(socket, path) => send(socket, path, &message(line)),
        }
    }
}

fn send(socket: &UnixDatagram, path: &Path, message: &[u8]) -> io::Result<()> {
    let sent = socket.send_to(message, path)?;
    if sent == message.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

#[derive(Deserialize)]
struct Head<'a> {
    time: &'a str,
    event: &'a str,
    outcome: &'a str,
}

/// RFC 5424, section 6: `<PRI>1 TIME - APP PID MSGID - MSG`. The host's name is the taker's to add.
fn message(line: &[u8]) -> Vec<u8> {
    let line = line.trim_ascii_end();
    let head = serde_json::from_slice(line).unwrap_or(Head { time: "-", event: "-", outcome: "failed" });
    let severity = match head.outcome {
        "granted" | "noted" => 6,
        "denied" => 5,
        _ => 4,
    };
    let (pid, priority) = (std::process::id(), AUTHPRIV + severity);
    let mut message =
        format!("<{priority}>1 {} - keyferry-broker {pid} {} - ", head.time, head.event).into_bytes();
    message.extend_from_slice(line);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &[u8] =
        b"{\"n\":1,\"id\":\"a\",\"time\":\"2026-01-02T03:04:05.6Z\",\"event\":\"GetToken\",\"outcome\":\"denied\"}\n";

    #[test]
    fn a_line_becomes_a_message_of_rfc_5424() {
        let text = String::from_utf8(message(LINE)).unwrap();
        let pid = std::process::id();
        let head = format!("<85>1 2026-01-02T03:04:05.6Z - keyferry-broker {pid} GetToken - {{\"n\":1");
        assert!(text.starts_with(&head) && text.ends_with("\"denied\"}"), "{text}");
    }

    #[test]
    fn the_systems_log_gets_every_line_and_one_that_is_away_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let missed = Arc::new(AtomicU64::new(0));
        let taker = Taker::open(&AuditCopy::Syslog(path.clone())).unwrap();
        let copies = Copies::start(taker, Arc::clone(&missed)).unwrap();
        copies.hand_over(LINE);
        copies.flush();
        assert_eq!(missed.load(Ordering::Relaxed), 1, "nobody listens yet");
        let log = UnixDatagram::bind(&path).unwrap();
        copies.hand_over(&[LINE, LINE].concat());
        copies.flush();
        let mut got = [0; 512];
        for _ in 0..2 {
            let length = log.recv(&mut got).unwrap();
            assert_eq!(got.get(..length), Some(message(LINE).as_slice()));
        }
        assert_eq!(missed.load(Ordering::Relaxed), 1);
    }
}
