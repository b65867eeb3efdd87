//! The Rust crate `snowflake-api` judges the Snowflake stand-in.
//!
//! Its host is fixed (`ACCOUNT.snowflakecomputing.com`), so its HTTP client is given that name's address; its uploads go to
//! `s3.REGION.amazonaws.com` by a client of their own, which a proxy of this program brings to the stand-in's store.

mod proxy;

use std::{env, fs, future::Future, net::SocketAddr, path::Path};

use anyhow::{Context, Result, bail, ensure};
use arrow_array::{Array, Decimal128Array, Int8Array, Int32Array, RecordBatch, StringArray};
use snowflake_api::{AuthArgs, AuthType, CertificateArgs, PasswordArgs, QueryResult, SnowflakeApi, SnowflakeApiBuilder};

struct Judge {
    misses: u32,
}

impl Judge {
    async fn proof(&mut self, topic: &str, what: &str, action: impl Future<Output = Result<()>>) {
        match action.await {
            Ok(()) => println!("proved  {topic}: {what}"),
            Err(error) => {
                self.misses += 1;
                println!("MISSED  {topic}: {what}: {}", format!("{error:#}").replace('\n', " "));
            }
        }
    }
}

fn variable(name: &str) -> Result<String> {
    env::var(format!("SNOWFLAKE_{name}")).with_context(|| format!("SNOWFLAKE_{name} is not set"))
}

fn client(auth_type: AuthType) -> Result<SnowflakeApi> {
    let account = variable("ACCOUNT")?;
    let address: SocketAddr = variable("URL")?.trim_start_matches("https://").parse()?;
    let authority = reqwest::Certificate::from_pem(&fs::read(variable("CA")?)?)?;
    let http = reqwest::Client::builder()
        .resolve(&format!("{}.snowflakecomputing.com", account.to_lowercase()), address)
        .add_root_certificate(authority)
        .no_proxy()
        .gzip(true)
        .build()?;
    let auth = AuthArgs {
        account_identifier: account,
        warehouse: Some(variable("WAREHOUSE")?),
        database: Some(variable("DATABASE")?),
        schema: Some(variable("SCHEMA")?),
        username: variable("KEY_USER")?,
        role: Some(variable("ROLE")?),
        auth_type,
    };
    let http = reqwest_middleware::ClientBuilder::new(http).build();
    Ok(SnowflakeApiBuilder::new(auth).with_client(http).build()?)
}

async fn arrow(api: &SnowflakeApi, sql: &str) -> Result<Vec<RecordBatch>> {
    match api.exec(sql).await? {
        QueryResult::Arrow(batches) => Ok(batches),
        QueryResult::Json(json) => bail!("JSON came instead of Arrow: {json}"),
        QueryResult::Empty => Ok(Vec::new()),
    }
}

async fn json(api: &SnowflakeApi, sql: &str) -> Result<String> {
    match api.exec(sql).await? {
        QueryResult::Json(json) => Ok(json.value.to_string()),
        QueryResult::Arrow(_) => bail!("Arrow came instead of JSON"),
        QueryResult::Empty => Ok("empty".to_owned()),
    }
}

fn same<T: PartialEq + std::fmt::Debug>(found: T, expected: T) -> Result<()> {
    ensure!(found == expected, "found {found:?}, expected {expected:?}");
    Ok(())
}

/// The error that a statement is refused with.
async fn refused(api: &SnowflakeApi, sql: &str) -> Result<String> {
    match api.exec(sql).await {
        Ok(_) => bail!("it was not refused"),
        Err(error) => Ok(error.to_string()),
    }
}

fn array<T: 'static>(batch: &RecordBatch, at: usize) -> Result<&T> {
    let column = batch.column(at);
    column.as_any().downcast_ref::<T>().with_context(|| format!("column {at} is {}", column.data_type()))
}

async fn types(api: &SnowflakeApi) -> Result<()> {
    let sql = "SELECT 7 AS A, 99999999999999999999999999999999999999::NUMBER(38,0) AS B, 'é' AS C, NULL::VARCHAR AS D";
    let batches = arrow(api, sql).await?;
    let batch = batches.first().context("no batch")?;
    same(array::<Int8Array>(batch, 0)?.value(0), 7)?;
    same(array::<Decimal128Array>(batch, 1)?.value(0), 10_i128.pow(38) - 1)?;
    same(array::<StringArray>(batch, 2)?.value(0), "é")?;
    same(array::<StringArray>(batch, 3)?.is_null(0), true)?;
    same(batch.schema().field(0).metadata().get("logicalType").map(String::as_str), Some("FIXED"))
}

async fn statements(api: &SnowflakeApi, table: &str) -> Result<()> {
    json(api, &format!("CREATE TABLE {table} (ID NUMBER(10,0), NAME VARCHAR)")).await?;
    let inserted = json(api, &format!("INSERT INTO {table} VALUES (1, 'a'), (2, NULL)")).await?;
    same(inserted.as_str(), r#"[["2"]]"#)?;
    let batches = arrow(api, &format!("SELECT NAME FROM {table} WHERE ID = 1")).await?;
    same(array::<StringArray>(batches.first().context("no batch")?, 0)?.value(0), "a")?;
    same(arrow(api, &format!("SELECT * FROM {table} WHERE ID > 9")).await?.len(), 0)
}

async fn transactions(api: &SnowflakeApi, table: &str) -> Result<()> {
    api.exec("BEGIN").await?;
    api.exec(&format!("DELETE FROM {table}")).await?;
    api.exec("ROLLBACK").await?;
    let batches = arrow(api, &format!("SELECT COUNT(*) FROM {table}")).await?;
    same(array::<Int8Array>(batches.first().context("no batch")?, 0)?.value(0), 2)
}

async fn parts(api: &SnowflakeApi) -> Result<()> {
    let batches = arrow(api, "SELECT SEQ4() AS N FROM TABLE(GENERATOR(ROWCOUNT => 120000))").await?;
    ensure!(batches.len() > 2, "{} batches", batches.len());
    let mut numbers = Vec::new();
    for batch in &batches {
        numbers.extend_from_slice(array::<Int32Array>(batch, 0)?.values());
    }
    numbers.sort_unstable();
    same(numbers.iter().copied().eq(0..120_000), true)
}

async fn put(api: &SnowflakeApi, stage: &str) -> Result<()> {
    let file = env::temp_dir().join(format!("{stage}.csv"));
    fs::write(&file, "1,from Rust\n")?;
    api.exec(&format!("CREATE STAGE {stage}")).await?;
    let sent = api.exec(&format!("PUT 'file://{}' @{stage}/ AUTO_COMPRESS = FALSE", file.display())).await;
    fs::remove_file(&file)?;
    sent?;
    let listed = json(api, &format!("LIST @{stage}")).await?;
    ensure!(listed.contains(&format!("{stage}.csv")) && listed.contains("\"12\""), "found {listed}");
    Ok(())
}

/// Uploads find the proxy and the authority in the environment, which is changed before there is a second thread.
fn main() -> Result<()> {
    let objects: SocketAddr = variable("OBJECTS")?.parse()?;
    let proxy = proxy::start(objects)?;
    env::set_var("HTTPS_PROXY", format!("http://{proxy}"));
    env::set_var("SSL_CERT_FILE", variable("CA")?);
    tokio::runtime::Runtime::new()?.block_on(run())
}

async fn run() -> Result<()> {
    let mut judge = Judge { misses: 0 };
    let key = fs::read_to_string(Path::new(&variable("PRIVATE_KEY_FILE")?))?;
    let api = client(AuthType::Certificate(CertificateArgs { private_key_pem: key }))?;
    let tag = format!("RUST_{}", std::process::id());
    judge
        .proof("login", "a key pair", async {
            let batches = arrow(&api, "SELECT CURRENT_USER()").await?;
            let user = array::<StringArray>(batches.first().context("no batch")?, 0)?.value(0).to_owned();
            same(user, variable("KEY_USER")?.to_uppercase())
        })
        .await;
    judge
        .proof("login", "a password where there is none is refused with 390100", async {
            let other = client(AuthType::Password(PasswordArgs { password: "wrong".to_owned() }))?;
            let error = refused(&other, "SELECT 1").await?;
            ensure!(error.contains("390100"), "found {error}");
            Ok(())
        })
        .await;
    judge.proof("types", "numbers, text and NULL as Arrow", types(&api)).await;
    judge.proof("statements", "DDL and changes as JSON, rows as Arrow", statements(&api, &tag)).await;
    judge.proof("transactions", "ROLLBACK undoes", transactions(&api, &tag)).await;
    for (what, sql, code) in [
        ("a missing table is 002003", "SELECT * FROM NO_SUCH_TABLE_HERE", "002003"),
        ("a syntax error is 001003", "SELEC 1", "001003"),
        ("a division by zero is 100051", "SELECT 1 / 0", "100051"),
    ] {
        judge
            .proof("errors", what, async {
                let error = refused(&api, sql).await?;
                ensure!(error.contains(code), "found {error}");
                Ok(())
            })
            .await;
    }
    judge.proof("fetch", "120000 rows in several parts", parts(&api)).await;
    let stage = format!("{tag}_S");
    judge.proof("put-get", "PUT uploads the file that it was asked for", put(&api, &stage)).await;
    judge
        .proof("put-get", "what it PUT is refused by COPY, since it is not encrypted", async {
            let copy = format!("COPY INTO {tag} FROM @{stage} FILE_FORMAT = (TYPE = CSV)");
            let error = refused(&api, &copy).await?;
            ensure!(error.contains("100035"), "found {error}");
            Ok(())
        })
        .await;
    println!(
        "vendor  put-get: a file that this crate PUT cannot be loaded from an internal stage: its put_to_s3 sends the file's bytes \
         as they are, without the encryption that encryptionMaterial asks for: \
         https://docs.rs/snowflake-api/0.14.0/src/snowflake_api/put.rs.html"
    );
    judge
        .proof("statements", "everything that was made is dropped", async {
            api.exec(&format!("DROP TABLE {tag}")).await?;
            api.exec(&format!("DROP STAGE {stage}")).await?;
            Ok(())
        })
        .await;
    std::process::exit(i32::from(judge.misses > 0));
}
