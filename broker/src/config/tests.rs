use insta::assert_snapshot;

use super::*;

const GOOD: &str = r#"socket: { path: run/broker.sock, group: keyferry }
vault:
  address: https://127.0.0.1:8200
  ca_file: vault-ca.pem
  auth: { approle: { role_id_file: role-id, secret_id_file: secret-id } }
  secret: { mount: secret, path: pipelines/mssql_to_snowflake }
kerberos: { principal_key: mssql_spn, keytab_key: keytab_base64, tmpfs: /run/keyferry-private }
grants:
  sales-sql: { kerberos: { spn: "MSSQLSvc/sql01.corp.example.com:1433", host_key: mssql_server_fqdn } }
  analytics:
    snowflake:
      account: myorg-myaccount
      user_key: sf_user
      roles: [LOADER]
      warehouses: [LOAD_WH]
      login:
        entra: { tenant_key: tenant_id, client_id_key: client_id, client_secret_key: client_secret, scope: "api://snowflake/.default" }
policy:
  - caller: { uid: 10002 }
    pipeline: sales-nightly
    allow: { sales-sql: relay, analytics: session }
audit: { path: audit.log }
admin: { listen: "127.0.0.1:0" }
"#;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("broker.yaml"), Path::new("/etc/keyferry"))
}

/// The error after one replacement in the good configuration.
fn error_after(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from:?} is not in the sample");
    parse(&GOOD.replacen(from, to, 1)).expect_err("should have been refused").to_string()
}

#[test]
fn the_sample_is_read_and_its_paths_count_from_its_own_folder() {
    let config = parse(GOOD).unwrap();
    assert_eq!(config.socket.path, Path::new("/etc/keyferry/run/broker.sock"));
    assert_eq!(config.vault.ca_file.as_deref(), Some(Path::new("/etc/keyferry/vault-ca.pem")));
    assert_eq!(config.socket.mode, Mode(0o660));
    assert_eq!(config.kerberos.unwrap().krb5_conf, Path::new("/etc/krb5.conf"));
    let GrantConfig::Snowflake(snowflake) = &config.grants[&"analytics".parse().unwrap()] else { panic!() };
    assert_eq!(snowflake.url(), "https://myorg-myaccount.snowflakecomputing.com");
    let SnowflakeLoginConfig::Entra(entra) = &snowflake.login;
    assert_eq!(entra.authority.as_str(), "https://login.microsoftonline.com");
    let GrantConfig::Kerberos(kerberos) = &config.grants[&"sales-sql".parse().unwrap()] else { panic!() };
    assert_eq!((kerberos.spn.host(), kerberos.spn.port()), ("sql01.corp.example.com", Some(1433)));
    assert_eq!(config.policy[0].allow[&"sales-sql".parse().unwrap()], Use::Relay);
    assert_eq!(config.limits.drain, Duration::from_secs(20));
}

#[test]
fn limits_are_read_as_durations_in_words() {
    let config =
        parse(&format!("{GOOD}limits: {{ drain: 5s, refresh_margin: 2m, sessions_per_uid: 3 }}\n")).unwrap();
    assert_eq!((config.limits.drain, config.limits.sessions_per_uid), (Duration::from_secs(5), 3));
    let wrong = parse(&format!("{GOOD}limits: {{ drain: soon }}\n")).unwrap_err().to_string();
    assert_snapshot!(wrong, @r#"broker.yaml:24:18: "soon" is no duration; write `60s`, `5m` or `1h 30m`"#);
    let wrong = parse(&format!("{GOOD}limits: {{ calls_per_second: 0 }}\n")).unwrap_err().to_string();
    assert_snapshot!(wrong, @"broker.yaml:24:9: `calls_per_second` is 0, so nobody would be served; write at least 1");
}

#[test]
fn a_typo_is_named_with_its_place_and_the_nearest_right_key() {
    assert_snapshot!(error_after("socket:", "sokcet:"), @r#"broker.yaml:1:1: unknown key "sokcet"; did you mean `socket`? (here: socket, vault, kerberos, grants, service_accounts, policy, audit, admin, limits, sandbox)"#);
    assert_snapshot!(error_after("secret_id_file", "secretid_file"), @r#"broker.yaml:5:45: unknown key "secretid_file"; did you mean `secret_id_file`? (here: mount, role_id_file, secret_id_file, wrapped)"#);
    assert_snapshot!(error_after("warehouses:", "warehouse:"), @r#"broker.yaml:15:7: unknown key "warehouse"; did you mean `warehouses`? (here: account, url, ca_file, user_key, user, roles, warehouses, login)"#);
    assert_snapshot!(error_after("kerberos: { spn", "kerberso: { spn"), @r#"broker.yaml:9:16: unknown choice "kerberso"; did you mean `kerberos`? (here: kerberos, snowflake)"#);
    assert_snapshot!(error_after("sales-sql: relay", "sales-sql: realy"), @r#"broker.yaml:21:25: unknown choice "realy"; did you mean `relay`? (here: relay, session, token)"#);
    assert_snapshot!(error_after("group: keyferry", "colour: blue"), @r#"broker.yaml:1:34: unknown key "colour" (here: path, group, mode)"#);
}

#[test]
fn a_missing_and_a_doubled_key_are_named() {
    assert_snapshot!(error_after("audit: { path: audit.log }\n", ""), @"broker.yaml:22:1: the key `audit` is missing here; add it");
    assert_snapshot!(error_after("      account: myorg-myaccount\n", ""), @"broker.yaml:15:7: the key `account` is missing here; add it");
    assert_snapshot!(error_after("audit: {", "socket: { path: x }\naudit: {"), @"broker.yaml:22:1: the key `socket` is given twice; keep one");
}

#[test]
fn policy_may_only_name_grants_that_exist_and_in_a_way_that_they_have() {
    assert_snapshot!(error_after("analytics: session", "analytcis: session"), @"broker.yaml:21:43: policy for `sales-nightly` allows the unknown grant `analytcis`; did you mean `analytics`?");
    assert_snapshot!(error_after("analytics: session", "analytics: relay"), @"broker.yaml:21:43: grant `analytics` cannot be used as `relay`; write session or token");
    assert_snapshot!(error_after("sales-sql: relay", "sales-sql: token"), @"broker.yaml:21:25: grant `sales-sql` cannot be used as `token`; write relay");
}

#[test]
fn root_and_the_unmapped_uid_are_refused_in_policy() {
    assert_snapshot!(error_after("uid: 10002", "uid: 0"), @"broker.yaml:19:20: uid 0 is root, which no policy can bound; run the caller under a uid of its own");
    assert_snapshot!(error_after("uid: 10002", "uid: 65534"), @"broker.yaml:19:20: uid 65534 is whoever has no uid of its own here; run the caller under a uid of its own");
    assert_snapshot!(error_after("uid: 10002", "uid: -1"), @"broker.yaml:19:20: a whole number (u32) is expected here; write one, without quotes");
    assert_snapshot!(error_after("uid: 10002", "uid: loader"), @"broker.yaml:19:20: a whole number (u32) is expected here; write one, without quotes");
}

#[test]
fn a_caller_is_somebody_and_a_service_account_needs_the_clusters_keys() {
    assert_snapshot!(error_after("uid: 10002", "gid: 7"), @"broker.yaml:19:13: this caller could be anybody; say `uid`, `service_account` or both");
    assert_snapshot!(error_after("uid: 10002", "service_account: analytics/dbt"), @"broker.yaml:19:13: `service_account` needs the top-level section `service_accounts`, which is missing; add it");
    assert_snapshot!(error_after("uid: 10002", "service_account: dbt"), @"broker.yaml:19:32: a service account has two parts; write `namespace/name`, each of lower-case letters, digits, `-` and `.`");
    let section =
        "service_accounts: { issuer: https://cluster.local, keys_file: keys.json, max_life: 5m }\naudit: {";
    assert_snapshot!(error_after("audit: {", section), @"broker.yaml:22:19: `max_life` is the longest life of a token: write 10 minutes to 24 hours");
}

#[test]
fn names_and_paths_that_could_escape_are_refused() {
    assert_snapshot!(error_after("sales-sql: {", "\"../x\": {"), @"broker.yaml:9:3: '.' at character 1 does not belong in a grant name; use letters, digits, `-`, `_` and `.`, and begin with a letter or digit");
    assert_snapshot!(error_after("sales-nightly", "\"a\\nb\""), @"broker.yaml:20:15: '\\n' at character 2 does not belong in a pipeline name; use letters, digits, `-`, `_` and `.`, and begin with a letter or digit");
    assert_snapshot!(error_after("pipelines/mssql_to_snowflake", "pipelines/../other"), @"broker.yaml:6:34: a Vault path may not have an empty part, `.` or `..` between slashes");
    assert_snapshot!(error_after("MSSQLSvc/sql01.corp.example.com:1433", "sql01"), @r#"broker.yaml:9:33: service principal name "sql01" does not read `MSSQLSvc/host.example.com:1433`"#);
    assert_snapshot!(error_after("myorg-myaccount", "evil.example.com/x"), @"broker.yaml:12:16: an account identifier reads `myorg-myaccount`: letters, digits, `-`, `_` and `.`");
}

#[test]
fn an_open_address_is_refused() {
    assert_snapshot!(error_after("https://127.0.0.1:8200", "http://127.0.0.1:8200"), @"broker.yaml:3:12: scheme `http` carries secrets in the open; write `https://`");
    assert_snapshot!(error_after("https://127.0.0.1:8200", "https://u:p@vault"), @"broker.yaml:3:12: an address has no user, query or fragment; leave them out");
}

#[test]
fn a_socket_for_everybody_is_refused() {
    assert_snapshot!(error_after("group: keyferry", "mode: \"0666\""), @r#"broker.yaml:1:40: the socket's mode is "0660" (owner and group) or "0600" (owner only)"#);
}

#[test]
fn a_grant_needs_what_it_stands_on() {
    let kerberos =
        "kerberos: { principal_key: mssql_spn, keytab_key: keytab_base64, tmpfs: /run/keyferry-private }\n";
    assert_snapshot!(error_after(kerberos, ""), @"broker.yaml:8:14: grant `sales-sql` needs the top-level section `kerberos`, which is missing; add it");
    assert_snapshot!(error_after("      user_key: sf_user\n", ""), @"broker.yaml:11:5: grant `analytics` needs exactly one of `user_key` (a Vault field) and `user` (the name itself)");
    assert_snapshot!(error_after("roles: [LOADER]", "roles: []"), @"broker.yaml:11:5: grant `analytics` allows no roles; list at least one");
}

#[test]
fn a_vault_field_is_a_setting_or_a_secret_and_never_both() {
    assert_snapshot!(error_after("client_id_key: client_id", "client_id_key: client_secret"), @"broker.yaml:11:5: `client_id_key` names the Vault field `client_secret`, which `client_secret_key` names as a secret: a setting may be shown, a secret never is; give each a field of its own");
    assert_snapshot!(error_after("user_key: sf_user", "user_key: keytab_base64"), @"broker.yaml:11:5: `user_key` names the Vault field `keytab_base64`, which `keytab_key` names as a secret: a setting may be shown, a secret never is; give each a field of its own");
    assert_snapshot!(error_after("principal_key: mssql_spn", "principal_key: client_secret"), @"broker.yaml:7:11: `principal_key` names the Vault field `client_secret`, which `client_secret_key` names as a secret: a setting may be shown, a secret never is; give each a field of its own");
    assert_snapshot!(error_after("host_key: mssql_server_fqdn", "host_key: client_secret"), @"broker.yaml:9:14: `host_key` names the Vault field `client_secret`, which `client_secret_key` names as a secret: a setting may be shown, a secret never is; give each a field of its own");
}

#[test]
fn a_refresh_that_would_flood_vault_or_never_come_is_refused() {
    let with = |refresh: &str| {
        let path = "path: pipelines/mssql_to_snowflake";
        parse(&GOOD.replacen(path, &format!("{path}, refresh: {refresh}"), 1))
    };
    assert_eq!(parse(GOOD).unwrap().vault.secret.refresh, Duration::from_mins(5));
    assert_eq!(with("30s").unwrap().vault.secret.refresh, Duration::from_secs(30));
    assert_snapshot!(with("10ms").unwrap_err(), @"broker.yaml:3:3: `refresh` is how often Vault is asked for a new version: write 1 second to 24 hours");
    assert!(with("2days").is_err());
}

#[test]
fn what_is_no_yaml_is_named_with_its_place() {
    assert_snapshot!(error_after("socket: {", "socket: {{"), @"broker.yaml:1:10: string scalar is expected here; check braces and indentation");
    assert_snapshot!(parse("").unwrap_err(), @"broker.yaml:1:1: the file ends too early; is it empty?");
    assert_snapshot!(parse("- 1\n").unwrap_err(), @"broker.yaml:1:1: mapping start is expected here; check braces and indentation");
}

#[test]
fn a_missing_file_is_named_with_what_to_do() {
    let error = Config::load(Path::new("/nonexistent/broker.yaml")).unwrap_err();
    assert_snapshot!(error, @"cannot read the configuration /nonexistent/broker.yaml: No such file or directory (os error 2); check the path given with --config and its permissions");
}
