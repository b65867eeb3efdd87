//! New versions while running, against the Vault and Entra stand-ins and a real KDC.

use std::{fs, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::SecretStatus;
use crate::{
    events::Event,
    testing::{fault_row, until},
    upstream::{
        ErrorClass, Upstream,
        kerberos::realm::{CLIENT, Realm, accept, in_realm},
        prepare,
        tests::{APPLICATION, fields, name, register, upstreams},
    },
};

const SOON: Duration = Duration::from_secs(1);
const NEVER: Duration = Duration::from_hours(24);

fn with_secret(value: &str) -> Value {
    let mut fields = fields();
    fields["client_secret"] = json!(value);
    fields
}

async fn in_use(upstream: &Arc<Upstream>, version: u64) -> SecretStatus {
    until("the version is in use", || upstream.secret_status().version_in_use == version).await;
    upstream.secret_status()
}

async fn problem_with(upstream: &Arc<Upstream>, version: u64) -> String {
    until("the version is refused", || {
        let status = upstream.secret_status();
        status.newest_version == version && status.problem.is_some()
    })
    .await;
    upstream.secret_status().problem.unwrap()
}

#[tokio::test]
async fn a_new_client_secret_is_taken_when_it_works_and_its_proof_is_the_next_token() {
    let upstreams = upstreams(fields()).await;
    let mut running = upstreams.run(upstreams.config(None), SOON).await;
    let (upstream, analytics) = (Arc::clone(&running.upstream), name("analytics"));
    let mut replaced = upstream.credential(&analytics).unwrap();
    assert!(upstream.bearer(&analytics).await.unwrap().generation().starts_with("v1-"));
    let before = upstreams.entra.calls();

    register(&upstreams.entra, &["the-client-secret", "the-next-secret"]);
    upstreams.put(&with_secret("the-next-secret"));
    assert_eq!(in_use(&upstream, 2).await.problem, None);
    assert_eq!(*replaced.borrow_and_update(), 2, "holders of the old token are told");
    register(&upstreams.entra, &["the-next-secret"]);
    assert!(upstream.bearer(&analytics).await.unwrap().generation().starts_with("v2-"));
    assert_eq!(upstreams.entra.calls(), before + 1, "the proof is the token");
    assert!(upstream.bearer(&analytics).await.is_ok(), "the old secret is gone, the new one is used");
    assert!(matches!(running.told.recv().await, Some(Event::SecretVersionTaken(_))));
    running.stop().await;
    assert!(upstreams.vault.live_tokens().is_empty());
}

#[tokio::test]
async fn a_new_client_secret_that_entra_refuses_leaves_the_old_one_in_use_until_it_works() {
    let upstreams = upstreams(fields()).await;
    let mut running = upstreams.run(upstreams.config(None), SOON).await;
    let (upstream, analytics) = (Arc::clone(&running.upstream), name("analytics"));
    upstreams.put(&with_secret("a-secret-that-entra-lacks"));
    let problem = problem_with(&upstream, 2).await;
    assert!(problem.contains("version 2 does not work") && problem.contains("AADSTS7000215"), "{problem}");
    assert!(!problem.contains("entra-lacks"), "{problem}");
    assert_eq!(upstream.secret_status().version_in_use, 1);
    assert!(upstream.bearer(&analytics).await.unwrap().generation().starts_with("v1-"));
    assert!(matches!(running.told.recv().await, Some(Event::SecretVersionRefused(_))));
    register(&upstreams.entra, &["the-client-secret", "a-secret-that-entra-lacks"]);
    assert_eq!(in_use(&upstream, 2).await.problem, None);
    assert!(matches!(running.told.recv().await, Some(Event::SecretVersionTaken(_))), "told once each");
    running.stop().await;
}

#[tokio::test]
async fn a_refused_credential_has_vault_asked_at_once_and_by_one_however_many_were_refused() {
    let upstreams = upstreams(fields()).await;
    let running = upstreams.run(upstreams.config(None), NEVER).await;
    let (upstream, analytics) = (Arc::clone(&running.upstream), name("analytics"));
    let reads = upstreams.vault.reads();
    register(&upstreams.entra, &["the-next-secret"]);
    let refused = futures_util::future::join_all((0..50).map(|_| upstream.bearer(&analytics))).await;
    assert!(
        refused.iter().all(|outcome| outcome.as_ref().is_err_and(|e| e.class() == ErrorClass::Credential))
    );
    until("Vault was asked", || upstreams.vault.reads() > reads).await;
    let asked = upstreams.vault.reads() - reads;
    assert!((1..=2).contains(&asked), "{asked} reads for 50 refusals");
    upstreams.put(&with_secret("the-next-secret"));
    assert!(upstream.bearer(&analytics).await.is_err());
    in_use(&upstream, 2).await;
    assert!(upstream.bearer(&analytics).await.is_ok());
    running.stop().await;
    fault_row(
        "client secret refused in mid-run, a new one in Vault",
        "one paced look at Vault for 50 refusals; the new secret is in use",
        "a_refused_credential_has_vault_asked_at_once_and_by_one_however_many_were_refused",
    );
}

#[tokio::test]
async fn a_version_with_swapped_or_missing_fields_is_not_tried_and_shows_no_secret() {
    let upstreams = upstreams(fields()).await;
    let running = upstreams.run(upstreams.config(None), SOON).await;
    let upstream = Arc::clone(&running.upstream);
    let calls = upstreams.entra.calls();
    let mut swapped = fields();
    (swapped["client_id"], swapped["client_secret"]) = (json!("the-client-secret"), json!(APPLICATION));
    upstreams.put(&swapped);
    let problem = problem_with(&upstream, 2).await;
    assert!(problem.contains("`client_id`") && problem.contains("swapped"), "{problem}");
    assert!(!problem.contains("the-client-secret"), "{problem}");
    let mut lacking = fields();
    lacking.as_object_mut().unwrap().remove("sf_user");
    upstreams.put(&lacking);
    assert!(problem_with(&upstream, 3).await.contains("`sf_user`"));
    assert_eq!(upstreams.entra.calls(), calls, "nothing was sent");
    assert!(upstream.bearer(&name("analytics")).await.is_ok());
    upstreams.put(&fields());
    assert_eq!(in_use(&upstream, 4).await.problem, None, "the same credential in a good version");
    running.stop().await;
}

#[tokio::test]
async fn a_vault_that_is_sealed_or_forgets_its_tokens_stops_nothing_and_costs_one_login() {
    let upstreams = upstreams(fields()).await;
    let running = upstreams.run(upstreams.config(None), SOON).await;
    let (upstream, analytics) = (Arc::clone(&running.upstream), name("analytics"));
    upstreams.vault.seal(true);
    let vault_is = |ok: bool| move |upstream: &Arc<Upstream>| upstream.status()[0].ok == ok;
    until("the seal shows", || vault_is(false)(&upstream)).await;
    let status = upstream.status();
    assert_eq!(status[0].last_error, Some(ErrorClass::Sealed));
    assert!(status[0].valid_until.is_some(), "for how long the token is good is known");
    assert!(upstream.bearer(&analytics).await.is_ok() && upstream.settings(&analytics).is_ok());
    upstreams.vault.seal(false);
    until("Vault is well again", || vault_is(true)(&upstream)).await;

    upstreams.vault.revoke_all();
    until("it logged in again", || upstreams.vault.logins() == 2).await;
    assert_eq!(upstreams.vault.login_attempts(), 2);

    // The secret_id is used up, too: one more attempt, and none after it.
    upstreams.vault.destroy_secret_ids("keyferry");
    upstreams.vault.revoke_all();
    let reads = upstreams.vault.reads();
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(upstreams.vault.login_attempts() <= 3, "{} logins were tried", upstreams.vault.login_attempts());
    assert_eq!(upstreams.vault.reads(), reads, "a refused token reads nothing");
    assert!(upstream.bearer(&analytics).await.is_ok(), "what was read from Vault serves on");
    running.stop().await;
    fault_row(
        "Vault sealed; tokens revoked (403); secret_id used up",
        "tokens and settings served on; one login; no loop of refused logins",
        "a_vault_that_is_sealed_or_forgets_its_tokens_stops_nothing_and_costs_one_login",
    );
}

/// The keytab of one key, with another version number and a key that no KDC has.
fn never_issued(keytab: &[u8], kvno: u8) -> Vec<u8> {
    let mut record = keytab[2..].to_vec();
    let end = record.len();
    // From the end: the long version number, 32 bytes of key and their count, the cipher, the short number.
    record[end - 1] = kvno;
    record[end - 4 - 32] ^= 0xFF;
    record[end - 4 - 32 - 2 - 2 - 1] = kvno;
    record
}

fn with_keytab(keytab: &[u8]) -> Value {
    let mut fields = fields();
    fields["mssql_spn"] = json!(CLIENT);
    fields["keytab_base64"] = json!(STANDARD.encode(keytab));
    fields
}

async fn exchange(upstream: &Upstream) {
    let (_relay, step) = upstream.begin_relay(&name("sales-sql")).await.unwrap();
    accept(&step.token).unwrap();
}

fn in_running_realm(test: &str, body: impl AsyncFnOnce(&mut Realm)) {
    in_realm(test, |realm| {
        tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(body(realm));
    });
}

#[test]
fn a_new_keytab_is_taken_when_the_kdc_gives_a_ticket_for_it_and_a_refused_one_changes_nothing() {
    let test = "upstream::rotation::tests::a_new_keytab_is_taken_when_the_kdc_gives_a_ticket_for_it_and_a_refused_one_changes_nothing";
    in_running_realm(test, async |realm: &mut Realm| {
        let read = |realm: &Realm, name: &str| fs::read(realm.folder.join(name)).unwrap();
        let first = read(realm, "client.keytab");
        let upstreams = upstreams(with_keytab(&first)).await;
        let kerberos = realm.config();
        let config = upstreams.config(Some((&kerberos.tmpfs, &kerberos.krb5_conf)));
        prepare(&config).unwrap();
        let running = upstreams.run(config, SOON).await;
        let upstream = Arc::clone(&running.upstream);
        exchange(&upstream).await;

        realm.kadmin(&format!("ktadd -k {}/second.keytab {CLIENT}", realm.folder.display()));
        let second = read(realm, "second.keytab");
        upstreams.put(&with_keytab(&second));
        assert_eq!(in_use(&upstream, 2).await.problem, None);
        exchange(&upstream).await;
        assert_eq!(realm.keytabs().len(), 1, "the old one is wiped");

        // The first one again: the KDC refuses it, and what works stays.
        upstreams.put(&with_keytab(&first));
        let problem = problem_with(&upstream, 3).await;
        assert!(problem.contains("the keytab is not the account's"), "{problem}");
        exchange(&upstream).await;
        assert_eq!((realm.keytabs().len(), upstream.secret_status().version_in_use), (1, 2));

        // Old and new key together, the new one not yet known to the KDC: the old one gives the ticket.
        upstreams.put(&with_keytab(&[second.clone(), never_issued(&second, 9)].concat()));
        assert_eq!(in_use(&upstream, 4).await.problem, None);
        exchange(&upstream).await;
        assert_eq!(realm.keytabs().len(), 2);
        running.stop().await;
        assert!(realm.keytabs().is_empty());
        fault_row(
            "kvno bump; a directory that lags behind; an old keytab",
            "taken after its first ticket; newest key first, then the one before; a refused keytab changes nothing",
            "a_new_keytab_is_taken_when_the_kdc_gives_a_ticket_for_it_and_a_refused_one_changes_nothing",
        );
    });
}

#[test]
fn a_kdc_that_refuses_the_key_in_mid_run_has_vault_asked_at_once() {
    let test = "upstream::rotation::tests::a_kdc_that_refuses_the_key_in_mid_run_has_vault_asked_at_once";
    in_running_realm(test, async |realm: &mut Realm| {
        realm.kadmin(&format!("modprinc -maxlife \"8 sec\" {CLIENT}"));
        let first = fs::read(realm.folder.join("client.keytab")).unwrap();
        let upstreams = upstreams(with_keytab(&first)).await;
        let kerberos = realm.config();
        let config = upstreams.config(Some((&kerberos.tmpfs, &kerberos.krb5_conf)));
        prepare(&config).unwrap();
        let running = upstreams.run(config, NEVER).await;
        let upstream = Arc::clone(&running.upstream);
        // The account is rotated and Vault written; the broker does not look there for a day.
        realm.kadmin(&format!("ktadd -k {}/second.keytab {CLIENT}", realm.folder.display()));
        upstreams.put(&with_keytab(&fs::read(realm.folder.join("second.keytab")).unwrap()));
        in_use(&upstream, 2).await;
        exchange(&upstream).await;
        running.stop().await;
        fault_row(
            "KDC refuses the key in mid-run, a new keytab in Vault",
            "Vault asked at once, the new keytab in use",
            "a_kdc_that_refuses_the_key_in_mid_run_has_vault_asked_at_once",
        );
    });
}
