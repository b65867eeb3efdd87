//! `brokerctl whoami`: how the broker sees this user, and what it may ask for.

use std::{fmt::Write as _, time::SystemTime};

use keyferry_proto::v1::{Right, Use, WhoAmIResponse};
use serde::Serialize;

use crate::{cli::Output, held::left, link::Link};

#[derive(Serialize)]
struct Report<'a> {
    uid: u32,
    gid: u32,
    #[serde(skip_serializing_if = "str::is_empty")]
    service_account: &'a str,
    socket: String,
    server_uid: u32,
    broker_version: &'a str,
    audit_id: &'a str,
    grants: Vec<Line<'a>>,
}

#[derive(Serialize)]
struct Line<'a> {
    pipeline: &'a str,
    grant: &'a str,
    r#use: &'static str,
    /// When the token that the broker holds now ends.
    held_until: Option<String>,
}

pub(crate) fn print(answer: &WhoAmIResponse, link: &Link, output: Output) -> String {
    let rights =
        answer.pipelines.iter().flat_map(|entry| entry.rights.iter().map(move |right| (entry, right)));
    let report = Report {
        uid: answer.uid,
        gid: answer.gid,
        service_account: &answer.service_account,
        socket: link.address.socket.display().to_string(),
        server_uid: link.address.server_uid,
        broker_version: &answer.broker_version,
        audit_id: &answer.audit_id,
        grants: rights
            .map(|(entry, right)| Line {
                pipeline: &entry.pipeline,
                grant: &right.grant,
                r#use: word(right),
                held_until: held_until(right).map(|end| humantime::format_rfc3339_seconds(end).to_string()),
            })
            .collect(),
    };
    match output {
        // Numbers, strings and lists only: this cannot fail.
        Output::Json => serde_json::to_string_pretty(&report).unwrap_or_default() + "\n",
        Output::Text => human(&report, answer),
    }
}

fn human(report: &Report<'_>, answer: &WhoAmIResponse) -> String {
    let account = match report.service_account {
        "" => String::new(),
        account => format!(", service account {account}"),
    };
    let mut text = format!(
        "uid {}, gid {}{account} at {} (broker {}, uid {})\n\n",
        report.uid, report.gid, report.socket, report.broker_version, report.server_uid
    );
    if report.grants.is_empty() {
        let _ = writeln!(
            text,
            "Policy names no pipeline for this user. The broker's operator can add one under `policy`, for example\n  \
             - {{ caller: {{ uid: {} }}, pipeline: NAME, allow: {{ GRANT: token }} }}",
            report.uid
        );
        return text;
    }
    let rights = answer.pipelines.iter().flat_map(|entry| &entry.rights);
    let mut rows = vec![["pipeline", "grant", "use", "token held until"].map(str::to_owned)];
    for (line, right) in report.grants.iter().zip(rights) {
        let until = match (&line.held_until, held_until(right)) {
            (Some(text), Some(end)) => format!("{text} (in {})", humantime::format_duration(left(end))),
            _ => "-".to_owned(),
        };
        rows.push([line.pipeline.to_owned(), line.grant.to_owned(), line.r#use.to_owned(), until]);
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let (pipeline, grant, of_use) = (width(0), width(1), width(2));
    for [a, b, c, d] in &rows {
        let _ = writeln!(text, "{a:<pipeline$}  {b:<grant$}  {c:<of_use$}  {d}");
    }
    text
}

fn held_until(right: &Right) -> Option<SystemTime> {
    right.held_until.and_then(|end| SystemTime::try_from(end).ok())
}

fn word(right: &Right) -> &'static str {
    match right.r#use() {
        Use::Relay => "relay",
        Use::Session => "session",
        Use::Token => "token",
        Use::Unspecified => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use keyferry_proto::v1::PipelineRights;

    use super::*;
    use crate::link::LinkArguments;

    fn link() -> Link {
        Link::new(LinkArguments::default(), |name| {
            (name == "KEYFERRY_SERVER_UID").then(|| "10001".to_owned())
        })
        .unwrap()
    }

    #[test]
    fn a_user_sees_its_grants_with_use_and_end_and_a_script_the_same() {
        let end = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(4_000_000_000);
        let right = |grant: &str, of: Use, held_until| Right {
            grant: grant.to_owned(),
            r#use: of.into(),
            held_until,
        };
        let rights =
            vec![right("reporting", Use::Token, Some(end.into())), right("sales-sql", Use::Relay, None)];
        let answer = WhoAmIResponse {
            uid: 10_005,
            pipelines: vec![PipelineRights { pipeline: "dbt".to_owned(), rights }],
            ..WhoAmIResponse::default()
        };
        let text = print(&answer, &link(), Output::Text);
        assert!(text.contains("dbt       reporting  token  2096-10-02T07:06:40Z (in "), "{text}");
        assert!(text.contains("dbt       sales-sql  relay  -\n"), "{text}");
        let json: serde_json::Value = serde_json::from_str(&print(&answer, &link(), Output::Json)).unwrap();
        assert_eq!(json["grants"][0]["use"], "token");
        assert_eq!(json["grants"][0]["held_until"], "2096-10-02T07:06:40Z");
        assert_eq!(json["grants"][1]["held_until"], serde_json::Value::Null);
    }

    #[test]
    fn a_user_without_rights_is_told_what_the_operator_would_write() {
        let text = print(&WhoAmIResponse { uid: 4242, ..WhoAmIResponse::default() }, &link(), Output::Text);
        assert!(text.contains("caller: { uid: 4242 }"), "{text}");
    }
}
