//! The numbers of `docs/audit-in-an-hour.md`: how much a reviewer has to read.

use std::{collections::BTreeSet, fmt::Write as _, fs, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};

const BEGIN: &str = "<!-- begin counts -->";
const END: &str = "<!-- end counts -->";

/// The whole page with its numbers as they are now.
pub(super) fn page(root: &Path) -> Result<String> {
    let text = fs::read_to_string(root.join("docs").join("audit-in-an-hour.md"))?;
    let (head, rest) = text.split_once(BEGIN).context("no begin mark")?;
    let (_, tail) = rest.split_once(END).context("no end mark")?;
    let mut table =
        String::from("| what | lines | `unsafe` | dependencies |\n| --- | ---: | ---: | ---: |\n");
    for (what, folder, package) in [
        ("the broker", "broker/src", Some("keyferry-broker")),
        ("of it, what can open a secret", "broker/src/upstream", None),
        ("the contract, and how it is dialled", "proto/src", None),
        ("the sandbox of both", "proto/sandbox/src", Some("keyferry-sandbox")),
        ("the loader", "loader/src", Some("keyferry-loader")),
    ] {
        let (lines, unsafes) = source(&root.join(folder))?;
        let crates = match package {
            Some(package) => dependencies(root, package)?.to_string(),
            None => String::new(),
        };
        writeln!(table, "| {what} (`{folder}`) | {lines} | {unsafes} | {crates} |")?;
    }
    Ok(format!("{head}{BEGIN}\n{table}{END}{tail}"))
}

/// Lines that are no tests, and blocks or functions that are `unsafe`.
fn source(folder: &Path) -> Result<(usize, usize)> {
    let (mut lines, mut unsafes) = (0, 0);
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
            if path.is_dir() {
                folders.extend((name != "tests").then_some(path));
            } else if path.extension().is_some_and(|kind| kind == "rs")
                && !matches!(name.as_str(), "tests.rs" | "testing.rs" | "mini.rs" | "script.rs")
            {
                let text = fs::read_to_string(&path)?;
                let product = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default();
                lines += product.lines().count();
                unsafes += product
                    .lines()
                    .filter(|line| !line.trim_start().starts_with("//"))
                    .filter(|line| line.contains("unsafe {") || line.contains("unsafe fn"))
                    .count();
            }
        }
    }
    Ok((lines, unsafes))
}

fn dependencies(root: &Path, package: &str) -> Result<usize> {
    let arguments =
        ["tree", "--locked", "--offline", "-e", "normal", "--prefix", "none", "--no-dedupe", "-p", package];
    let output = Command::new("cargo").args(arguments).current_dir(root).output()?;
    ensure!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    let all: BTreeSet<Vec<&str>> =
        text.lines().map(|line| line.split_whitespace().take(2).collect()).collect();
    Ok(all.len().saturating_sub(1))
}
