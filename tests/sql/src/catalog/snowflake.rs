//! `INFORMATION_SCHEMA` of Snowflake.

use crate::{
    bind::{Binder, query::Bound},
    catalog::{Sheet, number, text, time},
    state::{ColumnDef, Object},
    types::{Column, DataType},
    value::Value,
};

fn flag(value: bool) -> Value {
    Value::text(if value { "YES" } else { "NO" })
}

fn instant((days, ns): (i32, u64)) -> Value {
    Value::DateTimeOffset { days, ns, minutes: 0 }
}

fn optional(value: Option<i128>) -> Value {
    value.map_or(Value::Null, Value::number)
}

/// A table's columns, or those of a view's query as it is bound now; none for a view that cannot be bound any more.
pub(crate) fn columns_of(binder: &Binder<'_>, object: &Object) -> Vec<ColumnDef> {
    let shown = match object {
        Object::Table(table) => return table.columns.clone(),
        Object::View(view) => binder.defined_view(view).map(|(_, columns)| columns).unwrap_or_default(),
    };
    let shown = shown.into_iter().filter(|column| !column.hidden);
    shown
        .map(|column| ColumnDef {
            column: Column::new(&column.name, column.ty.clone(), column.nullable),
            default: None,
            identity: None,
            computed: None,
        })
        .collect()
}

pub(crate) fn view(binder: &Binder<'_>, parts: &[String]) -> Option<Bound> {
    let (database, name) = match parts {
        [schema, name] if schema == "INFORMATION_SCHEMA" => {
            (binder.env.identity.database.clone()?, name.as_str())
        }
        [database, schema, name] if schema == "INFORMATION_SCHEMA" => (database.clone(), name.as_str()),
        [name] if binder.env.identity.schema.as_deref() == Some("INFORMATION_SCHEMA") => {
            (binder.env.identity.database.clone()?, name.as_str())
        }
        _ => return None,
    };
    let state = &binder.env.state;
    // Only what the role may use is there.
    let privileges = ["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES"];
    let objects = || {
        state.objects.values().filter(|object| {
            let name = object.name();
            name.database == database
                && !name.schema.contains('#')
                && binder.authorize(object, &privileges).is_ok()
        })
    };
    let sheet = match name {
        "TABLES" => {
            let mut sheet = Sheet::new(&[
                text("TABLE_CATALOG"),
                text("TABLE_SCHEMA"),
                text("TABLE_NAME"),
                text("TABLE_OWNER"),
                text("TABLE_TYPE"),
                text("IS_TRANSIENT"),
                number("ROW_COUNT"),
                number("BYTES"),
                time("CREATED"),
                time("LAST_ALTERED"),
                text("COMMENT"),
                text("CLUSTERING_KEY"),
                text("IS_DYNAMIC"),
                text("IS_ICEBERG"),
                text("IS_HYBRID"),
            ]);
            for object in objects() {
                let (kind, rows, created, transient) = match object {
                    Object::Table(table) => {
                        let rows = state.tables.get(&table.id).map_or(0, |version| version.rows);
                        ("BASE TABLE", Value::number(i128::from(rows)), table.created, table.transient)
                    }
                    Object::View(view) => ("VIEW", Value::Null, view.created, false),
                };
                let name = object.name();
                sheet.push(vec![
                    Value::text(&name.database),
                    Value::text(&name.schema),
                    Value::text(&name.name),
                    Value::text(object.owner().unwrap_or("ACCOUNTADMIN")),
                    Value::text(kind),
                    flag(transient),
                    rows.clone(),
                    rows,
                    instant(created),
                    instant(created),
                    Value::Null,
                    Value::Null,
                    flag(false),
                    flag(false),
                    flag(false),
                ]);
            }
            sheet
        }
        "COLUMNS" => {
            let mut sheet = Sheet::new(&[
                text("TABLE_CATALOG"),
                text("TABLE_SCHEMA"),
                text("TABLE_NAME"),
                text("COLUMN_NAME"),
                number("ORDINAL_POSITION"),
                text("COLUMN_DEFAULT"),
                text("IS_NULLABLE"),
                text("DATA_TYPE"),
                number("CHARACTER_MAXIMUM_LENGTH"),
                number("CHARACTER_OCTET_LENGTH"),
                number("NUMERIC_PRECISION"),
                number("NUMERIC_PRECISION_RADIX"),
                number("NUMERIC_SCALE"),
                number("DATETIME_PRECISION"),
                text("IS_IDENTITY"),
                text("COMMENT"),
            ]);
            for object in objects() {
                let name = object.name();
                for (at, def) in columns_of(binder, object).iter().enumerate() {
                    let ty = &def.column.ty;
                    let (characters, octets) = match ty {
                        DataType::String { length } => (
                            Some(i128::from(*length)),
                            Some((i128::from(*length) * 4).min(i128::from(DataType::SNOWFLAKE_TEXT))),
                        ),
                        DataType::Bytes { length } => (None, Some(i128::from(*length))),
                        _ => (None, None),
                    };
                    let exact = match ty {
                        DataType::Number { precision, scale } => {
                            Some((i128::from(*precision), i128::from(*scale)))
                        }
                        _ => None,
                    };
                    sheet.push(vec![
                        Value::text(&name.database),
                        Value::text(&name.schema),
                        Value::text(&name.name),
                        Value::text(&def.column.name),
                        Value::number(at as i128 + 1),
                        def.default.as_ref().map_or(Value::Null, Value::text),
                        flag(def.column.nullable),
                        Value::text(information_name(ty)),
                        optional(characters),
                        optional(octets),
                        optional(exact.map(|(precision, _)| precision)),
                        optional(exact.map(|_| 10)),
                        optional(exact.map(|(_, scale)| scale)),
                        optional(ty.fraction().filter(|_| *ty != DataType::Date).map(i128::from)),
                        flag(def.identity.is_some()),
                        Value::Null,
                    ]);
                }
            }
            sheet
        }
        "SCHEMATA" => {
            let mut sheet = Sheet::new(&[
                text("CATALOG_NAME"),
                text("SCHEMA_NAME"),
                text("SCHEMA_OWNER"),
                time("CREATED"),
            ]);
            for schema in state.schemas.values().filter(|schema| schema.database == database) {
                sheet.push(vec![
                    Value::text(&schema.database),
                    Value::text(&schema.name),
                    Value::text(schema.owner.as_deref().unwrap_or("ACCOUNTADMIN")),
                    instant(schema.created),
                ]);
            }
            sheet
        }
        "DATABASES" => {
            let mut sheet = Sheet::new(&[text("DATABASE_NAME"), time("CREATED")]);
            for info in state.databases.values() {
                sheet.push(vec![Value::text(&info.name), instant(info.created)]);
            }
            sheet
        }
        "VIEWS" => {
            let mut sheet = Sheet::new(&[
                text("TABLE_CATALOG"),
                text("TABLE_SCHEMA"),
                text("TABLE_NAME"),
                text("VIEW_DEFINITION"),
            ]);
            for object in objects() {
                if let Object::View(view) = object {
                    sheet.push(vec![
                        Value::text(&view.name.database),
                        Value::text(&view.name.schema),
                        Value::text(&view.name.name),
                        Value::text(&view.sql),
                    ]);
                }
            }
            sheet
        }
        "TABLE_CONSTRAINTS" => {
            let mut sheet = Sheet::new(&[
                text("CONSTRAINT_CATALOG"),
                text("CONSTRAINT_SCHEMA"),
                text("CONSTRAINT_NAME"),
                text("TABLE_CATALOG"),
                text("TABLE_SCHEMA"),
                text("TABLE_NAME"),
                text("CONSTRAINT_TYPE"),
                text("ENFORCED"),
            ]);
            for object in objects() {
                let Object::Table(table) = object else { continue };
                for key in &table.keys {
                    let name = &table.name;
                    sheet.push(vec![
                        Value::text(&name.database),
                        Value::text(&name.schema),
                        Value::text(&key.name),
                        Value::text(&name.database),
                        Value::text(&name.schema),
                        Value::text(&name.name),
                        Value::text(if key.primary { "PRIMARY KEY" } else { "UNIQUE" }),
                        Value::text("NO"),
                    ]);
                }
            }
            sheet
        }
        _ => return None,
    };
    Some(sheet.bound(name, "INFORMATION_SCHEMA"))
}

/// `DATA_TYPE` of `INFORMATION_SCHEMA.COLUMNS`.
fn information_name(ty: &DataType) -> &'static str {
    match ty {
        DataType::Date => "DATE",
        DataType::Time { .. } => "TIME",
        other => other.name(),
    }
}

/// The JSON by which SHOW COLUMNS describes a type.
pub(crate) fn type_json(ty: &DataType, nullable: bool) -> String {
    let rest = match ty {
        DataType::Number { precision, scale } => {
            format!("\"type\":\"FIXED\",\"precision\":{precision},\"scale\":{scale}")
        }
        DataType::Double => "\"type\":\"REAL\"".to_owned(),
        DataType::String { length } => {
            let bytes = (u64::from(*length) * 4).min(u64::from(DataType::SNOWFLAKE_TEXT));
            format!("\"type\":\"TEXT\",\"length\":{length},\"byteLength\":{bytes},\"fixed\":false")
        }
        DataType::Bytes { length } => {
            format!("\"type\":\"BINARY\",\"length\":{length},\"byteLength\":{length},\"fixed\":true")
        }
        DataType::Time { scale }
        | DataType::TimestampNtz { scale }
        | DataType::TimestampLtz { scale }
        | DataType::TimestampTz { scale } => {
            format!("\"type\":\"{}\",\"precision\":0,\"scale\":{scale}", information_name(ty))
        }
        other => format!("\"type\":\"{}\"", information_name(other)),
    };
    format!("{{{rest},\"nullable\":{nullable}}}")
}
