//! `broker check`: would this configuration serve? Every upstream is asked once; nothing is served.

use std::path::Path;

use serde::Serialize;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    config::{Config, GrantConfig, GrantName, VaultAuth},
    events,
    socket::Place,
    upstream::{self, ErrorClass, GrantSettings, Upstream, UpstreamError},
};

/// What was found.
#[derive(Debug, Serialize)]
pub struct Report {
    /// True when nothing failed.
    pub ok: bool,
    /// Each thing that was looked at, in order.
    pub steps: Vec<Step>,
    /// What would be served, and to whom.
    pub serves: Vec<Serves>,
    /// What kind of thing failed first, if anything did.
    #[serde(skip)]
    pub cause: Option<Cause>,
}

/// What kind of thing failed first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A path of the configuration cannot be used.
    Local,
    /// An upstream cannot be reached.
    Unavailable,
    /// An upstream refused the broker.
    Refused,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
pub struct Step {
    /// What.
    pub what: String,
    /// How it went.
    pub outcome: StepOutcome,
    /// What was found, or why not and what to do.
    pub detail: String,
}

/// How a step went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StepOutcome {
    /// As it should.
    Ok,
    /// It did not.
    Failed,
    /// It was not tried; the detail says why.
    Skipped,
}

/// One line of policy as it would be served.
#[derive(Debug, Serialize)]
pub struct Serves {
    /// The caller's uid, when policy names one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// The caller's gid, when policy names one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
    /// The caller's service account, when policy names one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account: Option<String>,
    /// For which pipeline.
    pub pipeline: String,
    /// Which grant.
    pub grant: String,
    /// In which way.
    pub r#use: &'static str,
}

impl Report {
    fn new(config: &Config) -> Self {
        let serves = config.policy.iter().flat_map(|entry| {
            entry.allow.iter().map(|(grant, allowed)| Serves {
                uid: entry.caller.uid,
                gid: entry.caller.gid,
                service_account: entry.caller.service_account.as_ref().map(ToString::to_string),
                pipeline: entry.pipeline.to_string(),
                grant: grant.to_string(),
                r#use: allowed.as_str(),
            })
        });
        Self { ok: true, steps: Vec::new(), serves: serves.collect(), cause: None }
    }

    fn ok(&mut self, what: impl Into<String>, detail: impl Into<String>) {
        self.push(what.into(), StepOutcome::Ok, detail.into());
    }

    fn skipped(&mut self, what: &str, detail: &str) {
        self.push(what.to_owned(), StepOutcome::Skipped, detail.to_owned());
    }

    fn local(&mut self, what: &str, error: &impl ToString) {
        self.fail(what.to_owned(), Cause::Local, error.to_string());
    }

    fn upstream(&mut self, what: String, error: &UpstreamError) {
        let cause = match error.class() {
            ErrorClass::Configuration => Cause::Local,
            _ if error.is_permanent() => Cause::Refused,
            _ => Cause::Unavailable,
        };
        self.fail(what, cause, error.to_string());
    }

    fn fail(&mut self, what: String, cause: Cause, detail: String) {
        self.ok = false;
        self.cause.get_or_insert(cause);
        self.push(what, StepOutcome::Failed, detail);
    }

    fn push(&mut self, what: String, outcome: StepOutcome, detail: String) {
        self.steps.push(Step { what, outcome, detail });
    }
}

/// A configuration whose Kerberos files lie in a folder of their own, so that a check beside a running
/// broker touches nothing of it. Call [`upstream::prepare`] on it before the program has a second thread.
pub fn aside(mut config: Config) -> Config {
    if let Some(kerberos) = &mut config.kerberos {
        kerberos.tmpfs.push("check");
    }
    config
}

/// Looks at the paths, logs in to every upstream, and leaves no session behind.
///
/// A wrapped `secret_id` would be used up by a login, so no upstream is asked then.
pub async fn check(config: &Config) -> Report {
    let mut report = Report::new(config);
    check_paths(config, &mut report);
    let VaultAuth::AppRole(approle) = &config.vault.auth;
    if approle.wrapped {
        report
            .skipped("upstreams", "the secret_id is wrapped and a check would use it up; `broker run` will");
        return report;
    }
    let (tasks, end) = (TaskTracker::new(), CancellationToken::new());
    match Upstream::start(config, &tasks, &end, &CancellationToken::new(), events::channel().0).await {
        // Nobody stops a check but the end of the process.
        Ok(None) => {}
        Ok(Some(upstream)) => {
            let secret = &config.vault.secret;
            report.ok("vault", format!("logged in; read {}/{}", secret.mount, secret.path));
            for (name, grant) in &config.grants {
                check_grant(&upstream, name, grant, &mut report).await;
            }
            end.cancel();
            tasks.close();
            tasks.wait().await;
            upstream.close().await;
        }
        Err(error) => report.upstream(error.upstream().to_string(), &error),
    }
    if let Some(kerberos) = &config.kerberos
        && kerberos.tmpfs.ends_with("check")
    {
        // Only an empty profile is left in it; what cannot be removed is wiped by the next check.
        let _ = std::fs::remove_dir_all(&kerberos.tmpfs);
    }
    report
}

fn check_paths(config: &Config, report: &mut Report) {
    match Place::check(&config.socket.path) {
        Ok(()) => report.ok("socket", config.socket.path.display().to_string()),
        Err(error) => report.local("socket", &error),
    }
    let folder = config.audit.path.parent().unwrap_or(Path::new("/"));
    match folder.metadata() {
        Ok(meta) if meta.is_dir() => report.ok("audit log", config.audit.path.display().to_string()),
        Ok(_) => {
            report.local("audit log", &format!("{} is no folder; correct `audit.path`", folder.display()));
        }
        Err(error) => {
            let what = format!("{}: {error}; create the folder or correct `audit.path`", folder.display());
            report.local("audit log", &what);
        }
    }
}

async fn check_grant(upstream: &Upstream, name: &GrantName, grant: &GrantConfig, report: &mut Report) {
    let outcome = match grant {
        GrantConfig::Kerberos(_) => check_relay(upstream, name).await,
        GrantConfig::Snowflake(_) => check_session(upstream, name).await,
    };
    let what = format!("grant {name}");
    match outcome {
        Ok(detail) => report.ok(what, detail),
        Err(error) => report.upstream(what, &error),
    }
}

async fn check_relay(upstream: &Upstream, name: &GrantName) -> Result<String, UpstreamError> {
    let settings = upstream.settings(name)?;
    let (_, step) = upstream.begin_relay(name).await?;
    let GrantSettings::SqlServer { service_principal_name, .. } = settings else {
        return Ok("a ticket was made".to_owned());
    };
    let until = humantime::format_rfc3339_seconds(step.ticket_expires_at);
    Ok(format!("ticket for {service_principal_name} until {until}"))
}

async fn check_session(upstream: &Upstream, name: &GrantName) -> Result<String, UpstreamError> {
    let bearer = upstream.bearer(name).await?;
    let session = upstream.open_session(name, &bearer, "", "").await?;
    let until = humantime::format_rfc3339_seconds(session.grant().expires_at());
    let detail = format!(
        "session as role {} on warehouse {}, good until {until}",
        session.role(),
        session.warehouse()
    );
    session.close().await;
    Ok(detail)
}

/// Prepares the process for [`check`]; see [`aside`].
pub fn prepare(config: &Config) -> Result<(), UpstreamError> {
    if let Some(kerberos) = &config.kerberos
        && let Some(parent) = kerberos.tmpfs.parent()
        && !parent.exists()
    {
        // The broker itself would make this one folder; a check makes it as private.
        let made =
            std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700).create(parent);
        drop(made);
    }
    upstream::prepare(config)
}
