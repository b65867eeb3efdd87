//! One connection, one life: connect, run, fetch, stream.

use tokio::{
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};

use super::{
    ConnectOptions, Encrypt, Relay, TdsError,
    cursor::{Cursor, Stop},
    login::{self, Outcome, more, read_token},
    packet::{Channel, Kind},
    prelogin::{self, Protection},
    rows::{Progress, Rows},
    text::{self, TextRow},
    tls::{self, Io, Style, Transport},
    token::{Change, Done, Token},
    types::ColumnMeta,
};
use crate::extract::Room;

/// Servers that a login may be routed through.
const MAX_HOPS: usize = 4;
/// What [`Connection::fetch_text`] returns at most, in bytes of text.
const MAX_TEXT: usize = 64 * 1024 * 1024;

const READING: &str = "an answer was read";

/// A logged-in connection. After any error, timeout or cancellation it refuses further work; drop it then.
#[derive(Debug)]
pub struct Connection {
    channel: Channel,
    transaction: u64,
    usable: bool,
}

/// The rows of one SELECT; batches come from [`RowStream::next_batch`] (see `extract`). A stream that is
/// dropped before its end leaves an unusable connection behind.
#[derive(Debug)]
pub struct RowStream<'a> {
    connection: &'a mut Connection,
    columns: Vec<ColumnMeta>,
    rows: u64,
    state: Reading,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    Rows,
    Ended,
    Broken,
}

impl Connection {
    /// Connects, sets up TLS and logs in with the relayed Kerberos tokens, following the server's routing.
    pub async fn connect(options: &ConnectOptions, relay: &mut impl Relay) -> Result<Self, TdsError> {
        let mut options = options.clone();
        for _ in 0..MAX_HOPS {
            let tcp = dial(&options).await?;
            match Self::over(Box::new(tcp), &options, relay).await? {
                (channel, Outcome::Ready) => {
                    return Ok(Self { channel, transaction: 0, usable: true });
                }
                (_, Outcome::Routed { host, port }) => {
                    tracing::info!(%host, port, "SQL Server routes this connection");
                    // A named instance is part of the name and not of the address.
                    host.split('\\').next().unwrap_or_default().clone_into(&mut options.host);
                    options.port = port;
                }
            }
        }
        Err(TdsError::Refused(format!(
            "the login was routed {MAX_HOPS} times without an end; check the routing lists"
        )))
    }

    /// PRELOGIN, TLS and login over a stream that is connected.
    async fn over(
        io: Box<dyn Io>,
        options: &ConnectOptions,
        relay: &mut impl Relay,
    ) -> Result<(Channel, Outcome), TdsError> {
        let patience = options.timeouts.connect;
        let agreed = timeout(patience, protect(io, options)).await;
        let (channel, protection) = agreed.map_err(|_| TdsError::Timeout {
            during: "PRELOGIN and TLS were agreed on",
            after: patience,
        })??;
        let patience = options.timeouts.login;
        let done = timeout(patience, login::login(channel, options, protection, relay)).await;
        done.map_err(|_| TdsError::Timeout { during: "the login was under way", after: patience })?
    }

    /// A connection over a stream whose login is done.
    #[cfg(test)]
    pub(super) fn logged_in(io: Box<dyn Io>, timeouts: super::Timeouts) -> Self {
        let channel = Channel::new(Transport::Plain(io), timeouts.read, timeouts.write);
        Self { channel, transaction: 0, usable: true }
    }

    /// A connection over a stream that is connected, with no routing to follow.
    #[cfg(test)]
    pub(super) async fn connect_over(
        io: Box<dyn Io>,
        options: &ConnectOptions,
        relay: &mut impl Relay,
    ) -> Result<Self, TdsError> {
        match Self::over(io, options, relay).await? {
            (channel, Outcome::Ready) => Ok(Self { channel, transaction: 0, usable: true }),
            (_, Outcome::Routed { host, port }) => Err(TdsError::Refused(format!("routed to {host}:{port}"))),
        }
    }

    /// The server's id of this session.
    pub fn spid(&self) -> u16 {
        self.channel.spid()
    }

    /// Runs a batch that returns no rows; the number of rows that its statements changed.
    pub async fn run(&mut self, sql: &str) -> Result<u64, TdsError> {
        self.begin(sql).await?;
        let mut affected = 0u64;
        let mut last = None;
        while let Some(token) = read_token(&mut self.channel, READING).await? {
            match token {
                Token::Done(done) => {
                    affected = affected.saturating_add(succeeded(done)?.affected());
                    last = Some(done);
                }
                Token::Columns(columns) => return Err(unwanted(&columns)),
                other => self.aside(other)?,
            }
        }
        self.end(last)?;
        Ok(affected)
    }

    /// Runs a batch with one small result set; every value as text, 64 MiB at most in all.
    pub async fn fetch_text(&mut self, sql: &str) -> Result<Vec<Vec<Option<String>>>, TdsError> {
        self.begin(sql).await?;
        let mut columns: Option<Vec<ColumnMeta>> = None;
        let mut rows = Vec::new();
        let mut size = 0;
        let mut last = None;
        while let Some(token) = read_token(&mut self.channel, READING).await? {
            match (token, &columns) {
                (Token::Columns(found), None) => columns = Some(found),
                (Token::Columns(_), Some(_)) => return Err(several()),
                (token @ (Token::Row | Token::NbcRow), Some(columns)) => {
                    let row = self.text_row(&token, columns).await?;
                    size += row.iter().flatten().map(String::len).sum::<usize>() + 24 * row.len();
                    if size > MAX_TEXT {
                        return Err(TdsError::Refused(format!(
                            "an answer that should be small has more than {MAX_TEXT} bytes after {} rows",
                            rows.len()
                        )));
                    }
                    rows.push(row);
                }
                (Token::Done(done), _) => last = Some(succeeded(done)?),
                (other, _) => self.aside(other)?,
            }
        }
        self.end(last)?;
        if columns.is_none() {
            return Err(no_rows_asked());
        }
        Ok(rows)
    }

    /// Starts a SELECT whose rows are read batch by batch.
    pub async fn stream<'a>(&'a mut self, sql: &str) -> Result<RowStream<'a>, TdsError> {
        self.begin(sql).await?;
        while let Some(token) = read_token(&mut self.channel, READING).await? {
            match token {
                Token::Columns(columns) if !columns.is_empty() => {
                    return Ok(RowStream { connection: self, columns, rows: 0, state: Reading::Rows });
                }
                Token::Done(done) => {
                    succeeded(done)?;
                }
                other => self.aside(other)?,
            }
        }
        Err(no_rows_asked())
    }

    /// Sends a batch. Until [`Self::end`] the connection counts as broken: whoever is cancelled in between
    /// leaves it so.
    async fn begin(&mut self, sql: &str) -> Result<(), TdsError> {
        if !std::mem::replace(&mut self.usable, false) {
            return Err(TdsError::Poisoned);
        }
        let mut body = Vec::with_capacity(22 + 2 * sql.len());
        // ALL_HEADERS with the transaction descriptor (MS-TDS 2.2.5.3.2)
        body.extend_from_slice(&22u32.to_le_bytes());
        body.extend_from_slice(&18u32.to_le_bytes());
        body.extend_from_slice(&2u16.to_le_bytes());
        body.extend_from_slice(&self.transaction.to_le_bytes());
        body.extend_from_slice(&1u32.to_le_bytes());
        body.extend(sql.encode_utf16().flat_map(u16::to_le_bytes));
        self.channel.send(Kind::SqlBatch, &body).await
    }

    /// The answer is complete and the connection good again.
    fn end(&mut self, last: Option<Done>) -> Result<(), TdsError> {
        match last {
            Some(done) if !done.more() => {
                self.usable = true;
                Ok(())
            }
            _ => Err(TdsError::protocol("its answer ends without a final DONE")),
        }
    }

    /// Takes a token that is neither rows nor the end.
    fn aside(&mut self, token: Token) -> Result<(), TdsError> {
        match token {
            Token::Error(error) => Err(TdsError::Server(error)),
            Token::Info(info) => {
                tracing::debug!(number = info.number, class = info.class, "SQL Server sent a message");
                Ok(())
            }
            Token::Changed(Change::Transaction(descriptor)) => {
                self.transaction = descriptor;
                Ok(())
            }
            Token::Changed(Change::PacketSize(size)) => self.channel.set_packet_size(size),
            Token::Changed(Change::Other) | Token::Other => Ok(()),
            Token::Columns(columns) if columns.is_empty() => Ok(()),
            Token::Columns(_) => Err(several()),
            Token::Row | Token::NbcRow => {
                Err(TdsError::protocol("a row came before its columns were described"))
            }
            Token::Done(_) | Token::LoginAck(_) | Token::Sspi(_) | Token::Features(_) => {
                Err(TdsError::protocol("a token of the login came in an answer"))
            }
            Token::Changed(Change::Route { .. }) => Err(TdsError::protocol("it routes after the login")),
        }
    }

    async fn text_row(&mut self, kind: &Token, columns: &[ColumnMeta]) -> Result<TextRow, TdsError> {
        loop {
            let mut cursor = Cursor::new(self.channel.bytes());
            let row = match kind {
                Token::Row => text::row(&mut cursor, columns),
                _ => text::null_bitmap_row(&mut cursor, columns),
            };
            match row {
                Ok(row) => {
                    let used = cursor.position();
                    self.channel.consume(used);
                    return Ok(row);
                }
                Err(Stop::Fail(error)) => return Err(*error),
                Err(Stop::Short(wanted)) => more(&mut self.channel, wanted, READING).await?,
            }
        }
    }
}

impl RowStream<'_> {
    /// What the server says about the columns.
    pub fn columns(&self) -> &[ColumnMeta] {
        &self.columns
    }

    /// Rows that went into batches so far.
    pub fn rows_read(&self) -> u64 {
        self.rows
    }

    /// Fills `rows` until it is full or the result ends. `room` is asked when a row is wider than the batch.
    pub(crate) async fn read_into(&mut self, rows: &mut Rows, room: &mut impl Room) -> Result<(), TdsError> {
        match std::mem::replace(&mut self.state, Reading::Broken) {
            Reading::Rows => {}
            Reading::Ended => {
                self.state = Reading::Ended;
                return Ok(());
            }
            Reading::Broken => return Err(TdsError::Poisoned),
        }
        loop {
            let channel = &mut self.connection.channel;
            let (used, progress) = rows.absorb(channel.bytes(), self.rows)?;
            channel.consume(used);
            match progress {
                Progress::Full => {
                    self.state = Reading::Rows;
                    break;
                }
                Progress::Wide => rows.widen(room.widen().await),
                Progress::Short(wanted) => more(channel, wanted, "rows were read").await?,
                Progress::Token(Token::Done(done)) => {
                    self.finish(done, self.rows + rows.len() as u64).await?;
                    self.state = Reading::Ended;
                    break;
                }
                Progress::Token(other) => self.connection.aside(other)?,
            }
        }
        self.rows += rows.len() as u64;
        Ok(())
    }

    /// Checks the count and reads what follows the rows.
    async fn finish(&mut self, done: Done, rows: u64) -> Result<(), TdsError> {
        if let Some(said) = succeeded(done)?.selected()
            && said != rows
        {
            return Err(TdsError::protocol(format!("it says that it sent {said} rows, and {rows} came")));
        }
        let mut last = done;
        while let Some(token) = read_token(&mut self.connection.channel, READING).await? {
            match token {
                Token::Done(done) => last = succeeded(done)?,
                other => self.connection.aside(other)?,
            }
        }
        self.connection.end(Some(last))
    }
}

/// TCP, with every address of the name tried.
async fn dial(options: &ConnectOptions) -> Result<TcpStream, TdsError> {
    let fail = |source| TdsError::Connect { host: options.host.clone(), port: options.port, source };
    let deadline = Instant::now() + options.timeouts.connect;
    let tcp = timeout_at(deadline, TcpStream::connect((options.host.as_str(), options.port)))
        .await
        .map_err(|_| fail(std::io::ErrorKind::TimedOut.into()))?
        .map_err(fail)?;
    tcp.set_nodelay(true).map_err(fail)?;
    Ok(tcp)
}

/// PRELOGIN and TLS, in the order that the kind of encryption asks for.
async fn protect(io: Box<dyn Io>, options: &ConnectOptions) -> Result<(Channel, Protection), TdsError> {
    let times = options.timeouts;
    let channel = |transport| Channel::new(transport, times.read, times.write);
    let transport = match options.encrypt {
        Encrypt::Strict => tls::handshake(io, &options.host, &options.trust, Style::Strict).await?,
        _ => Transport::Plain(io),
    };
    let mut before = channel(transport);
    before.send(Kind::Prelogin, &prelogin::request(options.encrypt)).await?;
    while !before.is_ended() {
        before.fill(before.bytes().len() + 1, "the answer to PRELOGIN was awaited").await?;
        if before.bytes().len() > usize::from(u16::MAX) {
            return Err(TdsError::protocol("its PRELOGIN answer has no end"));
        }
    }
    let protection = prelogin::agree(options.encrypt, before.bytes())?;
    let transport = before.into_transport()?;
    let transport = match (protection, options.encrypt) {
        (Protection::Nothing, _) | (_, Encrypt::Strict) => transport,
        _ => tls::handshake(transport.into_io(), &options.host, &options.trust, Style::Wrapped).await?,
    };
    Ok((channel(transport), protection))
}

fn succeeded(done: Done) -> Result<Done, TdsError> {
    if done.failed() {
        return Err(TdsError::protocol("a statement failed without an error message"));
    }
    Ok(done)
}

fn unwanted(columns: &[ColumnMeta]) -> TdsError {
    let names: Vec<_> = columns.iter().take(5).map(|c| c.name.as_str()).collect();
    TdsError::Refused(format!(
        "a statement that should return no rows returns columns ({})",
        names.join(", ")
    ))
}

fn several() -> TdsError {
    TdsError::Refused("a batch that should return one result returns several".into())
}

fn no_rows_asked() -> TdsError {
    TdsError::Refused("a batch that should return rows returned none; it holds no SELECT".into())
}
