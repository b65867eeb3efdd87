//! The catalog procedures by which ODBC and JDBC drivers describe tables: `sp_tables`, `sp_columns` and their kin.

use std::sync::Arc;

use crate::{
    catalog::{Sheet, int, smallint, sysname, tinyint},
    session::Identity,
    state::{Object, State, TableDef},
    types::{Column, DataType, Length},
    value::Value,
};

mod odbc;

/// The arguments of a call: by name, or by their place.
pub(crate) struct Arguments<'a>(pub &'a [(Option<String>, Value)]);

impl Arguments<'_> {
    fn value(&self, place: usize, name: &str) -> Option<&Value> {
        let named = |(given, _): &&(Option<String>, Value)| {
            given.as_deref().is_some_and(|given| given.trim_start_matches('@').eq_ignore_ascii_case(name))
        };
        let by_place = || self.0.get(place).filter(|(given, _)| given.is_none());
        self.0.iter().find(named).or_else(by_place).map(|(_, value)| value)
    }

    fn text(&self, place: usize, name: &str) -> Option<String> {
        match self.value(place, name)? {
            Value::Text(text) => Some(text.lossy().into_owned()),
            _ => None,
        }
    }

    fn number(&self, place: usize, name: &str) -> Option<i64> {
        match self.value(place, name)? {
            Value::Int(number) => Some(*number),
            Value::Bool(bit) => Some(i64::from(*bit)),
            _ => None,
        }
    }
}

/// Answers a call of the procedure, if this is one of them.
pub(crate) fn call(
    state: &State,
    identity: &Identity,
    name: &str,
    arguments: &Arguments<'_>,
) -> Option<Sheet> {
    let current = identity.database.clone().unwrap_or_default();
    Some(match name {
        "sp_tables" => tables(state, &current, arguments),
        "sp_columns" | "sp_columns_90" | "sp_columns_100" => columns(state, &current, arguments),
        "sp_pkeys" => primary_keys(state, &current, arguments),
        "sp_statistics" | "sp_statistics_100" => statistics(state, &current, arguments),
        "sp_datatype_info" | "sp_datatype_info_90" | "sp_datatype_info_100" => {
            odbc::data_types(arguments.number(0, "data_type").unwrap_or(0))
        }
        _ => return None,
    })
}

/// Whether a name is what a pattern with `%`, `_` and `[…]` describes; names compare without case.
fn matches(pattern: Option<&str>, name: &str) -> bool {
    let Some(pattern) = pattern else { return true };
    crate::functions::text::like(name, pattern, None, Some(crate::collation::Collation::default()), true)
}

fn tables(state: &State, current: &str, arguments: &Arguments<'_>) -> Sheet {
    let mut sheet = Sheet::new(&[
        sysname("TABLE_QUALIFIER"),
        sysname("TABLE_OWNER"),
        sysname("TABLE_NAME"),
        varchar("TABLE_TYPE", 32),
        varchar("REMARKS", 254),
    ]);
    let (name, owner) = (arguments.text(0, "table_name"), arguments.text(1, "table_owner"));
    let (qualifier, kinds) = (arguments.text(2, "table_qualifier"), arguments.text(3, "table_type"));
    let all = |text: &Option<String>| text.as_deref() == Some("%");
    let empty = |text: &Option<String>| text.as_deref().unwrap_or("").is_empty();
    if all(&qualifier) && empty(&name) && empty(&owner) {
        for info in state.databases.values() {
            sheet.push(vec![Value::text(&info.name), Value::Null, Value::Null, Value::Null, Value::Null]);
        }
        return sheet;
    }
    if all(&owner) && empty(&name) && empty(&qualifier) {
        for schema in state.schemas.values().filter(|schema| schema.database.eq_ignore_ascii_case(current)) {
            sheet.push(vec![Value::Null, Value::text(&schema.name), Value::Null, Value::Null, Value::Null]);
        }
        return sheet;
    }
    if all(&kinds) && empty(&name) && empty(&owner) && empty(&qualifier) {
        for kind in ["SYSTEM TABLE", "TABLE", "VIEW"] {
            sheet.push(vec![Value::Null, Value::Null, Value::Null, Value::text(kind), Value::Null]);
        }
        return sheet;
    }
    let database = qualifier.filter(|name| !name.is_empty()).unwrap_or_else(|| current.to_owned());
    let wanted = |kind: &str| {
        kinds.as_deref().is_none_or(|kinds| kinds == "%" || kinds.contains(&format!("'{kind}'")))
    };
    let mut found: Vec<(&str, &Object)> = state
        .objects
        .values()
        .filter(|object| object.name().database.eq_ignore_ascii_case(&database))
        .filter(|object| matches(name.as_deref(), &object.name().name))
        .filter(|object| matches(owner.as_deref(), &object.name().schema))
        .map(|object| (if matches!(object, Object::View(_)) { "VIEW" } else { "TABLE" }, object))
        .filter(|(kind, _)| wanted(kind))
        .collect();
    found.sort_by_key(|(kind, object)| (*kind, object.name().schema.clone(), object.name().name.clone()));
    for (kind, object) in found {
        let name = object.name();
        sheet.push(vec![
            Value::text(&name.database),
            Value::text(&name.schema),
            Value::text(&name.name),
            Value::text(kind),
            Value::Null,
        ]);
    }
    sheet
}

/// The tables that name and owner describe, in the database that the qualifier names.
fn described<'s>(
    state: &'s State,
    current: &str,
    name: Option<&str>,
    owner: Option<&str>,
    qualifier: Option<String>,
) -> Vec<&'s Arc<TableDef>> {
    let database = qualifier.filter(|name| !name.is_empty()).unwrap_or_else(|| current.to_owned());
    let tables = state.objects.values().filter_map(|object| match object {
        Object::Table(table) => Some(table),
        Object::View(_) => None,
    });
    tables
        .filter(|table| table.name.database.eq_ignore_ascii_case(&database))
        .filter(|table| matches(name, &table.name.name) && matches(owner, &table.name.schema))
        .collect()
}

fn columns(state: &State, current: &str, arguments: &Arguments<'_>) -> Sheet {
    let mut sheet = Sheet::new(&[
        sysname("TABLE_QUALIFIER"),
        sysname("TABLE_OWNER"),
        sysname("TABLE_NAME"),
        sysname("COLUMN_NAME"),
        smallint("DATA_TYPE"),
        sysname("TYPE_NAME"),
        int("PRECISION"),
        int("LENGTH"),
        smallint("SCALE"),
        smallint("RADIX"),
        smallint("NULLABLE"),
        varchar("REMARKS", 254),
        Column::new("COLUMN_DEF", nvarchar(4000), true),
        smallint("SQL_DATA_TYPE"),
        smallint("SQL_DATETIME_SUB"),
        int("CHAR_OCTET_LENGTH"),
        int("ORDINAL_POSITION"),
        varchar("IS_NULLABLE", 254),
        smallint("SS_IS_SPARSE"),
        smallint("SS_IS_COLUMN_SET"),
        smallint("SS_IS_COMPUTED"),
        smallint("SS_IS_IDENTITY"),
        sysname("SS_UDT_CATALOG_NAME"),
        sysname("SS_UDT_SCHEMA_NAME"),
        Column::new("SS_UDT_ASSEMBLY_TYPE_NAME", nvarchar(4000), true),
        sysname("SS_XML_SCHEMACOLLECTION_CATALOG_NAME"),
        sysname("SS_XML_SCHEMACOLLECTION_SCHEMA_NAME"),
        sysname("SS_XML_SCHEMACOLLECTION_NAME"),
        tinyint("SS_DATA_TYPE"),
    ]);
    let (name, owner) = (arguments.text(0, "table_name"), arguments.text(1, "table_owner"));
    let column = arguments.text(3, "column_name");
    let qualifier = arguments.text(2, "table_qualifier");
    for table in described(state, current, name.as_deref(), owner.as_deref(), qualifier) {
        for (at, def) in table.columns.iter().enumerate() {
            if !matches(column.as_deref(), &def.column.name) {
                continue;
            }
            let facts = odbc::facts(&def.column.ty);
            let nullable = def.column.nullable;
            let type_name = if def.identity.is_some() {
                format!("{} identity", def.column.ty.name())
            } else {
                def.column.ty.name().to_owned()
            };
            let udt = |text: &str| {
                if matches!(def.column.ty, DataType::Clr(_)) { Value::text(text) } else { Value::Null }
            };
            sheet.push(vec![
                Value::text(&table.name.database),
                Value::text(&table.name.schema),
                Value::text(&table.name.name),
                Value::text(&def.column.name),
                Value::Int(facts.code),
                Value::text(type_name),
                Value::Int(facts.precision),
                Value::Int(facts.length),
                number(facts.scale),
                number(facts.radix),
                Value::Int(i64::from(nullable)),
                Value::Null,
                def.default.as_ref().map_or(Value::Null, |text| Value::text(format!("({text})"))),
                Value::Int(facts.family),
                number(facts.part),
                number(facts.octets),
                Value::Int(at as i64 + 1),
                Value::text(if nullable { "YES" } else { "NO" }),
                Value::Int(0),
                Value::Int(0),
                Value::Int(i64::from(def.computed.is_some())),
                Value::Int(i64::from(def.identity.is_some())),
                udt("master"),
                udt("sys"),
                Value::Null,
                Value::Null,
                Value::Null,
                Value::Null,
                Value::Int(odbc::token(&def.column.ty, nullable)),
            ]);
        }
    }
    sheet
}

fn primary_keys(state: &State, current: &str, arguments: &Arguments<'_>) -> Sheet {
    let mut sheet = Sheet::new(&[
        sysname("TABLE_QUALIFIER"),
        sysname("TABLE_OWNER"),
        sysname("TABLE_NAME"),
        sysname("COLUMN_NAME"),
        smallint("KEY_SEQ"),
        sysname("PK_NAME"),
    ]);
    let (name, owner) = (arguments.text(0, "table_name"), arguments.text(1, "table_owner"));
    let qualifier = arguments.text(2, "table_qualifier");
    for table in described(state, current, name.as_deref(), owner.as_deref(), qualifier) {
        for key in table.keys.iter().filter(|key| key.primary) {
            for (at, column) in key.columns.iter().enumerate() {
                sheet.push(vec![
                    Value::text(&table.name.database),
                    Value::text(&table.name.schema),
                    Value::text(&table.name.name),
                    Value::text(&table.columns[*column].column.name),
                    Value::Int(at as i64 + 1),
                    Value::text(&key.name),
                ]);
            }
        }
    }
    sheet
}

fn statistics(state: &State, current: &str, arguments: &Arguments<'_>) -> Sheet {
    let mut sheet = Sheet::new(&[
        sysname("TABLE_QUALIFIER"),
        sysname("TABLE_OWNER"),
        sysname("TABLE_NAME"),
        smallint("NON_UNIQUE"),
        sysname("INDEX_QUALIFIER"),
        sysname("INDEX_NAME"),
        smallint("TYPE"),
        smallint("SEQ_IN_INDEX"),
        sysname("COLUMN_NAME"),
        varchar("COLLATION", 1),
        int("CARDINALITY"),
        int("PAGES"),
        varchar("FILTER_CONDITION", 128),
    ]);
    let (name, owner) = (arguments.text(0, "table_name"), arguments.text(1, "table_owner"));
    let unique_only = arguments.text(4, "is_unique").is_some_and(|only| only.eq_ignore_ascii_case("y"));
    let qualifier = arguments.text(2, "table_qualifier");
    for table in described(state, current, name.as_deref(), owner.as_deref(), qualifier) {
        let rows = state.tables.get(&table.id).map_or(0, |version| version.rows as i64);
        let place = |table: &TableDef| {
            vec![
                Value::text(&table.name.database),
                Value::text(&table.name.schema),
                Value::text(&table.name.name),
            ]
        };
        // The first row is about the table itself.
        let mut about = place(table);
        about.extend([Value::Null, Value::Null, Value::Null, Value::Int(0)]);
        about.extend([Value::Null, Value::Null, Value::Null, Value::Int(rows), Value::Int(1), Value::Null]);
        sheet.push(about);
        for key in table.keys.iter().filter(|key| key.unique || !unique_only) {
            for (at, column) in key.columns.iter().enumerate() {
                let descending = key.descending.get(at).copied().unwrap_or(false);
                let mut row = place(table);
                row.extend([
                    Value::Int(i64::from(!key.unique)),
                    Value::text(&table.name.name),
                    Value::text(&key.name),
                    Value::Int(if key.clustered { 1 } else { 3 }),
                    Value::Int(at as i64 + 1),
                    Value::text(&table.columns[*column].column.name),
                    Value::text(if descending { "D" } else { "A" }),
                    Value::Int(rows),
                    Value::Int(1),
                    Value::Null,
                ]);
                sheet.push(row);
            }
        }
    }
    sheet
}

fn number(value: Option<i64>) -> Value {
    value.map_or(Value::Null, Value::Int)
}

fn nvarchar(units: u16) -> DataType {
    DataType::NVarChar { length: Length::Fixed(units), collation: crate::collation::Collation::default() }
}

fn varchar(name: &str, bytes: u16) -> Column {
    let collation = crate::collation::Collation::default();
    Column::new(name, DataType::VarChar { length: Length::Fixed(bytes), collation }, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_patterns_with_escapes_and_without_case() {
        assert!(matches(Some("ord%"), "Orders") && matches(Some("o_ders"), "orders") && matches(None, "x"));
        assert!(
            matches(Some("a[_]b"), "a_b")
                && !matches(Some("a[_]b"), "axb")
                && !matches(Some("ord"), "orders")
        );
    }
}
