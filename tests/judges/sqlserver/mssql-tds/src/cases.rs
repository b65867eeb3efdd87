//! The cases of statements.txt.

/// An error as the file expects it; line 0 is not compared.
#[derive(Debug)]
pub struct Expected {
    pub number: u32,
    pub class: i32,
    pub state: u8,
    pub line: i32,
    pub text: String,
}

pub struct Case {
    pub topic: String,
    pub what: String,
    pub sql: String,
    pub results: Vec<Vec<Vec<String>>>,
    pub counts: Vec<u64>,
    pub error: Option<Expected>,
    next: bool,
}

/// Every case, with this client's names in it. What is tagged for a type that this client lacks is left out.
pub fn cases(me: &str, database: &str) -> Vec<Case> {
    let whole = include_str!("../../statements.txt").replace("{me}", me).replace("{db}", database);
    let mut found: Vec<Case> = Vec::new();
    let mut skipped = false;
    for line in whole.lines() {
        if let Some(head) = line.strip_prefix("## ") {
            let (topic, what) = head.split_once(": ").unwrap_or((head, ""));
            let (topic, tags) = topic.split_once(" [").unwrap_or((topic, ""));
            skipped = tags.contains("variant");
            if !skipped {
                found.push(Case {
                    topic: topic.to_owned(),
                    what: what.to_owned(),
                    sql: String::new(),
                    results: Vec::new(),
                    counts: Vec::new(),
                    error: None,
                    next: true,
                });
            }
        } else if let Some(case) = found.last_mut().filter(|_| !skipped) {
            read(case, line);
        }
    }
    found
}

fn read(case: &mut Case, line: &str) {
    if line == ">>" {
        case.next = true;
    } else if let Some(row) = line.strip_prefix("> ") {
        if std::mem::take(&mut case.next) {
            case.results.push(Vec::new());
        }
        if row != "(none)"
            && let Some(rows) = case.results.last_mut()
        {
            rows.push(row.split(" | ").map(str::to_owned).collect());
        }
    } else if let Some(count) = line.strip_prefix("# ").and_then(|count| count.parse().ok()) {
        case.counts.push(count);
    } else if let Some(error) = line.strip_prefix("! ") {
        case.error = expected(error);
    } else if !line.trim().is_empty() && !line.starts_with("# ") {
        if !case.sql.is_empty() {
            case.sql.push('\n');
        }
        case.sql.push_str(line);
    }
}

fn expected(line: &str) -> Option<Expected> {
    let mut parts = line.splitn(5, ' ');
    Some(Expected {
        number: parts.next()?.parse().ok()?,
        class: parts.next()?.parse().ok()?,
        state: parts.next()?.parse().ok()?,
        line: parts.next()?.parse().ok()?,
        text: parts.next()?.to_owned(),
    })
}
