//! Every credential is checked: each wrong one is refused by a message that names the cause.

use std::{fs, time::Duration};

use anyhow::{Result, ensure};
use keyferry_e2e::{
    process::{Ended, User},
    sample::every_type,
    world::{BrokerSetup, Options, PipelineSetup},
};
use libtest_mimic::Trial;

use crate::harness::{PATIENCE, Stage, expect, ordinary, root_test, test};

pub(crate) fn trials(trials: &mut Vec<Trial>) {
    trials.push(test("a_wrong_secret_id_stops_the_broker", wrong_secret_id));
    trials.push(test("a_wrong_client_secret_is_named", wrong_client_secret));
    trials.push(test("a_keytab_that_the_kdc_no_longer_knows_is_named", wrong_keytab));
    trials.push(test("a_server_whose_keytab_is_old_refuses_the_ticket", wrong_service_keytab));
    trials.push(test("an_expired_token_is_refused_by_snowflake", expired_token));
    trials.push(test("a_token_for_another_audience_is_refused_by_snowflake", wrong_audience));
    trials.push(test("a_caller_that_policy_does_not_name_gets_nothing", not_in_policy));
    trials.push(root_test("another_uid_at_the_socket_gets_nothing", wrong_uid));
    trials.push(test("another_pipelines_grant_is_not_given", other_pipeline));
    trials.push(test("a_role_that_the_grant_does_not_allow_is_refused", wrong_role));
    trials.push(test("a_socket_served_by_somebody_else_is_not_spoken_to", wrong_server));
    trials.push(test("every_refusal_is_in_the_audit_log", refusals_are_audited));
}

fn setup() -> PipelineSetup {
    PipelineSetup::of(&["every_type"])
}

async fn filled(options: &Options) -> Result<Stage> {
    let stage = Stage::with(options).await?;
    stage.world.fill(&[every_type::table()]).await?;
    Ok(stage)
}

/// Starts a broker that must not come up, and returns how it ended.
async fn broker_fails(stage: &Stage, setup: &BrokerSetup) -> Result<Ended> {
    let config = setup.write(&stage.world)?;
    let broker = stage.world.spawn_broker(&["run", "--config", &config.display().to_string()])?;
    broker.wait(Duration::from_secs(60)).await
}

fn refused(ended: &Ended, words: &[&str]) -> Result<()> {
    ensure!(
        ended.code().is_some_and(|code| code >= 64),
        "expected a refusal, found {:?}:\n{}",
        ended.status,
        ended.output()
    );
    expect(ended, ended.code().unwrap_or(-1), words)
}

async fn wrong_secret_id() -> Result<()> {
    let stage = filled(&Options::default()).await?;
    let wrong = "00000000-1111-2222-3333-444444444444";
    let ended =
        broker_fails(&stage, &BrokerSetup { secret_id: Some(wrong.to_owned()), ..ordinary() }).await?;
    refused(&ended, &["Vault", "secret_id"])?;
    ensure!(!ended.output().contains(wrong), "the secret_id was printed");
    stage.end(None).await
}

async fn wrong_client_secret() -> Result<()> {
    let stage = filled(&Options::default()).await?;
    replace_field(&stage, "client_secret", "not-the-secret");
    let outcome = stage.world.start_broker(&ordinary()).await;
    let said = match outcome {
        Ok(broker) => {
            let ended = stage.loader("run", &setup()).await?;
            refused(&ended, &["7000215"])?;
            let said = ended.output();
            broker.stop(Duration::from_secs(20)).await?;
            said
        }
        Err(error) => error.to_string(),
    };
    ensure!(said.contains("7000215"), "{said}");
    ensure!(!said.contains("not-the-secret"), "the client secret was printed");
    stage.end(None).await
}

fn replace_field(stage: &Stage, field: &str, value: &str) {
    use base64::Engine as _;
    let keytab = base64::prelude::BASE64_STANDARD.encode(&stage.world.secrets.keytab);
    let mut data = serde_json::json!({
        "mssql_spn": format!("svc_loader@{}", keyferry_e2e::world::REALM),
        "keytab_base64": keytab,
        "mssql_server_fqdn": "localhost",
        "sf_user": "SVC_LOADER",
        "tenant_id": "9f3c1d52-5a7e-4a55-9d0f-5d2f4c1b7a10",
        "client_id": "2b1d8f0a-6c11-4f0e-8f39-0d6f3f0c9a01",
        "client_secret": stage.world.secrets.client_secret,
    });
    data[field] = value.into();
    stage.world.vault.put("secret", "pipelines/mssql_to_snowflake", data);
}

async fn wrong_keytab() -> Result<()> {
    let stage = filled(&Options::default()).await?;
    stage.world.kdc.rotate_keytab("svc_loader", &stage.world.dir.join("kdc").join("newer.keytab"))?;
    let ended = broker_fails(&stage, &ordinary()).await?;
    refused(&ended, &["keytab", "svc_loader"])?;
    stage.end(None).await
}

async fn wrong_service_keytab() -> Result<()> {
    let stage = filled(&Options::default()).await?;
    let spn = format!("MSSQLSvc/localhost:{}", stage.world.sqlserver.addr().port());
    stage.world.kdc.rotate_keytab(&spn, &stage.world.dir.join("kdc").join("unused.keytab"))?;
    let broker = stage.world.start_broker(&ordinary()).await?;
    let ended = stage.loader("run", &setup()).await?;
    refused(&ended, &["18452"])?;
    stage.end(Some(broker)).await
}

async fn expired_token() -> Result<()> {
    let stage = filled(&Options::default()).await?;
    stage.world.entra.faults(|faults| faults.age = Duration::from_secs(7200));
    let broker = stage.world.start_broker(&ordinary()).await?;
    let ended = stage.loader("run", &setup()).await?;
    refused(&ended, &["390318"])?;
    ensure!(stage.world.entra.fired() > 0, "the fault never fired");
    stage.end(Some(broker)).await
}

async fn wrong_audience() -> Result<()> {
    let stage = filled(&Options { audience: "api://another".to_owned(), ..Options::default() }).await?;
    let broker = stage.world.start_broker(&ordinary()).await?;
    let ended = stage.loader("run", &setup()).await?;
    refused(&ended, &["390303"])?;
    stage.end(Some(broker)).await
}

async fn not_in_policy() -> Result<()> {
    let stage = filled(&Options::default()).await?;
    let broker = stage.world.start_broker(&BrokerSetup { caller_uid: Some(4242), ..ordinary() }).await?;
    let ended = stage.loader("run", &setup()).await?;
    expect(&ended, 77, &["policy"])?;
    stage.end(Some(broker)).await
}

async fn wrong_uid() -> Result<()> {
    let stage = filled(&Options::default()).await?;
    let broker = stage.world.start_broker(&ordinary()).await?;
    let path = setup().write(&stage.world, "pipeline")?;
    let open = stage.world.dir.join("pipeline-for-all.yaml");
    fs::copy(&path, &open)?;
    let stranger = User { uid: 10_003, gid: stage.world.users.loader.gid };
    stranger.own(&open, 0o444)?;
    let arguments = ["run".to_owned(), open.display().to_string()];
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let loader = stage.world.spawn_loader_as("stranger", &arguments, &[], stranger)?;
    let ended = loader.wait(PATIENCE).await?;
    expect(&ended, 77, &["10003"])?;
    // A user outside the socket's group does not even reach it.
    let outsider = User { uid: 10_003, gid: 10_003 };
    let loader = stage.world.spawn_loader_as("outsider", &arguments, &[], outsider)?;
    let ended = loader.wait(PATIENCE).await?;
    refused(&ended, &["ermission denied"])?;
    stage.end(Some(broker)).await
}

async fn other_pipeline() -> Result<()> {
    let stage = filled(&Options::default()).await?;
    let policy =
        "{ caller: { uid: 4242 }, pipeline: payroll, allow: { sales-sql: relay, analytics: session } }"
            .to_owned();
    let broker = stage.world.start_broker(&BrokerSetup { policy: vec![policy], ..ordinary() }).await?;
    let ended = stage.loader("run", &PipelineSetup { pipeline: "payroll".to_owned(), ..setup() }).await?;
    expect(&ended, 77, &["payroll"])?;
    stage.end(Some(broker)).await
}

async fn wrong_role() -> Result<()> {
    let stage = filled(&Options::default()).await?;
    let broker = stage.world.start_broker(&ordinary()).await?;
    let ended = stage.loader("run", &PipelineSetup { role: "ACCOUNTADMIN".to_owned(), ..setup() }).await?;
    refused(&ended, &["does not allow that role", "LOADER, READER"])?;
    stage.end(Some(broker)).await
}

async fn wrong_server() -> Result<()> {
    let stage = filled(&Options::default()).await?;
    let broker = stage.world.start_broker(&ordinary()).await?;
    let path = setup().write(&stage.world, "pipeline")?;
    let text = fs::read_to_string(&path)?;
    let uid = stage.world.users.broker.uid;
    let text = text.replace(&format!("server_uid: {uid}"), &format!("server_uid: {}", uid + 7));
    stage.world.users.loader.file(&path, 0o600, text)?;
    let loader = stage.world.spawn_loader("wrong-server", &["run", &path.display().to_string()], &[])?;
    let ended = loader.wait(PATIENCE).await?;
    refused(&ended, &["nothing was sent", &format!("uid {uid}")])?;
    stage.end(Some(broker)).await
}

async fn refusals_are_audited() -> Result<()> {
    let stage = filled(&Options::default()).await?;
    let broker = stage.world.start_broker(&BrokerSetup { caller_uid: Some(4242), ..ordinary() }).await?;
    let ended = stage.loader("run", &setup()).await?;
    ensure!(ended.code() != Some(0), "an unnamed caller was served");
    let log = fs::read_to_string(stage.world.dir.join("broker").join("audit.log"))?;
    let uid = stage.world.users.loader.uid.to_string();
    let denied = log.lines().filter(|line| line.contains("denied") && line.contains(&uid)).count();
    ensure!(denied > 0, "no refusal in the audit log:\n{log}");
    stage.end(Some(broker)).await
}
