//! PUT and GET: the reply that tells a driver where to send or fetch files, with which credentials and key.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{
    StageKey,
    copy::options,
    crypt::{self, KeyName},
    lexer::{Kind, tokens},
    objects::{BUCKET, REGION},
    query::Run,
    reply::Refusal,
    stages::Location,
    statement::Answer,
};

/// The master key's number of the account; the real one is as long.
const SMK_ID: u64 = 92_019_681_909_886;

/// `PUT 'file://…' @stage/path OPTION = value …`.
pub(crate) fn put(run: &Run<'_>, text: &str) -> Result<Answer, Refusal> {
    let (file, rest) = file_url(text)?;
    let (location, options) = location_and_options(rest)?;
    options.only(&["PARALLEL", "AUTO_COMPRESS", "SOURCE_COMPRESSION", "OVERWRITE", "THRESHOLD"])?;
    let mut location = run.resolve(&location)?;
    if !location.path.is_empty() && !location.path.ends_with('/') {
        location.path.push('/');
    }
    let length = match run.server.config.stage_key {
        StageKey::Aes128 => 16,
        StageKey::Aes256 => 32,
    };
    let name = KeyName { smk_id: SMK_ID.to_string(), query_id: run.query_id.to_owned() };
    // The Go driver's digest of a stream is not one of its bytes and the Node driver sends none of what it packed: the
    // service loads such files all the same.
    let digest_counts = !matches!(run.session.client.id.as_str(), "Go" | "JavaScript");
    let key = run.server.stages.new_key(&location.stage.id, &name, length, digest_counts);
    Ok(Answer::Transfer(json!({
        "command": "UPLOAD",
        "src_locations": [file],
        "parallel": number(&options, "PARALLEL", 4)?,
        "threshold": number(&options, "THRESHOLD", 209_715_200)?,
        "autoCompress": options.flag("AUTO_COMPRESS")?.unwrap_or(true),
        "overwrite": options.flag("OVERWRITE")?.unwrap_or(false),
        "sourceCompression": options.plain("SOURCE_COMPRESSION").unwrap_or("auto_detect").to_lowercase(),
        "clientShowEncryptionParameter": false,
        "encryptionMaterial": material(run, &name, &key),
        "stageInfo": stage_info(run, &location, &location.path),
        "uploadInfo": null, "localLocation": null, "kind": null, "operation": "Node",
    })))
}

/// `GET @stage/path 'file://…' OPTION = value …`.
pub(crate) fn get(run: &Run<'_>, text: &str) -> Result<Answer, Refusal> {
    let all = tokens(text);
    let source = all
        .get(1)
        .and_then(crate::statement::location_of)
        .ok_or_else(|| Refusal::syntax("GET needs a stage location."))?;
    let rest = all.get(1).map_or("", |token| &text[token.end()..]);
    let (directory, rest) = file_url(&format!("GET {rest}")).map(|(file, rest)| (file, rest.to_owned()))?;
    let options = options::parse(&rest)?;
    options.only(&["PARALLEL", "PATTERN"])?;
    let pattern = options.plain("PATTERN").map(crate::copy::pattern).transpose()?;
    let location = run.resolve(&source)?;
    let (mut sources, mut materials) = (Vec::new(), Vec::new());
    for (name, key, object) in location.files(&run.server.objects) {
        if pattern.as_ref().is_some_and(|pattern| !pattern.is_match(&name)) {
            continue;
        }
        // Relative to the location `127/stages/`: drivers drop the first folder for the local name.
        sources.push(key.strip_prefix("stages/").unwrap_or(&key).to_owned());
        let known = crypt::key_name(&object).ok().and_then(|name| {
            let key = run.server.stages.master_key(&location.stage.id, &name)?;
            Some(material(run, &name, &key))
        });
        materials.push(known.unwrap_or(Value::Null));
    }
    let mut info = stage_info(run, &location, "");
    info["location"] = json!(format!("{BUCKET}/stages/"));
    Ok(Answer::Transfer(json!({
        "command": "DOWNLOAD",
        "src_locations": sources,
        "localLocation": directory,
        "parallel": number(&options, "PARALLEL", 10)?,
        "encryptionMaterial": materials,
        "stageInfo": info,
        "autoCompress": false, "overwrite": false, "kind": null, "operation": "Node",
    })))
}

fn material(run: &Run<'_>, name: &KeyName, key: &[u8]) -> Value {
    let smk_id = if run.session.client.smk_as_text {
        json!(name.smk_id)
    } else {
        json!(name.smk_id.parse::<u64>().unwrap_or_default())
    };
    json!({ "queryStageMasterKey": STANDARD.encode(key), "queryId": name.query_id, "smkId": smk_id })
}

fn stage_info(run: &Run<'_>, location: &Location, path: &str) -> Value {
    // Credentials are good for the whole stage: drivers ask with HEAD for names of their own.
    let life = run.server.config.stage_credentials_ttl;
    let credentials = run.server.objects.grant(&location.stage.key(""), life);
    let end_point = if run.session.client.prefixes_bucket() {
        run.server.endpoint.clone()
    } else {
        run.server.objects_address()
    };
    json!({
        "locationType": "S3",
        "location": format!("{BUCKET}/{}", location.stage.key(path)),
        "path": location.stage.key(path), "region": REGION, "storageAccount": null, "isClientSideEncrypted": true,
        "creds": {
            "AWS_KEY_ID": credentials.key_id, "AWS_SECRET_KEY": credentials.secret, "AWS_TOKEN": credentials.token,
            "AWS_ID": credentials.key_id, "AWS_KEY": credentials.secret,
        },
        "presignedUrl": null, "endPoint": end_point, "useS3RegionalUrl": false, "useRegionalUrl": false,
        "useVirtualUrl": false, "volumeHash": null,
    })
}

/// The path of `file://…` after the statement's first word, and the text behind it.
fn file_url(text: &str) -> Result<(String, &str), Refusal> {
    let bad = || Refusal::syntax("the local path must be given as 'file://…'.");
    let rest = text.trim_start();
    let rest = rest[rest.find(char::is_whitespace).ok_or_else(bad)?..].trim_start();
    let (url, rest) = if rest.starts_with('\'') {
        let token =
            tokens(rest).into_iter().next().filter(|token| token.kind == Kind::Text).ok_or_else(bad)?;
        (token.value(), &rest[token.end()..])
    } else {
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        (rest[..end].to_owned(), &rest[end..])
    };
    Ok((url.strip_prefix("file://").ok_or_else(bad)?.to_owned(), rest))
}

fn location_and_options(rest: &str) -> Result<(String, options::Options), Refusal> {
    let all = tokens(rest);
    let first = all.first().and_then(crate::statement::location_of);
    let location = first.ok_or_else(|| Refusal::syntax("PUT needs a stage location."))?;
    Ok((location, options::parse(all.get(1).map_or("", |token| &rest[token.start..]))?))
}

fn number(options: &options::Options, name: &str, default: u64) -> Result<u64, Refusal> {
    options.plain(name).map_or(Ok(default), |text| {
        text.parse().map_err(|_| Refusal::syntax(format!("invalid value [{text}] for parameter '{name}'")))
    })
}
