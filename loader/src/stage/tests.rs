use std::io::Write as _;

use aes::cipher::{BlockModeDecrypt as _, KeyInit as _, KeyIvInit as _, block_padding::Pkcs7};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use static_assertions::assert_not_impl_any;

use super::{
    encrypt::MasterKey,
    spool::{Place, Spool, SpoolDir, SpooledFile},
    *,
};
use crate::snowflake::{
    mini::{Act, Seen, serve},
    script::{Script, done, refused},
};

assert_not_impl_any!(MasterKey: fmt::Debug, fmt::Display, serde::Serialize);
assert_not_impl_any!(Credentials: fmt::Debug, fmt::Display, Clone, serde::Serialize);
assert_not_impl_any!(Data: fmt::Debug, fmt::Display, Clone, serde::Serialize);

/// What a stage's reader does, written with another library.
pub(crate) async fn decrypted(file: &SpooledFile, master: &[u8]) -> Vec<u8> {
    let cipher = file.read_at(0, file.cipher_bytes as usize).await.unwrap();
    let wrapped = BASE64.decode(&file.envelope.wrapped_key).unwrap();
    let iv = BASE64.decode(&file.envelope.iv).unwrap();
    let plain = if master.len() == 16 {
        let key = ecb::Decryptor::<aes::Aes128>::new_from_slice(master).unwrap();
        let key = key.decrypt_padded_vec::<Pkcs7>(&wrapped).unwrap();
        let data = cbc::Decryptor::<aes::Aes128>::new_from_slices(&key, &iv).unwrap();
        data.decrypt_padded_vec::<Pkcs7>(&cipher).unwrap()
    } else {
        let key = ecb::Decryptor::<aes::Aes256>::new_from_slice(master).unwrap();
        let key = key.decrypt_padded_vec::<Pkcs7>(&wrapped).unwrap();
        let data = cbc::Decryptor::<aes::Aes256>::new_from_slices(&key, &iv).unwrap();
        data.decrypt_padded_vec::<Pkcs7>(&cipher).unwrap()
    };
    assert_eq!(file.digest, BASE64.encode(Sha256::digest(&plain)));
    assert_eq!(file.plain_bytes, plain.len() as u64);
    plain
}

fn master(bytes: &[u8]) -> MasterKey {
    MasterKey::new(&BASE64.encode(bytes), "01b0-query".into(), "92019681909886".into()).unwrap()
}

#[tokio::test]
async fn what_is_spooled_is_what_another_implementation_decrypts() {
    let dir = tempfile::tempdir().unwrap();
    for key in [vec![7_u8; 16], (0..32).collect::<Vec<u8>>()] {
        for length in [0, 1, 15, 16, 17, 262_143, 262_144, 262_145, 700_001] {
            let plain: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
            let mut spool = Spool::create(place(dir.path()), &master(&key)).unwrap();
            for piece in plain.chunks(10_007) {
                spool.write_all(piece).unwrap();
            }
            let file = spool.finish(3).unwrap();
            assert_eq!(decrypted(&file, &key).await, plain, "{length} bytes");
            assert_eq!(file.cipher_bytes, (length as u64 / 16 + 1) * 16);
        }
    }
}

#[tokio::test]
async fn the_spool_directory_stays_empty_and_two_files_share_no_key() {
    let dir = tempfile::tempdir().unwrap();
    let spooled = || {
        let mut spool = Spool::create(place(dir.path()), &master(&[1; 16])).unwrap();
        spool.write_all(b"the same rows").unwrap();
        spool.finish(1).unwrap()
    };
    let (a, b) = (spooled(), spooled());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    assert_eq!(a.digest, b.digest);
    assert_ne!(a.envelope.wrapped_key, b.envelope.wrapped_key);
    assert_ne!(a.envelope.iv, b.envelope.iv);
}

#[test]
fn the_material_is_described_in_strings_only() {
    let dir = tempfile::tempdir().unwrap();
    let file = Spool::create(place(dir.path()), &master(&[1; 32])).unwrap().finish(0).unwrap();
    let described: serde_json::Value = serde_json::from_str(&file.envelope.description).unwrap();
    assert_eq!(described, json!({ "queryId": "01b0-query", "smkId": "92019681909886", "keySize": "256" }));
}

#[test]
fn a_master_key_of_another_length_is_refused() {
    for key in ["", "AAAA", "not base64!"] {
        assert!(MasterKey::new(key, String::new(), String::new()).is_err(), "{key}");
    }
}

/// A reply as the vendor's drivers get it.
fn reply() -> serde_json::Value {
    json!({
        "command": "UPLOAD",
        "src_locations": ["/etc/shadow"],
        "parallel": 4, "threshold": 209_715_200_u64, "autoCompress": false, "overwrite": false,
        "sourceCompression": "none", "clientShowEncryptionParameter": true,
        "queryId": "01b0c1d2-0000-1234-0000-000100020003",
        "encryptionMaterial": {
            "queryStageMasterKey": BASE64.encode([9_u8; 16]),
            "queryId": "01b0c1d2-0000-1234-0000-000100020003",
            "smkId": 92_019_681_909_886_u64,
        },
        "stageInfo": {
            "locationType": "S3", "location": "sfc-eu-ds1-customer-stage/abcd-s-euss1234/stages/0f1e/r1/c00001/a1_x/",
            "path": "x", "region": "eu-west-1", "storageAccount": null, "isClientSideEncrypted": true,
            "creds": { "AWS_KEY_ID": "AKIAEXAMPLE", "AWS_SECRET_KEY": "very-secret", "AWS_TOKEN": "token-value",
                       "AWS_ID": "AKIAEXAMPLE", "AWS_KEY": "very-secret" },
            "presignedUrl": null, "endPoint": null, "useS3RegionalUrl": false,
        },
    })
}

fn read(reply: serde_json::Value, allow: &[&str]) -> Result<StageTarget, StageError> {
    let allow: Vec<String> = allow.iter().map(|&entry| entry.to_owned()).collect();
    let clients = crate::snowflake::HttpClients::new(None).unwrap();
    StageTarget::from_reply(serde_json::from_value(reply).unwrap(), clients.objects, &allow)
}

#[test]
fn a_put_reply_gives_place_and_key_and_prints_neither_credentials_nor_key() {
    let target = read(reply(), &[]).unwrap();
    assert_eq!(target.place.host(), "sfc-eu-ds1-customer-stage.s3.eu-west-1.amazonaws.com");
    assert_eq!(target.place.path(), "abcd-s-euss1234/stages/0f1e/r1/c00001/a1_x/");
    let printed = format!("{target:?}");
    for secret in ["very-secret", "token-value", "AKIAEXAMPLE", &BASE64.encode([9_u8; 16])] {
        assert!(!printed.contains(secret), "{printed}");
    }
}

#[test]
fn material_in_an_array_is_understood_too() {
    let mut array = reply();
    array["encryptionMaterial"] = json!([array["encryptionMaterial"]]);
    read(array, &[]).unwrap();
}

#[test]
fn bucket_and_end_point_join_to_the_address_as_in_the_vendors_drivers() {
    let mut local = reply();
    local["stageInfo"]["location"] = json!("127/stages/0f1e/r1");
    local["stageInfo"]["endPoint"] = json!("0.0.1:9443");
    let target = read(local.clone(), &["127.0.0.1:9443"]).unwrap();
    assert_eq!(target.place.host(), "127.0.0.1:9443");
    assert_eq!(target.place.path(), "stages/0f1e/r1/");
    let error = read(local, &["127.0.0.1:9444"]).unwrap_err();
    assert!(error.to_string().contains("stage_endpoint_allow"), "{error}");
}

#[test]
fn a_reply_that_points_elsewhere_is_refused() {
    for (location, end_point) in [
        ("bucket/x", "evil.example"),
        ("169/x", "254.169.254"),
        ("bucket/x", "s3.amazonaws.com@evil.example"),
        ("bucket/x", "evil.example/?.amazonaws.com"),
        ("", "s3.amazonaws.com"),
    ] {
        let mut other = reply();
        other["stageInfo"]["location"] = json!(location);
        other["stageInfo"]["endPoint"] = json!(end_point);
        assert!(read(other, &["169.254.169.254"]).is_err(), "{location} {end_point}");
    }
}

#[test]
fn other_clouds_and_plain_stages_are_not_carried_yet_and_say_so() {
    for kind in ["AZURE", "GCS", "LOCAL_FS"] {
        let mut other = reply();
        other["stageInfo"]["locationType"] = json!(kind);
        assert!(matches!(read(other, &[]), Err(StageError::NotCarried(_))), "{kind}");
    }
    let mut plain = reply();
    plain["encryptionMaterial"] = json!(null);
    assert!(matches!(read(plain, &[]), Err(StageError::NotCarried(_))));
}

#[tokio::test]
async fn a_role_that_may_not_make_the_stage_goes_on_with_one_that_exists() {
    let stage = TargetName { database: "D".into(), schema: "S".into(), name: "STAGE".into() };
    for answer in [done(), refused("003001")] {
        let mut session = Script::new([("CREATE STAGE IF NOT EXISTS \"D\".\"S\".\"STAGE\"", answer)]);
        ensure(&mut session, &stage).await.unwrap();
    }
    let mut session = Script::new([("CREATE STAGE", refused("002003"))]);
    ensure(&mut session, &stage).await.unwrap_err();
}

/// A spooled file of `length` bytes and what is needed to read it back.
fn spooled(length: usize) -> SpooledFile {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = Spool::create(place(dir.path()), &master(&[9; 16])).unwrap();
    let plain: Vec<u8> = (0..length).map(|i| (i % 249) as u8).collect();
    spool.write_all(&plain).unwrap();
    spool.finish(5).unwrap()
}

fn place(path: &std::path::Path) -> Place {
    SpoolDir::new(path.to_owned(), 0, Duration::from_secs(1)).enter_now()
}

/// Uploads to a server that acts as told, over plain HTTP: what is asked for is the same.
async fn uploaded(
    file: &SpooledFile,
    act: impl Fn(usize, &Seen) -> Act + Send + 'static,
) -> (Result<StagedFile, StageError>, Vec<Seen>) {
    let (address, log) = serve(act).await;
    let mut target = read(reply(), &[]).unwrap();
    target.place.redirect(&format!("http://{address}"));
    target.client = reqwest::Client::new();
    let options = UploadOptions { deadline: Duration::from_secs(20), part_bytes: 5 << 20 };
    let outcome = upload(&target, "part000.parquet", file, &options).await;
    let seen = log.lock().unwrap().clone();
    (outcome, seen)
}

fn stored() -> Act {
    Act::Respond { status: 200, headers: vec![("etag", "\"e\"".to_owned())], body: String::new() }
}

fn check_envelope(seen: &Seen, file: &SpooledFile) {
    let header = |name: &str| seen.headers.get(name).map(String::as_str);
    assert_eq!(header("x-amz-meta-x-amz-key"), Some(file.envelope.wrapped_key.as_str()));
    assert_eq!(header("x-amz-meta-x-amz-iv"), Some(file.envelope.iv.as_str()));
    assert_eq!(header("x-amz-meta-x-amz-matdesc"), Some(file.envelope.description.as_str()));
    assert_eq!(header("x-amz-meta-sfc-digest"), Some(file.digest.as_str()));
    assert_eq!(header("x-amz-security-token"), Some("token-value"));
    let authorization = header("authorization").unwrap();
    assert!(authorization.starts_with("AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE/"), "{authorization}");
    assert!(authorization.contains("/eu-west-1/s3/") && authorization.contains("x-amz-meta-x-amz-key"));
}

const KEY: &str = "/abcd-s-euss1234/stages/0f1e/r1/c00001/a1_x/part000.parquet";

#[tokio::test]
async fn a_small_file_goes_up_in_one_signed_request_with_its_envelope() {
    let file = spooled(100_000);
    let (outcome, seen) = uploaded(&file, |_, _| stored()).await;
    let staged = outcome.unwrap();
    assert_eq!((staged.rows, staged.bytes, &staged.digest), (5, file.cipher_bytes, &file.digest));
    assert_eq!(seen.len(), 1);
    assert_eq!((seen[0].method.as_str(), seen[0].path.as_str()), ("PUT", KEY));
    check_envelope(&seen[0], &file);
    assert_eq!(seen[0].body, file.read_at(0, file.cipher_bytes as usize).await.unwrap());
}

#[tokio::test]
async fn a_large_file_goes_up_in_parts_that_join_to_the_whole() {
    let file = spooled(11 << 20);
    let (outcome, seen) = uploaded(&file, |_, request| {
        if request.query.contains_key("uploads") {
            return Act::status(
                200,
                "<InitiateMultipartUploadResult><UploadId>u1</UploadId></InitiateMultipartUploadResult>",
            );
        }
        if request.method == "POST" {
            return Act::status(
                200,
                "<CompleteMultipartUploadResult><ETag>e-3</ETag></CompleteMultipartUploadResult>",
            );
        }
        stored()
    })
    .await;
    outcome.unwrap();
    assert!(seen.iter().all(|request| request.path == KEY));
    check_envelope(&seen[0], &file);
    let parts: Vec<&Seen> = seen.iter().filter(|request| request.method == "PUT").collect();
    assert_eq!(parts.len(), 3);
    let whole: Vec<u8> = parts.iter().flat_map(|part| part.body.clone()).collect();
    assert_eq!(whole, file.read_at(0, file.cipher_bytes as usize).await.unwrap());
}

#[tokio::test]
async fn credentials_that_expired_ask_for_a_new_put_and_a_refusal_shows_no_body() {
    let file = spooled(10);
    let error = "<Error><Code>ExpiredToken</Code><Message>secret words</Message></Error>";
    let (outcome, _) = uploaded(&file, move |_, _| Act::status(400, error)).await;
    assert!(matches!(outcome, Err(StageError::CredentialsExpired { .. })));
    let error = "<Error><Code>SignatureDoesNotMatch</Code><Message>secret words</Message></Error>";
    let (outcome, seen) = uploaded(&file, move |_, _| Act::status(403, error)).await;
    let text = outcome.unwrap_err().to_string();
    assert!(text.contains("SignatureDoesNotMatch") && !text.contains("secret words"), "{text}");
    assert_eq!(seen.len(), 1);
}

#[tokio::test]
async fn a_busy_storage_and_a_lost_reply_are_asked_again_with_the_same_bytes() {
    let file = spooled(10);
    let (outcome, seen) = uploaded(&file, |number, _| match number {
        0 => Act::status(503, "<Error><Code>SlowDown</Code></Error>"),
        1 => Act::CutAfterReading,
        _ => stored(),
    })
    .await;
    outcome.unwrap();
    assert_eq!(seen.len(), 3);
    assert!(seen.iter().all(|request| request.body == seen[0].body && request.path == KEY));
}

#[tokio::test]
async fn a_part_that_failed_goes_up_again_and_the_others_do_not() {
    let file = spooled(11 << 20);
    let failures = std::sync::atomic::AtomicUsize::new(0);
    let (outcome, seen) = uploaded(&file, move |_, request| {
        if request.query.contains_key("uploads") {
            return Act::status(
                200,
                "<InitiateMultipartUploadResult><UploadId>u1</UploadId></InitiateMultipartUploadResult>",
            );
        }
        if request.method == "POST" {
            return Act::status(
                200,
                "<CompleteMultipartUploadResult><ETag>e-3</ETag></CompleteMultipartUploadResult>",
            );
        }
        let second = request.query.get("partNumber").is_some_and(|number| number == "2");
        if second {
            match failures.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
                0 => return Act::status(503, "<Error><Code>SlowDown</Code></Error>"),
                1 => return Act::CutAfterReading,
                _ => {}
            }
        }
        stored()
    })
    .await;
    outcome.unwrap();
    let sent = |part: &str| -> Vec<&Seen> {
        seen.iter()
            .filter(|seen| seen.method == "PUT" && seen.query.get("partNumber").is_some_and(|n| n == part))
            .collect()
    };
    assert_eq!((sent("1").len(), sent("2").len(), sent("3").len()), (1, 3, 1));
    assert!(sent("2").iter().all(|again| again.body == sent("2")[0].body));
}
