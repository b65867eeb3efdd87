//! What a run says when it ends: a table for a reader, JSON for a script.

use std::{fmt, sync::Arc};

use serde::Serialize;

use crate::{
    config::{ByteSize, Consistency},
    plan::{Plan, PlannedTable, print::aligned},
    progress::Progress,
    verify::Level,
};

/// The closing report of `loader run` and `loader verify`.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The pipeline's name.
    pub pipeline: String,
    /// In the order of the file.
    pub tables: Vec<TableReport>,
    /// From start to end.
    pub seconds: f64,
    /// What the rows are a view of.
    pub consistency: Consistency,
    /// The same in a sentence.
    pub consistency_statement: &'static str,
    #[serde(skip)]
    progress: Arc<Progress>,
}

/// One table of it.
#[derive(Debug, Serialize)]
pub struct TableReport {
    /// At the source.
    pub source: String,
    /// At the target.
    pub target: String,
    /// Rows in the target.
    pub rows: u64,
    /// Chunks in all.
    pub chunks: usize,
    /// Of these, loaded by an earlier process.
    pub resumed: usize,
    /// Source bytes.
    pub bytes: u64,
    /// Time for verifying and publishing; chunks of all tables are moved side by side.
    pub finishing_seconds: f64,
    /// What was compared.
    pub verified: Level,
    /// Whether the target was replaced.
    pub published: bool,
    /// Where one point in time was asked for: the chunks that this process read at moments of their own.
    pub read_apart: Vec<u32>,
}

impl TableReport {
    /// Names only; nothing has been done yet.
    pub(crate) fn of(table: &PlannedTable) -> Self {
        Self {
            source: table.plan.source.to_string(),
            target: table.plan.target.to_string(),
            rows: 0,
            chunks: 0,
            resumed: 0,
            bytes: 0,
            finishing_seconds: 0.0,
            verified: Level::Counts,
            published: false,
            read_apart: Vec::new(),
        }
    }
}

impl Report {
    /// No table is done yet.
    pub(crate) fn new(plan: &Plan, progress: &Arc<Progress>) -> Self {
        Self {
            pipeline: plan.pipeline.clone(),
            tables: Vec::new(),
            seconds: 0.0,
            consistency: plan.consistency,
            consistency_statement: plan.consistency.statement(),
            progress: Arc::clone(progress),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = ["table", "target", "rows", "chunks", "source bytes", "verified", "published"];
        let mut cells = vec![header.map(String::from)];
        for table in &self.tables {
            let resumed = match table.resumed {
                0 => String::new(),
                resumed => format!(" ({resumed} from before)"),
            };
            cells.push([
                table.source.clone(),
                table.target.clone(),
                grouped(table.rows),
                format!("{}{resumed}", table.chunks),
                ByteSize(table.bytes).to_string(),
                table.verified.to_string(),
                if table.published { "yes" } else { "no" }.to_owned(),
            ]);
        }
        for line in aligned(&cells) {
            writeln!(f, "{line}")?;
        }
        let rows: u64 = self.tables.iter().map(|table| table.rows).sum();
        let bytes: u64 = self.tables.iter().map(|table| table.bytes).sum();
        let rate = (rows as f64 / self.seconds.max(0.001)) as u64;
        let (rows, rate) = (grouped(rows), grouped(rate));
        write!(f, "\n{rows} rows, {} in {:.1} s ({rate} rows/s)", ByteSize(bytes), self.seconds)?;
        match self.progress.staged_bytes() {
            0 => writeln!(f)?,
            staged => writeln!(f, "; {} crossed, compressed and encrypted", ByteSize(staged))?,
        }
        let Progress { source, encoder, upload, commit, .. } = self.progress.as_ref();
        writeln!(
            f,
            "waited, all tasks together: {:.1} s for SQL Server, {:.1} s for the encoder, {:.1} s for uploads, {:.1} s for commits",
            source.total().as_secs_f64(),
            encoder.total().as_secs_f64(),
            upload.total().as_secs_f64(),
            commit.total().as_secs_f64()
        )?;
        writeln!(f, "consistency: {}", self.consistency_statement)?;
        for table in self.tables.iter().filter(|table| !table.read_apart.is_empty()) {
            writeln!(
                f,
                "  {}: read at moments of their own: chunks {}",
                table.source,
                spans(&table.read_apart)
            )?;
        }
        Ok(())
    }
}

/// A number with its thousands apart.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Ascending numbers, neighbours as one span: `1-3, 7`.
fn spans(numbers: &[u32]) -> String {
    let mut spans: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match spans.last_mut() {
            Some((_, last)) if *last + 1 == *number => *last = *number,
            _ => spans.push((*number, *number)),
        }
    }
    let words = spans.iter().map(|(a, b)| if a == b { a.to_string() } else { format!("{a}-{b}") });
    words.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::{grouped, spans};

    #[test]
    fn neighbours_are_one_span() {
        assert_eq!(spans(&[1, 2, 3, 7, 9, 10]), "1-3, 7, 9-10");
    }

    #[test]
    fn thousands_stand_apart() {
        assert_eq!(
            [0, 999, 1000, 1_234_567].map(grouped),
            ["0", "999", "1,000", "1,234,567"].map(String::from)
        );
    }
}
