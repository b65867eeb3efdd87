//! How to reach a SQL Server: address, protection, patience.

use std::{path::PathBuf, time::Duration};

/// How much of the connection TLS protects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encrypt {
    /// All of it, handshake inside PRELOGIN packets: every SQL Server since 2005.
    #[default]
    Required,
    /// All of it, TLS before the first TDS byte (TDS 8.0): SQL Server 2022 and later, Azure SQL.
    Strict,
    /// The login only; rows travel in clear.
    LoginOnly,
    /// Nothing. The configuration refuses it unless plaintext was asked for by name.
    Off,
}

/// Whose certificates are believed.
#[derive(Clone, Debug, Default)]
pub enum Trust {
    /// The system's own roots.
    #[default]
    NativeRoots,
    /// Only the authorities in this PEM file.
    CaFile(PathBuf),
    /// Only the one certificate with this SHA-256 of its DER form; its name and issuer are then not looked at,
    /// that the server holds its key is.
    Pinned([u8; 32]),
}

/// Deadlines. None is ever infinite.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// Name resolution, TCP, PRELOGIN and TLS.
    pub connect: Duration,
    /// From LOGIN7 to LOGINACK, the broker's part included.
    pub login: Duration,
    /// The longest silence while an answer is awaited or read.
    pub read: Duration,
    /// The longest wait for the server to take what is sent to it.
    pub write: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(15),
            login: Duration::from_secs(30),
            read: Duration::from_mins(5),
            write: Duration::from_mins(1),
        }
    }
}

/// Everything that [`Connection::connect`](super::Connection::connect) needs to know.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// Host name as it stands in the certificate, or an IP address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// The database to open.
    pub database: String,
    /// How much is protected.
    pub encrypt: Encrypt,
    /// Whose certificates are believed.
    pub trust: Trust,
    /// Declare read intent, so that an availability group may route to a secondary.
    pub read_intent: bool,
    /// The packet size to ask for, 512 to 32767 bytes; the server may answer with less.
    pub packet_size: u16,
    /// What `program_name` shows in `sys.dm_exec_sessions`.
    pub app_name: String,
    /// Deadlines.
    pub timeouts: Timeouts,
}

impl ConnectOptions {
    /// Full TLS, the system's roots, the largest packets.
    pub fn new(host: impl Into<String>, port: u16, database: impl Into<String>) -> Self {
        Self {
            host: host.into(),
            port,
            database: database.into(),
            encrypt: Encrypt::default(),
            trust: Trust::default(),
            read_intent: false,
            packet_size: 32767,
            app_name: "keyferry".into(),
            timeouts: Timeouts::default(),
        }
    }
}
