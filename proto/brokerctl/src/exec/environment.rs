//! The settings of a grant as environment variables, under the names that Snowflake's own tools use.

use keyferry_proto::v1::settings::Settings;
use tonic::transport::Uri;

use crate::held::Kind;

/// Account, user, host and port are the grant's; role and warehouse only where the caller has not set its own.
pub(super) fn variables(
    settings: &Settings,
    kind: Kind,
    set: impl Fn(&str) -> bool,
) -> Vec<(&'static str, String)> {
    let Settings::Snowflake(snowflake) = settings else { return Vec::new() };
    let mut variables = vec![
        ("SNOWFLAKE_ACCOUNT", snowflake.account.clone()),
        ("SNOWFLAKE_USER", snowflake.user.clone()),
        ("SNOWFLAKE_AUTHENTICATOR", kind.authenticator().to_owned()),
    ];
    if let Ok(url) = snowflake.url.parse::<Uri>()
        && let Some(host) = url.host()
    {
        variables.push(("SNOWFLAKE_HOST", host.to_owned()));
        variables.push(("SNOWFLAKE_PORT", url.port_u16().unwrap_or(443).to_string()));
    }
    for (name, allowed) in
        [("SNOWFLAKE_ROLE", &snowflake.roles), ("SNOWFLAKE_WAREHOUSE", &snowflake.warehouses)]
    {
        if let Some(first) = allowed.first().filter(|_| !set(name)) {
            variables.push((name, first.clone()));
        }
    }
    variables
}

/// Reads the name of a variable.
pub(super) fn name(text: &str) -> Result<String, String> {
    let first = text.chars().next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    if first && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is no name of an environment variable: letters, digits and `_`"))
    }
}

#[cfg(test)]
mod tests {
    use keyferry_proto::v1::{SnowflakeSettings, SqlServerSettings};

    use super::*;

    #[test]
    fn what_a_driver_needs_is_there_and_what_the_caller_chose_stays() {
        let settings = Settings::Snowflake(SnowflakeSettings {
            account: "myorg-acc".to_owned(),
            url: "https://myorg-acc.snowflakecomputing.com".to_owned(),
            user: "SVC_DBT".to_owned(),
            roles: vec!["REPORTER".to_owned(), "READER".to_owned()],
            warehouses: vec!["WH".to_owned()],
        });
        let found = variables(&settings, Kind::OAuth, |name| name == "SNOWFLAKE_WAREHOUSE");
        let expected = [
            ("SNOWFLAKE_ACCOUNT", "myorg-acc"),
            ("SNOWFLAKE_USER", "SVC_DBT"),
            ("SNOWFLAKE_AUTHENTICATOR", "oauth"),
            ("SNOWFLAKE_HOST", "myorg-acc.snowflakecomputing.com"),
            ("SNOWFLAKE_PORT", "443"),
            ("SNOWFLAKE_ROLE", "REPORTER"),
        ];
        assert_eq!(found.iter().map(|(name, value)| (*name, value.as_str())).collect::<Vec<_>>(), expected);
        let other = Settings::SqlServer(SqlServerSettings::default());
        assert!(variables(&other, Kind::OAuth, |_| false).is_empty());
    }

    #[test]
    fn a_name_that_is_none_is_refused() {
        assert!(["TOKEN", "_x9"].iter().all(|text| name(text).is_ok()));
        assert!(["", "9A", "A=B", "A B", "Ä"].iter().all(|text| name(text).is_err()));
    }
}
