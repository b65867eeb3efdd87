//! The `sys` views and `INFORMATION_SCHEMA` of SQL Server.

use std::sync::Arc;

use crate::{
    bind::{Binder, query::Bound},
    catalog::{Sheet, bigint, bit, datetime, int, smallint, sysname, tinyint},
    error::SqlError,
    script,
    state::{Object, TableDef},
    types::{Column, DataType, Dialect, Length},
    value::Value,
};

/// Types by name: `system_type_id`, `user_type_id`, `max_length`, precision, scale.
const TYPES: &[(&str, i64, i64, i64, i64, i64)] = &[
    ("image", 34, 34, 16, 0, 0),
    ("text", 35, 35, 16, 0, 0),
    ("uniqueidentifier", 36, 36, 16, 0, 0),
    ("date", 40, 40, 3, 10, 0),
    ("time", 41, 41, 5, 16, 7),
    ("datetime2", 42, 42, 8, 27, 7),
    ("datetimeoffset", 43, 43, 10, 34, 7),
    ("tinyint", 48, 48, 1, 3, 0),
    ("smallint", 52, 52, 2, 5, 0),
    ("int", 56, 56, 4, 10, 0),
    ("smalldatetime", 58, 58, 4, 16, 0),
    ("real", 59, 59, 4, 24, 0),
    ("money", 60, 60, 8, 19, 4),
    ("datetime", 61, 61, 8, 23, 3),
    ("float", 62, 62, 8, 53, 0),
    ("sql_variant", 98, 98, 8016, 0, 0),
    ("ntext", 99, 99, 16, 0, 0),
    ("bit", 104, 104, 1, 1, 0),
    ("decimal", 106, 106, 17, 38, 38),
    ("numeric", 108, 108, 17, 38, 38),
    ("smallmoney", 122, 122, 4, 10, 4),
    ("bigint", 127, 127, 8, 19, 0),
    ("varbinary", 165, 165, 8000, 0, 0),
    ("varchar", 167, 167, 8000, 0, 0),
    ("binary", 173, 173, 8000, 0, 0),
    ("char", 175, 175, 8000, 0, 0),
    ("timestamp", 189, 189, 8, 0, 0),
    ("nvarchar", 231, 231, 8000, 0, 0),
    ("sysname", 231, 256, 256, 0, 0),
    ("nchar", 239, 239, 8000, 0, 0),
    ("hierarchyid", 240, 128, 892, 0, 0),
    ("geometry", 240, 129, -1, 0, 0),
    ("geography", 240, 130, -1, 0, 0),
    ("xml", 241, 241, -1, 0, 0),
];

/// `TYPE_NAME`.
pub(crate) fn type_name(id: i64) -> Option<&'static str> {
    TYPES.iter().find(|ty| ty.2 == id).map(|ty| ty.0)
}

/// `system_type_id`, `max_length`, precision, scale of a column's type.
fn facts(ty: &DataType) -> (i64, i64, i64, i64) {
    let row = TYPES.iter().find(|row| row.0 == ty.name());
    let (id, length, precision, scale) = row.map_or((56, 4, 10, 0), |row| (row.1, row.3, row.4, row.5));
    let of = |length: &Length, unit: i64| match length {
        Length::Fixed(length) => i64::from(*length) * unit,
        Length::Max => -1,
    };
    match ty {
        DataType::Decimal { precision, scale } => {
            let bytes = match precision {
                0..=9 => 5,
                10..=19 => 9,
                20..=28 => 13,
                _ => 17,
            };
            (106, bytes, i64::from(*precision), i64::from(*scale))
        }
        DataType::Char { length, .. } | DataType::Binary { length } => (id, i64::from(*length), 0, 0),
        DataType::NChar { length, .. } => (id, i64::from(*length) * 2, 0, 0),
        DataType::VarChar { length, .. } | DataType::VarBinary { length } => (id, of(length, 1), 0, 0),
        DataType::NVarChar { length, .. } => (id, of(length, 2), 0, 0),
        DataType::Time { scale } => {
            let bytes = 3 + i64::from(*scale > 2) + i64::from(*scale > 4);
            (id, bytes, 8 + if *scale > 0 { i64::from(*scale) + 1 } else { 0 }, i64::from(*scale))
        }
        DataType::DateTime2 { scale } => {
            let bytes = 6 + i64::from(*scale > 2) + i64::from(*scale > 4);
            (id, bytes, 19 + if *scale > 0 { i64::from(*scale) + 1 } else { 0 }, i64::from(*scale))
        }
        DataType::DateTimeOffset { scale } => {
            let bytes = 8 + i64::from(*scale > 2) + i64::from(*scale > 4);
            (id, bytes, 26 + if *scale > 0 { i64::from(*scale) + 1 } else { 0 }, i64::from(*scale))
        }
        _ => (id, length, precision, scale),
    }
}

/// `user_type_id`: the three classes of the runtime share one `system_type_id`.
fn user_type(ty: &DataType) -> i64 {
    TYPES.iter().find(|row| row.0 == ty.name()).map_or(56, |row| row.2)
}

fn collation_of(ty: &DataType) -> Value {
    ty.collation().map_or(Value::Null, |collation| Value::text(collation.to_string()))
}

fn moment((days, ns): (i32, u64)) -> Value {
    Value::DateTime { days, ns: ns / 10_000_000 * 10_000_000 }
}

/// The full text of a type, as `system_type_name` shows it.
fn full_name(ty: &DataType) -> String {
    ty.to_string()
}

pub(crate) fn view(binder: &Binder<'_>, parts: &[String]) -> Result<Option<Bound>, SqlError> {
    let (database, schema, name) = match parts {
        [schema, name] => (
            binder.env.identity.database.clone().unwrap_or_default(),
            schema.to_lowercase(),
            name.to_lowercase(),
        ),
        [database, schema, name] => (database.clone(), schema.to_lowercase(), name.to_lowercase()),
        _ => return Ok(None),
    };
    let sheet = match schema.as_str() {
        "sys" => sys(binder, &database, &name),
        "information_schema" => information(binder, &database, &name),
        _ => return Ok(None),
    };
    match sheet {
        Some(sheet) => Ok(Some(sheet.bound(&name, &schema))),
        None => Err(SqlError::mssql(208, format!("Invalid object name '{}'.", parts.join(".")))),
    }
}

fn tables<'s>(binder: &'s Binder<'_>, database: &str) -> Vec<&'s Arc<TableDef>> {
    let database = database.to_lowercase();
    binder
        .env
        .state
        .objects
        .values()
        .filter_map(|object| match object {
            Object::Table(table)
                if table.name.database.to_lowercase() == database
                    && binder.authorize(object, &["SELECT", "VIEW DEFINITION"]).is_ok() =>
            {
                Some(table)
            }
            _ => None,
        })
        .collect()
}

fn schema_id(binder: &Binder<'_>, database: &str, schema: &str) -> Value {
    let found =
        binder.env.state.schemas.values().find(|info| {
            info.database.eq_ignore_ascii_case(database) && info.name.eq_ignore_ascii_case(schema)
        });
    found.map_or(Value::Int(1), |info| Value::Int(info.id))
}

fn sys(binder: &Binder<'_>, database: &str, name: &str) -> Option<Sheet> {
    let state = &binder.env.state;
    Some(match name {
        "procedures" => {
            let mut sheet = Sheet::new(&[
                sysname("name"),
                int("object_id"),
                int("schema_id"),
                sysname("type"),
                sysname("type_desc"),
                datetime("create_date"),
            ]);
            let all = binder.env.state.procedures.values();
            for procedure in all.filter(|one| binder.same(&one.name.database, database)) {
                sheet.push(vec![
                    Value::text(&procedure.name.name),
                    Value::Int(procedure.id as i64),
                    schema_id(binder, database, &procedure.name.schema),
                    Value::text("P"),
                    Value::text("SQL_STORED_PROCEDURE"),
                    moment(procedure.created),
                ]);
            }
            sheet
        }
        "databases" => {
            let mut sheet = Sheet::new(&[
                sysname("name"),
                int("database_id"),
                int("source_database_id"),
                datetime("create_date"),
                tinyint("compatibility_level"),
                sysname("collation_name"),
                tinyint("snapshot_isolation_state"),
                sysname("snapshot_isolation_state_desc"),
                bit("is_read_committed_snapshot_on"),
                tinyint("state"),
                sysname("state_desc"),
                bit("is_read_only"),
                tinyint("recovery_model"),
                sysname("recovery_model_desc"),
            ]);
            for info in state.databases.values() {
                let on = info.allow_snapshot;
                sheet.push(vec![
                    Value::text(&info.name),
                    Value::Int(info.id),
                    info.snapshot_of.map_or(Value::Null, Value::Int),
                    moment(info.created),
                    Value::Int(160),
                    Value::text(info.collation.to_string()),
                    Value::Int(i64::from(on)),
                    Value::text(if on { "ON" } else { "OFF" }),
                    Value::Bool(true),
                    Value::Int(0),
                    Value::text("ONLINE"),
                    Value::Bool(info.snapshot_of.is_some()),
                    Value::Int(1),
                    Value::text("FULL"),
                ]);
            }
            sheet
        }
        "schemas" => {
            let mut sheet = Sheet::new(&[sysname("name"), int("schema_id"), int("principal_id")]);
            for info in state.schemas.values().filter(|info| info.database.eq_ignore_ascii_case(database)) {
                sheet.push(vec![Value::text(&info.name), Value::Int(info.id), Value::Int(1)]);
            }
            sheet
        }
        "tables" | "objects" | "all_objects" | "views" => {
            let mut sheet = Sheet::new(&[
                sysname("name"),
                int("object_id"),
                int("principal_id"),
                int("schema_id"),
                int("parent_object_id"),
                sysname("type"),
                sysname("type_desc"),
                datetime("create_date"),
                datetime("modify_date"),
                bit("is_ms_shipped"),
                tinyint("temporal_type"),
                bit("is_memory_optimized"),
                bit("is_external"),
            ]);
            let mut push = |name: &str,
                            id: u64,
                            schema: Value,
                            kind: &str,
                            desc: &str,
                            created: (i32, u64),
                            parent: u64| {
                sheet.push(vec![
                    Value::text(name),
                    Value::Int(id as i64),
                    Value::Null,
                    schema,
                    Value::Int(parent as i64),
                    Value::text(kind),
                    Value::text(desc),
                    moment(created),
                    moment(created),
                    Value::Bool(false),
                    Value::Int(0),
                    Value::Bool(false),
                    Value::Bool(false),
                ]);
            };
            if name != "views" {
                for table in tables(binder, database) {
                    let schema = schema_id(binder, database, &table.name.schema);
                    push(&table.name.name, table.id, schema.clone(), "U ", "USER_TABLE", table.created, 0);
                    if name != "tables" {
                        for (at, key) in table.keys.iter().enumerate().filter(|(_, key)| key.unique) {
                            let (kind, desc) = if key.primary {
                                ("PK", "PRIMARY_KEY_CONSTRAINT")
                            } else {
                                ("UQ", "UNIQUE_CONSTRAINT")
                            };
                            push(
                                &key.name,
                                table.id * 1000 + at as u64,
                                schema.clone(),
                                kind,
                                desc,
                                table.created,
                                table.id,
                            );
                        }
                    }
                }
            }
            if name != "tables" {
                for object in state.objects.values() {
                    if let Object::View(view) = object
                        && view.name.database.eq_ignore_ascii_case(database)
                    {
                        push(
                            &view.name.name,
                            view.id,
                            schema_id(binder, database, &view.name.schema),
                            "V ",
                            "VIEW",
                            view.created,
                            0,
                        );
                    }
                }
            }
            sheet
        }
        "columns" | "all_columns" => {
            let mut sheet = Sheet::new(&[
                int("object_id"),
                sysname("name"),
                int("column_id"),
                tinyint("system_type_id"),
                int("user_type_id"),
                smallint("max_length"),
                tinyint("precision"),
                tinyint("scale"),
                sysname("collation_name"),
                bit("is_nullable"),
                bit("is_ansi_padded"),
                bit("is_rowguidcol"),
                bit("is_identity"),
                bit("is_computed"),
                bit("is_filestream"),
                bit("is_sparse"),
                bit("is_hidden"),
                tinyint("generated_always_type"),
                int("encryption_type"),
                sysname("encryption_type_desc"),
                int("default_object_id"),
                bit("is_masked"),
            ]);
            for table in tables(binder, database) {
                for (at, def) in table.columns.iter().enumerate() {
                    let (id, length, precision, scale) = facts(&def.column.ty);
                    sheet.push(vec![
                        Value::Int(table.id as i64),
                        Value::text(&def.column.name),
                        Value::Int(at as i64 + 1),
                        Value::Int(id),
                        Value::Int(user_type(&def.column.ty)),
                        Value::Int(length),
                        Value::Int(precision),
                        Value::Int(scale),
                        collation_of(&def.column.ty),
                        Value::Bool(def.column.nullable),
                        Value::Bool(true),
                        Value::Bool(false),
                        Value::Bool(def.identity.is_some()),
                        Value::Bool(def.computed.is_some()),
                        Value::Bool(false),
                        Value::Bool(false),
                        Value::Bool(false),
                        Value::Int(0),
                        Value::Null,
                        Value::Null,
                        Value::Int(0),
                        Value::Bool(false),
                    ]);
                }
            }
            sheet
        }
        "types" => {
            let mut sheet = Sheet::new(&[
                sysname("name"),
                tinyint("system_type_id"),
                int("user_type_id"),
                int("schema_id"),
                smallint("max_length"),
                tinyint("precision"),
                tinyint("scale"),
                sysname("collation_name"),
                bit("is_nullable"),
                bit("is_user_defined"),
                bit("is_assembly_type"),
                bit("is_table_type"),
            ]);
            for (name, system, user, length, precision, scale) in TYPES {
                sheet.push(vec![
                    Value::text(name),
                    Value::Int(*system),
                    Value::Int(*user),
                    Value::Int(4),
                    Value::Int(*length),
                    Value::Int(*precision),
                    Value::Int(*scale),
                    Value::Null,
                    Value::Bool(true),
                    Value::Bool(false),
                    Value::Bool(false),
                    Value::Bool(false),
                ]);
            }
            sheet
        }
        "indexes" => {
            let mut sheet = Sheet::new(&[
                int("object_id"),
                sysname("name"),
                int("index_id"),
                tinyint("type"),
                sysname("type_desc"),
                bit("is_unique"),
                bit("is_primary_key"),
                bit("is_unique_constraint"),
                bit("is_disabled"),
                bit("is_hypothetical"),
                bit("has_filter"),
            ]);
            for table in tables(binder, database) {
                if !table.keys.iter().any(|key| key.clustered) {
                    sheet.push(vec![
                        Value::Int(table.id as i64),
                        Value::Null,
                        Value::Int(0),
                        Value::Int(0),
                        Value::text("HEAP"),
                        Value::Bool(false),
                        Value::Bool(false),
                        Value::Bool(false),
                        Value::Bool(false),
                        Value::Bool(false),
                        Value::Bool(false),
                    ]);
                }
                for (at, key) in table.keys.iter().enumerate() {
                    sheet.push(vec![
                        Value::Int(table.id as i64),
                        Value::text(&key.name),
                        Value::Int(index_id(table, at)),
                        Value::Int(if key.clustered { 1 } else { 2 }),
                        Value::text(if key.clustered { "CLUSTERED" } else { "NONCLUSTERED" }),
                        Value::Bool(key.unique),
                        Value::Bool(key.primary),
                        Value::Bool(key.unique && !key.primary),
                        Value::Bool(false),
                        Value::Bool(false),
                        Value::Bool(false),
                    ]);
                }
            }
            sheet
        }
        "index_columns" => {
            let mut sheet = Sheet::new(&[
                int("object_id"),
                int("index_id"),
                int("index_column_id"),
                int("column_id"),
                tinyint("key_ordinal"),
                tinyint("partition_ordinal"),
                bit("is_descending_key"),
                bit("is_included_column"),
            ]);
            for table in tables(binder, database) {
                for (at, key) in table.keys.iter().enumerate() {
                    for (place, (column, descending)) in key.columns.iter().zip(&key.descending).enumerate() {
                        sheet.push(vec![
                            Value::Int(table.id as i64),
                            Value::Int(index_id(table, at)),
                            Value::Int(place as i64 + 1),
                            Value::Int(*column as i64 + 1),
                            Value::Int(place as i64 + 1),
                            Value::Int(0),
                            Value::Bool(*descending),
                            Value::Bool(false),
                        ]);
                    }
                }
            }
            sheet
        }
        "key_constraints" => {
            let mut sheet = Sheet::new(&[
                sysname("name"),
                int("object_id"),
                int("schema_id"),
                int("parent_object_id"),
                sysname("type"),
                sysname("type_desc"),
                int("unique_index_id"),
            ]);
            for table in tables(binder, database) {
                for (at, key) in table.keys.iter().enumerate().filter(|(_, key)| key.unique) {
                    let (kind, desc) = if key.primary {
                        ("PK", "PRIMARY_KEY_CONSTRAINT")
                    } else {
                        ("UQ", "UNIQUE_CONSTRAINT")
                    };
                    sheet.push(vec![
                        Value::text(&key.name),
                        Value::Int(table.id as i64 * 1000 + at as i64),
                        schema_id(binder, database, &table.name.schema),
                        Value::Int(table.id as i64),
                        Value::text(kind),
                        Value::text(desc),
                        Value::Int(index_id(table, at)),
                    ]);
                }
            }
            sheet
        }
        "partitions" | "dm_db_partition_stats" => {
            let mut sheet = Sheet::new(&[
                bigint("partition_id"),
                int("object_id"),
                int("index_id"),
                int("partition_number"),
                bigint("hobt_id"),
                bigint("rows"),
                bigint("row_count"),
                bigint("used_page_count"),
                bigint("reserved_page_count"),
                bigint("in_row_data_page_count"),
                bigint("in_row_used_page_count"),
                bigint("in_row_reserved_page_count"),
                bigint("lob_used_page_count"),
                bigint("lob_reserved_page_count"),
                bigint("row_overflow_used_page_count"),
                bigint("row_overflow_reserved_page_count"),
            ]);
            for table in tables(binder, database) {
                let rows = binder.view(table.id).row_count() as i64;
                let width: i64 = table.columns.iter().map(|def| facts(&def.column.ty).1.clamp(1, 100)).sum();
                let pages = (rows * width / 8060) + 1;
                let mut ids: Vec<i64> = (0..table.keys.len()).map(|at| index_id(table, at)).collect();
                if !table.keys.iter().any(|key| key.clustered) {
                    ids.insert(0, 0);
                }
                for id in ids {
                    let number = table.id as i64 * 100 + id;
                    sheet.push(vec![
                        Value::Int(number),
                        Value::Int(table.id as i64),
                        Value::Int(id),
                        Value::Int(1),
                        Value::Int(number),
                        Value::Int(rows),
                        Value::Int(rows),
                        Value::Int(pages),
                        Value::Int(pages + 8),
                        Value::Int(pages),
                        Value::Int(pages),
                        Value::Int(pages + 8),
                        Value::Int(0),
                        Value::Int(0),
                        Value::Int(0),
                        Value::Int(0),
                    ]);
                }
            }
            sheet
        }
        "identity_columns" => {
            let mut sheet = Sheet::new(&[
                int("object_id"),
                sysname("name"),
                int("column_id"),
                bigint("seed_value"),
                bigint("increment_value"),
            ]);
            for table in tables(binder, database) {
                for (at, def) in table.columns.iter().enumerate() {
                    if let Some((seed, step)) = def.identity {
                        sheet.push(vec![
                            Value::Int(table.id as i64),
                            Value::text(&def.column.name),
                            Value::Int(at as i64 + 1),
                            Value::Int(seed),
                            Value::Int(step),
                        ]);
                    }
                }
            }
            sheet
        }
        "computed_columns" => {
            let mut sheet = Sheet::new(&[
                int("object_id"),
                sysname("name"),
                int("column_id"),
                sysname("definition"),
                bit("is_persisted"),
            ]);
            for table in tables(binder, database) {
                for (at, def) in table.columns.iter().enumerate() {
                    if let Some(sql) = &def.computed {
                        sheet.push(vec![
                            Value::Int(table.id as i64),
                            Value::text(&def.column.name),
                            Value::Int(at as i64 + 1),
                            Value::text(sql),
                            Value::Bool(false),
                        ]);
                    }
                }
            }
            sheet
        }
        "dm_exec_sessions" | "dm_exec_connections" => {
            let mut sheet = Sheet::new(&[
                smallint("session_id"),
                sysname("login_name"),
                sysname("program_name"),
                sysname("host_name"),
                bit("is_user_process"),
                sysname("encrypt_option"),
                sysname("auth_scheme"),
                sysname("net_transport"),
                smallint("transaction_isolation_level"),
            ]);
            let identity = binder.env.identity;
            sheet.push(vec![
                Value::Int(binder.env.session_id as i64),
                Value::text(&identity.user),
                Value::text(&identity.application),
                Value::text(&identity.host),
                Value::Bool(true),
                Value::text("TRUE"),
                Value::text("KERBEROS"),
                Value::text("TCP"),
                Value::Int(binder.env.facts.isolation),
            ]);
            sheet
        }
        _ => return None,
    })
}

fn index_id(table: &TableDef, at: usize) -> i64 {
    if table.keys[at].clustered {
        return 1;
    }
    let before = table.keys[..at].iter().filter(|key| !key.clustered).count();
    before as i64 + 2
}

fn information(binder: &Binder<'_>, database: &str, name: &str) -> Option<Sheet> {
    let yes = |value: bool| Value::text(if value { "YES" } else { "NO" });
    Some(match name {
        "tables" => {
            let mut sheet = Sheet::new(&[
                sysname("TABLE_CATALOG"),
                sysname("TABLE_SCHEMA"),
                sysname("TABLE_NAME"),
                sysname("TABLE_TYPE"),
            ]);
            for object in binder.env.state.objects.values() {
                let name = object.name();
                if name.database.eq_ignore_ascii_case(database)
                    && binder.authorize(object, &["SELECT"]).is_ok()
                {
                    let kind = if matches!(object, Object::View(_)) { "VIEW" } else { "BASE TABLE" };
                    sheet.push(vec![
                        Value::text(&name.database),
                        Value::text(&name.schema),
                        Value::text(&name.name),
                        Value::text(kind),
                    ]);
                }
            }
            sheet
        }
        "columns" => {
            let mut sheet = Sheet::new(&[
                sysname("TABLE_CATALOG"),
                sysname("TABLE_SCHEMA"),
                sysname("TABLE_NAME"),
                sysname("COLUMN_NAME"),
                int("ORDINAL_POSITION"),
                sysname("COLUMN_DEFAULT"),
                sysname("IS_NULLABLE"),
                sysname("DATA_TYPE"),
                int("CHARACTER_MAXIMUM_LENGTH"),
                int("CHARACTER_OCTET_LENGTH"),
                tinyint("NUMERIC_PRECISION"),
                smallint("NUMERIC_PRECISION_RADIX"),
                int("NUMERIC_SCALE"),
                smallint("DATETIME_PRECISION"),
                sysname("CHARACTER_SET_NAME"),
                sysname("COLLATION_NAME"),
            ]);
            for table in tables(binder, database) {
                for (at, def) in table.columns.iter().enumerate() {
                    let ty = &def.column.ty;
                    let (_, length, precision, scale) = facts(ty);
                    let sized = ty.is_text() || ty.is_binary();
                    let characters =
                        if matches!(ty, DataType::NChar { .. } | DataType::NVarChar { .. }) && length > 0 {
                            length / 2
                        } else {
                            length
                        };
                    let when =
                        |condition: bool, value: i64| if condition { Value::Int(value) } else { Value::Null };
                    sheet.push(vec![
                        Value::text(&table.name.database),
                        Value::text(&table.name.schema),
                        Value::text(&table.name.name),
                        Value::text(&def.column.name),
                        Value::Int(at as i64 + 1),
                        def.default.as_ref().map_or(Value::Null, |sql| Value::text(format!("({sql})"))),
                        yes(def.column.nullable),
                        Value::text(ty.name()),
                        when(sized, characters),
                        when(sized, length),
                        when(ty.is_number(), precision),
                        when(ty.is_number(), if ty.is_float() { 2 } else { 10 }),
                        when(ty.is_number() && !ty.is_float(), scale),
                        when(ty.is_temporal(), scale),
                        Value::Null,
                        collation_of(ty),
                    ]);
                }
            }
            sheet
        }
        "schemata" => {
            let mut sheet =
                Sheet::new(&[sysname("CATALOG_NAME"), sysname("SCHEMA_NAME"), sysname("SCHEMA_OWNER")]);
            for info in
                binder.env.state.schemas.values().filter(|info| info.database.eq_ignore_ascii_case(database))
            {
                sheet.push(vec![Value::text(&info.database), Value::text(&info.name), Value::text("dbo")]);
            }
            sheet
        }
        "table_constraints" | "key_column_usage" => {
            let mut columns = vec![
                sysname("CONSTRAINT_CATALOG"),
                sysname("CONSTRAINT_SCHEMA"),
                sysname("CONSTRAINT_NAME"),
                sysname("TABLE_CATALOG"),
                sysname("TABLE_SCHEMA"),
                sysname("TABLE_NAME"),
            ];
            let usage = name == "key_column_usage";
            if usage {
                columns.extend([sysname("COLUMN_NAME"), int("ORDINAL_POSITION")]);
            } else {
                columns.push(sysname("CONSTRAINT_TYPE"));
            }
            let mut sheet = Sheet::new(&columns);
            for table in tables(binder, database) {
                for key in table.keys.iter().filter(|key| key.unique) {
                    let name = &table.name;
                    let head =
                        [&name.database, &name.schema, &key.name, &name.database, &name.schema, &name.name]
                            .map(Value::text)
                            .to_vec();
                    if usage {
                        for (at, column) in key.columns.iter().enumerate() {
                            let mut row = head.clone();
                            row.extend([
                                Value::text(&table.columns[*column].column.name),
                                Value::Int(at as i64 + 1),
                            ]);
                            sheet.push(row);
                        }
                    } else {
                        let mut row = head;
                        row.push(Value::text(if key.primary { "PRIMARY KEY" } else { "UNIQUE" }));
                        sheet.push(row);
                    }
                }
            }
            sheet
        }
        _ => return None,
    })
}

/// `sys.dm_exec_describe_first_result_set(sql`, parameters, 0).
pub(crate) fn describe(binder: &Binder<'_>, values: &[Value]) -> Result<Bound, SqlError> {
    let mut sheet = Sheet::new(&[
        bit("is_hidden"),
        int("column_ordinal"),
        sysname("name"),
        bit("is_nullable"),
        int("system_type_id"),
        Column::new(
            "system_type_name",
            DataType::NVarChar {
                length: Length::Fixed(256),
                collation: crate::collation::Collation::default(),
            },
            true,
        ),
        smallint("max_length"),
        tinyint("precision"),
        tinyint("scale"),
        sysname("collation_name"),
        int("user_type_id"),
        bit("is_identity_column"),
        bit("is_computed_column"),
        bit("is_updateable"),
        int("error_number"),
        int("error_severity"),
        int("error_state"),
        sysname("error_message"),
        sysname("source_schema"),
        sysname("source_table"),
        sysname("source_column"),
        int("tds_type_id"),
        int("tds_length"),
    ]);
    let Some(Value::Text(sql)) = values.first() else { return Ok(sheet.bound("", "")) };
    let described = script::parse(Dialect::SqlServer, &sql.lossy()).and_then(|lines| {
        for line in lines {
            if let script::Step::Sql(statement) = line.step
                && let sqlparser::ast::Statement::Query(query) = *statement
            {
                return Binder::new(binder.env).query(&query).map(|(_, columns)| columns);
            }
        }
        Ok(Vec::new())
    });
    match described {
        Ok(columns) => {
            for (at, column) in columns.into_iter().filter(|column| !column.hidden).enumerate() {
                let (id, length, precision, scale) = facts(&column.ty);
                sheet.push(vec![
                    Value::Bool(false),
                    Value::Int(at as i64 + 1),
                    if column.name.is_empty() { Value::Null } else { Value::text(&column.name) },
                    Value::Bool(column.nullable),
                    Value::Int(id),
                    Value::text(full_name(&column.ty)),
                    Value::Int(length),
                    Value::Int(precision),
                    Value::Int(scale),
                    collation_of(&column.ty),
                    Value::Null,
                    Value::Bool(column.identity),
                    Value::Bool(column.computed),
                    Value::Bool(!column.computed),
                    Value::Null,
                    Value::Null,
                    Value::Null,
                    Value::Null,
                    Value::Null,
                    Value::Null,
                    Value::Null,
                    Value::Int(id),
                    Value::Int(length),
                ]);
            }
        }
        Err(error) => {
            let mut row = vec![Value::Null; sheet.columns.len()];
            (row[0], row[1]) = (Value::Bool(false), Value::Int(0));
            row[14] = Value::Int(i64::from(error.number));
            row[15] = Value::Int(i64::from(error.class));
            row[16] = Value::Int(i64::from(error.state));
            row[17] = Value::text(error.message);
            sheet.push(row);
        }
    }
    Ok(sheet.bound("", ""))
}
