//! The object store: signatures, scope, expiry, parts, ranges.

use std::time::Duration;

use crate::{
    s3::Stage,
    world::{Client, World},
};

async fn stage(world: &World) -> (Client, Stage) {
    let client = world.login().await;
    let put = client.ok("PUT 'file:///nowhere/x' @~/run/ AUTO_COMPRESS = FALSE").await;
    let stage = Stage::of(&world.http, &put);
    (client, stage)
}

async fn refused(stage: &Stage, path: &str) -> (u16, String) {
    let reply = stage.send("PUT", path, "", &[], b"x".to_vec()).await;
    let status = reply.status().as_u16();
    let body = reply.text().await.unwrap();
    let code = body.split("<Code>").nth(1).and_then(|rest| rest.split('<').next()).unwrap_or_default();
    (status, code.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_comes_back_with_its_metadata_whole_and_in_ranges() {
    let world = World::start().await;
    let (_, stage) = stage(&world).await;
    let path = format!("/{}a%20b.bin", stage.folder);
    let reply =
        stage.send("PUT", &path, "", &[("x-amz-meta-sfc-digest", "abc")], b"0123456789".to_vec()).await;
    assert_eq!(reply.status(), 200);
    let etag = reply.headers()["etag"].clone();
    let head = stage.send("HEAD", &path, "", &[], Vec::new()).await;
    assert_eq!(head.headers()["content-length"], "10");
    assert_eq!(head.headers()["etag"], etag);
    assert_eq!(head.headers()["x-amz-meta-sfc-digest"], "abc");
    let part = stage.send("GET", &path, "", &[("range", "bytes=2-4")], Vec::new()).await;
    assert_eq!(part.status(), 206);
    assert_eq!(part.headers()["content-range"], "bytes 2-4/10");
    assert_eq!(part.bytes().await.unwrap(), "234");
    // The same object by the path-style form.
    let whole = stage.send("GET", &format!("/127{path}"), "", &[], Vec::new()).await;
    assert_eq!(whole.bytes().await.unwrap(), "0123456789");
    assert_eq!(stage.send("DELETE", &path, "", &[], Vec::new()).await.status(), 204);
    assert_eq!(stage.send("HEAD", &path, "", &[], Vec::new()).await.status(), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_keys_signatures_tokens_and_foreign_folders_are_refused() {
    let world = World::start().await;
    let (_, good) = stage(&world).await;
    let path = format!("/{}x", good.folder);
    let changed = |change: fn(&mut Stage)| {
        let mut stage = good.clone();
        change(&mut stage);
        stage
    };
    let secret = changed(|stage| stage.secret.push('x'));
    assert_eq!(refused(&secret, &path).await, (403, "SignatureDoesNotMatch".into()));
    let key_id = changed(|stage| stage.key_id = "ASIANOBODY".into());
    assert_eq!(refused(&key_id, &path).await, (403, "InvalidAccessKeyId".into()));
    let token = changed(|stage| stage.token = "another".into());
    assert_eq!(refused(&token, &path).await, (400, "InvalidToken".into()));
    assert_eq!(refused(&good, "/stages/another/x").await, (403, "AccessDenied".into()));
    assert_eq!(refused(&good, "/elsewhere").await, (403, "AccessDenied".into()));
    let hash = "0".repeat(64);
    let reply = good.send_signed("PUT", &path, "", &[], b"x".to_vec(), &hash).await;
    assert!(reply.text().await.unwrap().contains("XAmzContentSHA256Mismatch"));
    let unsigned = world.http.put(format!("https://{}{path}", good.address)).body("x").send().await.unwrap();
    assert_eq!(unsigned.status(), 403);
    assert_eq!(world.handle.staged_objects().len(), 0);
    assert_eq!(world.handle.stats.snapshot().objects_refused, 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_expire_and_a_new_put_gives_new_ones() {
    let world = World::start_with(|config| config.stage_credentials_ttl = Duration::from_millis(400)).await;
    let (client, first) = stage(&world).await;
    let path = format!("/{}x", first.folder);
    assert_eq!(first.send("PUT", &path, "", &[], b"x".to_vec()).await.status(), 200);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(refused(&first, &path).await, (400, "ExpiredToken".into()));
    let put = client.ok("PUT 'file:///nowhere/x' @~/run/").await;
    let second = Stage::of(&world.http, &put);
    assert_eq!(second.folder, first.folder);
    assert_eq!(second.send("PUT", &path, "", &[], b"x".to_vec()).await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_are_joined_in_order_and_wrong_parts_are_refused() {
    let world = World::start().await;
    let (_, stage) = stage(&world).await;
    let path = format!("/{}big", stage.folder);
    let begun = stage.send("POST", &path, "uploads=", &[("x-amz-meta-a", "b")], Vec::new()).await;
    let body = begun.text().await.unwrap();
    let id = body.split("<UploadId>").nth(1).unwrap().split('<').next().unwrap().to_owned();
    let big = vec![1_u8; 5 << 20];
    let mut tags = Vec::new();
    for (number, data) in [(1, big.clone()), (2, b"end".to_vec())] {
        let reply = stage.send("PUT", &path, &format!("partNumber={number}&uploadId={id}"), &[], data).await;
        assert_eq!(reply.status(), 200);
        tags.push(reply.headers()["etag"].to_str().unwrap().to_owned());
    }
    let document = |tags: &[String]| {
        let parts: String = tags
            .iter()
            .enumerate()
            .map(|(at, tag)| format!("<Part><ETag>{tag}</ETag><PartNumber>{}</PartNumber></Part>", at + 1))
            .collect::<Vec<_>>()
            .concat();
        format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>").into_bytes()
    };
    let query = format!("uploadId={id}");
    let wrong = document(&[tags[1].clone(), tags[0].clone()]);
    assert_eq!(stage.send("POST", &path, &query, &[], wrong).await.status(), 400);
    let done = stage.send("POST", &path, &query, &[], document(&tags)).await;
    assert_eq!(done.status(), 200);
    let whole = stage.send("GET", &path, "", &[], Vec::new()).await;
    assert_eq!(whole.headers()["x-amz-meta-a"], "b");
    assert_eq!(whole.bytes().await.unwrap(), [big, b"end".to_vec()].concat());
    let last = stage.send("GET", &path, "partNumber=2", &[], Vec::new()).await;
    assert_eq!(
        (last.status().as_u16(), &last.headers()["x-amz-mp-parts-count"]),
        (206, &"2".parse().unwrap())
    );
    assert_eq!(last.bytes().await.unwrap(), "end");
    let head = stage.send("HEAD", &path, "partNumber=1", &[], Vec::new()).await;
    assert_eq!(head.headers()["content-range"], format!("bytes 0-{}/{}", (5 << 20) - 1, (5 << 20) + 3));
    assert_eq!(stage.send("GET", &path, "partNumber=3", &[], Vec::new()).await.status(), 416);
    assert_eq!(stage.send("POST", &path, &query, &[], document(&tags)).await.status(), 404);
    let again = stage.send("POST", &path, "uploads=", &[], Vec::new()).await.text().await.unwrap();
    let id = again.split("<UploadId>").nth(1).unwrap().split('<').next().unwrap().to_owned();
    assert_eq!(stage.send("DELETE", &path, &format!("uploadId={id}"), &[], Vec::new()).await.status(), 204);
    assert_eq!(stage.send("DELETE", &path, &format!("uploadId={id}"), &[], Vec::new()).await.status(), 404);
}
