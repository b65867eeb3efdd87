//! Exchanges, renewals and refusals, with a real KDC.

use std::{fs::File, io::Read as _};

use tokio_util::sync::CancellationToken;

use super::{
    impostor::Impostor,
    realm::{CLIENT, REALM, Realm, SERVICE, accept, in_realm},
    *,
};
use crate::{
    testing::fault_row,
    upstream::{RelayStep, relay::Relay, status::Board, ticket::Kerberos},
};

/// The name under which the test harness knows a test of this file.
macro_rules! name {
    ($test:ident) => {
        concat!("upstream::kerberos::tests::", stringify!($test))
    };
}

fn run(body: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(body);
}

async fn start(realm: &Realm) -> Result<Arc<Kerberos>, UpstreamError> {
    start_with(realm, CLIENT, "client.keytab").await
}

async fn start_with(realm: &Realm, principal: &str, keytab: &str) -> Result<Arc<Kerberos>, UpstreamError> {
    crate::upstream::ticket::prepare(&realm.config())?;
    let bundle = Arc::new(realm.bundle(principal, keytab));
    Kerberos::start(&realm.config(), &bundle, Arc::new(Board::default()), Arc::default()).await
}

async fn begin(kerberos: &Arc<Kerberos>, service: &str) -> Result<(Relay, RelayStep), UpstreamError> {
    Relay::begin(Arc::clone(kerberos), &Board::default(), "sales-sql", service).await
}

#[test]
fn a_relayed_token_is_accepted_once_and_the_servers_answer_completes_mutual_authentication() {
    in_realm(
        name!(a_relayed_token_is_accepted_once_and_the_servers_answer_completes_mutual_authentication),
        |realm| {
            run(async {
                let kerberos = start(realm).await.unwrap();
                let (mut relay, first) = begin(&kerberos, SERVICE).await.unwrap();
                assert!(!first.complete && !first.mutual);
                let (answer, server) = accept(&first.token).unwrap();
                assert!(server.delegated_cred().is_none(), "no ticket may travel in the token");
                assert_eq!(server.source_name().unwrap().to_string(), CLIENT);
                let replayed = accept(&first.token).err().unwrap();
                assert!(replayed.to_string().contains("replay"), "{replayed}");

                let last = relay.step(&answer).await.unwrap();
                assert!(last.complete && last.mutual && last.token.is_empty());
                assert!(last.ticket_expires_at > SystemTime::now() + Duration::from_hours(9));
                let flags = server.flags().unwrap();
                assert!(!flags.intersects(CtxFlags::GSS_C_DELEG_FLAG | CtxFlags::GSS_C_DELEG_POLICY_FLAG));
                let again = relay.step(&answer).await.err().unwrap();
                assert_eq!(again.class(), ErrorClass::Expired);
            });
        },
    );
}

#[test]
fn even_a_context_that_asks_for_delegation_cannot_send_the_ticket() {
    in_realm(name!(even_a_context_that_asks_for_delegation_cannot_send_the_ticket), |realm| {
        run(async {
            let kerberos = start(realm).await.unwrap();
            let service = format!("{SERVICE}@{REALM}");
            let target = Name::new(service.as_bytes(), Some(GSS_NT_KRB5_PRINCIPAL)).unwrap();
            let flags = CtxFlags::GSS_C_DELEG_FLAG | CtxFlags::GSS_C_MUTUAL_FLAG;
            let mut exchange = Exchange::with_flags(kerberos.ticket().unwrap(), target, flags);
            let token = exchange.step(None).unwrap().token;
            let (_, server) = accept(&token).unwrap();
            assert!(server.delegated_cred().is_none(), "the profile's `forwardable = true` was obeyed");
        });
    });
}

#[test]
fn the_keytab_is_private_while_it_is_used_and_overwritten_at_the_end() {
    in_realm(name!(the_keytab_is_private_while_it_is_used_and_overwritten_at_the_end), |realm| {
        run(async {
            let kerberos = start(realm).await.unwrap();
            let [path] = realm.keytabs().try_into().unwrap();
            let mut witness = File::open(&path).unwrap();
            kerberos.close();
            assert!(realm.keytabs().is_empty());
            let mut left = Vec::new();
            witness.read_to_end(&mut left).unwrap();
            assert!(left.len() > 40 && left.iter().all(|b| *b == 0));
            assert_eq!(begin(&kerberos, SERVICE).await.err().unwrap().class(), ErrorClass::Expired);
        });
    });
}

#[test]
fn a_ticket_is_renewed_past_half_of_its_life_and_survives_a_kdc_that_is_away() {
    in_realm(name!(a_ticket_is_renewed_past_half_of_its_life_and_survives_a_kdc_that_is_away), |realm| {
        realm.kadmin(&format!("modprinc -maxlife \"6 sec\" {CLIENT}"));
        run(async {
            let kerberos = start(realm).await.unwrap();
            let first = kerberos.ticket().unwrap().expires_at();
            let shutdown = CancellationToken::new();
            let renewal = tokio::spawn(Arc::clone(&kerberos).keep_fresh(shutdown.clone()));
            let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
            while kerberos.ticket().unwrap().expires_at() == first {
                assert!(tokio::time::Instant::now() < deadline, "not renewed in time");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            let (_relay, step) = begin(&kerberos, SERVICE).await.unwrap();
            accept(&step.token).unwrap();
            shutdown.cancel();
            renewal.await.unwrap();
        });
        realm.kadmin(&format!("modprinc -maxlife \"1 hour\" {CLIENT}"));
        run(async {
            let kerberos = start(realm).await.unwrap();
            begin(&kerberos, SERVICE).await.unwrap();
            realm.stop_kdc();
            let (_relay, step) = begin(&kerberos, SERVICE).await.unwrap();
            accept(&step.token).unwrap();
        });
        fault_row(
            "KDC down",
            "exchanges go on with the ticket and the service tickets that are held",
            "a_ticket_is_renewed_past_half_of_its_life_and_survives_a_kdc_that_is_away",
        );
    });
}

#[test]
fn each_refusal_of_the_kdc_is_named_with_its_remedy() {
    in_realm(name!(each_refusal_of_the_kdc_is_named_with_its_remedy), |realm| {
        let check = |error: &UpstreamError, class: ErrorClass, says: &str| {
            assert_eq!(error.class(), class, "{error}");
            assert!(error.to_string().contains(says), "{error}");
        };
        run(async {
            let kerberos = start(realm).await.unwrap();
            let error = begin(&kerberos, "MSSQLSvc/nobody.keyferry.test:1433").await.err().unwrap();
            check(&error, ErrorClass::NotFound, "setspn");

            let (mut relay, _) = begin(&kerberos, SERVICE).await.unwrap();
            let error = relay.step(b"not an answer of Kerberos").await.err().unwrap();
            assert!(error.is_permanent() && error.to_string().contains(SERVICE), "{error}");
            let (mut relay, _) = begin(&kerberos, SERVICE).await.unwrap();
            check(&relay.step(b"").await.err().unwrap(), ErrorClass::Configuration, "impossible length");
        });

        realm.kadmin(&format!("cpw -randkey {CLIENT}"));
        run(async {
            let error = start(realm).await.err().unwrap();
            check(&error, ErrorClass::Credential, "Preauthentication failed");
            check(&error, ErrorClass::Credential, "write it to Vault");
        });

        realm.kadmin(&format!("ktadd -k {}/new.keytab {CLIENT}", realm.folder.display()));
        run(async { assert!(start_with(realm, CLIENT, "new.keytab").await.is_ok()) });

        realm.kadmin(&format!("modprinc -allow_tix {CLIENT}"));
        run(async {
            let error = start_with(realm, CLIENT, "new.keytab").await.err().unwrap();
            check(&error, ErrorClass::Denied, "revoked");
        });

        realm.kadmin(&format!("delprinc -force {CLIENT}"));
        run(async {
            let error = start_with(realm, CLIENT, "new.keytab").await.err().unwrap();
            check(&error, ErrorClass::NotFound, "does not know the broker's principal");
        });

        realm.stop_kdc();
        run(async {
            let error = start_with(realm, CLIENT, "new.keytab").await.err().unwrap();
            check(&error, ErrorClass::Unreachable, "Cannot contact any KDC");
            assert!(realm.keytabs().is_empty(), "a failed start leaves no keytab");
        });
    });
}

#[test]
fn a_context_waits_only_so_long_for_the_servers_answer() {
    in_realm(name!(a_context_waits_only_so_long_for_the_servers_answer), |realm| {
        run(async {
            let kerberos = start(realm).await.unwrap();
            let patience = Duration::from_millis(50);
            let board = Board::default();
            let begun = Relay::begin_with_patience(Arc::clone(&kerberos), &board, "g", SERVICE, patience);
            let (mut relay, first) = begun.await.unwrap();
            let (answer, _server) = accept(&first.token).unwrap();
            tokio::time::sleep(patience * 3).await;
            assert_eq!(relay.step(&answer).await.err().unwrap().class(), ErrorClass::Expired);
        });
    });
}

#[test]
fn a_process_with_other_threads_and_another_profile_is_refused() {
    in_realm(name!(a_process_with_other_threads_and_another_profile_is_refused), |realm| {
        crate::upstream::ticket::prepare(&realm.config()).unwrap();
        let error = set_profile(&realm.config().tmpfs, Path::new("/etc/hostname")).err().unwrap();
        assert!(error.to_string().contains("first thing in `main`"), "{error}");
        let error = set_profile(&realm.config().tmpfs, Path::new("/no/such/profile")).err().unwrap();
        assert!(error.to_string().contains("kerberos.krb5_conf"), "{error}");
    });
}

#[test]
fn what_an_impostor_of_the_kdc_says_is_bounded_and_a_skewed_clock_is_named() {
    in_realm(name!(what_an_impostor_of_the_kdc_says_is_bounded_and_a_skewed_clock_is_named), |realm| {
        run(async {
            let kerberos = start(realm).await.unwrap();
            realm.stop_kdc();
            {
                let _generic = Impostor::start(&realm.address(), 60, &"SENTINEL ".repeat(6000));
                let error = begin(&kerberos, SERVICE).await.err().unwrap().to_string();
                assert!(!error.contains("SENTINEL") && error.len() < 600, "{error}");
            }
            let _skewed = Impostor::start(&realm.address(), 37, "SENTINEL");
            let error = begin(&kerberos, SERVICE).await.err().unwrap();
            assert_eq!(error.class(), ErrorClass::Clock, "{error}");
            assert!(error.to_string().contains("set the clock"), "{error}");
        });
        fault_row(
            "KDC and broker more than 5 minutes apart (KRB5 37)",
            "an error of its own class that says to set the clock",
            "what_an_impostor_of_the_kdc_says_is_bounded_and_a_skewed_clock_is_named",
        );
    });
}

#[test]
fn a_spoofed_reverse_name_changes_no_principal() {
    in_realm(name!(a_spoofed_reverse_name_changes_no_principal), |realm| {
        // The reverse name of this address is `localhost` on every machine: it stands for what a spoofed PTR says.
        let (asked, spoofed) = ("127.0.0.1:1433", "localhost");
        let keytab = realm.folder.join("client.keytab");
        assert!(realm.tool("kinit", &["-k", "-t", keytab.to_str().unwrap(), CLIENT]));
        run(async {
            let kerberos = start(realm).await.unwrap();
            realm.stop_kdc();
            let kdc = Impostor::start(&realm.address(), 7, "");
            // The control: with the operator's profile alone, whose `rdns` is on, the name is turned.
            assert!(!realm.tool("kvno", &["-S", "MSSQLSvc", "127.0.0.1"]));
            assert!(kdc.was_asked_for(spoofed), "the control was not fooled");
            drop(kdc);
            let kdc = Impostor::start(&realm.address(), 7, "");
            assert!(begin(&kerberos, &format!("MSSQLSvc/{asked}")).await.is_err());
            assert!(kdc.was_asked_for(asked) && !kdc.was_asked_for(spoofed));
        });
    });
}

#[test]
fn clock_skew_is_a_class_of_its_own() {
    let failure = Failure { text: "Clock skew too great".to_owned(), number: Some(37) };
    let error = failure.explain("getting a ticket".to_owned());
    assert_eq!((error.class(), error.code()), (ErrorClass::Clock, Some("KRB5 37")));
}
