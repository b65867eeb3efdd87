//! Whether a session's role (Snowflake) or login (SQL Server) may use an object.

use crate::{
    database::Database,
    error::SqlError,
    session::Identity,
    state::{Name, Object, State},
    types::Dialect,
};

/// Who is asked for: the role of Snowflake, the login of SQL Server. None is not checked.
pub(crate) fn grantee<'i>(db: &Database, identity: &'i Identity) -> Option<&'i str> {
    match db.dialect() {
        Dialect::Snowflake => identity.role.as_deref(),
        Dialect::SqlServer => Some(identity.user.as_str()).filter(|_| db.checks_permissions()),
    }
}

/// Refuses unless one of the privileges is there. An object that the role may not even see does not exist for it.
pub(crate) fn authorize(
    db: &Database,
    identity: &Identity,
    state: &State,
    object: &Object,
    privileges: &[&str],
) -> Result<(), SqlError> {
    let name = object.name();
    if db.dialect() == Dialect::SqlServer && state.grants.deny(&identity.user, privileges, &name.to_string())
    {
        return Err(denied(name, privileges));
    }
    let Some(grantee) = grantee(db, identity) else { return Ok(()) };
    if name.schema.contains('#')
        || object
            .owner()
            .is_some_and(|owner| state.grants.effective(grantee).iter().any(|role| role == owner))
    {
        return Ok(());
    }
    let shown = name.to_string();
    if state.grants.allow(grantee, privileges, &shown) {
        return Ok(());
    }
    Err(match db.dialect() {
        Dialect::Snowflake if state.grants.sees(grantee, &shown) => insufficient("table", &name.name),
        Dialect::Snowflake => SqlError::snowflake(
            2_003,
            "02000",
            format!("SQL compilation error:\nObject '{shown}' does not exist or not authorized."),
        ),
        Dialect::SqlServer => denied(name, privileges),
    })
}

/// SQL Server's refusal.
fn denied(name: &Name, privileges: &[&str]) -> SqlError {
    SqlError::mssql(
        229,
        format!(
            "The {} permission was denied on the object '{}', database '{}', schema '{}'.",
            privileges.first().copied().unwrap_or("SELECT"),
            name.name,
            name.database,
            name.schema
        ),
    )
    .with_class(14)
    .with_state(5)
}

/// Snowflake's refusal of something that the role can see.
pub(crate) fn insufficient(kind: &str, name: &str) -> SqlError {
    SqlError::snowflake(
        3_001,
        "42501",
        format!("SQL access control error:\nInsufficient privileges to operate on {kind} '{name}'"),
    )
}

/// Whether the role may make something in a schema.
pub(crate) fn may_create(
    db: &Database,
    identity: &Identity,
    state: &State,
    name: &Name,
    privilege: &str,
) -> Result<(), SqlError> {
    let Some(grantee) = grantee(db, identity) else { return Ok(()) };
    if name.schema.contains('#') {
        return Ok(());
    }
    let schema = format!("{}.{}", name.database, name.schema);
    let owner = state
        .schemas
        .get(&(name.database.clone(), name.schema.clone()))
        .and_then(|schema| schema.owner.clone());
    if owner.is_some_and(|owner| state.grants.effective(grantee).contains(&owner))
        || state.grants.allow(grantee, &[privilege], &schema)
    {
        return Ok(());
    }
    Err(match db.dialect() {
        Dialect::Snowflake => insufficient("schema", &name.schema),
        Dialect::SqlServer => {
            SqlError::mssql(262, format!("{privilege} permission denied in database '{}'.", name.database))
                .with_class(14)
        }
    })
}
