use std::path::Path;

use insta::assert_snapshot;

use super::*;

const CONFIG: &str = r#"socket: { path: broker.sock }
vault:
  address: https://127.0.0.1:8200
  auth: { approle: { role_id_file: role-id, secret_id_file: secret-id } }
  secret: { mount: secret, path: pipelines/sales }
kerberos: { principal_key: mssql_spn, keytab_key: keytab_base64, tmpfs: /run/keyferry-private }
grants:
  sales-sql: { kerberos: { spn: "MSSQLSvc/sql01.corp.example.com:1433" } }
  analytics:
    snowflake:
      account: myorg-myaccount
      user: LOADER
      roles: [LOADER, AUDITOR]
      warehouses: [LOAD_WH]
      login:
        entra: { tenant_key: tenant_id, client_id_key: client_id, client_secret_key: client_secret, scope: "api://snowflake/.default" }
service_accounts: { issuer: "https://cluster.example.com", keys_file: keys.json }
policy:
  - caller: { uid: 10002 }
    pipeline: sales
    allow: { sales-sql: relay, analytics: session }
  - caller: { uid: 10002, gid: 7 }
    pipeline: hr
    allow: { analytics: token }
  - caller: { service_account: etl/dbt }
    pipeline: dbt
    allow: { analytics: token }
audit: { path: audit.log }
admin: { listen: "127.0.0.1:0" }
"#;

fn asked(caller: &str, pipeline: Option<&str>, grant: Option<&str>) -> Explanation {
    let config = Config::parse(CONFIG, Path::new("broker.yaml"), Path::new("/")).unwrap();
    let question = Question {
        caller: caller.parse().unwrap(),
        pipeline: pipeline.map(|name| name.parse().unwrap()),
        grant: grant.map(|name| name.parse().unwrap()),
    };
    explain(&config, &question)
}

#[test]
fn a_grant_is_allowed_in_one_way_and_denied_in_the_other_with_the_words_of_the_broker() {
    let found = asked("uid=10002", None, Some("analytics"));
    assert!(found.allowed);
    assert_snapshot!(found, @r"
    uid 10002

    allowed  analytics as session for pipeline sales: account myorg-myaccount, role LOADER or AUDITOR, warehouse LOAD_WH
    denied   analytics as token for pipeline sales: policy allows pipeline `sales` the grant `analytics` as session, not as token

    entries of policy:
      1   pipeline sales: is about this caller
      2   pipeline hr: is not; it wants gid 7
      3   pipeline dbt: is not; it wants service account etl/dbt
    ");
}

#[test]
fn without_a_grant_all_that_is_allowed_is_listed_pipeline_by_pipeline() {
    assert_snapshot!(asked("uid=10002,gid=7", None, None), @r"
    uid 10002, gid 7

    allowed  analytics as token for pipeline hr: account myorg-myaccount, role LOADER or AUDITOR, warehouse LOAD_WH
    allowed  analytics as session for pipeline sales: account myorg-myaccount, role LOADER or AUDITOR, warehouse LOAD_WH
    allowed  sales-sql as relay for pipeline sales: tickets for MSSQLSvc/sql01.corp.example.com:1433

    entries of policy:
      1   pipeline sales: is about this caller
      2   pipeline hr: is about this caller
      3   pipeline dbt: is not; it wants service account etl/dbt
    ");
    let one = asked("uid=10002,gid=7", Some("hr"), None);
    assert_eq!(one.decisions.len(), 1);
}

#[test]
fn whom_no_entry_is_about_gets_nothing_and_sees_what_each_entry_wants() {
    for caller in ["uid=4", "uid=0,service-account=etl/dbt", "uid=65534,service-account=etl/dbt"] {
        let found = asked(caller, None, Some("analytics"));
        assert!(!found.allowed && found.decisions.iter().all(|one| !one.allowed), "{found}");
        assert!(found.entries.iter().all(|entry| entry.wants.is_some()), "{found}");
        assert!(!asked(caller, None, None).allowed);
    }
    let root = asked("uid=0,service-account=etl/dbt", None, None);
    assert_eq!(root.entries[2].wants.as_deref(), Some("an ordinary uid"));
    assert!(asked("uid=4,service-account=etl/dbt", None, Some("analytics")).allowed);
}

#[test]
fn a_pipeline_that_is_not_the_callers_and_a_grant_that_is_not_there_are_said() {
    let found = asked("uid=10002", Some("dbt"), Some("analytics"));
    assert!(!found.allowed, "{found}");
    assert_eq!(found.decisions[0].because, "policy does not let uid 10002 act for pipeline `dbt`");
    let found = asked("uid=10002", None, Some("analytcs"));
    assert!(!found.allowed, "{found}");
    assert_eq!(found.decisions[0].because, "no grant has this name; there are `analytics`, `sales-sql`");
}

#[test]
fn a_description_that_is_none_says_how_one_reads() {
    for wrong in [
        "",
        "10002",
        "uid",
        "uid=me",
        "gid=3",
        "uid=1,uid=2",
        "uid=1,service-account=dbt",
        "uid=-1",
        "user=x",
    ] {
        let error = wrong.parse::<Described>().unwrap_err();
        assert!(error.contains("a caller reads `uid=10002`"), "{wrong}: {error}");
    }
}
