//! No secret comes by the environment: every process of the same user can read it, and children inherit it.

/// Variables that carry a secret by their definition in the tools that read them.
const SECRETS: [&str; 9] = [
    "VAULT_TOKEN",
    "VAULT_SECRET_ID",
    "VAULT_ROLE_SECRET_ID",
    "AZURE_CLIENT_SECRET",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "SNOWFLAKE_PASSWORD",
    "SNOWFLAKE_PRIVATE_KEY",
    "PRIVATE_KEY_PASSPHRASE",
];

/// A secret stands where others can read it. Its value is not repeated.
#[derive(Debug, thiserror::Error)]
#[error(
    "the environment holds `{name}`, which every process of this user can read; take it out of the environment, consider it \
     known, and deliver secrets as files (`vault.auth`) or in Vault"
)]
pub struct SecretInEnvironment {
    name: &'static str,
}

/// Refuses an environment with a secret in it. `names` are the variables that are set.
pub fn check(names: impl Iterator<Item = String>) -> Result<(), SecretInEnvironment> {
    for found in names {
        if let Some(name) = SECRETS.into_iter().find(|name| *name == found) {
            return Err(SecretInEnvironment { name });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_in_the_environment_is_refused_by_name() {
        let names =
            |names: &[&str]| check(names.iter().map(ToString::to_string).collect::<Vec<_>>().into_iter());
        assert!(names(&["PATH", "KEYFERRY_LOG", "VAULT_ADDR"]).is_ok());
        for name in SECRETS {
            let error = names(&["PATH", name]).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }
}
