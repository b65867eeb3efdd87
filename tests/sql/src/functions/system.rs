//! Functions that tell of the server, the session and the catalog.

use crate::{
    bind::{Binder, operators::exact},
    collation::Collation,
    error::SqlError,
    expr::Typed,
    functions::{Arguments, take},
    state::Object,
    types::{DataType, Length},
    value::Value,
};

fn int(value: i64) -> Typed {
    Typed::constant(Value::Int(value), DataType::Int)
}

fn name_type(binder: &Binder<'_>) -> DataType {
    if binder.is_snowflake() {
        DataType::String { length: DataType::SNOWFLAKE_DEFAULT_TEXT }
    } else {
        DataType::NVarChar { length: Length::Fixed(128), collation: binder.env.db.settings().collation }
    }
}

/// `@@` variables.
pub(crate) fn at_at(binder: &Binder<'_>, name: &str) -> Result<Typed, SqlError> {
    let facts = &binder.env.facts;
    let settings = binder.env.db.settings();
    let text = |text: &str| {
        Typed::constant(
            Value::text(text),
            DataType::NVarChar {
                length: Length::Fixed(text.len().max(1) as u16),
                collation: settings.collation,
            },
        )
    };
    Ok(match name.to_uppercase().as_str() {
        "@@VERSION" => text(&settings.version),
        "@@SERVERNAME" => text(&settings.server_name),
        "@@SERVICENAME" => text("MSSQLSERVER"),
        "@@LANGUAGE" => text("us_english"),
        "@@SPID" => Typed::constant(Value::Int(binder.env.session_id as i64), DataType::SmallInt),
        "@@ROWCOUNT" => int(facts.row_count),
        "@@ERROR" => int(facts.error),
        "@@TRANCOUNT" => int(facts.nesting),
        "@@FETCH_STATUS" => int(facts.fetch_status),
        "@@LOCK_TIMEOUT" => int(facts.lock_timeout),
        "@@OPTIONS" => int(5496),
        "@@NESTLEVEL" => int(i64::from(facts.level)),
        "@@CURSOR_ROWS" => int(facts.cursor_rows),
        "@@LANGID" | "@@PROCID" => int(0),
        "@@DATEFIRST" => Typed::constant(Value::Int(7), DataType::TinyInt),
        "@@MAX_PRECISION" => Typed::constant(Value::Int(38), DataType::TinyInt),
        "@@MICROSOFTVERSION" => int(0x1000_03E8),
        "@@TEXTSIZE" => int(-1),
        "@@IDENTITY" => Typed::constant(
            facts.identity.map_or(Value::Null, |value| {
                Value::Decimal(crate::decimal::Decimal::new(i128::from(value), 0))
            }),
            DataType::Decimal { precision: 38, scale: 0 },
        ),
        _ => {
            return Err(SqlError::mssql(137, format!("Must declare the scalar variable \"{name}\"."))
                .with_class(15)
                .with_state(2));
        }
    })
}

fn known_text(list: &[Typed], at: usize) -> Option<String> {
    match list.get(at).and_then(Typed::known) {
        Some(Value::Text(text)) => Some(text.lossy().into_owned()),
        _ => None,
    }
}

/// Splits `[a].[b].[c]` into its parts.
pub(crate) fn split_name(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut quote: Option<char> = None;
    let mut characters = text.trim().chars().peekable();
    while let Some(character) = characters.next() {
        let last = parts.len() - 1;
        match (quote, character) {
            (None, '[') => quote = Some(']'),
            (None, '"') => quote = Some('"'),
            (None, '.') => parts.push(String::new()),
            (Some(end), c) if c == end => {
                if characters.peek() == Some(&end) {
                    characters.next();
                    parts[last].push(end);
                } else {
                    quote = None;
                }
            }
            (_, c) => parts[last].push(c),
        }
    }
    parts
}

pub(crate) fn call(
    binder: &Binder<'_>,
    name: &str,
    arguments: &mut Arguments,
) -> Result<Option<Typed>, SqlError> {
    if binder.is_snowflake() { snowflake(binder, name, arguments) } else { mssql(binder, name, arguments) }
}

fn snowflake(binder: &Binder<'_>, name: &str, arguments: &mut Arguments) -> Result<Option<Typed>, SqlError> {
    let identity = binder.env.identity;
    let text =
        |value: Option<String>| Typed::constant(value.map_or(Value::Null, Value::text), name_type(binder));
    if name == "SYSTEM$ABORT_TRANSACTION" {
        let Some(list) = take(arguments, 1..=1) else { return Ok(None) };
        let id = match list[0].known() {
            Some(Value::Text(text)) => text.lossy().trim().parse().unwrap_or(0),
            Some(number) => exact(number).trunc() as u64,
            None => 0,
        };
        let aborted = binder.env.db.abort_transaction(id, identity);
        return Ok(Some(text(Some(if aborted {
            "Aborted transaction id: ".to_owned() + &id.to_string()
        } else {
            format!("Transaction {id} is not active.")
        }))));
    }
    if name == "SYSTEM$WAIT" {
        let Some(list) = take(arguments, 1..=2) else { return Ok(None) };
        return Ok(Some(wait(binder, list)));
    }
    if matches!(name, "SEQ1" | "SEQ2" | "SEQ4" | "SEQ8") {
        let Some(_) = take(arguments, 0..=1) else { return Ok(None) };
        // A sequence of its own for each place in the text, one step for each row.
        let next = std::sync::atomic::AtomicI64::new(0);
        let function: crate::expr::Function = std::sync::Arc::new(move |_: &[Value]| {
            Ok(Value::number(i128::from(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed))))
        });
        let precision = match name {
            "SEQ1" => 3,
            "SEQ2" => 5,
            "SEQ4" => 10,
            _ => 19,
        };
        let ty = DataType::Number { precision, scale: 0 };
        return Ok(Some(Typed::new(crate::expr::Expr::Call(function, Vec::new()), ty, false)));
    }
    let value = match name {
        "CURRENT_SESSION" => Some(binder.env.session_id.to_string()),
        "CURRENT_TRANSACTION" => binder.env.facts.transaction.map(|id| id.to_string()),
        "CURRENT_ROLE" => identity.role.clone().or_else(|| Some("ACCOUNTADMIN".to_owned())),
        "CURRENT_USER" => Some(identity.user.clone()),
        "CURRENT_WAREHOUSE" => identity.warehouse.clone(),
        "CURRENT_DATABASE" => identity.database.clone(),
        "CURRENT_SCHEMA" => identity.schema.clone(),
        "CURRENT_ACCOUNT" | "CURRENT_ACCOUNT_NAME" => Some(binder.env.db.settings().server_name.clone()),
        "CURRENT_ORGANIZATION_NAME" => Some("MYORG".to_owned()),
        "CURRENT_REGION" => Some("AWS_US_EAST_1".to_owned()),
        "CURRENT_VERSION" => Some(binder.env.db.settings().version.clone()),
        "CURRENT_CLIENT" => Some(identity.application.clone()),
        "CURRENT_SECONDARY_ROLES" => Some("{\"roles\":\"\",\"value\":\"\"}".to_owned()),
        "IS_ROLE_IN_SESSION" => {
            let Some(list) = take(arguments, 1..=1) else { return Ok(None) };
            let role = identity.role.clone().unwrap_or_default();
            let inside = known_text(&list, 0)
                .is_some_and(|wanted| binder.env.state.grants.effective(&role).contains(&wanted));
            return Ok(Some(Typed::constant(Value::Bool(inside), DataType::Boolean)));
        }
        _ => return Ok(None),
    };
    Ok(take(arguments, 0..=0).map(|_| text(value)))
}

/// `SYSTEM$WAIT(amount [, unit])`: the statement does nothing for so long, unless it is stopped.
fn wait(binder: &Binder<'_>, list: Vec<Typed>) -> Typed {
    const SLICE: std::time::Duration = std::time::Duration::from_millis(5);
    let stop = binder.env.stop.clone();
    let ty = name_type(binder);
    let function: crate::expr::Function = std::sync::Arc::new(move |values: &[Value]| {
        let amount = exact(&values[0]).trunc();
        let unit = match values.get(1) {
            Some(Value::Text(text)) => text.lossy().to_uppercase(),
            _ => "SECONDS".to_owned(),
        };
        let milliseconds: i128 = match unit.as_str() {
            "MILLISECONDS" => 1,
            "SECONDS" => 1000,
            "MINUTES" => 60_000,
            "HOURS" => 3_600_000,
            "DAYS" => 86_400_000,
            _ => {
                return Err(SqlError::snowflake(
                    100_035,
                    "22023",
                    format!("Invalid argument '{unit}' of SYSTEM$WAIT"),
                ));
            }
        };
        let wanted = std::time::Duration::from_millis((amount * milliseconds).clamp(0, 86_400_000) as u64);
        let end = std::time::Instant::now() + wanted;
        while std::time::Instant::now() < end {
            if stop.as_ref().is_some_and(|stop| stop()) {
                return Err(SqlError::stopped());
            }
            std::thread::sleep(SLICE.min(end.saturating_duration_since(std::time::Instant::now())));
        }
        Ok(Value::text(format!("waited {amount} {}", unit.to_lowercase())))
    });
    Typed::new(crate::expr::Expr::Call(function, list.into_iter().map(|one| one.expr).collect()), ty, true)
}

fn mssql(binder: &Binder<'_>, name: &str, arguments: &mut Arguments) -> Result<Option<Typed>, SqlError> {
    let env = binder.env;
    let identity = env.identity;
    let text =
        |value: Option<String>| Typed::constant(value.map_or(Value::Null, Value::text), name_type(binder));
    let database = identity.database.clone().unwrap_or_default();
    let by_id = |id: i64| env.state.objects.values().find(|object| object.id() as i64 == id);
    let Some(count) = arguments.as_ref().map(Vec::len) else { return Ok(None) };
    let known_int = |list: &[Typed], at: usize| {
        list.get(at).and_then(Typed::known).map(|value| exact(value).trunc() as i64)
    };
    // These may be called over columns of catalog views, so they are functions of their argument.
    if count >= 1 && matches!(name, "OBJECT_NAME" | "SCHEMA_NAME" | "OBJECT_SCHEMA_NAME" | "TYPE_NAME") {
        let Some(list) = take(arguments, 1..=2) else { return Ok(None) };
        let (state, name) = (env.state.clone(), name.to_owned());
        return Ok(Some(binder.strict(list, name_type(binder), move |values| {
            let id = exact(&values[0]).trunc() as i64;
            let object = || state.objects.values().find(|object| object.id() as i64 == id).map(Object::name);
            let found = match name.as_str() {
                "OBJECT_NAME" => object().map(|name| name.name.clone()),
                "OBJECT_SCHEMA_NAME" => object().map(|name| name.schema.clone()),
                "TYPE_NAME" => crate::catalog::mssql::type_name(id).map(str::to_owned),
                _ => state
                    .schemas
                    .values()
                    .find(|schema| schema.id == id && schema.database.eq_ignore_ascii_case(&database))
                    .map(|schema| schema.name.clone()),
            };
            Ok(found.map_or(Value::Null, Value::text))
        })));
    }
    let Some(list) = take(arguments, 0..=5) else { return Ok(None) };
    let typed = match name {
        "OBJECT_ID" => {
            let found = known_text(&list, 0).and_then(|shown| {
                let key = binder.complete(&split_name(&shown)).ok()?.key(binder.dialect());
                let kind = known_text(&list, 1).map(|kind| kind.trim().to_uppercase());
                let is = |wanted: &str| kind.as_deref().is_none_or(|kind| kind == wanted);
                match env.state.objects.get(&key) {
                    Some(object @ Object::Table(_)) => is("U").then(|| object.id()),
                    Some(object @ Object::View(_)) => is("V").then(|| object.id()),
                    None => env.state.procedures.get(&key).filter(|_| is("P")).map(|procedure| procedure.id),
                }
            });
            Typed::constant(found.map_or(Value::Null, |id| Value::Int(id as i64)), DataType::Int)
        }
        "SCHEMA_NAME" => text(Some(identity.schema.clone().unwrap_or_else(|| "dbo".to_owned()))),
        "SCHEMA_ID" => {
            let wanted = known_text(&list, 0).unwrap_or_else(|| "dbo".to_owned());
            let found = env.state.schemas.values().find(|schema| {
                binder.same(&schema.name, &wanted) && binder.same(&schema.database, &database)
            });
            Typed::constant(found.map_or(Value::Null, |schema| Value::Int(schema.id)), DataType::Int)
        }
        "DB_NAME" => match known_int(&list, 0) {
            None => text(Some(database)),
            Some(id) => text(
                env.state
                    .databases
                    .values()
                    .find(|database| database.id == id)
                    .map(|database| database.name.clone()),
            ),
        },
        "DB_ID" => {
            let wanted = known_text(&list, 0).unwrap_or(database);
            let found = env.state.databases.values().find(|info| binder.same(&info.name, &wanted));
            Typed::constant(found.map_or(Value::Null, |info| Value::Int(info.id)), DataType::SmallInt)
        }
        "SUSER_SNAME" | "SUSER_NAME" | "ORIGINAL_LOGIN" | "SYSTEM_USER" => text(Some(identity.user.clone())),
        "USER_NAME" | "CURRENT_USER" | "SESSION_USER" | "USER" => {
            let owner = env.state.grants.administrators.contains(&identity.user);
            text(Some(if owner { "dbo".to_owned() } else { identity.user.clone() }))
        }
        "APP_NAME" => text(Some(identity.application.clone())),
        "HOST_NAME" => text(Some(identity.host.clone())),
        "XACT_STATE" => Typed::constant(
            Value::Int(match (env.facts.nesting, env.facts.doomed) {
                (0, _) => 0,
                (_, true) => -1,
                _ => 1,
            }),
            DataType::SmallInt,
        ),
        "ERROR_NUMBER" | "ERROR_SEVERITY" | "ERROR_STATE" | "ERROR_LINE" => {
            let value = env.facts.caught.as_ref().map_or(Value::Null, |error| {
                Value::Int(match name {
                    "ERROR_NUMBER" => i64::from(error.number),
                    "ERROR_SEVERITY" => i64::from(error.class),
                    "ERROR_STATE" => i64::from(error.state),
                    _ => i64::from(error.line.max(1)),
                })
            });
            Typed { nullable: true, ..Typed::constant(value, DataType::Int) }
        }
        "ERROR_MESSAGE" | "ERROR_PROCEDURE" => {
            let message = name == "ERROR_MESSAGE";
            text(env.facts.caught.as_ref().and_then(|error| {
                if message {
                    Some(error.message.clone())
                } else {
                    Some(error.procedure.clone()).filter(|name| !name.is_empty())
                }
            }))
        }
        "OBJECT_DEFINITION" => {
            let id = known_int(&list, 0);
            let found = env.state.procedures.values().find(|procedure| Some(procedure.id as i64) == id);
            text(found.map(|procedure| procedure.text.to_string()))
        }
        "SCOPE_IDENTITY" | "IDENT_CURRENT" => return at_at(binder, "@@IDENTITY").map(Some),
        "ROWCOUNT_BIG" => Typed::constant(Value::Int(env.facts.row_count), DataType::BigInt),
        "IS_SRVROLEMEMBER" | "IS_MEMBER" | "IS_ROLEMEMBER" => {
            int(i64::from(env.state.grants.administrators.contains(&identity.user)))
        }
        "NEWID" | "NEWSEQUENTIALID" => {
            let function: crate::expr::Function =
                std::sync::Arc::new(|_: &[Value]| Ok(Value::Uuid(uuid::Uuid::new_v4().into_bytes())));
            Typed::new(crate::expr::Expr::Call(function, Vec::new()), DataType::UniqueIdentifier, false)
        }
        "SERVERPROPERTY" => {
            let settings = env.db.settings();
            let wanted = known_text(&list, 0).unwrap_or_default().to_lowercase();
            match wanted.as_str() {
                "productversion" => text(Some("16.0.1000.6".to_owned())),
                "productlevel" => text(Some("RTM".to_owned())),
                "edition" => text(Some("Developer Edition (64-bit)".to_owned())),
                "engineedition" => int(3),
                "productmajorversion" => text(Some("16".to_owned())),
                "servername" | "machinename" => text(Some(settings.server_name.clone())),
                "collation" => text(Some(settings.collation.to_string())),
                "isintegratedsecurityonly" | "isclustered" | "ishadrenabled" | "issingleuser" => int(0),
                _ => Typed::constant(Value::Null, DataType::Int),
            }
        }
        "DATABASEPROPERTYEX" => {
            let info = known_text(&list, 0).and_then(|wanted| {
                env.state.databases.values().find(|info| binder.same(&info.name, &wanted)).cloned()
            });
            let property = known_text(&list, 1).unwrap_or_default().to_lowercase();
            text(info.and_then(|info| match property.as_str() {
                "collation" => Some(info.collation.to_string()),
                "status" => Some("ONLINE".to_owned()),
                "updateability" => Some("READ_WRITE".to_owned()),
                "recovery" => Some("FULL".to_owned()),
                _ => None,
            }))
        }
        "COLLATIONPROPERTY" => {
            let Some(property) = known_text(&list, 1) else {
                return Err(binder.unsupported("COLLATIONPROPERTY"));
            };
            let property = property.to_lowercase();
            let mut list = list;
            list.truncate(1);
            binder.strict(list, DataType::Int, move |values| {
                let Value::Text(name) = &values[0] else { return Ok(Value::Null) };
                let Some(collation) = Collation::parse(&name.lossy()) else { return Ok(Value::Null) };
                Ok(match property.as_str() {
                    "codepage" => Value::Int(i64::from(collation.code_page())),
                    "lcid" => Value::Int(i64::from(collation.lcid())),
                    "version" => Value::Int(i64::from(collation.tds()[3] >> 4)),
                    "comparisonstyle" => Value::Int(if collation.is_binary() { 0 } else { 196_609 }),
                    _ => Value::Null,
                })
            })
        }
        // The ODBC settings, which every client of TDS 7.2 and later begins with.
        "SESSIONPROPERTY" => match known_text(&list, 0).unwrap_or_default().to_lowercase().as_str() {
            "ansi_nulls"
            | "ansi_padding"
            | "ansi_warnings"
            | "concat_null_yields_null"
            | "quoted_identifier" => int(1),
            "arithabort" | "numeric_roundabort" => int(0),
            _ => Typed::constant(Value::Null, DataType::Int),
        },
        "SQL_VARIANT_PROPERTY" if list.len() == 2 => {
            let name = name_type(binder);
            // A value of any other type becomes a sql_variant of that type.
            let own = list[0].ty.clone();
            binder.strict(list, DataType::SqlVariant, move |values| {
                let Value::Text(property) = &values[1] else { return Ok(Value::Null) };
                let (ty, value) = match &values[0] {
                    Value::Typed(typed) => (&typed.0, &typed.1),
                    plain => (&own, plain),
                };
                Ok(variant_property(ty, value, &property.lossy().to_lowercase(), &name))
            })
        }
        "HAS_PERMS_BY_NAME" => {
            let securable = known_text(&list, 0);
            let permission = known_text(&list, 2).unwrap_or_default().to_uppercase();
            let allowed = match &securable {
                None => {
                    env.state.grants.allow(&identity.user, &[&permission], &format!("{database}.*"))
                        || env.state.grants.administrators.contains(&identity.user)
                }
                Some(shown) => {
                    let name = binder.complete(&split_name(shown)).ok();
                    let object =
                        name.and_then(|name| env.state.objects.get(&name.key(binder.dialect())).cloned());
                    match object {
                        None => return Ok(Some(Typed::constant(Value::Null, DataType::Int))),
                        Some(object) => binder.authorize(&object, &[&permission]).is_ok(),
                    }
                }
            };
            int(i64::from(allowed))
        }
        "OBJECTPROPERTY" | "OBJECTPROPERTYEX" => {
            let object = known_int(&list, 0).and_then(by_id);
            let property = known_text(&list, 1).unwrap_or_default().to_lowercase();
            match (object, property.as_str()) {
                (Some(Object::Table(_)), "istable" | "isusertable") | (Some(Object::View(_)), "isview") => {
                    int(1)
                }
                (Some(Object::Table(table)), "tablehasprimarykey") => {
                    int(i64::from(table.keys.iter().any(|key| key.primary)))
                }
                (Some(Object::Table(table)), "tablehasidentity") => {
                    int(i64::from(table.columns.iter().any(|column| column.identity.is_some())))
                }
                (Some(_), _) => int(0),
                (None, _) => Typed::constant(Value::Null, DataType::Int),
            }
        }
        "COL_NAME" => {
            let object = known_int(&list, 0).and_then(by_id);
            let at = known_int(&list, 1).unwrap_or(0) - 1;
            text(match object {
                Some(Object::Table(table)) => usize::try_from(at)
                    .ok()
                    .and_then(|at| table.columns.get(at))
                    .map(|column| column.column.name.clone()),
                _ => None,
            })
        }
        "COL_LENGTH" | "IDENT_SEED" | "IDENT_INCR" | "CURSOR_STATUS" => return Err(binder.unsupported(name)),
        _ => {
            *arguments = Some(list);
            return Ok(None);
        }
    };
    Ok(Some(typed))
}

/// What `SQL_VARIANT_PROPERTY` tells of a value's own type.
fn variant_property(ty: &DataType, value: &Value, property: &str, name: &DataType) -> Value {
    let typed = |ty: &DataType, value: Value| Value::Typed(std::sync::Arc::new((ty.clone(), value)));
    let int = |number: i64| typed(&DataType::Int, Value::Int(number));
    let bytes = |length: Length| match length {
        Length::Fixed(length) => i64::from(length),
        Length::Max => 8000,
    };
    let length = match ty {
        DataType::Bit | DataType::TinyInt => 1,
        DataType::SmallInt => 2,
        DataType::Int | DataType::Real | DataType::SmallMoney | DataType::SmallDateTime => 4,
        DataType::Date => 3,
        DataType::UniqueIdentifier => 16,
        DataType::Time { .. } => 5,
        DataType::DateTimeOffset { .. } => 10,
        DataType::Decimal { precision, .. } => match precision {
            0..=9 => 5,
            10..=19 => 9,
            20..=28 => 13,
            _ => 17,
        },
        DataType::Char { length, .. } | DataType::Binary { length } => i64::from(*length),
        DataType::NChar { length, .. } => i64::from(*length) * 2,
        DataType::VarChar { length, .. } | DataType::VarBinary { length } => bytes(*length),
        DataType::NVarChar { length, .. } => bytes(*length) * 2,
        _ => 8,
    };
    match property {
        "basetype" => typed(name, Value::text(ty.name())),
        "precision" => int(match ty {
            DataType::Real => 24,
            DataType::Float => 53,
            DataType::DateTime => 23,
            DataType::SmallDateTime => 16,
            DataType::Date => 10,
            DataType::Time { scale } => 8 + i64::from(*scale) + i64::from(*scale > 0),
            DataType::DateTime2 { scale } => 19 + i64::from(*scale) + i64::from(*scale > 0),
            DataType::DateTimeOffset { scale } => 26 + i64::from(*scale) + i64::from(*scale > 0),
            other => other.precision_scale().map_or(0, |(precision, _)| i64::from(precision)),
        }),
        "scale" => int(i64::from(
            ty.precision_scale().map(|(_, scale)| scale).or_else(|| ty.fraction()).unwrap_or(0),
        )),
        "maxlength" => int(length),
        "collation" => {
            ty.collation().map_or(Value::Null, |collation| typed(name, Value::text(collation.to_string())))
        }
        "totalbytes" => int(2 + match value {
            Value::Text(text) if ty.has_code_page() => {
                6 + ty.collation().map_or(0, |collation| collation.encode(text).len() as i64)
            }
            Value::Text(text) => 6 + text.utf16le().len() as i64,
            Value::Bytes(bytes) => 2 + bytes.len() as i64,
            _ => length,
        }),
        _ => Value::Null,
    }
}
