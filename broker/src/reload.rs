//! SIGHUP: the policy of the configuration file is taken again, whole or not at all.
//!
//! Everything else in the file needs a restart, and a file that changes more than the policy is refused as a whole:
//! half of a change in force would be worse than none. Sessions and watches that the new policy no longer allows end.

use std::{collections::BTreeSet, sync::Arc};

use keyferry_sandbox::Enforcement;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    config::{Config, GrantName},
    events::{Event, Events},
    issuer::Upstreams,
    policy::Policy,
    rpc::Broker,
    run::bearers,
};

/// Takes the policy again at each ring, until `shutdown`.
pub(crate) async fn policy<U: Upstreams>(
    broker: Arc<Broker<U>>,
    running: Config,
    ring: Arc<Notify>,
    events: Events,
    shutdown: CancellationToken,
) {
    loop {
        tokio::select! {
            () = ring.notified() => {}
            () = shutdown.cancelled() => return,
        }
        let event = match read(&running) {
            Ok(policy) => {
                let entries = policy.entries().len();
                broker.replace_policy(policy);
                info!(entries, "the policy was taken again");
                Event::PolicyTaken(format!("{entries} entries"))
            }
            Err(problem) => {
                warn!(problem, "the policy was not taken again; the one before it stays in force");
                Event::PolicyRefused(problem)
            }
        };
        events.tell(event);
    }
}

/// The policy of the file, if nothing else of the file has changed.
fn read(running: &Config) -> Result<Policy, String> {
    let found = Config::load(&running.file).map_err(|error| error.to_string())?;
    let rest = |config: &Config| format!("{:?}", Config { policy: Vec::new(), ..config.clone() });
    if rest(&found) != rest(running) {
        return Err(format!(
            "{}: more than `policy` has changed, which needs a restart; put the rest back, or restart the broker",
            running.file.display()
        ));
    }
    let own = nix::unistd::geteuid().as_raw();
    if running.sandbox.mode == Enforcement::Enforce
        && found.policy.iter().any(|entry| entry.caller.uid == Some(own))
    {
        return Err(format!(
            "{}: uid {own} is the broker's own, and a caller needs another; give it one of its own",
            running.file.display()
        ));
    }
    let policy = Policy::new(found.policy.clone());
    let held = bearers(running, &Policy::new(running.policy.clone()));
    let wanted = bearers(&found, &policy);
    let new: BTreeSet<&str> = wanted.difference(&held).map(GrantName::as_str).collect();
    if new.is_empty() {
        return Ok(policy);
    }
    let new: Vec<&str> = new.into_iter().collect();
    Err(format!(
        "{}: nobody could use the grants {} when the broker started, so it holds no token for them; restart it",
        running.file.display(),
        new.join(", ")
    ))
}
