//! Accepting: a pause with jitter when the process is out of descriptors, a cap per uid.

use std::{io, pin::Pin, sync::Arc, time::Duration};

use futures_util::stream::{self, Stream};
use nix::errno::Errno;
use tracing::warn;

use super::{Socket, connection::Connection};
use crate::{caller::Caller, limits::PerUid, metrics::Metrics};

const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Accepted connections, without end and without errors. `per_uid` connections of one uid may be open.
pub fn incoming(
    socket: Socket,
    per_uid: usize,
    metrics: Arc<Metrics>,
) -> Pin<Box<dyn Stream<Item = io::Result<Connection>> + Send>> {
    let acceptor = Acceptor { socket, open: PerUid::new(per_uid), metrics, pause: SHORTEST_PAUSE };
    Box::pin(stream::unfold(acceptor, |mut acceptor| async move {
        let connection = acceptor.next().await;
        Some((Ok(connection), acceptor))
    }))
}

struct Acceptor {
    socket: Socket,
    open: PerUid,
    metrics: Arc<Metrics>,
    pause: Duration,
}

impl Acceptor {
    async fn next(&mut self) -> Connection {
        loop {
            let stream = match self.socket.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    self.pause_after(&error).await;
                    continue;
                }
            };
            self.pause = SHORTEST_PAUSE;
            let Ok(caller) = stream.peer_cred().map(|peer| Caller::new(peer.uid(), peer.gid())) else {
                self.metrics.refused("no_credentials");
                continue;
            };
            match self.open.take(caller.uid()) {
                Some(place) => return Connection::new(stream, place),
                None => self.metrics.refused("connections"),
            }
        }
    }

    /// Without this pause a full descriptor table makes the loop spin.
    async fn pause_after(&mut self, error: &io::Error) {
        if error.raw_os_error() == Some(Errno::ECONNABORTED as i32) {
            return;
        }
        warn!(%error, pause = ?self.pause, "cannot accept a connection");
        self.metrics.refused("accept_failed");
        tokio::time::sleep(self.pause.mul_f64(0.5 + fastrand::f64())).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }
}
