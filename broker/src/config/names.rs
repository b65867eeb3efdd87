//! Names that cannot be wrong: parsed once, checked for length and alphabet, then passed as types.

use std::{fmt, str::FromStr, sync::Arc};

use serde::Deserialize;

/// Why a text is not a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing was given.
    #[error("an empty {what} was given; name it with 1 to {max} characters")]
    Empty {
        /// What the text should have named.
        what: &'static str,
        /// The longest name allowed, in bytes.
        max: usize,
    },
    /// The text is too long; it is not repeated.
    #[error("a {what} of {found} bytes was given; the longest allowed is {max}")]
    TooLong {
        /// What the text should have named.
        what: &'static str,
        /// Its length in bytes.
        found: usize,
        /// The longest name allowed, in bytes.
        max: usize,
    },
    /// The text holds a character that the name may not have.
    #[error("{found:?} at character {position} does not belong in a {what}; {allowed}")]
    BadCharacter {
        /// What the text should have named.
        what: &'static str,
        /// The first character that does not belong.
        found: char,
        /// Where it is, counted from 1.
        position: usize,
        /// What is allowed.
        allowed: &'static str,
    },
    /// The text is not two names with a slash between them.
    #[error("a {what} has two parts; {allowed}")]
    NotTwoParts {
        /// What the text should have named.
        what: &'static str,
        /// What is allowed.
        allowed: &'static str,
    },
    /// The text climbs out of its folder.
    #[error("a {what} may not have an empty part, `.` or `..` between slashes")]
    Climbs {
        /// What the text should have named.
        what: &'static str,
    },
}

fn check(
    what: &'static str,
    text: &str,
    max: usize,
    allowed: &'static str,
    belongs: impl Fn(usize, char) -> bool,
) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty { what, max });
    }
    if text.len() > max {
        return Err(NameError::TooLong { what, found: text.len(), max });
    }
    match text.chars().enumerate().find(|&(index, c)| !belongs(index, c)) {
        Some((index, found)) => Err(NameError::BadCharacter { what, found, position: index + 1, allowed }),
        None => Ok(()),
    }
}

fn check_slug(what: &'static str, text: &str) -> Result<(), NameError> {
    check(
        what,
        text,
        64,
        "use letters, digits, `-`, `_` and `.`, and begin with a letter or digit",
        |index, c| c.is_ascii_alphanumeric() || (index > 0 && matches!(c, '-' | '_' | '.')),
    )?;
    if text.contains("..") { Err(NameError::Climbs { what }) } else { Ok(()) }
}

fn check_line(what: &'static str, text: &str) -> Result<(), NameError> {
    check(what, text, 255, "use printable characters on one line", |_, c| !c.is_control())
}

fn check_path(what: &'static str, text: &str) -> Result<(), NameError> {
    check(what, text, 512, "use letters, digits, `-`, `_`, `.` and `/`", |_, c| {
        c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/')
    })?;
    if text.split('/').any(|part| matches!(part, "" | "." | "..")) {
        Err(NameError::Climbs { what })
    } else {
        Ok(())
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $check:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// A name that stands in the source and is known to be well formed.
            #[allow(dead_code, reason = "not every name has a default")]
            pub(super) fn constant(text: &'static str) -> Self {
                Self(text.to_owned())
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                $check($what, text)?;
                Ok(Self(text.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// The name of a grant: what a caller asks for and what policy is written about.
    GrantName, "grant name", check_slug
);
name!(
    /// The name of a pipeline: a named set of tables with one source and one target.
    PipelineName, "pipeline name", check_slug
);
name!(
    /// A caller's own name for what it is doing; it appears in the audit log.
    RunId, "run id", check_slug
);
name!(
    /// The name of a field of the Vault secret.
    VaultField, "Vault field name", check_line
);
name!(
    /// A path inside Vault, without leading or trailing slash.
    VaultPath, "Vault path", check_path
);
name!(
    /// The name of a Snowflake account, user, role or warehouse, as Snowflake prints it.
    SnowflakeName, "Snowflake name", check_line
);

/// A service account of Kubernetes, `namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct ServiceAccountName(Arc<str>);

impl ServiceAccountName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ServiceAccountName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        const WHAT: &str = "service account";
        const ALLOWED: &str = "write `namespace/name`, each of lower-case letters, digits, `-` and `.`";
        check(WHAT, text, 320, ALLOWED, |_, c| {
            c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.' | '/')
        })?;
        let mut parts = text.split('/');
        let whole = |part: Option<&str>| part.is_some_and(|part| !matches!(part, "" | "." | ".."));
        if whole(parts.next()) && whole(parts.next()) && parts.next().is_none() {
            Ok(Self(text.into()))
        } else {
            Err(NameError::NotTwoParts { what: WHAT, allowed: ALLOWED })
        }
    }
}

impl TryFrom<String> for ServiceAccountName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl fmt::Display for ServiceAccountName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_that_climb_break_lines_or_never_end_are_refused() {
        let long = "a".repeat(1 << 20);
        for bad in ["", "../etc/passwd", "a..b", "a\0b", "a\nb", "-x", "a b", "ä", long.as_str()] {
            let error = bad.parse::<GrantName>().unwrap_err().to_string();
            assert!(error.len() < 200, "an error must not repeat a megabyte");
            assert!(bad.parse::<PipelineName>().is_err(), "{bad:?}");
        }
        for good in ["sales-sql", "analytics", "A.1_x", "0"] {
            assert_eq!(good.parse::<GrantName>().unwrap().as_str(), good);
        }
    }

    #[test]
    fn a_service_account_is_a_namespace_and_a_name() {
        for bad in ["", "dbt", "a/", "/a", "a/b/c", "a/..", "A/b", "a b/c", "a/b\n", "a\0/b"] {
            assert!(bad.parse::<ServiceAccountName>().is_err(), "{bad:?}");
        }
        assert_eq!("analytics/dbt".parse::<ServiceAccountName>().unwrap().as_str(), "analytics/dbt");
    }

    #[test]
    fn vault_paths_stay_where_they_are() {
        for bad in ["/a", "a/", "a//b", "a/../b", "./a", "a?b", "a\nb"] {
            assert!(bad.parse::<VaultPath>().is_err(), "{bad:?}");
        }
        assert!("pipelines/mssql_to_snowflake".parse::<VaultPath>().is_ok());
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_is_a_safe_file_name(text in ".*") {
            if let Ok(name) = text.parse::<GrantName>() {
                prop_assert!(name.as_str().len() <= 64);
                prop_assert!(!name.as_str().contains(['/', '\\', '\0', '\n']));
                prop_assert!(name.as_str() != "." && name.as_str() != "..");
            }
        }
    }
}
