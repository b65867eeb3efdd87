//! Sessions: their tokens, renewal, expiry, and what happens to an idle one's transaction.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

use crate::{copy::StageHook, objects::random_text, query::Queries, reply::Refusal};

/// The driver at the other end, as it introduced itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Client {
    /// `CLIENT_APP_ID`.
    pub(crate) id: String,
    /// `CLIENT_APP_VERSION`.
    pub(crate) version: String,
    /// Whether it asked for `smkId` as text.
    pub(crate) smk_as_text: bool,
}

impl Client {
    /// The session parameter that chooses its result format; `None`: it reads JSON only.
    pub(crate) fn format_parameter(&self) -> Option<&'static str> {
        Some(match self.id.as_str() {
            "PythonConnector" => "PYTHON_CONNECTOR_QUERY_RESULT_FORMAT",
            "JDBC" => "JDBC_QUERY_RESULT_FORMAT",
            "Go" => "GO_QUERY_RESULT_FORMAT",
            "ODBC" => "ODBC_QUERY_RESULT_FORMAT",
            _ => return None,
        })
    }

    /// Whether it puts the bucket in front of a stage's `endPoint`. Drivers that hand `endPoint` to an AWS SDK take an
    /// address as it stands, and name the bucket in the path.
    pub(crate) fn prefixes_bucket(&self) -> bool {
        let major = self.version.split('.').next().and_then(|text| text.parse::<u32>().ok());
        match self.id.as_str() {
            "PythonConnector" => major.is_none_or(|major| major < 5),
            "Go" | "JavaScript" | "JDBC" | "ODBC" => false,
            _ => true,
        }
    }
}

/// One logged-in session. A transaction belongs to it, not to a connection.
pub(crate) struct Session {
    /// `CURRENT_SESSION()`.
    pub(crate) id: u64,
    /// The user's name.
    pub(crate) user: String,
    /// The evaluator's half; statements of one session run one after the other.
    pub(crate) sql: tokio::sync::Mutex<keyferry_sql::Session>,
    /// Opens staged files for the evaluator.
    pub(crate) hook: Arc<StageHook>,
    /// Statements of the session, by id and by requestId.
    pub(crate) queries: Mutex<Queries>,
    /// Who talks.
    pub(crate) client: Client,
    /// Session parameters as the login gave them.
    pub(crate) asked: BTreeMap<String, serde_json::Value>,
    /// Fires when the session is closed.
    pub(crate) closed: CancellationToken,
    /// Statements that run now.
    pub(crate) running: AtomicUsize,
    last_used: Mutex<Instant>,
}

impl Session {
    pub(crate) fn new(
        sql: keyferry_sql::Session,
        user: &str,
        hook: Arc<StageHook>,
        client: Client,
        asked: BTreeMap<String, serde_json::Value>,
    ) -> Self {
        Self {
            id: sql.id(),
            user: user.to_owned(),
            sql: tokio::sync::Mutex::new(sql),
            hook,
            queries: Mutex::default(),
            client,
            asked,
            closed: CancellationToken::new(),
            running: AtomicUsize::new(0),
            last_used: Mutex::new(Instant::now()),
        }
    }

    /// Notes that the client was heard of.
    pub(crate) fn touch(&self) {
        *lock(&self.last_used) = Instant::now();
    }

    /// Ends the session; its tokens stay known, so that their use is answered with 390111.
    pub(crate) fn close(&self) {
        self.closed.cancel();
    }

    fn idle(&self) -> Duration {
        if self.running.load(Ordering::Relaxed) > 0 {
            Duration::ZERO
        } else {
            lock(&self.last_used).elapsed()
        }
    }
}

/// The two tokens of a session, as a reply carries them.
pub(crate) struct Tokens {
    pub(crate) session: String,
    pub(crate) master: String,
}

#[derive(Clone)]
struct Held {
    session: Arc<Session>,
    expires: Instant,
}

#[derive(Default)]
struct Register {
    session_tokens: HashMap<String, Held>,
    master_tokens: HashMap<String, Held>,
}

/// All sessions, by token.
pub(crate) struct Sessions {
    register: Mutex<Register>,
    session_ttl: Duration,
    master_ttl: Duration,
    grace: Duration,
}

impl Sessions {
    pub(crate) fn new(session_ttl: Duration, master_ttl: Duration, grace: Duration) -> Self {
        Self { register: Mutex::default(), session_ttl, master_ttl, grace }
    }

    /// Gives a new session its first tokens.
    pub(crate) fn open(&self, session: Arc<Session>) -> Tokens {
        self.issue(&mut lock(&self.register), session)
    }

    fn issue(&self, register: &mut Register, session: Arc<Session>) -> Tokens {
        let now = Instant::now();
        let token = || format!("ver:1-hint:{}-{}", session.id, random_text(128));
        let tokens = Tokens { session: token(), master: token() };
        register.session_tokens.insert(
            tokens.session.clone(),
            Held { session: Arc::clone(&session), expires: now + self.session_ttl },
        );
        register
            .master_tokens
            .insert(tokens.master.clone(), Held { session, expires: now + self.master_ttl });
        tokens
    }

    /// The session that a session token opens; 390112 when the token is too old.
    pub(crate) fn find(&self, token: &str) -> Result<Arc<Session>, Refusal> {
        let register = lock(&self.register);
        let held = register
            .session_tokens
            .get(token)
            .ok_or_else(|| Refusal::new("390104", "08001", "Session token was not valid."))?;
        if held.session.closed.is_cancelled() {
            return Err(Refusal::new(
                "390111",
                "08001",
                "Session no longer exists.  New login required to access the service.",
            ));
        }
        if held.expires <= Instant::now() {
            return Err(Refusal::new("390112", "08001", "Your session has expired. Please login again."));
        }
        held.session.touch();
        Ok(Arc::clone(&held.session))
    }

    /// RENEW: a living master token and the session's own former token give two new ones; the old master token dies.
    pub(crate) fn renew(&self, master: &str, old: &str) -> Result<Tokens, Refusal> {
        let mut register = lock(&self.register);
        let held = register
            .master_tokens
            .get(master)
            .cloned()
            .ok_or_else(|| Refusal::new("390115", "08001", "Master token is invalid."))?;
        if held.session.closed.is_cancelled() {
            return Err(Refusal::new("390113", "08001", "Master token not found: the session was closed."));
        }
        if held.expires <= Instant::now() {
            return Err(Refusal::new(
                "390114",
                "08001",
                "Authentication token has expired.  The user must authenticate again.",
            ));
        }
        let cutoff = Instant::now() + self.grace;
        match register.session_tokens.get_mut(old) {
            Some(former) if former.session.id == held.session.id => {
                former.expires = former.expires.min(cutoff);
            }
            _ => {
                return Err(Refusal::new(
                    "390115",
                    "08001",
                    "The old session token does not belong to this master token.",
                ));
            }
        }
        register.master_tokens.remove(master);
        held.session.touch();
        Ok(self.issue(&mut register, held.session))
    }

    /// Makes every session token that is out count as expired.
    pub(crate) fn expire_all(&self) {
        let now = Instant::now();
        for held in lock(&self.register).session_tokens.values_mut() {
            held.expires = now;
        }
    }

    /// Every session that is open.
    pub(crate) fn all(&self) -> Vec<Arc<Session>> {
        let register = lock(&self.register);
        let mut found: HashMap<u64, Arc<Session>> = HashMap::new();
        for held in register.master_tokens.values().filter(|held| !held.session.closed.is_cancelled()) {
            found.insert(held.session.id, Arc::clone(&held.session));
        }
        found.into_values().collect()
    }

    /// The master tokens of open sessions.
    pub(crate) fn master_tokens(&self) -> Vec<String> {
        let register = lock(&self.register);
        let open = register.master_tokens.iter().filter(|(_, held)| !held.session.closed.is_cancelled());
        open.map(|(token, _)| token.clone()).collect()
    }

    /// Sessions that were silent for `limit`.
    pub(crate) fn idle(&self, limit: Duration) -> Vec<Arc<Session>> {
        self.all().into_iter().filter(|session| session.idle() >= limit).collect()
    }

    /// Forgets tokens that have been dead for a day, and closes sessions whose master token is dead.
    pub(crate) fn sweep(&self) {
        let mut register = lock(&self.register);
        let now = Instant::now();
        for held in register.master_tokens.values().filter(|held| held.expires <= now) {
            if held.session.idle() > Duration::ZERO {
                held.session.closed.cancel();
            }
        }
        let kept = |held: &Held| held.expires + Duration::from_hours(24) > now;
        register.session_tokens.retain(|_, held| kept(held));
        register.master_tokens.retain(|_, held| kept(held));
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
