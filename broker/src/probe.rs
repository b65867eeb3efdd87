//! `broker health`: asks the broker of this configuration how it is, for an exec probe. A kubelet cannot reach a
//! loopback port itself.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use nix::{errno::Errno, sys::signal::kill, unistd::Pid};
use serde_json::Value;

/// One answer is waited for so long.
const PATIENCE: Duration = Duration::from_secs(3);
/// Between two questions.
const PAUSE: Duration = Duration::from_millis(500);
/// More than any health of ours is long.
const LARGEST: u64 = 1 << 20;

/// Why the broker is not one to send callers to.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Nobody answers.
    #[error("asked {address} for /health: {source}; start the broker, or correct `admin.listen`")]
    Silent {
        /// Where it was asked.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The answer says no.
    #[error("asked {address} for /health: {status}: {why}; see the broker's log and its upstreams")]
    NotServing {
        /// Where it was asked.
        address: SocketAddr,
        /// `down` or `draining`.
        status: String,
        /// What is missing.
        why: String,
    },
    /// What answers is no broker.
    #[error("asked {address} for /health: what answers there is no broker; correct `admin.listen`")]
    NoBroker {
        /// Where it was asked.
        address: SocketAddr,
    },
    /// It has ended, so nothing is left to wait for.
    #[error("waited for {address}, and process {pid} has ended; its log says why")]
    Ended {
        /// Where it was asked.
        address: SocketAddr,
        /// The broker's process.
        pid: i32,
    },
    /// The configuration leaves the port to chance.
    #[error("`admin.listen` has port 0, which is another one at each start; choose a port")]
    NoPort,
}

/// Asks until the answer is yes, `wait` is over or the process `pid` has ended. Returns the broker's own word, `ok` or
/// `degraded`.
pub fn probe(listen: SocketAddr, wait: Duration, pid: Option<i32>) -> Result<String, ProbeError> {
    if listen.port() == 0 {
        return Err(ProbeError::NoPort);
    }
    let address = SocketAddr::new(reachable(listen.ip()), listen.port());
    let end = Instant::now() + wait;
    loop {
        match ask(address) {
            Err(_) if Instant::now() < end => {
                if let Some(pid) = pid.filter(|pid| ended(*pid)) {
                    return Err(ProbeError::Ended { address, pid });
                }
                thread::sleep(PAUSE);
            }
            outcome => return outcome,
        }
    }
}

/// Asked by a signal that is none: `/proc` may be hidden.
fn ended(pid: i32) -> bool {
    kill(Pid::from_raw(pid), None) == Err(Errno::ESRCH)
}

/// What listens on every address is asked on loopback.
fn reachable(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(v4) if v4.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(v6) if v6.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        other => other,
    }
}

fn ask(address: SocketAddr) -> Result<String, ProbeError> {
    let text = exchange(address).map_err(|source| ProbeError::Silent { address, source })?;
    let body = text.split_once("\r\n\r\n").map(|(_, body)| body);
    let health: Option<Value> = body.and_then(|body| serde_json::from_str(body).ok());
    let health = health.ok_or(ProbeError::NoBroker { address })?;
    let status = health["status"].as_str().ok_or(ProbeError::NoBroker { address })?.to_owned();
    if text.starts_with("HTTP/1.1 200") {
        return Ok(status);
    }
    Err(ProbeError::NotServing { address, status, why: missing(&health) })
}

fn exchange(address: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: broker\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.take(LARGEST).read_to_string(&mut text)?;
    Ok(text)
}

/// What cannot be served, in a few words.
fn missing(health: &Value) -> String {
    let list = |key: &str| health[key].as_array().cloned().unwrap_or_default();
    let name = |entry: &Value| entry["name"].as_str().unwrap_or_default().to_owned();
    let grants = list("grants").into_iter().filter(|grant| grant["serves"] == false);
    let upstreams = list("upstreams").into_iter().filter(|upstream| upstream["ok"] == false);
    let mut words: Vec<String> = grants.map(|grant| format!("grant {} has no token", name(&grant))).collect();
    words.extend(upstreams.map(|upstream| format!("{} failed last", name(&upstream))));
    if health["audit_writable"] == false {
        words.push("the audit log cannot be written".to_owned());
    }
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn answers(text: &'static str) -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut request = [0; 256];
                let _ = stream.read(&mut request).unwrap();
                stream.write_all(text.as_bytes()).unwrap();
            }
        });
        address
    }

    #[test]
    fn a_broker_that_serves_says_so_and_one_that_does_not_says_what_is_missing() {
        let ok = answers("HTTP/1.1 200 OK\r\n\r\n{\"status\": \"degraded\"}");
        assert_eq!(probe(ok, Duration::ZERO, None).unwrap(), "degraded");
        let down = answers(
            "HTTP/1.1 503 X\r\n\r\n{\"status\": \"down\", \"audit_writable\": false, \"upstreams\": \
             [{\"name\": \"vault\", \"ok\": false}], \"grants\": [{\"name\": \"analytics\", \"serves\": false}]}",
        );
        let error = probe(down, Duration::ZERO, None).unwrap_err().to_string();
        for word in ["down", "grant analytics has no token", "vault failed last", "audit log"] {
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn nobody_no_broker_and_no_port_are_told_apart() {
        let gone = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        assert!(matches!(probe(gone, Duration::ZERO, None), Err(ProbeError::Silent { .. })));
        let web = answers("HTTP/1.1 200 OK\r\n\r\n<html>");
        assert!(matches!(probe(web, Duration::ZERO, None), Err(ProbeError::NoBroker { .. })));
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        assert!(matches!(probe(any, Duration::ZERO, None), Err(ProbeError::NoPort)));
    }

    #[test]
    fn a_broker_that_has_ended_is_not_waited_for() {
        let gone = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        child.wait().unwrap();
        let error = probe(gone, Duration::from_hours(1), Some(pid)).unwrap_err();
        assert!(matches!(error, ProbeError::Ended { .. }), "{error}");
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(matches!(probe(gone, Duration::from_millis(10), Some(own)), Err(ProbeError::Silent { .. })));
    }

    #[test]
    fn a_broker_that_listens_everywhere_is_asked_on_loopback_and_waited_for() {
        let ok = answers("HTTP/1.1 200 OK\r\n\r\n{\"status\": \"ok\"}");
        let everywhere = SocketAddr::from(([0, 0, 0, 0], ok.port()));
        assert_eq!(probe(everywhere, Duration::from_secs(5), None).unwrap(), "ok");
    }
}
