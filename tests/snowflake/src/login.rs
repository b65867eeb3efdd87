//! `/session/v1/login-request`: who may log in, with which role, and what the driver is told.

use std::{collections::BTreeMap, sync::Arc};

use keyferry_sql::Identity;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    User,
    copy::StageHook,
    keypair,
    reply::Refusal,
    server::Shared,
    session::{Client, Session},
};

#[derive(Deserialize)]
struct Body {
    data: Data,
}

#[derive(Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
struct Data {
    #[serde(default)]
    account_name: String,
    login_name: Option<String>,
    #[serde(default)]
    authenticator: String,
    #[serde(default)]
    token: String,
    #[serde(default)]
    session_parameters: BTreeMap<String, Value>,
    #[serde(default)]
    client_capabilities: BTreeMap<String, Value>,
    #[serde(default)]
    client_environment: BTreeMap<String, Value>,
    client_app_id: Option<String>,
    client_app_version: Option<String>,
}

/// Answers a login; `query` holds databaseName, schemaName, warehouse and roleName.
pub(crate) async fn login(
    server: &Arc<Shared>,
    query: &BTreeMap<String, String>,
    body: &[u8],
) -> Result<Value, Refusal> {
    let body: Body = serde_json::from_slice(body)
        .map_err(|_| Refusal::new("390400", "08001", "The login request's body is not readable."))?;
    let data = body.data;
    if !data.account_name.eq_ignore_ascii_case(&server.config.account) {
        return Err(Refusal::new("390100", "08001", "Incorrect username or password was specified."));
    }
    let (user, allowed) = authenticate(server, &data).await?;
    let role = choose_role(user, query.get("roleName"), allowed.as_deref())?;
    let warehouse = choose_warehouse(user, query.get("warehouse"))?;
    // The evaluator checks no privileges of a session without a role.
    let admin = server.config.admin_roles.iter().any(|name| name.eq_ignore_ascii_case(&role));
    let identity = Identity {
        user: user.name.to_uppercase(),
        role: (!admin).then(|| role.clone()),
        warehouse,
        database: query.get("databaseName").map(|name| identifier(name)),
        schema: query.get("schemaName").map(|name| identifier(name)),
        application: data.client_app_id.clone().unwrap_or_default(),
        host: String::new(),
    };
    let mut sql = keyferry_sql::Session::new(&server.config.database, identity);
    let hook = Arc::new(StageHook::new(server));
    sql.set_stage_reader(hook.clone());
    for (name, value) in &data.session_parameters {
        set_parameter(&mut sql, name, value).await;
    }
    let identity = sql.identity().clone();
    hook.set_identity(&identity);
    let client = Client {
        id: data.client_app_id.unwrap_or_default(),
        version: data.client_app_version.unwrap_or_default(),
        smk_as_text: data.client_capabilities.get("SMK_ID_AS_STRING").is_some_and(truthy),
    };
    let parameters = crate::parameters::listed(&sql, &data.session_parameters);
    let session = Arc::new(Session::new(sql, &identity.user, hook, client, data.session_parameters));
    let id = session.id;
    let tokens = server.sessions.open(session);
    Ok(json!({
        "masterToken": tokens.master,
        "token": tokens.session,
        "validityInSeconds": server.config.session_ttl.as_secs(),
        "masterValidityInSeconds": server.config.master_ttl.as_secs(),
        "displayUserName": identity.user,
        "serverVersion": server.config.database.settings().version,
        "firstLogin": false, "remMeToken": null, "remMeValidityInSeconds": 0, "healthCheckInterval": 45,
        "newClientForUpgrade": null, "sessionId": id, "parameters": parameters,
        "sessionInfo": {
            "databaseName": identity.database, "schemaName": identity.schema,
            "warehouseName": identity.warehouse, "roleName": role,
        },
        "idToken": null, "idTokenValidityInSeconds": 0, "responseData": null, "mfaToken": null,
        "mfaTokenValidityInSeconds": 0,
    }))
}

/// Who it is, and which roles the credential allows (`None`: all of the user's).
async fn authenticate<'a>(
    server: &'a Shared,
    data: &Data,
) -> Result<(&'a User, Option<Vec<String>>), Refusal> {
    let users = &server.config.users;
    let _ = &data.client_environment;
    match data.authenticator.to_uppercase().as_str() {
        "OAUTH" => {
            let subject = server.oauth.check(&data.token).await?;
            let unknown = || Refusal::new("390303", "08001", "Invalid OAuth access token.");
            let user = users
                .iter()
                .find(|user| user.name.eq_ignore_ascii_case(&subject.user))
                .ok_or_else(unknown)?;
            let claimed = data.login_name.as_deref().unwrap_or_default();
            if !claimed.is_empty() && !claimed.eq_ignore_ascii_case(&user.name) {
                return Err(Refusal::new(
                    "390309",
                    "08001",
                    "The user you were trying to authenticate as differs from the user tied to the access token.",
                ));
            }
            Ok((user, subject.roles))
        }
        "SNOWFLAKE_JWT" => Ok((keypair::check(&data.token, &server.config.account, users)?, None)),
        "" | "SNOWFLAKE" => {
            Err(Refusal::new("390100", "08001", "Incorrect username or password was specified."))
        }
        other => Err(Refusal::new("390400", "08001", format!("The authenticator '{other}' is not carried."))),
    }
}

fn choose_role(user: &User, asked: Option<&String>, allowed: Option<&[String]>) -> Result<String, Refusal> {
    let role = asked.map_or_else(|| user.default_role.clone(), |name| identifier(name));
    if !user.roles.iter().any(|granted| granted.eq_ignore_ascii_case(&role)) {
        return Err(Refusal::new(
            "390189",
            "08001",
            format!(
                "Role '{role}' specified in the connect string does not exist or not authorized. Contact your local \
                 system administrator, or attempt to login with another role, e.g. PUBLIC."
            ),
        ));
    }
    if allowed.is_some_and(|roles| !roles.iter().any(|name| name.eq_ignore_ascii_case(&role))) {
        return Err(Refusal::new(
            "390317",
            "08001",
            format!(
                "The role requested in the connection or the default role if none was requested in the connection \
                 ('{role}') is not listed in the Access Token or was filtered. Please specify another role, or \
                 contact your OAuth Authorization server administrator."
            ),
        ));
    }
    Ok(role.to_uppercase())
}

fn choose_warehouse(user: &User, asked: Option<&String>) -> Result<Option<String>, Refusal> {
    let Some(name) = asked.map(|name| identifier(name)) else { return Ok(user.warehouses.first().cloned()) };
    if user.warehouses.iter().any(|granted| granted.eq_ignore_ascii_case(&name)) {
        return Ok(Some(name));
    }
    Err(Refusal::new(
        "390201",
        "08001",
        format!("The requested warehouse '{name}' does not exist or not authorized."),
    ))
}

/// A name from a connect string: upper case unless quoted.
fn identifier(name: &str) -> String {
    match name.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(quoted) => quoted.replace("\"\"", "\""),
        None => name.to_uppercase(),
    }
}

/// Session parameters of the login are ALTER SESSION; one that the evaluator does not carry is passed over, as
/// drivers send many that concern only themselves.
async fn set_parameter(sql: &mut keyferry_sql::Session, name: &str, value: &Value) {
    let plain = name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
    let literal = match value {
        Value::Bool(value) => value.to_string(),
        Value::Number(value) => value.to_string(),
        Value::String(value) if value.eq_ignore_ascii_case("true") || value.eq_ignore_ascii_case("false") => {
            value.clone()
        }
        Value::String(value) => crate::lexer::quote_text(value),
        _ => return,
    };
    if !plain {
        return;
    }
    for answer in sql.execute(&format!("ALTER SESSION SET {name} = {literal}")).await {
        if let Err(error) = answer {
            tracing::debug!(name, %error, "session parameter passed over");
        }
    }
}

fn truthy(value: &Value) -> bool {
    value.as_bool().unwrap_or_else(|| value.as_str().is_some_and(|text| text.eq_ignore_ascii_case("true")))
}
