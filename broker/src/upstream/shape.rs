//! What a setting from Vault must look like before it is used, sent or shown.
//!
//! Somebody who writes fields by hand swaps two of them one day. A secret in the place of a setting must then be
//! refused unseen: the shapes are narrow, and no message repeats the value.

/// The kinds of settings that are kept in Vault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// An application's id in Entra.
    Application,
    /// A directory's id, or one of its domains.
    Tenant,
    /// The name of a server.
    Host,
    /// A Kerberos principal, with or without its realm.
    Principal,
    /// A user's login name in Snowflake.
    SnowflakeUser,
}

/// Without an `@` a longer word is no name that people give, and may well be a key.
const LONGEST_WORD: usize = 64;
const LONGEST: usize = 255;
/// A host without a domain: what NetBIOS allows.
const LONGEST_BARE_HOST: usize = 15;

impl Shape {
    pub(super) fn fits(self, text: &str) -> bool {
        match self {
            Self::Application => is_guid(text),
            Self::Tenant => is_guid(text) || (text.contains('.') && is_domain(text)),
            Self::Host => is_domain(text) && (text.contains('.') || text.len() <= LONGEST_BARE_HOST),
            Self::Principal => is_principal(text),
            Self::SnowflakeUser => {
                let limit = if text.contains('@') { LONGEST } else { LONGEST_WORD };
                !text.is_empty() && text.len() <= limit && text.chars().all(|c| is_word(c) || c == '@')
            }
        }
    }

    /// What it should read like, for messages.
    pub(super) fn reads(self) -> &'static str {
        match self {
            Self::Application => "an application id (a GUID)",
            Self::Tenant => "a tenant (its GUID or one of its domains)",
            Self::Host => "a host name",
            Self::Principal => "a Kerberos principal (`name@REALM`)",
            Self::SnowflakeUser => "a Snowflake user",
        }
    }
}

fn is_guid(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12])
        && groups.iter().all(|group| group.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn is_domain(text: &str) -> bool {
    let label = |part: &str| {
        (1..=63).contains(&part.len())
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

fn is_principal(text: &str) -> bool {
    let (name, realm) = text.split_once('@').map_or((text, None), |(name, realm)| (name, Some(realm)));
    let part = |part: &str| (1..=LONGEST_WORD).contains(&part.len()) && part.chars().all(is_word);
    let (primary, instance) = name.split_once('/').map_or((name, None), |(p, i)| (p, Some(i)));
    let limit = if realm.is_some() { LONGEST } else { LONGEST_WORD };
    text.len() <= limit
        && part(primary)
        && instance.is_none_or(|instance| is_domain(instance) || part(instance))
        && realm.is_none_or(is_domain)
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '$')
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUID: &str = "2b1d8f0a-6c11-4f0e-8f39-0d6f3f0c9a01";

    #[test]
    fn each_shape_takes_what_its_owner_writes() {
        for (shape, good) in [
            (Shape::Application, GUID),
            (Shape::Tenant, GUID),
            (Shape::Tenant, "contoso.onmicrosoft.com"),
            (Shape::Host, "sql01.corp.example.com"),
            (Shape::Host, "localhost"),
            (Shape::Host, "SQL_01"),
            (Shape::Host, "10.0.0.7"),
            (Shape::Principal, "svc_loader@CORP.EXAMPLE.COM"),
            (Shape::Principal, "svc_loader"),
            (Shape::Principal, "host/app01.corp.example.com@CORP.EXAMPLE.COM"),
            (Shape::Principal, "LOADER$@CORP"),
            (Shape::SnowflakeUser, "SVC_LOADER"),
            (Shape::SnowflakeUser, "svc.loader@corp.example.com"),
        ] {
            assert!(shape.fits(good), "{shape:?} refuses {good:?}");
        }
    }

    #[test]
    fn no_shape_takes_a_secret_in_the_place_of_a_setting() {
        let keytab = "BQIAAABRAAEADUtFWUZFUlJZLlRFU1QACnN2Y19sb2FkZXIAAAABZ".repeat(2);
        let secrets = [
            "cs~8Q~one.two_three-four",
            "abc8Q~ZyXwVuTsRqPoNmLkJiHgFeDcBa0987654321",
            "hvs.CAESIJ~x",
            "p&ss w%rd",
            "-----BEGIN PRIVATE KEY-----",
            "Tr0ub4dor&3",
            &keytab,
            &format!("{keytab}+/=="),
            "",
            "a\nb",
        ];
        for shape in [Shape::Application, Shape::Tenant, Shape::Host, Shape::Principal, Shape::SnowflakeUser]
        {
            for secret in secrets {
                assert!(!shape.fits(secret), "{shape:?} takes {secret:?}");
            }
        }
        let key = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0";
        assert!(!Shape::Host.fits(key) && !Shape::Principal.fits(key) && !Shape::SnowflakeUser.fits(key));
    }
}
