//! The plan for a reader: what, how much, how true, what it will do. Short lines, the bad news first.

use std::fmt::{self, Write as _};

use super::{Plan, PlannedTable};
use crate::{config::ByteSize, model::TablePlan, report::grouped};

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Plan of {}: nothing has moved yet.\n", self.pipeline)?;
        let rows: u64 = self.tables.iter().map(|t| t.rows).sum();
        let bytes: u64 = self.tables.iter().map(|t| t.bytes).sum();
        let chunks: usize = self.tables.iter().map(|t| t.plan.chunks.len()).sum();
        let (tables, rows, chunks) = (self.tables.len(), grouped(rows), grouped(chunks as u64));
        let plural = if tables == 1 { "" } else { "s" };
        writeln!(
            f,
            "  moves        {tables} table{plural}, about {rows} rows, {} of source data, {chunks} chunks",
            ByteSize(bytes)
        )?;
        writeln!(f, "  consistency  {}", self.consistency.statement())?;
        if let Some(point) = &self.point {
            writeln!(f, "  snapshot     {point}")?;
        }
        writeln!(f, "  verify       {} before anything is published", self.level)?;
        let (memory, floor) = (ByteSize(self.memory_bytes), ByteSize(self.memory_floor_bytes));
        writeln!(
            f,
            "  memory       {memory}, for {} chunks at once; the widest possible row needs {floor}",
            self.memory.lanes
        )?;
        for table in &self.tables {
            writeln!(f)?;
            print_table(f, table)?;
        }
        writeln!(f, "\nPrivileges needed")?;
        for right in &self.privileges {
            writeln!(f, "  {right}")?;
        }
        Ok(())
    }
}

fn print_table(f: &mut fmt::Formatter<'_>, table: &PlannedTable) -> fmt::Result {
    let plan = &table.plan;
    writeln!(f, "{} -> {}", plan.source, plan.target)?;
    let about = if table.counted { "" } else { "about " };
    let (rows, bytes) = (grouped(table.rows), ByteSize(table.bytes));
    write!(f, "  {about}{rows} rows, {bytes}, ")?;
    match (plan.chunks.as_slice(), cut_by(plan)) {
        ([] | [_], _) => writeln!(f, "1 chunk")?,
        (chunks, key) => writeln!(f, "{} chunks at counted quantiles of {key}", chunks.len())?,
    }
    if !table.excluded.is_empty() {
        writeln!(f, "  excluded: {}", table.excluded.join(", "))?;
    }
    for loss in &table.losses {
        writeln!(f, "  LOSS: {loss}")?;
    }
    for note in &table.notes {
        writeln!(f, "  note: {note}")?;
    }
    for gap in &table.unwitnessed {
        writeln!(f, "  witness: {gap}")?;
    }
    let mut cells =
        vec![["column", "SQL Server", "Arrow", "Snowflake", "witness (source / target)"].map(String::from)];
    for (column, witness) in plan.columns.iter().zip(&table.witnesses) {
        let null = if column.nullable { "" } else { " not null" };
        let name = if column.source_name == column.target_name {
            column.source_name.clone()
        } else {
            format!("{} -> {}", column.source_name, column.target_name)
        };
        cells.push([
            name,
            format!("{}{null}", column.source),
            column.source.arrow().to_string(),
            column.source.snowflake(),
            witness.clone(),
        ]);
    }
    for line in aligned(&cells) {
        writeln!(f, "    {line}")?;
    }
    let chunks = plan.chunks.len();
    let form =
        if chunks > 1 { format!(" (the first chunk's stand for all {chunks})") } else { String::new() };
    writeln!(f, "  SQL at SQL Server{form}")?;
    for statement in &table.source_statements {
        writeln!(f, "    {statement}")?;
    }
    writeln!(f, "  SQL at Snowflake")?;
    for statement in &table.target_statements {
        writeln!(f, "    {statement}")?;
    }
    Ok(())
}

/// The key columns that the chunks are cut by, with their types.
fn cut_by(plan: &TablePlan) -> String {
    let widest = plan.chunks.iter().filter_map(|chunk| chunk.range.lower.as_ref()).max_by_key(|b| b.0.len());
    let names = widest.into_iter().flat_map(|bound| &bound.0).map(|part| {
        let column = plan.keys.iter().find(|key| key.name == part.column);
        column.map_or_else(|| part.column.clone(), |key| format!("{} {}", key.name, key.source))
    });
    names.collect::<Vec<_>>().join(", ")
}

/// Pads every column but the last to its widest cell.
pub(crate) fn aligned<const N: usize>(cells: &[[String; N]]) -> Vec<String> {
    let width = |at: usize| cells.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |row: &[String; N]| {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            let _ = write!(line, "{cell:<width$}  ");
        }
        line.trim_end().to_owned()
    };
    cells.iter().map(line).collect()
}
