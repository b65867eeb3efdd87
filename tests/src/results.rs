//! Tables of what tests found: each test appends its row, and the run prints them at its end.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::{self, OpenOptions},
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// One row: columns and their texts, in the order in which they are printed.
pub type Row = Vec<(String, String)>;

/// Where the tables are kept: `KEYFERRY_RESULTS`, or `results` in the build folder of the running program.
pub fn folder() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os("KEYFERRY_RESULTS") {
        return Ok(folder.into());
    }
    let own = std::env::current_exe()?;
    let profile = own.ancestors().find(|path| path.ends_with("debug") || path.ends_with("release"));
    let target = profile.and_then(Path::parent).context("this program does not lie in a build folder")?;
    Ok(target.join("results"))
}

/// Appends a row to a table. Tests that run at the same time do not disturb each other: a row is one short write.
pub fn append(table: &str, row: &[(&str, &str)]) -> Result<()> {
    let folder = folder()?;
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let path = folder.join(table).with_extension("jsonl");
    let line = serde_json::to_string(row)? + "\n";
    let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
    file.write_all(line.as_bytes()).with_context(|| format!("append to {}", path.display()))
}

/// The rows of a table as they came; none when nobody wrote one.
pub fn rows(path: &Path) -> Result<Vec<Row>> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        text => text.with_context(|| format!("read {}", path.display()))?,
    };
    text.lines().map(|line| serde_json::from_str(line).with_context(|| format!("the line {line}"))).collect()
}

/// Every table of the folder by its name.
pub fn tables(folder: &Path) -> Result<BTreeMap<String, Vec<Row>>> {
    let mut tables = BTreeMap::new();
    let Ok(entries) = fs::read_dir(folder) else { return Ok(tables) };
    for entry in entries {
        let path = entry?.path();
        if let (Some(name), Some("jsonl")) =
            (path.file_stem().and_then(|n| n.to_str()), path.extension().and_then(|e| e.to_str()))
        {
            tables.insert(name.to_owned(), rows(&path)?);
        }
    }
    Ok(tables)
}

/// A table as aligned text, sorted by its first column; a test that ran again counts with its last row.
pub fn print(name: &str, rows: &[Row]) -> String {
    let header: Vec<&str> =
        rows.first().map(|row| row.iter().map(|(column, _)| column.as_str()).collect()).unwrap_or_default();
    let mut latest: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for row in rows {
        let cells: Vec<&str> = row.iter().map(|(_, text)| text.as_str()).collect();
        let key = (cells.first().copied().unwrap_or_default(), cells.last().copied().unwrap_or_default());
        latest.insert(key, cells);
    }
    let lines: Vec<&Vec<&str>> = std::iter::once(&header).chain(latest.values()).collect();
    let width = |column: usize| {
        let texts = lines.iter().filter_map(|cells| cells.get(column));
        texts.map(|text| text.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let mut text = format!("{name}: {} rows\n", latest.len());
    for cells in &lines {
        let mut line = String::new();
        for (cell, width) in cells.iter().zip(&widths) {
            let _ = write!(line, "  {cell:width$}");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_aligned_sorted_and_counts_a_repeated_test_once() {
        let row = |fault: &str, what: &str, test: &str| {
            vec![
                ("fault".to_owned(), fault.to_owned()),
                ("what happened".to_owned(), what.to_owned()),
                ("test".to_owned(), test.to_owned()),
            ]
        };
        let rows =
            [row("stage 503", "old", "b"), row("deadlock", "completed", "a"), row("stage 503", "new", "b")];
        assert_eq!(
            print("faults", &rows),
            "faults: 2 rows\n  fault      what happened  test\n  deadlock   completed      a\n  stage 503  new            b\n"
        );
    }
}
