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
