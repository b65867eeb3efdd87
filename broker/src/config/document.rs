//! The shape of the YAML text, and the checks that need more than one place of it.
//!
//! `docs/configuration.md` is made from these structs and their comments: a comment ends with its default, if it has one.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use keyferry_sandbox::Settings;
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_saphyr::Spanned;

use super::{
    AdminConfig, AuditConfig, CallerMatch, Config, ConfigError, GrantConfig, GrantName, KerberosConfig,
    Limits, PipelineName, PolicyEntry, ServiceAccountName, ServiceAccountsConfig, SocketConfig, UNMAPPED_UID,
    Use, VaultConfig,
    error::{Place, describe, nearest},
    fields::Fields,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    /// Where callers connect.
    socket: SocketConfig,
    /// Where the secrets are kept, and how the broker proves itself there.
    vault: Spanned<VaultConfig>,
    /// The broker's own Kerberos identity; needed when a grant is a Kerberos one.
    #[serde(default)]
    kerberos: Option<Spanned<KerberosConfig>>,
    /// What can be granted, by name.
    grants: BTreeMap<GrantName, Spanned<GrantConfig>>,
    /// How callers in Kubernetes prove which service account they are; without it no token counts.
    #[serde(default)]
    service_accounts: Option<Spanned<ServiceAccountsConfig>>,
    /// Who may have it. Nothing else is allowed. Taken again at SIGHUP.
    policy: Vec<Entry>,
    /// Where decisions are written.
    audit: AuditConfig,
    /// Where health and metrics are served.
    #[serde(default)]
    admin: AdminConfig,
    /// Rates, caps and margins.
    #[serde(default = "default_limits")]
    limits: Spanned<Limits>,
    /// What the process gives up before it does anything, and what happens where that is not possible.
    #[serde(default)]
    sandbox: Settings,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    /// Who: `uid`, `service_account`, or both; all that is said must be true.
    caller: Spanned<CallerKeys>,
    /// For which pipeline.
    pipeline: PipelineName,
    /// Which grants, and each in which use: `relay`, `session` or `token`.
    allow: BTreeMap<GrantName, Spanned<Use>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CallerKeys {
    /// The uid at connect, by the kernel's word. Never 0 and never 65534.
    #[serde(default)]
    uid: Option<Spanned<u32>>,
    /// The gid at connect, when it matters.
    #[serde(default)]
    gid: Option<u32>,
    /// The service account whose token each call carries, `namespace/name`; needs `service_accounts`.
    #[serde(default)]
    service_account: Option<ServiceAccountName>,
}

fn default_limits() -> Spanned<Limits> {
    let nowhere = serde_saphyr::Location::UNKNOWN;
    Spanned::new(Limits::default(), nowhere, nowhere)
}

/// A duration in words: `60s`, `5m`, `1h 30m`.
pub(super) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text)
        .map_err(|_| D::Error::custom(format!("{text:?} is no duration; write `60s`, `5m` or `1h 30m`")))
}

pub(super) fn parse(text: &str, file: &Path) -> Result<Config, ConfigError> {
    let wrong = |place: Place, problem: String| ConfigError::Wrong { file: file.to_owned(), place, problem };
    let options = serde_saphyr::options! { with_snippet: false, strict_booleans: true };
    let document: Document = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let place = error.location().map_or(Place { line: 1, column: 1 }, Place::from);
        wrong(place, describe(&error))
    })?;
    document.check().map_err(|(place, problem)| wrong(place, problem))
}

type Wrong = (Place, String);

impl Document {
    fn check(self) -> Result<Config, Wrong> {
        for (name, grant) in &self.grants {
            self.check_grant(name, &grant.value).map_err(|problem| (grant.referenced.into(), problem))?;
        }
        self.check_fields()?;
        check_refresh(&self.vault.value).map_err(|problem| (self.vault.referenced.into(), problem))?;
        if let Some(accounts) = &self.service_accounts {
            check_accounts(&accounts.value).map_err(|problem| (accounts.referenced.into(), problem))?;
        }
        for entry in &self.policy {
            self.check_caller(&entry.caller)?;
            self.check_entry(entry)?;
        }
        check_limits(&self.limits.value).map_err(|problem| (self.limits.referenced.into(), problem))?;
        Ok(Config {
            file: PathBuf::new(),
            socket: self.socket,
            vault: self.vault.value,
            kerberos: self.kerberos.map(|kerberos| kerberos.value),
            grants: self.grants.into_iter().map(|(name, grant)| (name, grant.value)).collect(),
            service_accounts: self.service_accounts.map(|accounts| accounts.value),
            policy: self.policy.into_iter().map(Entry::into_policy).collect(),
            audit: self.audit,
            admin: self.admin,
            limits: self.limits.value,
            sandbox: self.sandbox,
        })
    }

    /// A Vault field is a setting, which may be shown, or a secret, which never is.
    fn check_fields(&self) -> Result<(), Wrong> {
        let kerberos = self.kerberos.iter().map(|k| (Fields::of_kerberos(&k.value), k.referenced));
        let grants = self.grants.values().map(|g| (Fields::of_grant(&g.value), g.referenced));
        let all: Vec<_> = kerberos.chain(grants).collect();
        let audit = Fields::of_audit(&self.audit);
        for (fields, place) in &all {
            let others = all.iter().map(|(fields, _)| fields).chain([&audit]);
            if let Some(problem) = fields.clash(others) {
                return Err(((*place).into(), problem));
            }
        }
        Ok(())
    }

    fn check_grant(&self, name: &GrantName, grant: &GrantConfig) -> Result<(), String> {
        match grant {
            GrantConfig::Kerberos(_) if self.kerberos.is_none() => Err(format!(
                "grant `{name}` needs the top-level section `kerberos`, which is missing; add it"
            )),
            GrantConfig::Kerberos(_) => Ok(()),
            GrantConfig::Snowflake(snowflake) => {
                if snowflake.user_key.is_some() == snowflake.user.is_some() {
                    return Err(format!(
                        "grant `{name}` needs exactly one of `user_key` (a Vault field) and `user` (the name itself)"
                    ));
                }
                for (key, empty) in
                    [("roles", snowflake.roles.is_empty()), ("warehouses", snowflake.warehouses.is_empty())]
                {
                    if empty {
                        return Err(format!("grant `{name}` allows no {key}; list at least one"));
                    }
                }
                Ok(())
            }
        }
    }

    fn check_caller(&self, caller: &Spanned<CallerKeys>) -> Result<(), Wrong> {
        let wrong = |problem: &str| Err((caller.referenced.into(), problem.to_owned()));
        let CallerKeys { uid, service_account, .. } = &caller.value;
        if uid.is_none() && service_account.is_none() {
            return wrong("this caller could be anybody; say `uid`, `service_account` or both");
        }
        if service_account.is_some() && self.service_accounts.is_none() {
            return wrong(
                "`service_account` needs the top-level section `service_accounts`, which is missing; add it",
            );
        }
        let Some(uid) = uid else { return Ok(()) };
        let who = match uid.value {
            0 => Some("root, which no policy can bound"),
            UNMAPPED_UID => Some("whoever has no uid of its own here"),
            _ => None,
        };
        if let Some(who) = who {
            let problem = format!("uid {} is {who}; run the caller under a uid of its own", uid.value);
            return Err((uid.referenced.into(), problem));
        }
        Ok(())
    }

    fn check_entry(&self, entry: &Entry) -> Result<(), Wrong> {
        for (name, use_) in &entry.allow {
            let place = Place::from(use_.referenced);
            let Some(grant) = self.grants.get(name) else {
                let hint = nearest(name.as_str(), self.grants.keys().map(GrantName::as_str));
                return Err((
                    place,
                    format!("policy for `{}` allows the unknown grant `{name}`{hint}", entry.pipeline),
                ));
            };
            let right = grant.value.uses();
            if !right.contains(&use_.value) {
                let words: Vec<&str> = right.iter().map(|u| u.as_str()).collect();
                return Err((
                    place,
                    format!(
                        "grant `{name}` cannot be used as `{}`; write {}",
                        use_.value.as_str(),
                        words.join(" or ")
                    ),
                ));
            }
        }
        Ok(())
    }
}

impl Entry {
    fn into_policy(self) -> PolicyEntry {
        PolicyEntry {
            caller: CallerMatch {
                uid: self.caller.value.uid.map(|uid| uid.value),
                gid: self.caller.value.gid,
                service_account: self.caller.value.service_account,
            },
            pipeline: self.pipeline,
            allow: self.allow.into_iter().map(|(grant, use_)| (grant, use_.value)).collect(),
        }
    }
}

fn check_refresh(vault: &VaultConfig) -> Result<(), String> {
    let refresh = vault.secret.refresh;
    if (Duration::from_secs(1)..=Duration::from_hours(24)).contains(&refresh) {
        return Ok(());
    }
    Err("`refresh` is how often Vault is asked for a new version: write 1 second to 24 hours".to_owned())
}

fn check_accounts(accounts: &ServiceAccountsConfig) -> Result<(), String> {
    for (key, text) in [("issuer", &accounts.issuer), ("audience", &accounts.audience)] {
        if text.is_empty() || text.len() > 512 || text.contains(|c: char| c.is_control() || c.is_whitespace())
        {
            return Err(format!(
                "`{key}` is what the tokens' claim must read: 1 to 512 characters without spaces"
            ));
        }
    }
    if (Duration::from_mins(10)..=Duration::from_hours(24)).contains(&accounts.max_life) {
        return Ok(());
    }
    Err("`max_life` is the longest life of a token: write 10 minutes to 24 hours".to_owned())
}

fn check_limits(limits: &Limits) -> Result<(), String> {
    let zero = [
        ("calls_per_second", limits.calls_per_second == 0),
        ("connections_per_uid", limits.connections_per_uid == 0),
        ("sessions_per_uid", limits.sessions_per_uid == 0),
        ("relays_per_uid", limits.relays_per_uid == 0),
        ("watches_per_uid", limits.watches_per_uid == 0),
    ];
    if let Some((key, _)) = zero.iter().find(|(_, is_zero)| *is_zero) {
        return Err(format!("`{key}` is 0, so nobody would be served; write at least 1"));
    }
    if limits.drain > Duration::from_hours(1) {
        return Err("`drain` is longer than an hour; nobody waits that long for a stop".to_owned());
    }
    Ok(())
}
