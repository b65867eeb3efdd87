//! Rotation while running: a new client secret, a new keytab, swapped fields, a wrapped `secret_id` that works once.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use keyferry_e2e::{
    sample::tpch,
    world::{BrokerSetup, PipelineSetup, REALM, World},
};
use keyferry_stand_in_identity::entra::{Application, ClientSecret};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::{
    harness::{PATIENCE, Stage, expect, ordinary, test},
    live::{self, audit, configure, serve},
    table,
};

pub(crate) const OFTEN: (&str, &str) =
    ("path: pipelines/mssql_to_snowflake", "path: pipelines/mssql_to_snowflake, refresh: 1s");

pub(crate) fn trials(trials: &mut Vec<Trial>) {
    table::promise(
        "faults",
        "a_client_secret_and_a_keytab_rotated_in_mid_run_are_taken_and_the_run_is_exact",
    );
    table::promise(
        "faults",
        "a_used_wrapped_secret_id_is_an_alarm_unless_the_broker_used_it_itself_and_says_what_to_deliver",
    );
    table::promise("faults", "swapped_vault_fields_stop_a_start_and_leave_a_running_broker_as_it_is");
    trials.push(test(
        "a_client_secret_and_a_keytab_rotated_in_mid_run_are_taken_and_the_run_is_exact",
        rotated,
    ));
    trials.push(test(
        "a_used_wrapped_secret_id_is_an_alarm_unless_the_broker_used_it_itself_and_says_what_to_deliver",
        wrapped,
    ));
    trials.push(test("swapped_vault_fields_stop_a_start_and_leave_a_running_broker_as_it_is", swapped));
}

const APPLICATION: &str = "2b1d8f0a-6c11-4f0e-8f39-0d6f3f0c9a01";

pub(crate) fn fields(world: &World) -> Value {
    json!({
        "mssql_spn": format!("svc_loader@{REALM}"),
        "keytab_base64": BASE64_STANDARD.encode(&world.secrets.keytab),
        "mssql_server_fqdn": "localhost",
        "sf_user": "SVC_LOADER",
        "tenant_id": "9f3c1d52-5a7e-4a55-9d0f-5d2f4c1b7a10",
        "client_id": APPLICATION,
        "client_secret": world.secrets.client_secret,
    })
}

pub(crate) fn put(world: &World, fields: &Value) -> u64 {
    world.vault.put("secret", "pipelines/mssql_to_snowflake", fields.clone())
}

/// The loader's application with exactly these secrets.
pub(crate) fn register(world: &World, secrets: &[&str]) {
    let expires = std::time::SystemTime::now() + Duration::from_secs(86_400);
    let secrets = secrets.iter().map(|value| ClientSecret { value: (*value).to_owned(), expires });
    world.entra.register(Application {
        client_id: APPLICATION.to_owned(),
        object_id: format!("object-of-{APPLICATION}"),
        secrets: secrets.collect(),
        roles: Vec::new(),
    });
}

async fn rotated() -> Result<()> {
    let stage = Stage::new().await?;
    let world = &stage.world;
    let tables = vec![tpch::tables(0.002).pop().context("lineitem")?];
    world.fill(&tables).await?;
    let config = configure(world, &ordinary(), &[OFTEN])?;
    let broker = serve(world, &config).await?;
    let setup = PipelineSetup {
        limits: "connections: 2, committers: 2, chunk_rows: 1000".to_owned(),
        ..PipelineSetup::of(&["lineitem"])
    };
    let pipeline = setup.write(world, "pipeline")?.display().to_string();
    let loader = world.spawn_loader("loader-rotated", &["run", &pipeline], &[])?;

    // The order of an operator: a second client secret, a new key of the account, Vault, then the old ones go.
    let next = "cs~the-second-secret";
    register(world, &[&world.secrets.client_secret, next]);
    let keytab = world.dir.join("kdc").join("second.keytab");
    world.kdc.rotate_keytab("svc_loader", &keytab)?;
    let mut newer = fields(world);
    newer["client_secret"] = json!(next);
    newer["keytab_base64"] = json!(BASE64_STANDARD.encode(fs::read(&keytab)?));
    let version = put(world, &newer);
    let health = broker
        .until_health("the new version is in use", |health| health["secret"]["version_in_use"] == version)
        .await?;
    ensure!(health["secret"]["problem"].is_null(), "{health:#}");
    register(world, &[next]);

    expect(&loader.wait(PATIENCE).await?, 0, &[])?;
    stage.expect_exact(&tables).await?;
    // Everything from now on stands on the new credentials alone.
    expect(&stage.loader("verify", &setup).await?, 0, &["agree"])?;

    // A version with credentials that nobody knows changes nothing.
    let mut wrong = newer.clone();
    wrong["client_secret"] = json!("cs~unknown-to-entra");
    wrong["keytab_base64"] = fields(world)["keytab_base64"].clone();
    put(world, &wrong);
    let health = broker
        .until_health("the wrong version is named", |health| health["secret"]["problem"].is_string())
        .await?;
    let problem = health["secret"]["problem"].as_str().context("a problem")?;
    ensure!(problem.contains("AADSTS7000215") && problem.contains("keytab"), "{problem}");
    ensure!(health["status"] == "degraded" && health["secret"]["version_in_use"] == version, "{health:#}");
    expect(&stage.loader("verify", &setup).await?, 0, &["agree"])?;
    let events: Vec<Value> = audit(world)?.into_iter().map(|line| line["event"].clone()).collect();
    for event in ["SecretVersionTaken", "SecretVersionRefused"] {
        ensure!(events.contains(&json!(event)), "{event} is not in the audit log");
    }
    for secret in [next, "unknown-to-entra"] {
        ensure!(!broker.process.stderr().contains(secret) && !health.to_string().contains(secret), "printed");
    }
    table::row(
        "faults",
        &[
            (
                "fault",
                "client secret and keytab (kvno + 1) rotated in mid-run; then a version that does not work",
            ),
            (
                "what happened",
                "taken when they worked, run exact; the wrong version named in health, the good one kept",
            ),
            ("test", "a_client_secret_and_a_keytab_rotated_in_mid_run_are_taken_and_the_run_is_exact"),
        ],
    );
    stage.end(Some(broker.process)).await
}

async fn wrapped() -> Result<()> {
    let stage = Stage::new().await?;
    let world = &stage.world;
    let deliver = || -> Result<BrokerSetup> {
        let wrapping = world.vault.wrap_secret_id("loader", Duration::from_secs(600))?;
        Ok(BrokerSetup { secret_id: Some(wrapping), wrapped: true, ..ordinary() })
    };
    let setup = deliver()?;
    let config = configure(world, &setup, &[])?;
    let broker = serve(world, &config).await?;
    let needs = broker.health().await?["secret"]["restart_needs"].as_str().unwrap_or_default().to_owned();
    ensure!(needs.contains("a new wrapped secret_id"), "health does not say what a restart needs: {needs:?}");

    // Started again with the token that it used itself: it says so, and nobody is alarmed.
    broker.process.signal(Signal::SIGKILL)?;
    broker.process.wait(PATIENCE).await?;
    let wrapping = setup.secret_id.as_deref().unwrap_or_default();
    let alarms = |world: &World| -> Result<usize> {
        Ok(audit(world)?.iter().filter(|line| line["event"] == "SecretIdIntercepted").count())
    };
    let ended = live::fail(world, &config).await?;
    expect(&ended, 77, &["this broker itself unwrapped it", "deliver a new wrapped secret_id"])?;
    ensure!(!ended.output().contains(wrapping), "the wrapping token was printed");
    ensure!(alarms(world)? == 0, "an alarm for its own restart");

    // A used token is an alarm where the broker has no note that it was itself: as if somebody else had used it.
    let note = world.socket().with_file_name("broker.sock.unwrapped");
    fs::remove_file(&note).with_context(|| note.display().to_string())?;
    let ended = live::fail(world, &config).await?;
    expect(&ended, 77, &["was used before", "treat the secret_id as stolen", "deliver a new wrapped one"])?;
    ensure!(!ended.output().contains(wrapping), "the wrapping token was printed");
    ensure!(alarms(world)? == 1, "the alarm is not in the audit log");

    // A token that wraps something else is no secret_id, and is not unwrapped.
    let config = configure(world, &deliver()?, &[])?;
    let broker = serve(world, &config).await?;
    ensure!(alarms(world)? == 1, "a good delivery raises no alarm");
    table::row(
        "faults",
        &[
            ("fault", "broker killed (-9) and restarted with a wrapped secret_id that is used up"),
            (
                "what happened",
                "exit 77, the message says that it used it itself and what to deliver; one that somebody else used is an alarm",
            ),
            (
                "test",
                "a_used_wrapped_secret_id_is_an_alarm_unless_the_broker_used_it_itself_and_says_what_to_deliver",
            ),
        ],
    );
    stage.end(Some(broker.process)).await
}

async fn swapped() -> Result<()> {
    let stage = Stage::new().await?;
    let world = &stage.world;
    let good = fields(world);
    let secret = world.secrets.client_secret.clone();
    let keytab = BASE64_STANDARD.encode(&world.secrets.keytab);
    let swap = |one: &str, other: &str| {
        let mut fields = good.clone();
        (fields[one], fields[other]) = (good[other].clone(), good[one].clone());
        fields
    };
    let swaps = [
        ("client_id", "client_secret"),
        ("tenant_id", "client_secret"),
        ("sf_user", "client_secret"),
        ("mssql_server_fqdn", "client_secret"),
        ("mssql_spn", "keytab_base64"),
        ("mssql_spn", "client_secret"),
    ];
    let silent = |what: &str, text: &str| -> Result<()> {
        ensure!(!text.contains(&secret) && !text.contains(&keytab[..60]), "{what} shows a secret:\n{text}");
        Ok(())
    };
    let audit_text = || fs::read_to_string(world.dir.join("broker").join("audit.log"));
    let config = configure(world, &ordinary(), &[OFTEN])?;
    for (one, other) in swaps {
        put(world, &swap(one, other));
        let ended = live::fail(world, &config).await?;
        ensure!(ended.code() == Some(78), "{one} and {other}: {:?}\n{}", ended.status, ended.output());
        expect(&ended, 78, &[&format!("`{one}`"), "swapped"])?;
        silent("the error", &ended.output())?;
        silent("the audit log", &audit_text()?)?;
    }

    put(world, &good);
    let broker = serve(world, &config).await?;
    let in_use = broker.health().await?["secret"]["version_in_use"].clone();
    for (one, other) in swaps {
        let version = put(world, &swap(one, other));
        let health = broker
            .until_health("the swapped version is refused", |health| {
                health["secret"]["newest_version"] == version && health["secret"]["problem"].is_string()
            })
            .await?;
        ensure!(health["secret"]["version_in_use"] == in_use, "{health:#}");
        silent("health", &health.to_string())?;
    }
    silent("the log", &broker.process.stderr())?;
    silent("the audit log", &audit_text()?)?;
    silent("the metrics", &broker.get("/metrics").await?)?;
    table::row(
        "faults",
        &[
            ("fault", "two fields of the Vault secret swapped, a secret where a setting belongs (6 ways)"),
            (
                "what happened",
                "refused by the field's name at the start and in mid-run; no secret in log, audit, health",
            ),
            ("test", "swapped_vault_fields_stop_a_start_and_leave_a_running_broker_as_it_is"),
        ],
    );
    stage.end(Some(broker.process)).await
}
