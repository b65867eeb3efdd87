//! Logging in: who the client is, which database it gets, and what it is told.

use std::sync::Arc;

use keyferry_sql::{Identity, Session};
use tokio::io::{AsyncRead, AsyncWrite};
use tracing::{info, warn};

use crate::config::SqlLogin;
use crate::gss::{Exchange, GssError, Step};
use crate::login7::{Login7, MAX_LOGIN, Proof, feature};
use crate::outgoing::Outgoing;
use crate::packet::{WireError, kind, read_message};
use crate::server::Shared;
use crate::tokens::{self, Change, Done, DoneKind, Notice, status};

/// Rounds of a GSSAPI exchange before it is given up.
const MAX_ROUNDS: usize = 8;
/// The packet size that clients have before the server changes it.
const DEFAULT_PACKET: usize = 4096;

/// TDS 7.3 revision B, the first with NBCROW; older clients are turned away.
const TDS_7_3B: u32 = 0x730B_0003;
const TDS_8: u32 = 0x0800_0000;

/// A login that was refused, as the client is told.
#[derive(Debug)]
struct Refusal {
    number: i32,
    class: u8,
    message: String,
    /// For the log only.
    because: String,
}

impl Refusal {
    fn failed(user: &str, because: impl Into<String>) -> Self {
        let message = format!("Login failed for user '{user}'.");
        Self { number: 18456, class: 14, message, because: because.into() }
    }

    fn untrusted(because: impl Into<String>) -> Self {
        let message = "Login failed. The login is from an untrusted domain and cannot be used with Integrated \
                       authentication.";
        Self { number: 18452, class: 14, message: message.into(), because: because.into() }
    }
}

enum Stop {
    Refused(Refusal),
    Wire(WireError),
}

impl From<WireError> for Stop {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Answers a LOGIN7 message. None when the login was refused and the client was told so.
pub(crate) async fn log_in<T: AsyncRead + AsyncWrite + Unpin>(
    login: Login7,
    out: &mut Outgoing<T>,
    shared: &Arc<Shared>,
) -> Result<Option<Session>, WireError> {
    match admit(&login, out, shared).await {
        Ok(session) => Ok(Some(session)),
        Err(Stop::Wire(error)) => Err(error),
        Err(Stop::Refused(refusal)) => {
            warn!(number = refusal.number, because = refusal.because, "login refused");
            let server = &shared.config.database.settings().server_name;
            let Refusal { number, class, message, .. } = &refusal;
            let tokens = out.tokens();
            Notice { number: *number, state: 1, class: *class, message, line: 1, procedure: "" }
                .put(server, tokens);
            if *number == 4060 {
                let also = Refusal::failed(&login.user, "");
                Notice {
                    number: also.number,
                    state: 1,
                    class: also.class,
                    message: &also.message,
                    line: 1,
                    procedure: "",
                }
                .put(server, tokens);
            }
            Done::plain(DoneKind::Done, status::ERROR).put(tokens);
            out.end().await?;
            Ok(None)
        }
    }
}

async fn admit<T: AsyncRead + AsyncWrite + Unpin>(
    login: &Login7,
    out: &mut Outgoing<T>,
    shared: &Arc<Shared>,
) -> Result<Session, Stop> {
    if login.tds_version < TDS_7_3B && login.tds_version != TDS_8 {
        let message =
            format!("TDS version 0x{:08X} is too old for this server; use 7.3 or later.", login.tds_version);
        return Err(Refusal { number: 17828, class: 20, message, because: "old protocol".into() }.into());
    }
    if let Some(number) = shared.config.faults.refused_login() {
        let message = format!("Database '{}' on server is not currently available.", login.database);
        return Err(Refusal { number, class: 14, message, because: "a fault was armed".into() }.into());
    }
    let user = match &login.proof {
        Proof::Password(password) => by_password(&shared.config.logins, &login.user, password)?,
        Proof::Federated => {
            return Err(Refusal::failed(&login.user, "federated authentication is not served").into());
        }
        Proof::Sspi(token) => by_ticket(token.clone(), out, shared).await?,
    };
    let settings = shared.config.database.settings();
    let identity = Identity {
        user,
        application: login.application.clone(),
        host: login.host.clone(),
        ..Identity::default()
    };
    let mut session = Session::new(&shared.config.database, identity);
    if !login.database.is_empty() {
        let sql = format!("USE [{}]", login.database.replace(']', "]]"));
        if session.execute(&sql).await.iter().any(Result::is_err) {
            let message = format!(
                "Cannot open database \"{}\" requested by the login. The login failed.",
                login.database
            );
            return Err(
                Refusal { number: 4060, class: 11, message, because: "no such database".into() }.into()
            );
        }
    }
    info!(user = session.identity().user, spid = session.id(), "login");
    out.set_spid(session.id() as u16);
    greet(login, &session, out, shared, &settings.server_name);
    out.end().await?;
    Ok(session)
}

/// The packet size that the server agrees to.
pub(crate) fn packet_size(login: &Login7, shared: &Shared) -> usize {
    let wanted = if login.packet_size == 0 { DEFAULT_PACKET } else { login.packet_size as usize };
    wanted.clamp(512, usize::from(shared.config.max_packet_size))
}

fn greet<T: AsyncWrite + Unpin>(
    login: &Login7,
    session: &Session,
    out: &mut Outgoing<T>,
    shared: &Shared,
    server: &str,
) {
    let settings = shared.config.database.settings();
    let database = session.identity().database.clone().unwrap_or_else(|| login.database.clone());
    let packet = packet_size(login, shared);
    let into = out.tokens();
    Change::Database { new: &database, old: "master" }.put(into);
    let message = format!("Changed database context to '{database}'.");
    Notice { number: 5701, state: 2, class: 0, message: &message, line: 1, procedure: "" }.put(server, into);
    Change::Collation(settings.collation.tds()).put(into);
    Change::Language("us_english").put(into);
    let message = "Changed language setting to us_english.";
    Notice { number: 5703, state: 1, class: 0, message, line: 1, procedure: "" }.put(server, into);
    tokens::login_ack(login.tds_version, tokens::PROGRAM_VERSION, into);
    let utf8 = login.features.contains(&feature::UTF8_SUPPORT);
    let features: &[(u8, &[u8])] = if utf8 { &[(feature::UTF8_SUPPORT, &[1])] } else { &[] };
    tokens::feature_ext_ack(features, into);
    Change::PacketSize { new: packet, old: DEFAULT_PACKET }.put(into);
    Done::plain(DoneKind::Done, 0).put(into);
}

fn by_password(logins: &[SqlLogin], user: &str, password: &str) -> Result<String, Refusal> {
    let login = logins
        .iter()
        .find(|login| login.name.eq_ignore_ascii_case(user))
        .ok_or_else(|| Refusal::failed(user, format!("no login named {user:?}")))?;
    if login.password != password {
        return Err(Refusal::failed(user, "wrong password"));
    }
    Ok(login.name.clone())
}

/// The GSSAPI exchange: every answer is one SSPI token in a message of its own. The login goes on as soon as the
/// client is proved, without another message from it.
async fn by_ticket<T: AsyncRead + AsyncWrite + Unpin>(
    first: Vec<u8>,
    out: &mut Outgoing<T>,
    shared: &Arc<Shared>,
) -> Result<String, Stop> {
    let acceptor = shared
        .acceptor
        .as_ref()
        .ok_or_else(|| Refusal::untrusted("integrated authentication is not configured"))?;
    let mut exchange = acceptor.begin();
    let mut token = first;
    for _ in 0..MAX_ROUNDS {
        let step;
        (exchange, step) = off_thread(exchange, token).await?;
        let step = step.map_err(|error| Refusal::untrusted(error.to_string()))?;
        if let Some(answer) = step.answer {
            if answer.len() > usize::from(u16::MAX) {
                return Err(Refusal::untrusted("the acceptor's token is too long for an SSPI token").into());
            }
            tokens::sspi(&answer, out.tokens());
            out.end().await?;
        }
        if let Some(principal) = step.principal {
            let login = acceptor.login_of(&principal);
            let because = "the principal has no login here";
            return Ok(login.ok_or_else(|| Refusal::failed(&principal, because))?.to_owned());
        }
        let message = read_message(out.inner(), MAX_LOGIN).await?;
        token = match message {
            Some(message) if message.kind == kind::SSPI => message.body,
            Some(message) => {
                let found = format!("type 0x{:02X} in the middle of authentication", message.kind);
                return Err(WireError::malformed("message", found).into());
            }
            None => return Err(WireError::Closed("closed during authentication").into()),
        };
    }
    Err(Refusal::untrusted("too many rounds").into())
}

/// Runs one step where blocking on files is allowed.
async fn off_thread(
    mut exchange: Exchange,
    token: Vec<u8>,
) -> Result<(Exchange, Result<Step, GssError>), Stop> {
    tokio::task::spawn_blocking(move || {
        let step = exchange.step(&token);
        (exchange, step)
    })
    .await
    .map_err(|error| Refusal::untrusted(format!("the acceptor failed: {error}")).into())
}
