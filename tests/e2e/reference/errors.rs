//! `docs/errors.md`.

use std::fmt::Write as _;

use anyhow::{Result, ensure};
use keyferry_proto::catalogue::Entry;

const OPENING: &str = "\
# Errors

Made from the code by `make reference`; a test holds it to the code.

Every message names what was attempted, what was found, and what to do. Its code is stable: it is never given to another meaning. The
loader prints `error[L305]: …`, the broker `error[B103]: …`, brokerctl `error[C209]: …`; an answer of the broker over its socket ends with `[B204]`. The exit codes
are those of sysexits: 65 data, 66 no input, 69 unavailable, 70 a fault of ours, 71 the system, 73 cannot create, 75 try again, 77 not
permitted, 78 configuration, 130 interrupted. An entry without one only answers a call; the broker goes on.
";

const LOADER: &[(char, &str)] = &[
    ('1', "the command and its file"),
    ('2', "the broker"),
    ('3', "the connection to SQL Server"),
    ('4', "the plan"),
    ('5', "values"),
    ('6', "Snowflake"),
    ('7', "files and stage"),
    ('8', "ledger, commit, publication"),
    ('9', "the process"),
];

const BROKERCTL: &[(char, &str)] = &[
    ('1', "brokerctl itself"),
    ('2', "the broker"),
    ('3', "the token's file"),
    ('4', "the command that it runs"),
];

const BROKER: &[(char, &str)] = &[
    ('1', "the configuration"),
    ('2', "a caller's request"),
    ('3', "an upstream"),
    ('4', "a grant"),
    ('5', "the socket"),
    ('6', "the audit log"),
    ('7', "the process"),
];

pub(super) fn page() -> Result<String> {
    let mut page = OPENING.to_owned();
    for (program, letter, entries, areas) in [
        ("loader", 'L', keyferry_loader::codes::CATALOGUE, LOADER),
        ("broker", 'B', keyferry_broker::codes::CATALOGUE, BROKER),
        ("brokerctl", 'C', keyferry_brokerctl::codes::CATALOGUE, BROKERCTL),
    ] {
        well_formed(letter, entries)?;
        part(&mut page, program, entries, areas)?;
    }
    Ok(page)
}

/// Codes ascend, so that none is given twice; every entry says what happened, where, and what to do.
fn well_formed(letter: char, entries: &[Entry]) -> Result<()> {
    for pair in entries.windows(2) {
        ensure!(pair[0].code < pair[1].code, "{} stands before {}", pair[0].code, pair[1].code);
    }
    for Entry { code, exit, what, place, remedy } in entries {
        ensure!(code.len() == 4 && code.starts_with(letter), "{code} is not {letter} and three digits");
        ensure!(*exit == 0 || *exit >= 64, "{code} ends with {exit}");
        ensure!([what, place, remedy].iter().all(|text| !text.is_empty()), "{code} says too little");
    }
    Ok(())
}

fn part(page: &mut String, program: &str, entries: &[Entry], areas: &[(char, &str)]) -> Result<()> {
    let mut printed = 0;
    for (digit, area) in areas {
        let _ = write!(
            page,
            "\n## {program}: {area}\n\n| code | exit | what | where: the message names | what to do |\n| --- | --- | --- | --- | --- |\n"
        );
        for entry in entries.iter().filter(|entry| entry.code.chars().nth(1) == Some(*digit)) {
            let exit = if entry.exit == 0 { "-".to_owned() } else { entry.exit.to_string() };
            let _ = writeln!(
                page,
                "| {} | {exit} | {} | {} | {} |",
                entry.code, entry.what, entry.place, entry.remedy
            );
            printed += 1;
        }
    }
    ensure!(printed == entries.len(), "{program}: {printed} of {} entries have an area", entries.len());
    Ok(())
}
