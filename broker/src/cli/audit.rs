//! `broker audit verify`.

use std::{
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
    process::ExitCode,
};

use keyferry_broker::{
    audit::{Finding, PublicKey, Verified, verify},
    codes,
};

use super::Output;

/// Why a log does not pass.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error("cannot read {}: {cause}", path.display())]
    Unreadable { path: PathBuf, cause: String },
    #[error("{}: {}", path.display(), findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Found { path: PathBuf, findings: Vec<Finding> },
    #[error(
        "{}: the chain holds, but nothing signed was checked: without --key a log that was cut at its end or made anew looks \
         the same",
        path.display()
    )]
    NoKey { path: PathBuf },
}

impl Refused {
    pub(crate) fn entry(&self) -> &'static codes::Entry {
        match self {
            Self::Unreadable { .. } => &codes::AUDIT_UNREADABLE,
            Self::NoKey { .. } => &codes::AUDIT_UNSIGNED,
            Self::Found { findings, .. } => codes::of_findings(findings).unwrap_or(&codes::INTERNAL),
        }
    }
}

/// Verifies and prints; what is wrong is the error.
pub(crate) fn run(
    log: &Path,
    key: Option<&Path>,
    at_least: Option<u64>,
    output: Output,
) -> anyhow::Result<ExitCode> {
    let unreadable = |path: &Path, cause: String| Refused::Unreadable { path: path.to_owned(), cause };
    let key = key.map(|path| {
        let pem = std::fs::read(path).map_err(|error| unreadable(path, error.to_string()))?;
        PublicKey::from_pem(&pem)
            .ok_or_else(|| unreadable(path, "no Ed25519 public key in PEM is there".to_owned()))
    });
    let key = key.transpose()?;
    let file = File::open(log).map_err(|error| unreadable(log, error.to_string()))?;
    let verified = verify(BufReader::new(file), key.as_ref(), at_least)
        .map_err(|error| unreadable(log, error.to_string()))?;
    print(&verified, key.as_ref(), output)?;
    if verified.findings.is_empty() {
        return match key {
            Some(_) => Ok(ExitCode::SUCCESS),
            None => Err(Refused::NoKey { path: log.to_owned() }.into()),
        };
    }
    Err(Refused::Found { path: log.to_owned(), findings: verified.findings }.into())
}

#[allow(clippy::print_stdout, reason = "the report is what the command is for")]
fn print(verified: &Verified, key: Option<&PublicKey>, output: Output) -> anyhow::Result<()> {
    if let Output::Json = output {
        println!("{}", serde_json::to_string_pretty(verified)?);
        return Ok(());
    }
    println!("lines        {}", verified.lines);
    match key {
        Some(key) => println!("checkpoints  {} signed by key {}", verified.checkpoints, key.id()),
        None => println!("checkpoints  {}, their signatures not looked at: give --key", verified.checkpoints),
    }
    for line in &verified.torn {
        println!("note         line {line} was cut short by a crash, and the log goes on behind it");
    }
    let verdict = match (verified.findings.is_empty(), key) {
        (true, Some(_)) => "as it was written",
        (true, None) => "a whole chain, which anybody who may write the file can make",
        (false, _) => "NOT as it was written",
    };
    println!("verdict      {verdict}");
    Ok(())
}
