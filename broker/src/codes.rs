//! The broker's error codes: what happened, where, and what to do. `docs/errors.md` is made from this table.
//!
//! The first digit is the area: 1 the configuration, 2 a caller's request, 3 an upstream, 4 a grant, 5 the socket,
//! 6 the audit log, 7 the process itself. An answer over the socket ends with its code in brackets.

use keyferry_proto::catalogue;
pub use keyferry_proto::catalogue::Entry;
use keyferry_sandbox::SandboxError;

use crate::{
    audit::{AuditError, Finding},
    config::ConfigError,
    grants::GrantError,
    probe::ProbeError,
    run::RunError,
    socket::SocketError,
    upstream::{ErrorClass, UpstreamError},
};

catalogue! {
    CONFIG_UNREADABLE = "B101", 78, "the configuration cannot be read", "the path and what the system said",
        "check --config and whether the broker's user may read the file";
    CONFIG_TOO_LARGE = "B102", 78, "the configuration is larger than 1 MiB", "the path and its size",
        "check --config: this file is something else";
    CONFIG_WRONG = "B103", 78, "the configuration is not as it must be", "file, line, column and the key that was meant",
        "correct that place; docs/configuration.md has every key";

    UNKNOWN_CALLER = "B201", 0, "policy names no pipeline for this caller", "uid and gid",
        "add an entry under `policy`, or run the caller under its own uid";
    AMBIGUOUS_PIPELINE = "B202", 0, "the caller has several pipelines and named none", "uid and its pipelines",
        "name one in `pipeline` (brokerctl: --pipeline)";
    NOT_ITS_PIPELINE = "B203", 0, "the caller may not act for that pipeline", "uid and pipeline",
        "correct `pipeline`, or add an entry under `policy`";
    NOT_ITS_GRANT = "B204", 0, "the pipeline may not use that grant", "pipeline and grant",
        "add the grant to the entry's `allow`";
    OTHER_USE = "B205", 0, "the pipeline may use the grant in another way", "pipeline, grant and both uses",
        "ask in the allowed way, or change the entry's `allow`";
    NOT_ITS_ROLE = "B206", 0, "the grant does not allow that role", "the roles that it allows",
        "choose one of them, or add it to the grant's `roles`";
    NOT_ITS_WAREHOUSE = "B207", 0, "the grant does not allow that warehouse", "the warehouses that it allows",
        "choose one of them, or add it to the grant's `warehouses`";
    TOO_MANY_SESSIONS = "B208", 0, "the uid has its share of Snowflake sessions", "the share",
        "close one, or raise `limits.sessions_per_uid`";
    TOO_MANY_RELAYS = "B209", 0, "the uid has its share of Kerberos exchanges", "the share",
        "wait for one, or raise `limits.relays_per_uid`";
    TOO_MANY_CALLS = "B210", 0, "the uid calls too often", "the uid",
        "slow down, or raise `limits.calls_per_second`";
    NO_METADATA = "B211", 0, "the metadata key `keyferry: 1` is missing", "the call",
        "use a Keyferry client: this socket is no HTTP server";
    MALFORMED = "B212", 0, "the request cannot be right", "the field",
        "correct that field";
    TOO_MANY_WATCHES = "B213", 0, "the uid has its share of watched tokens", "the share",
        "end a watch, or raise `limits.watches_per_uid`";

    SERVICE_ACCOUNT = "B214", 0, "the call's service-account token does not count", "what is wrong with it",
        "mount a projected token for the audience, and read its file again before each call";

    WITHDRAWN = "B215", 0, "policy changed and no longer allows the grant", "-",
        "ask whoever changed `policy`";

    UPSTREAM_UNREACHABLE = "B301", 69, "an upstream cannot be reached", "the upstream and what was attempted",
        "check network, DNS and the upstream's `ca_file`";
    UPSTREAM_BUSY = "B302", 69, "an upstream asks for patience", "the upstream and its code (429, 503)",
        "wait; the broker tries again by itself";
    UPSTREAM_SEALED = "B303", 69, "Vault is sealed", "Vault's address",
        "let an operator unseal it; the broker then goes on by itself";
    UPSTREAM_CREDENTIAL = "B304", 77, "an upstream refused the broker's credential", "the upstream and its code",
        "write the current credential to Vault: a new KV version is taken up by itself";
    UPSTREAM_DENIED = "B305", 77, "the credential is good and not allowed to do this", "the upstream and what was attempted",
        "widen Vault's policy, the application's permissions or the user's grants as the message says";
    UPSTREAM_NOT_FOUND = "B306", 77, "a path, key, principal or account does not exist", "the upstream and the name",
        "correct the name in the configuration, or create it";
    UPSTREAM_BAD_REPLY = "B307", 69, "an upstream's answer is not one that it may give", "the upstream and what is wrong",
        "look for a proxy in between";
    UPSTREAM_CLOCK = "B308", 77, "the clocks of broker and upstream differ too much", "the upstream",
        "set this machine's clock (NTP)";
    UPSTREAM_INTERCEPTED = "B309", 77, "a wrapping token was used by somebody else, or made elsewhere", "the file and the creation path",
        "raise the alarm: revoke the secret_id, find out who read it, issue a new one";
    UPSTREAM_CONFIGURATION = "B310", 78, "the request or the configuration cannot be right", "the upstream and the setting",
        "correct the setting";
    UPSTREAM_EXPIRED = "B311", 69, "an exchange took too long", "the upstream",
        "try again";

    NOT_A_BEARER = "B401", 0, "the grant has no bearer token", "the grant",
        "a Kerberos grant is relayed: use Initiate";
    TTL_TOO_LONG = "B402", 0, "no token of this grant lives as long as was asked", "what was asked and the longest life",
        "ask for a shorter `min_ttl`";
    RENEWED_TOO_OFTEN = "B403", 0, "callers had this token renewed too often", "the grant and when to ask again",
        "use the token that is held; report a refusal only when there was one";
    TOKEN_TIMED_OUT = "B404", 0, "no token was issued in time", "the grant",
        "try again; /health says how the upstream is";

    SOCKET_FOLDER = "B501", 78, "the socket's folder is not safe", "the folder and what is wrong with it",
        "give it to the broker's user, not writable by others";
    SOCKET_IN_THE_WAY = "B502", 78, "something lies at the socket's path", "what it is",
        "move it away, or choose another `socket.path`";
    ANOTHER_BROKER = "B503", 75, "another broker serves there", "the folder",
        "stop it, or give each broker a folder of its own";
    NO_SUCH_GROUP = "B504", 78, "the group of `socket.group` does not exist", "the group",
        "create it, or write its number";
    SOCKET_SYSTEM = "B505", 71, "the system refused the socket", "what was attempted",
        "look at permissions and space of the folder";

    AUDIT_OPEN = "B601", 73, "the audit log cannot be opened", "the path and what is wrong with it",
        "make it a file of the broker's own, in a folder that exists";
    AUDIT_WRITE = "B602", 73, "the audit log cannot be written, so nothing is granted", "what the system said",
        "make room, or mend the disk; the broker goes on by itself";
    AUDIT_TOO_LONG = "B603", 73, "a decision does not fit on a line, so nothing is granted", "-",
        "shorten `run_id` and names";
    AUDIT_CLOSED = "B604", 73, "the audit log is closed: the broker is stopping", "-",
        "ask the broker that is started next";

    AUDIT_UNREADABLE = "B605", 66, "the audit log to verify, or its public key, cannot be read", "the path and what the system said",
        "check the paths; the key is what `openssl pkey -pubout` writes for an Ed25519 key";
    AUDIT_CHANGED = "B606", 65, "the audit log is not what was written", "each line that is wrong, and how",
        "keep the file as it is, compare it with its copies, and find out who could write it";
    AUDIT_FORGED = "B607", 77, "a checkpoint was not signed by this key over this log", "the line and the key that it names",
        "verify with the key that was in use then; if there is none, somebody made the log anew";
    AUDIT_UNSIGNED = "B608", 75, "the chain holds, and its last lines are not signed yet, or no key was given", "the last checkpoint's line and the lines after it",
        "give the public key with --key; verify again after the next checkpoint (5 minutes, or the broker's stop)";

    ADMIN = "B701", 71, "health and metrics have no address", "the address and what the system said",
        "choose another `admin.listen`";
    SERVER = "B702", 70, "the gRPC server stopped by itself", "what it said",
        "report it";
    INTERNAL = "B703", 70, "the process could not be prepared", "what the system said",
        "look at what the message names; otherwise report it";
    CLUSTER_KEYS = "B704", 78, "the cluster's keys, or this pod's uid, cannot be read", "the file and what is wrong with it",
        "mount what `service_accounts` names; docs/configuration.md says what it holds";
    SANDBOX_REFUSED = "B705", 78, "the process was started where its sandbox would be worth nothing", "what was found: root, capabilities, a tracer, a shared process namespace, one uid for both programs",
        "start it as deploy/ does; for a laptop `sandbox: { mode: report }`";
    SANDBOX_FAILED = "B706", 71, "a step of the sandbox failed", "the step, what was attempted and what the system said",
        "mend what the message names; nothing was opened";
    SANDBOX_MISSING = "B707", 71, "the kernel or container cannot take a step that `sandbox.strict` wants", "the step and what is missing",
        "use a newer kernel or another container setting, or live without it: `sandbox.strict: false`";
    NO_SUCH_PROCESS = "B708", 66, "a process cannot be looked at", "its pid and what the system said",
        "give the pid of a running process of this process namespace";
    NOT_SERVING = "B709", 69, "the broker that was asked does not serve", "where it was asked and what is missing",
        "start it, or mend the upstream that the message names";
    NO_ADMIN_PORT = "B710", 78, "`admin.listen` leaves the port to chance", "-",
        "choose a port";
    SECRET_IN_ENVIRONMENT = "B711", 78, "the environment holds a secret", "the variable's name",
        "take it out, consider it known, and deliver secrets as files or in Vault";
}

/// The entry of a sandbox that could not be set up.
pub fn of_sandbox(error: &SandboxError) -> &'static Entry {
    match error {
        SandboxError::Refused { .. } => &SANDBOX_REFUSED,
        SandboxError::Failed { .. } | SandboxError::Profile(_) => &SANDBOX_FAILED,
        SandboxError::Missing { .. } => &SANDBOX_MISSING,
    }
}

/// The entry of a configuration that was refused.
pub fn of_config(error: &ConfigError) -> &'static Entry {
    match error {
        ConfigError::Read { .. } => &CONFIG_UNREADABLE,
        ConfigError::TooLarge { .. } => &CONFIG_TOO_LARGE,
        ConfigError::Wrong { .. } => &CONFIG_WRONG,
    }
}

/// The entry of what ended the broker.
pub fn of_run(error: &RunError) -> &'static Entry {
    match error {
        RunError::Upstream(error) => of_upstream(error),
        RunError::Audit(error) => of_audit(error),
        RunError::Socket(SocketError::Folder { .. }) => &SOCKET_FOLDER,
        RunError::Socket(SocketError::InTheWay { .. }) => &SOCKET_IN_THE_WAY,
        RunError::Socket(SocketError::AnotherBroker { .. }) => &ANOTHER_BROKER,
        RunError::Socket(SocketError::NoSuchGroup(_)) => &NO_SUCH_GROUP,
        RunError::Socket(SocketError::System { .. }) => &SOCKET_SYSTEM,
        RunError::Keys(_) => &CLUSTER_KEYS,
        RunError::Admin { .. } => &ADMIN,
        RunError::Server(_) => &SERVER,
    }
}

/// The entry of a probe that found no broker to send callers to.
pub fn of_probe(error: &ProbeError) -> &'static Entry {
    match error {
        ProbeError::NoPort => &NO_ADMIN_PORT,
        ProbeError::Silent { .. }
        | ProbeError::NotServing { .. }
        | ProbeError::NoBroker { .. }
        | ProbeError::Ended { .. } => &NOT_SERVING,
    }
}

/// The entry of the gravest finding in an audit log.
pub fn of_findings(findings: &[Finding]) -> Option<&'static Entry> {
    let entry = |finding: &Finding| match finding {
        Finding::Broken { .. } | Finding::Number { .. } | Finding::Cut { .. } | Finding::Short { .. } => {
            (0, &AUDIT_CHANGED)
        }
        Finding::Forged { .. } => (1, &AUDIT_FORGED),
        Finding::Unsigned { .. } => (2, &AUDIT_UNSIGNED),
    };
    findings.iter().map(entry).min_by_key(|(gravity, _)| *gravity).map(|(_, entry)| entry)
}

/// The entry of an upstream's failure.
pub fn of_upstream(error: &UpstreamError) -> &'static Entry {
    match error.class() {
        ErrorClass::Unreachable => &UPSTREAM_UNREACHABLE,
        ErrorClass::Busy => &UPSTREAM_BUSY,
        ErrorClass::Sealed => &UPSTREAM_SEALED,
        ErrorClass::Credential => &UPSTREAM_CREDENTIAL,
        ErrorClass::Denied => &UPSTREAM_DENIED,
        ErrorClass::NotFound => &UPSTREAM_NOT_FOUND,
        ErrorClass::BadReply => &UPSTREAM_BAD_REPLY,
        ErrorClass::Clock => &UPSTREAM_CLOCK,
        ErrorClass::Intercepted => &UPSTREAM_INTERCEPTED,
        ErrorClass::Configuration => &UPSTREAM_CONFIGURATION,
        ErrorClass::Expired => &UPSTREAM_EXPIRED,
    }
}

pub(crate) fn of_audit(error: &AuditError) -> &'static Entry {
    match error {
        AuditError::Open { .. } => &AUDIT_OPEN,
        AuditError::Write { .. } => &AUDIT_WRITE,
        AuditError::TooLong => &AUDIT_TOO_LONG,
        AuditError::Closed => &AUDIT_CLOSED,
    }
}

pub(crate) fn of_grant(error: &GrantError) -> &'static Entry {
    match error {
        GrantError::Upstream(error) => of_upstream(error),
        GrantError::NotABearer(_) => &NOT_A_BEARER,
        GrantError::TtlTooLong { .. } => &TTL_TOO_LONG,
        GrantError::TooOften { .. } => &RENEWED_TOO_OFTEN,
        GrantError::TimedOut { .. } => &TOKEN_TIMED_OUT,
    }
}

/// The entry of a refusal, by the word that metrics and the audit log have for it.
pub(crate) fn of_refusal(reason: &str) -> Option<&'static Entry> {
    Some(match reason {
        "unknown_caller" => &UNKNOWN_CALLER,
        "ambiguous_pipeline" => &AMBIGUOUS_PIPELINE,
        "not_its_pipeline" => &NOT_ITS_PIPELINE,
        "not_its_grant" => &NOT_ITS_GRANT,
        "other_use" => &OTHER_USE,
        "role" => &NOT_ITS_ROLE,
        "warehouse" => &NOT_ITS_WAREHOUSE,
        "sessions" => &TOO_MANY_SESSIONS,
        "relays" => &TOO_MANY_RELAYS,
        "watches" => &TOO_MANY_WATCHES,
        "rate" => &TOO_MANY_CALLS,
        "no_metadata" => &NO_METADATA,
        "malformed" => &MALFORMED,
        "service_account" => &SERVICE_ACCOUNT,
        "withdrawn" => &WITHDRAWN,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_that_refuses_for_good_ends_with_77_and_one_that_is_down_with_69() {
        use ErrorClass::{
            BadReply, Busy, Clock, Configuration, Credential, Denied, Expired, Intercepted, NotFound, Sealed,
            Unreachable,
        };
        for class in [
            BadReply,
            Busy,
            Clock,
            Configuration,
            Credential,
            Denied,
            Expired,
            Intercepted,
            NotFound,
            Sealed,
            Unreachable,
        ] {
            let error = UpstreamError::new(crate::upstream::UpstreamName::Vault, class, "a", "b", "c");
            let expected = match class {
                Configuration => 78,
                _ if error.is_permanent() => 77,
                _ => 69,
            };
            assert_eq!(of_upstream(&error).exit, expected, "{class}");
        }
    }

    #[test]
    fn every_refusal_has_a_code() {
        let calls = [
            include_str!("rpc/ask.rs"),
            include_str!("rpc/relay.rs"),
            include_str!("rpc/session.rs"),
            include_str!("rpc/watching.rs"),
        ]
        .concat();
        let words = calls.split(".denied(\"").skip(1).filter_map(|rest| rest.split('"').next());
        let policy = include_str!("policy.rs").split("Self::").filter_map(|line| line.split_once("=> \""));
        let policy = policy.filter_map(|(_, rest)| rest.split('"').next());
        let all: Vec<&str> = words.chain(policy).chain(["role", "warehouse"]).collect();
        assert!(all.len() >= 12, "{all:?}");
        for word in all {
            assert!(of_refusal(word).is_some(), "a caller that is refused for {word:?} is told no code");
        }
    }
}
