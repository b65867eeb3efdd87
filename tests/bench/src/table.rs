//! Tables in Markdown, and their place in a document.

use anyhow::{Context as _, Result};

/// Rows under a head; the first column is text, the others are numbers.
#[derive(Debug, Default)]
pub struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table with these columns.
    pub fn new(head: &[&str]) -> Self {
        Self { head: head.iter().map(ToString::to_string).collect(), rows: Vec::new() }
    }

    /// Adds a row; it has as many cells as there are columns, or the rest stays empty.
    pub fn row(&mut self, mut cells: Vec<String>) {
        cells.resize(self.head.len(), String::new());
        self.rows.push(cells);
    }

    /// The table, padded so that it reads well as text too.
    pub fn markdown(&self) -> String {
        let width = |at: usize| {
            let cells = self.rows.iter().map(|row| row[at].chars().count());
            cells.chain([self.head[at].chars().count(), 3]).max().unwrap_or(3)
        };
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        let line = |cells: &[String]| {
            let pad = |(at, cell): (usize, &String)| {
                let room = " ".repeat(widths[at] - cell.chars().count());
                if at == 0 { format!(" {cell}{room} |") } else { format!(" {room}{cell} |") }
            };
            format!("|{}\n", cells.iter().enumerate().map(pad).collect::<String>())
        };
        let rule = |(at, width): (usize, &usize)| {
            if at == 0 {
                format!(" {} |", "-".repeat(*width))
            } else {
                format!(" {}: |", "-".repeat(width - 1))
            }
        };
        let rule = format!("|{}\n", widths.iter().enumerate().map(rule).collect::<String>());
        line(&self.head) + &rule + &self.rows.iter().map(|row| line(row)).collect::<String>()
    }
}

/// Replaces what stands between `<!-- begin NAME -->` and `<!-- end NAME -->`, which must both be there once.
pub fn replace(document: &str, name: &str, generated: &str) -> Result<String> {
    let (begin, end) = (format!("<!-- begin {name} -->"), format!("<!-- end {name} -->"));
    let (before, rest) =
        document.split_once(&begin).with_context(|| format!("no {begin} in the document"))?;
    let (_, after) = rest.split_once(&end).with_context(|| format!("no {end} behind {begin}"))?;
    Ok(format!("{before}{begin}\n\n{}\n\n{end}{after}", generated.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_padded_and_numbers_stand_to_the_right() {
        let mut table = Table::new(&["client", "µs"]);
        table.row(vec!["ours".into(), "1.25".into()]);
        table.row(vec!["x".into()]);
        assert_eq!(
            table.markdown(),
            "| client |   µs |\n| ------ | ---: |\n| ours   | 1.25 |\n| x      |      |\n"
        );
    }

    #[test]
    fn only_what_stands_between_the_markers_is_replaced() {
        let document = "prose\n<!-- begin a -->\nold\n<!-- end a -->\nmore <!-- begin b --><!-- end b -->";
        let new = replace(document, "a", "table\n").unwrap();
        assert_eq!(
            new,
            "prose\n<!-- begin a -->\n\ntable\n\n<!-- end a -->\nmore <!-- begin b --><!-- end b -->"
        );
        assert_eq!(replace(&new, "a", "table").unwrap(), new, "twice is once");
    }

    #[test]
    fn a_document_without_the_markers_is_refused() {
        assert!(replace("nothing", "a", "table").is_err());
        assert!(replace("<!-- begin a -->", "a", "table").is_err());
    }
}
