//! SECURITY.md's table of threats: which tests each row names, and whether they exist.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

/// The threats that must have a row.
pub const REQUIRED: [u32; 44] = [
    1, 2, 3, 4, 6, 7, 8, 9, 10, 13, 15, 17, 18, 19, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34,
    35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 46, 47, 48, 49, 50, 53,
];

/// One row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its threats' numbers.
    pub numbers: BTreeSet<u32>,
    /// The first column without them.
    pub threat: String,
    /// What stands against it.
    pub control: String,
    /// The tests that fail without it.
    pub tests: Vec<String>,
}

/// The table's rows; each must name a test.
pub fn rows(text: &str) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for line in text.lines() {
        let Some(inside) = line.strip_prefix("| ").and_then(|line| line.strip_suffix(" |")) else { continue };
        let columns: Vec<&str> = inside.split(" | ").collect();
        let [threat, control, proof] = columns.as_slice() else { continue };
        let (numbers, threat) = numbered(threat);
        if numbers.is_empty() {
            continue;
        }
        let tests: Vec<String> =
            proof.split('`').skip(1).step_by(2).filter(|word| is_test(word)).map(str::to_owned).collect();
        ensure!(!tests.is_empty(), "SECURITY.md: the row of threat {numbers:?} names no test");
        rows.push(Row { numbers, threat: threat.to_owned(), control: (*control).to_owned(), tests });
    }
    Ok(rows)
}

/// `30, 31 endless bodies` → the numbers and the words.
fn numbered(text: &str) -> (BTreeSet<u32>, &str) {
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == ',' || c == ' ')).unwrap_or(text.len());
    let mut end = text[..end].rfind(|c: char| c.is_ascii_digit()).map_or(0, |last| last + 1);
    if let Some(rest) = text[end..].strip_prefix(" and ") {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        end += if digits > 0 { " and ".len() + digits } else { 0 };
    }
    let numbers =
        text[..end].replace("and", ",").split(',').filter_map(|part| part.trim().parse().ok()).collect();
    (numbers, text[end..].trim())
}

fn is_test(word: &str) -> bool {
    word.len() > 10
        && word.contains('_')
        && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// Every test that a row names and no source file has.
pub fn unknown(rows: &[Row], root: &Path) -> Result<BTreeSet<String>> {
    let mut missing: BTreeSet<String> = rows.iter().flat_map(|row| row.tests.iter().cloned()).collect();
    let mut folders: Vec<PathBuf> = ["broker", "loader", "proto", "tests"].map(|name| root.join(name)).into();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|kind| kind == "rs") {
                let text = fs::read_to_string(&path)?;
                missing.retain(|name| !has(&text, name));
            }
        }
    }
    Ok(missing)
}

/// Whether a source file makes a test of this name; a name can be made for each of both programs.
fn has(text: &str, name: &str) -> bool {
    let for_each = ["broker", "loader"].map(|program| name.replace(program, "{name}"));
    text.contains(&format!("fn {name}("))
        || text.contains(&format!("\"{name}\""))
        || for_each.iter().any(|pattern| pattern != name && text.contains(&format!("\"{pattern}\"")))
}

/// The threats that must have a row and have none.
pub fn absent(rows: &[Row]) -> BTreeSet<u32> {
    let found: BTreeSet<u32> = rows.iter().flat_map(|row| row.numbers.iter().copied()).collect();
    REQUIRED.into_iter().filter(|number| !found.contains(number)).collect()
}

/// Which program runs each test, from `(program, listing)`.
pub fn programs(listings: &[(PathBuf, String)]) -> BTreeMap<String, (PathBuf, String)> {
    let mut found = BTreeMap::new();
    for (program, listing) in listings {
        for whole in listing.lines().filter_map(|line| line.strip_suffix(": test")) {
            let name = whole.rsplit("::").next().unwrap_or(whole).rsplit("] ").next().unwrap_or(whole);
            found.insert(name.to_owned(), (program.clone(), whole.to_owned()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_with_their_numbers_and_tests() {
        let text = "| threat | control | test |\n| --- | --- | --- |\n\
                    | 30, 31 endless bodies | caps | `a_body_that_never_ends`, `make demo` |\n\
                    | 4 hoarding, 23 and 24 slow | rates | the load's `a_burst_passes_then_holds` |\n\
                    | 23 and 24 slow callers | rates | `a_burst_passes_then_holds` |\n";
        let rows = rows(text).unwrap();
        assert_eq!(rows[0].numbers, [30, 31].into());
        assert_eq!((rows[0].threat.as_str(), rows[0].tests.len()), ("endless bodies", 1));
        assert_eq!(rows[1].numbers, [4].into());
        assert_eq!((&rows[2].numbers, rows[2].threat.as_str()), (&[23, 24].into(), "slow callers"));
        assert!(super::rows("| 9 names | types | the snapshot tests |").is_err(), "a row without a test");
    }
}
