//! `TABLE(INFER_SCHEMA(LOCATION => …, FILE_FORMAT => …))`: the columns of staged files.

use crate::{
    bind::{Binder, query::Bound},
    catalog::{Sheet, number, text},
    error::SqlError,
    stage::StageRequest,
    types::DataType,
    value::Value,
};

pub(crate) fn schema(binder: &Binder<'_>, names: &[String], values: &[Value]) -> Result<Bound, SqlError> {
    let argument = |wanted: &str| {
        let at = names.iter().position(|name| name == wanted)?;
        match values.get(at) {
            Some(Value::Text(text)) => Some(text.lossy().into_owned()),
            _ => None,
        }
    };
    let missing = |what: &str| {
        SqlError::snowflake(
            1_003,
            "42000",
            format!("SQL compilation error:\nINFER_SCHEMA needs the argument {what}."),
        )
    };
    let location = argument("LOCATION").ok_or_else(|| missing("LOCATION"))?;
    let format = argument("FILE_FORMAT").ok_or_else(|| missing("FILE_FORMAT"))?;
    let reader = binder.env.stage.as_ref().ok_or_else(|| missing("LOCATION"))?;
    let request = StageRequest {
        location,
        options: vec![("FILE_FORMAT".to_owned(), format)],
        database: binder.env.identity.database.clone().unwrap_or_default(),
        schema: binder.env.identity.schema.clone().unwrap_or_default(),
    };
    let mut sheet = Sheet::new(&[
        text("COLUMN_NAME"),
        text("TYPE"),
        crate::types::Column::new("NULLABLE", DataType::Boolean, true),
        text("EXPRESSION"),
        text("FILENAMES"),
        number("ORDER_ID"),
    ]);
    for (at, column) in reader.columns(&request)?.into_iter().enumerate() {
        sheet.push(vec![
            Value::text(&column.name),
            Value::text(&column.ty),
            Value::Bool(column.nullable),
            Value::text(format!("$1:{}::{}", column.name, column.ty)),
            Value::text(column.files.join(", ")),
            Value::number(at as i128),
        ]);
    }
    Ok(sheet.bound("", ""))
}
