//! Who may do what: Snowflake's roles and SQL Server's permissions, as far as a loader meets them.

use std::collections::BTreeSet;

/// One privilege on one object, schema or database; names as [`crate::Database::grant`] was given them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Grant {
    pub grantee: String,
    /// SELECT, INSERT, UPDATE, DELETE, TRUNCATE, USAGE, CREATE TABLE, OWNERSHIP, CONTROL …
    pub privilege: String,
    /// `DATABASE`, `DATABASE.SCHEMA` or `DATABASE.SCHEMA.OBJECT`; a schema's grant on all and future tables is
    /// `DATABASE.SCHEMA.*`; SQL Server's database-wide ones are `DATABASE.*`.
    pub object: String,
}

/// All grants. A grantee without any is checked against nothing only when it is an administrator.
#[derive(Debug, Clone, Default)]
pub(crate) struct Grants {
    pub all: BTreeSet<Grant>,
    /// What SQL Server's DENY takes away, whatever else grants it.
    pub denied: BTreeSet<Grant>,
    /// Roles or logins that may do everything. `None` in a session's role means the same.
    pub administrators: BTreeSet<String>,
    /// (role, member): the member role or user has all that the role has.
    pub members: BTreeSet<(String, String)>,
}

impl Grants {
    /// All roles that this one acts for, itself included.
    pub(crate) fn effective(&self, grantee: &str) -> Vec<String> {
        let mut roles = vec![grantee.to_owned(), "PUBLIC".to_owned()];
        let mut next = 0;
        while next < roles.len() {
            let current = roles[next].clone();
            for (role, member) in &self.members {
                if *member == current && !roles.contains(role) {
                    roles.push(role.clone());
                }
            }
            next += 1;
        }
        roles
    }

    /// Whether the grantee has one of these privileges on the object, directly or by a wildcard above it.
    pub(crate) fn allow(&self, grantee: &str, privileges: &[&str], object: &str) -> bool {
        let mut places = vec![object.to_owned()];
        let mut parent = object;
        while let Some((above, _)) = parent.rsplit_once('.') {
            places.push(format!("{above}.*"));
            parent = above;
        }
        self.effective(grantee).iter().any(|role| {
            self.administrators.contains(role)
                || self.all.iter().any(|grant| {
                    grant.grantee == *role
                        && places.contains(&grant.object)
                        && (privileges.contains(&grant.privilege.as_str())
                            || matches!(grant.privilege.as_str(), "OWNERSHIP" | "ALL" | "CONTROL"))
                })
        })
    }

    /// Whether one of these privileges on the object was denied to the grantee, to a role of its or to all.
    pub(crate) fn deny(&self, grantee: &str, privileges: &[&str], object: &str) -> bool {
        if self.denied.is_empty() || self.administrators.contains(grantee) {
            return false;
        }
        let above =
            |denied: &Grant| denied.object.strip_suffix('*').is_some_and(|above| object.starts_with(above));
        self.effective(grantee).iter().any(|role| {
            self.denied.iter().any(|denied| {
                denied.grantee.eq_ignore_ascii_case(role)
                    && (denied.object == object || above(denied))
                    && (privileges.contains(&denied.privilege.as_str())
                        || matches!(denied.privilege.as_str(), "ALL" | "CONTROL"))
            })
        })
    }

    /// Whether the grantee has any privilege at all on the object: otherwise it does not exist for it.
    pub(crate) fn sees(&self, grantee: &str, object: &str) -> bool {
        const ANY: &[&str] = &["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "USAGE"];
        self.allow(grantee, ANY, object)
    }
}
