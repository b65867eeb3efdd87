//! One point in time for all connections of a run, without a database snapshot.
//!
//! A SNAPSHOT transaction sees the moment of its first access. So a connection of its own holds a shared lock on every
//! table, just while each reading connection begins such a transaction and touches a row. Nobody can write meanwhile,
//! so all of them see the same.

use std::{
    collections::BTreeSet,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use super::{Failure, Loading, retry};
use crate::{
    config::{Consistency, Pipeline},
    fail,
    model::{TableName, TablePlan},
    plan::sql,
    source::SqlServer,
    tds::{Connection, TdsError},
};

/// How long writers may be held up at most; each lock has a time-out of its own, see [`sql::BEGIN_BARRIER`].
const LONGEST: Duration = Duration::from_secs(60);

/// Who is still at the point, and which chunks were not read there.
#[derive(Debug, Default)]
pub(super) struct Points {
    asked: std::sync::OnceLock<()>,
    left: AtomicUsize,
    apart: Mutex<BTreeSet<(usize, u32)>>,
}

impl Points {
    /// A connection at the point is lost. True when others have it still.
    pub(super) fn leave(&self) -> bool {
        self.left.fetch_sub(1, Ordering::SeqCst) > 1
    }

    /// A chunk was read, at the point or not.
    pub(super) fn note(&self, table: usize, chunk: u32, at_point: bool) {
        if self.asked.get().is_none() {
            return;
        }
        let mut apart = self.apart.lock().unwrap_or_else(PoisonError::into_inner);
        if at_point {
            apart.remove(&(table, chunk));
        } else {
            apart.insert((table, chunk));
        }
    }

    /// The chunks of a table that were not read at the point.
    pub(super) fn apart(&self, table: usize) -> Vec<u32> {
        let apart = self.apart.lock().unwrap_or_else(PoisonError::into_inner);
        apart.iter().filter(|(of, _)| *of == table).map(|(_, chunk)| *chunk).collect()
    }

    /// Whether one point was asked for and it cannot be said of every chunk, also of those from earlier processes.
    pub(super) fn parted(&self, resumed: &[usize]) -> bool {
        let apart = !self.apart.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
        self.asked.get().is_some() && (apart || resumed.iter().any(|chunks| *chunks > 0))
    }
}

/// The connections of the run, each in a SNAPSHOT transaction of the same point; none where that is not asked for, and
/// none where earlier processes have loaded chunks already: their point is gone.
pub(super) async fn reach(
    loading: &Loading,
    pipeline: &Pipeline,
    resumed: &[usize],
) -> Result<Vec<Connection>, Failure> {
    if pipeline.source.consistency != Consistency::PerRunBarrier {
        return Ok(Vec::new());
    }
    let _ = loading.points.asked.set(());
    let pending = loading.queue.unfinished();
    if resumed.iter().any(|chunks| *chunks > 0) {
        tracing::warn!(pending, "an earlier process has begun this run: what is left is read chunk by chunk");
        return Ok(Vec::new());
    }
    let connections = pipeline.limits.connections.min(pending);
    let server = &loading.reader.server;
    let mut attempts = 0;
    loop {
        attempts += 1;
        match hold_and_begin(server, &loading.reader.tables, connections).await {
            Ok(readers) => {
                loading.points.left.store(readers.len(), Ordering::SeqCst);
                return Ok(readers);
            }
            Err(source) if source.is_transient() && attempts < loading.reader.most_failures => {
                tracing::warn!(error = %source, attempts, "no moment without writers; trying again");
                tokio::time::sleep(retry::pause(attempts)).await;
            }
            Err(source) => return Err(Failure::Barrier { attempts, source }),
        }
    }
}

async fn hold_and_begin(
    server: &SqlServer,
    tables: &[TablePlan],
    connections: usize,
) -> Result<Vec<Connection>, TdsError> {
    let mut names: Vec<&TableName> = tables.iter().map(|table| &table.source).collect();
    // Two loaders with the same tables take them in the same order.
    names.sort();
    let Some(first) = names.first() else { return Ok(Vec::new()) };
    // All logins come before the first lock.
    let mut holder = server.connect().await?;
    let mut readers = Vec::with_capacity(connections);
    for _ in 0..connections {
        let mut reader = server.connect().await?;
        reader.run(sql::BEGIN_SNAPSHOT).await?;
        readers.push(reader);
    }
    let locked = async {
        holder.run(sql::BEGIN_BARRIER).await?;
        for name in &names {
            holder.fetch_text(&sql::hold(name)).await?;
        }
        fail::point("barrier_held");
        for reader in &mut readers {
            reader.fetch_text(&sql::touch(first)).await?;
        }
        holder.run(sql::COMMIT).await
    };
    // Whatever happens, the holder's connection and with it every lock goes with this function.
    match tokio::time::timeout(LONGEST, locked).await {
        Ok(outcome) => outcome.map(|_| readers),
        Err(_) => Err(TdsError::Timeout { during: "holding the tables still", after: LONGEST }),
    }
}
