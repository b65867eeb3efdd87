//! Which broker is asked, and in whose name: from arguments, then from the environment.

use std::{path::PathBuf, time::Duration};

use keyferry_proto::connect::Address;
use nix::unistd::User;

use crate::failure::Failure;

/// Where the broker serves unless somebody says otherwise.
const SOCKET: &str = "/run/keyferry/broker.sock";

/// How long a socket that nobody serves yet is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// What every subcommand takes.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct LinkArguments {
    /// The broker's socket [env: KEYFERRY_SOCKET, or /run/keyferry/broker.sock]
    #[arg(long, global = true, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// The uid or user that must serve the socket; nothing is sent to anybody else [env: KEYFERRY_SERVER_UID]
    #[arg(long, global = true, value_name = "UID")]
    server_uid: Option<String>,
    /// The pipeline to act for; needed only by a caller of several [env: KEYFERRY_PIPELINE]
    #[arg(long, global = true, value_name = "NAME")]
    pipeline: Option<String>,
    /// A name of your own for what you are doing; it appears in the broker's audit log [env: KEYFERRY_RUN_ID]
    #[arg(long, global = true, value_name = "ID")]
    run_id: Option<String>,
    /// In Kubernetes the file of the projected service-account token [env: KEYFERRY_SERVICE_ACCOUNT_TOKEN]
    #[arg(long, global = true, value_name = "PATH")]
    service_account_token: Option<PathBuf>,
    /// How long to wait for a broker that is not there yet, for example 30s [env: KEYFERRY_PATIENCE, or 10s]
    #[arg(long, global = true, value_name = "TIME")]
    patience: Option<String>,
}

/// A broker, and the names that go with each request.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) address: Address,
    pub(crate) pipeline: String,
    pub(crate) run_id: String,
}

impl Link {
    /// Takes each setting from the arguments, or else from the environment.
    pub(crate) fn new(
        arguments: LinkArguments,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, Failure> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let server = arguments.server_uid.or_else(|| set("KEYFERRY_SERVER_UID")).ok_or_else(|| {
            Failure::Usage(
                "who must serve the broker's socket is not said; give --server-uid (or KEYFERRY_SERVER_UID) the uid that \
                 the broker runs as, so that nobody else is asked in its place"
                    .to_owned(),
            )
        })?;
        let patience = match arguments.patience.or_else(|| set("KEYFERRY_PATIENCE")) {
            Some(text) => {
                duration(&text).map_err(|problem| Failure::Usage(format!("--patience: {problem}")))?
            }
            None => PATIENCE,
        };
        let socket = arguments.socket.or_else(|| set("KEYFERRY_SOCKET").map(PathBuf::from));
        let token = arguments.service_account_token;
        let token = token.or_else(|| set("KEYFERRY_SERVICE_ACCOUNT_TOKEN").map(PathBuf::from));
        Ok(Self {
            address: Address {
                socket: socket.unwrap_or_else(|| SOCKET.into()),
                server_uid: uid(&server)?,
                patience,
                service_account_token: token,
            },
            pipeline: arguments.pipeline.or_else(|| set("KEYFERRY_PIPELINE")).unwrap_or_default(),
            run_id: arguments.run_id.or_else(|| set("KEYFERRY_RUN_ID")).unwrap_or_default(),
        })
    }
}

fn uid(text: &str) -> Result<u32, Failure> {
    if let Ok(uid) = text.parse() {
        return Ok(uid);
    }
    match User::from_name(text) {
        Ok(Some(user)) => Ok(user.uid.as_raw()),
        _ => Err(Failure::Usage(format!(
            "--server-uid: {text:?} is neither a uid nor a user of this machine; give the uid that the broker runs as"
        ))),
    }
}

/// `30s`, `5m`, `1h 30m`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|error| format!("{text:?}: {error}; write it like 90s, 15m or 1h"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_come_before_the_environment_and_the_environment_before_defaults() {
        let environment = |name: &str| match name {
            "KEYFERRY_SERVER_UID" => Some("10001".to_owned()),
            "KEYFERRY_SOCKET" => Some("/a/b.sock".to_owned()),
            "KEYFERRY_PIPELINE" => Some(String::new()),
            _ => None,
        };
        let link = Link::new(LinkArguments::default(), environment).unwrap();
        assert_eq!((link.address.server_uid, link.address.socket.as_path()), (10_001, "/a/b.sock".as_ref()));
        assert_eq!((link.pipeline.as_str(), link.address.patience), ("", PATIENCE));
        let arguments = LinkArguments {
            socket: Some("/c.sock".into()),
            server_uid: Some("root".to_owned()),
            patience: Some("1m 30s".to_owned()),
            ..LinkArguments::default()
        };
        let link = Link::new(arguments, environment).unwrap();
        assert_eq!((link.address.server_uid, link.address.socket.as_path()), (0, "/c.sock".as_ref()));
        assert_eq!(link.address.patience, Duration::from_secs(90));
    }

    #[test]
    fn nobody_is_asked_unless_it_is_said_who_must_serve() {
        let none = |_: &str| None;
        let failure = Link::new(LinkArguments::default(), none).unwrap_err();
        assert_eq!(failure.exit_code(), 64);
        assert!(failure.to_string().contains("--server-uid"), "{failure}");
        let stranger =
            LinkArguments { server_uid: Some("no-such-user-here".to_owned()), ..LinkArguments::default() };
        assert_eq!(Link::new(stranger, none).unwrap_err().exit_code(), 64);
    }
}
