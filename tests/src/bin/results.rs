//! Prints the tables that the tests left behind: `results [FOLDER]`.

use std::path::PathBuf;

use keyferry_e2e::results;

// The tables are what it is for.
#[allow(clippy::print_stdout)]
fn main() -> anyhow::Result<()> {
    let folder =
        std::env::args_os().nth(1).map_or_else(results::folder, |folder| Ok(PathBuf::from(folder)))?;
    for (name, rows) in results::tables(&folder)? {
        println!("{}", results::print(&name, &rows));
    }
    Ok(())
}
