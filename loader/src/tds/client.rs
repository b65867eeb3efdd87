//! One connection, one life.

use super::{ConnectOptions, Relay, TdsError, types::ColumnMeta};

/// A logged-in connection. After any error, timeout or cancellation it refuses further work.
#[derive(Debug)]
pub struct Connection {
    spid: u16,
}

/// The rows of one SELECT; batches come from [`RowStream::next_batch`] (see `extract`).
#[derive(Debug)]
pub struct RowStream<'a> {
    _connection: &'a mut Connection,
    columns: Vec<ColumnMeta>,
}

impl Connection {
    /// Connects, sets up TLS and logs in with the relayed Kerberos tokens.
    pub async fn connect(options: &ConnectOptions, relay: &mut impl Relay) -> Result<Self, TdsError> {
        let _ = (options, relay.begin().await?);
        Err(TdsError::Poisoned)
    }

    /// The server's id of this session.
    pub fn spid(&self) -> u16 {
        self.spid
    }

    /// Runs a batch that returns no rows; the number of rows that it affected.
    pub async fn run(&mut self, sql: &str) -> Result<u64, TdsError> {
        let _ = sql;
        Err(TdsError::Poisoned)
    }

    /// Runs a batch with one small result set; every value as text, at most 64 MiB in all.
    pub async fn fetch_text(&mut self, sql: &str) -> Result<Vec<Vec<Option<String>>>, TdsError> {
        let _ = sql;
        Err(TdsError::Poisoned)
    }

    /// Starts a SELECT whose rows are read batch by batch.
    pub async fn stream<'a>(&'a mut self, sql: &str) -> Result<RowStream<'a>, TdsError> {
        let _ = sql;
        Err(TdsError::Poisoned)
    }
}

impl RowStream<'_> {
    /// What the server says about the columns.
    pub fn columns(&self) -> &[ColumnMeta] {
        &self.columns
    }
}
