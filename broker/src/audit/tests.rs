use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    os::unix::fs::{PermissionsExt as _, symlink},
};

use serde_json::Value;

use super::*;

fn granted(detail: &str) -> Record {
    Record { uid: Some(7), detail: detail.to_owned(), ..Record::new("GetToken", Outcome::Granted) }
}

/// Follows the chain through a file; the number of lines, or the number of the first that breaks it.
fn follow(text: &str) -> Result<usize, usize> {
    let mut prev = "0".repeat(64);
    for (index, line) in text.lines().enumerate() {
        let value: Value = serde_json::from_str(line).map_err(|_| index)?;
        if value["prev"] != prev.as_str() || value["n"] != index + 1 {
            return Err(index);
        }
        prev = hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, line.as_bytes()));
    }
    Ok(text.lines().count())
}

#[tokio::test]
async fn each_line_names_the_hash_of_the_line_before_it_across_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    for round in 0..3 {
        let log = AuditLog::open(&path).unwrap();
        let lines = (0..20).map(|n| log.record(granted(&format!("{round}.{n}"))));
        let ids = futures_util::future::join_all(lines).await;
        assert!(ids.iter().all(Result::is_ok));
    }
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(follow(&text), Ok(60));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let changed = text.replacen("\"1.3\"", "\"1.4\"", 1);
    assert_eq!(follow(&changed), Err(24), "a changed line breaks the chain at the next one");
    let mut lines: Vec<&str> = text.lines().collect();
    lines.remove(30);
    let dropped = lines.join("\n");
    assert_eq!(follow(&dropped), Err(30));
}

#[tokio::test]
async fn a_record_too_long_for_a_line_fails_alone_and_a_long_detail_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    let log = AuditLog::open(&path).unwrap();
    let long = Record { run_id: "r".repeat(70_000), ..granted("long") };
    // All are queued before the log's thread takes the first, so that they share one batch.
    let records = vec![granted("one"), long, granted("two"), granted(&"d".repeat(70_000))];
    let ids = futures_util::future::join_all(records.into_iter().map(|record| log.record(record))).await;
    let well: Vec<bool> = ids.iter().map(Result::is_ok).collect();
    assert_eq!(well, [true, false, true, true]);
    assert!(matches!(ids[1], Err(AuditError::TooLong)) && log.is_writable());
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(follow(&text), Ok(3));
    assert!(text.lines().last().unwrap().contains("ddd (cut)") && text.len() < 6000);
}

#[tokio::test]
async fn a_full_disk_refuses_every_record() {
    let log = AuditLog::on_a_full_disk();
    for _ in 0..3 {
        let error = log.record(granted("x")).await.unwrap_err();
        assert!(error.to_string().contains("nothing is granted"), "{error}");
        assert!(!log.is_writable());
    }
}

#[tokio::test]
async fn a_log_that_was_removed_refuses_every_record() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    let log = AuditLog::open(&path).unwrap();
    log.record(granted("x")).await.unwrap();
    fs::remove_file(&path).unwrap();
    let error = log.record(granted("y")).await.unwrap_err();
    assert!(error.to_string().contains("removed"), "{error}");
}

#[tokio::test]
async fn a_line_that_a_crash_cut_short_stays_and_the_log_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    AuditLog::open(&path).unwrap().record(granted("whole")).await.unwrap();
    OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"n\":2,\"id\":\"cu").unwrap();
    AuditLog::open(&path).unwrap().record(granted("after")).await.unwrap();
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let last: Value = serde_json::from_str(lines[2]).unwrap();
    assert_eq!(last["n"], 3);
    let cut = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, lines[1].as_bytes());
    assert_eq!(last["prev"], hex::encode(cut));
}

#[tokio::test]
async fn links_folders_and_foreign_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let real = dir.path().join("real");
    File::create(&real).unwrap();
    let link = dir.path().join("link");
    symlink(&real, &link).unwrap();
    for path in [&link, &dir.path().to_owned(), &dir.path().join("absent/audit.log")] {
        assert!(matches!(AuditLog::open(path), Err(AuditError::Open { .. })), "{path:?}");
    }
    fs::set_permissions(&real, fs::Permissions::from_mode(0o622)).unwrap();
    let error = AuditLog::open(&real).err().unwrap();
    assert!(error.to_string().contains("others can write it"), "{error}");
    fs::set_permissions(&real, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&real, "something else\n").unwrap();
    let error = AuditLog::open(&real).err().unwrap();
    assert!(error.to_string().contains("no audit log of this broker"), "{error}");
}

#[test]
fn what_a_caller_wrote_cannot_begin_a_new_line() {
    let record = Record { run_id: "a\n{\"n\":9}".to_owned(), ..granted("x") };
    assert!(!serde_json::to_string(&record).unwrap().contains('\n'));
}

/// A key as `AuditKey` has one, without a Vault.
struct Pair(aws_lc_rs::signature::Ed25519KeyPair, String);

impl Pair {
    fn new() -> Arc<Self> {
        let pair = aws_lc_rs::signature::Ed25519KeyPair::generate().unwrap();
        let id = key_id(public(&pair));
        Arc::new(Self(pair, id))
    }

    /// As `openssl pkey -pubout` writes it.
    fn pem(&self) -> String {
        use base64::{Engine as _, prelude::BASE64_STANDARD};
        let info = [&hex::decode("302a300506032b6570032100").unwrap(), public(&self.0)].concat();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", BASE64_STANDARD.encode(info))
    }

    fn public(&self) -> PublicKey {
        PublicKey::from_pem(self.pem().as_bytes()).unwrap()
    }
}

fn public(pair: &aws_lc_rs::signature::Ed25519KeyPair) -> &[u8] {
    use aws_lc_rs::signature::KeyPair as _;
    pair.public_key().as_ref()
}

impl Sign for Pair {
    fn sign(&self, text: &[u8]) -> Vec<u8> {
        self.0.sign(text).as_ref().to_vec()
    }

    fn key_id(&self) -> &str {
        &self.1
    }
}

/// Twelve lines: five, a checkpoint, five, a checkpoint.
async fn signed_log(pair: &Arc<Pair>) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    let log = AuditLog::open(&path).unwrap();
    for n in 0..5 {
        log.record(granted(&format!("0.{n}"))).await.unwrap();
    }
    log.sign_with(Arc::clone(pair) as Arc<dyn Sign>).await.unwrap();
    for n in 0..5 {
        log.record(granted(&format!("1.{n}"))).await.unwrap();
    }
    log.close().await.unwrap();
    log.close().await.unwrap();
    assert_eq!(log.lines(), 12);
    fs::read_to_string(&path).unwrap()
}

fn findings(text: &str, pair: &Pair, at_least: Option<u64>) -> Vec<Finding> {
    verify(text.as_bytes(), Some(&pair.public()), at_least).unwrap().findings
}

#[tokio::test]
async fn a_signed_log_is_verified_with_the_public_key_alone() {
    let pair = Pair::new();
    let text = signed_log(&pair).await;
    let verified = verify(text.as_bytes(), Some(&pair.public()), Some(12)).unwrap();
    assert_eq!((verified.lines, verified.checkpoints), (12, 2));
    assert_eq!(verified.findings, []);
    assert!(matches!(findings(&text, &Pair::new(), None)[..], [Finding::Forged { line: 6, .. }, ..]));
    assert!(PublicKey::from_pem(b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----").is_none());
}

#[tokio::test]
async fn every_flip_drop_swap_and_cut_of_a_signed_log_is_found() {
    let pair = Pair::new();
    let text = signed_log(&pair).await;
    let lines: Vec<&str> = text.lines().collect();
    let join = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned() + "\n").collect::<String>();
    for at in 0..lines.len() {
        // Any byte of any line, but for bytes whose change makes no other line of JSON.
        for byte in (0..lines[at].len()).step_by(7) {
            let mut bytes = text.clone().into_bytes();
            let offset: usize = lines[..at].iter().map(|line| line.len() + 1).sum::<usize>() + byte;
            bytes[offset] ^= 1;
            let found = verify(&*bytes, Some(&pair.public()), Some(12)).unwrap().findings;
            // The last line is a checkpoint: what it signs is checked, what is left of it nothing stands behind.
            assert!(!found.is_empty() || at + 1 == lines.len(), "byte {byte} of line {}", at + 1);
        }
        let mut dropped = lines.clone();
        dropped.remove(at);
        assert!(!findings(&join(&dropped), &pair, Some(12)).is_empty(), "line {} is gone", at + 1);
        let mut doubled = lines.clone();
        doubled.insert(at, lines[at]);
        assert!(!findings(&join(&doubled), &pair, None).is_empty(), "line {} is there twice", at + 1);
        if at > 0 {
            let mut swapped = lines.clone();
            swapped.swap(at - 1, at);
            let found = findings(&join(&swapped), &pair, None);
            assert!(matches!(found[..], [Finding::Broken { .. }, ..]), "{at}: {found:?}");
        }
        // Cut behind a line: no checkpoint stands behind the last ones, or there are fewer than are known.
        let found = findings(&join(&lines[..at]), &pair, Some(12));
        assert!(found.contains(&Finding::Short { lines: at as u64, expected: 12 }), "{at}: {found:?}");
        let unsigned = findings(&join(&lines[..at]), &pair, None);
        let covered = at == 6 || at == 0;
        assert_eq!(
            unsigned.iter().any(|f| matches!(f, Finding::Unsigned { .. })),
            !covered,
            "{at}: {unsigned:?}"
        );
        // Cut within a line.
        let cut = join(&lines[..at]) + &lines[at][..lines[at].len() / 2];
        assert!(findings(&cut, &pair, None).contains(&Finding::Cut { line: at as u64 + 1 }));
    }
}

#[tokio::test]
async fn a_chain_that_was_made_anew_without_the_key_is_found() {
    let pair = Pair::new();
    let text = signed_log(&pair).await;
    let mut prev = "0".repeat(64);
    let mut anew = String::new();
    for line in text.lines() {
        let mut value: Value = serde_json::from_str(line).unwrap();
        value["prev"] = prev.into();
        value["uid"] = 8.into();
        let line = value.to_string();
        prev = hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, line.as_bytes()));
        anew += &(line + "\n");
    }
    assert_eq!(verify(anew.as_bytes(), None, None).unwrap().findings, [], "the chain alone does not tell");
    assert!(matches!(findings(&anew, &pair, None)[..], [Finding::Forged { line: 6, .. }, ..]));
}

#[tokio::test]
async fn a_line_that_a_crash_cut_short_is_a_note_when_the_log_went_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    AuditLog::open(&path).unwrap().record(granted("whole")).await.unwrap();
    OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"n\":2,\"id\":\"cu").unwrap();
    let cut = verify(&*fs::read(&path).unwrap(), None, None).unwrap();
    assert_eq!(cut.findings, [Finding::Cut { line: 2 }]);
    AuditLog::open(&path).unwrap().record(granted("after")).await.unwrap();
    let verified = verify(&*fs::read(&path).unwrap(), None, None).unwrap();
    assert_eq!((verified.findings, verified.torn), (vec![], vec![2]));
}
