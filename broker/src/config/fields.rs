//! Which Vault fields hold settings and which hold secrets: a field is never both.

use super::{AuditConfig, GrantConfig, KerberosConfig, SnowflakeLoginConfig, VaultField};

/// The Vault fields that one section names, each with its key in the configuration.
pub(super) struct Fields<'a> {
    settings: Vec<(&'static str, &'a VaultField)>,
    secrets: Vec<(&'static str, &'a VaultField)>,
}

impl<'a> Fields<'a> {
    pub(super) fn of_kerberos(config: &'a KerberosConfig) -> Self {
        Self {
            settings: vec![("principal_key", &config.principal_key)],
            secrets: vec![("keytab_key", &config.keytab_key)],
        }
    }

    pub(super) fn of_audit(config: &'a AuditConfig) -> Self {
        Self {
            settings: Vec::new(),
            secrets: config.signing_key.iter().map(|key| ("signing_key", key)).collect(),
        }
    }

    pub(super) fn of_grant(config: &'a GrantConfig) -> Self {
        match config {
            GrantConfig::Kerberos(kerberos) => Self {
                settings: kerberos.host_key.iter().map(|key| ("host_key", key)).collect(),
                secrets: Vec::new(),
            },
            GrantConfig::Snowflake(snowflake) => {
                let SnowflakeLoginConfig::Entra(entra) = &snowflake.login;
                let mut settings =
                    vec![("tenant_key", &entra.tenant_key), ("client_id_key", &entra.client_id_key)];
                settings.extend(snowflake.user_key.iter().map(|key| ("user_key", key)));
                Self { settings, secrets: vec![("client_secret_key", &entra.client_secret_key)] }
            }
        }
    }

    /// What is wrong when one of these settings is a secret of any section.
    pub(super) fn clash<'b>(&self, mut all: impl Iterator<Item = &'b Fields<'a>>) -> Option<String>
    where
        'a: 'b,
    {
        all.find_map(|other| {
            self.settings.iter().find_map(|(setting, field)| {
                let (secret, _) = other.secrets.iter().find(|(_, name)| name == field)?;
                Some(format!(
                    "`{setting}` names the Vault field `{field}`, which `{secret}` names as a secret: a setting may be \
                     shown, a secret never is; give each a field of its own"
                ))
            })
        })
    }
}
