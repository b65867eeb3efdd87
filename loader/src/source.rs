//! Opens connections to the configured SQL Server, each with a Kerberos login of its own through the broker.

use std::time::Duration;

use keyferry_proto::v1::settings::Settings;

use crate::{
    config::{Encryption, Source},
    grants::{Broker, GrantError},
    sandbox,
    tds::{ConnectOptions, Connection, Encrypt, TdsError, Trust},
};

/// The longest silence while a plan's question is answered.
const PLANNING_SILENCE: Duration = Duration::from_hours(2);

/// Where the source is and how it is reached.
#[derive(Clone, Debug)]
pub struct SqlServer {
    broker: Broker,
    grant: String,
    options: ConnectOptions,
}

/// Why the source's address is not known.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The broker did not answer.
    #[error(transparent)]
    Grant(#[from] GrantError),
    /// Neither the file nor the grant names the server.
    #[error(
        "neither `source.host` nor the settings of the grant {grant:?} name the SQL Server; write `host` into the \
         pipeline file, or the host's key into the grant's `host_key`"
    )]
    NoHost {
        /// The grant.
        grant: String,
    },
    /// The grant names a port that the sandbox closed.
    #[error("{0}")]
    PortClosed(String),
}

impl SqlServer {
    /// Reads the address: the file's, or else the grant's settings.
    pub async fn resolve(broker: &Broker, source: &Source) -> Result<Self, SourceError> {
        let (host, port) = match &source.host {
            Some(host) => (host.clone(), source.port.unwrap_or(1433)),
            None => from_settings(broker, source).await?,
        };
        if let Some(advice) = sandbox::closed(port, "SQL Server") {
            return Err(SourceError::PortClosed(advice));
        }
        let trust = match (&source.certificate_sha256, &source.ca_file) {
            (Some(pin), _) => Trust::Pinned(*pin),
            (None, Some(file)) => Trust::CaFile(file.clone()),
            (None, None) => Trust::NativeRoots,
        };
        let mut options = ConnectOptions {
            encrypt: match source.encrypt {
                Encryption::Required => Encrypt::Required,
                Encryption::Strict => Encrypt::Strict,
                Encryption::LoginOnly => Encrypt::LoginOnly,
                Encryption::Off => Encrypt::Off,
            },
            trust,
            read_intent: source.read_intent,
            ..ConnectOptions::new(host, port, source.database_snapshot.as_ref().unwrap_or(&source.database))
        };
        options.timeouts.read = source.silence;
        Ok(Self { broker: broker.clone(), grant: source.grant.clone(), options })
    }

    /// The same server for the plan's questions: counting the keys of a big table takes long without a word.
    #[must_use]
    pub fn for_planning(&self) -> Self {
        let mut server = self.clone();
        server.options.timeouts.read = PLANNING_SILENCE;
        server
    }

    /// Connects and logs in.
    pub async fn connect(&self) -> Result<Connection, TdsError> {
        Connection::connect(&self.options, &mut self.broker.relay(&self.grant)).await
    }

    /// Host and port, for messages.
    pub fn address(&self) -> String {
        format!("{}:{}", self.options.host, self.options.port)
    }
}

async fn from_settings(broker: &Broker, source: &Source) -> Result<(String, u16), SourceError> {
    let no_host = || SourceError::NoHost { grant: source.grant.clone() };
    let Settings::SqlServer(settings) = broker.settings(&source.grant).await? else { return Err(no_host()) };
    if settings.host.is_empty() {
        return Err(no_host());
    }
    let port = source.port.or_else(|| u16::try_from(settings.port).ok().filter(|port| *port != 0));
    Ok((settings.host, port.unwrap_or(1433)))
}
