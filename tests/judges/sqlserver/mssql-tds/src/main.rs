//! mssql-tds (Microsoft's TDS client in Rust) against the SQL Server stand-in.

mod cases;
mod text;

use std::env;

use cases::{Case, cases};
use mssql_tds::{
    connection::{
        client_context::{ClientContext, TdsAuthenticationMethod},
        tds_client::{ExecuteOptions, ResultSet, StatementResult, TdsClient},
    },
    connection_provider::tds_connection_provider::TdsConnectionProvider,
    core::{EncryptionSetting, TdsResult},
    datatypes::{
        column_values::ColumnValues, decoder::DecimalParts, sql_string::SqlString, sqltypes::SqlType,
    },
    error::{Error, SqlErrorInfo},
    message::{
        parameters::rpc_parameters::{RpcParameter, StatusFlags},
        transaction_management::TransactionIsolationLevel,
    },
};
use text::{agrees, text};

const ME: &str = "mt";

/// Prints one line for each proof, and counts the misses.
#[derive(Default)]
struct Judge {
    missed: u32,
}

impl Judge {
    fn miss(&mut self, topic: &str, what: &str, detail: &str) {
        self.missed += 1;
        println!("MISSED  {topic}: {what}: {}", detail.replace('\n', " "));
    }

    fn same(&mut self, topic: &str, what: &str, found: &str, expected: &str) {
        if found == expected {
            println!("proved  {topic}: {what}");
        } else {
            self.miss(topic, what, &format!("found {found}, expected {expected}"));
        }
    }

    fn judge(&mut self, topic: &str, what: &str, found: TdsResult<String>, expected: &str) {
        match found {
            Ok(found) => self.same(topic, what, &found, expected),
            Err(error) => self.miss(topic, what, &error.to_string()),
        }
    }
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_default()
}

/// What a login differs in.
struct Login<'a> {
    encrypt: EncryptionSetting,
    password: &'a str,
    database: &'a str,
    kerberos: bool,
    packet: u16,
}

async fn connect(login: &Login<'_>) -> TdsResult<TdsClient> {
    let source = format!("tcp:{},{}", variable("SQLSERVER_HOST"), variable("SQLSERVER_PORT"));
    let mut context = ClientContext::with_data_source(&source);
    context.database = login.database.to_owned();
    context.encryption_options.mode = login.encrypt;
    context.packet_size = login.packet;
    context.connect_retry_count = 0;
    if login.kerberos {
        context.tds_authentication_method = TdsAuthenticationMethod::SSPI;
        context.server_spn = Some(variable("SQLSERVER_SPN").replace('/', "@"));
    } else {
        context.tds_authentication_method = TdsAuthenticationMethod::Password;
        context.user_name = variable("SQLSERVER_LOGIN");
        context.password = login.password.to_owned();
    }
    TdsConnectionProvider::new().create_client(context, &source, None).await
}

/// The answer to a batch: results, counts, and the error that ended it.
#[derive(Default)]
struct Answer {
    results: Vec<Vec<Vec<ColumnValues>>>,
    counts: Vec<u64>,
    error: Option<SqlErrorInfo>,
}

async fn run(client: &mut TdsClient, sql: &str) -> TdsResult<Answer> {
    let first = client.execute(sql.to_owned(), ()).await;
    gather(client, first).await
}

async fn gather(client: &mut TdsClient, first: TdsResult<StatementResult>) -> TdsResult<Answer> {
    let mut answer = Answer::default();
    let mut next = first;
    loop {
        match next {
            Ok(StatementResult::Rows) => {
                let mut rows = Vec::new();
                let ended = loop {
                    match client.next_row().await {
                        Ok(Some(row)) => rows.push(row),
                        Ok(None) => break None,
                        Err(error) => break Some(error),
                    }
                };
                answer.results.push(rows);
                if let Some(error) = ended {
                    next = Err(error);
                    continue;
                }
            }
            Ok(StatementResult::NoRows { rows_affected }) => answer.counts.extend(rows_affected),
            Ok(StatementResult::End) => break,
            Err(Error::SqlServerError { diagnostics }) => {
                answer.error = diagnostics.errors.into_iter().next();
                break;
            }
            Err(other) => return Err(other),
        }
        next = client.advance().await;
    }
    client.close_query().await?;
    Ok(answer)
}

/// All rows of an answer as one text.
async fn shown(client: &mut TdsClient, sql: &str) -> TdsResult<String> {
    let answer = run(client, sql).await?;
    Ok(match answer.error {
        Some(error) => format!("error {}", error.number),
        None => show(&answer.results),
    })
}

fn show(results: &[Vec<Vec<ColumnValues>>]) -> String {
    let row = |row: &Vec<ColumnValues>| row.iter().map(text).collect::<Vec<_>>().join(" | ");
    results
        .iter()
        .map(|rows| rows.iter().map(row).collect::<Vec<_>>().join("; "))
        .collect::<Vec<_>>()
        .join(" >> ")
}

async fn logins(judge: &mut Judge) {
    let (password, database) = (variable("SQLSERVER_PASSWORD"), variable("SQLSERVER_DATABASE"));
    let plain =
        |encrypt| Login { encrypt, password: &password, database: &database, kerberos: false, packet: 8000 };
    let ways = [
        ("PreferOff", EncryptionSetting::PreferOff),
        ("On", EncryptionSetting::On),
        ("Strict", EncryptionSetting::Strict),
    ];
    let name = variable("SQLSERVER_LOGIN").to_lowercase();
    let user = variable("KRB5_PRINCIPAL").split('@').next().unwrap_or_default().to_lowercase();
    for (way, encrypt) in ways {
        let found = match connect(&plain(encrypt)).await {
            Ok(mut client) => shown(&mut client, "SELECT LOWER(SUSER_SNAME())").await,
            Err(error) => Err(error),
        };
        judge.judge("tls", &format!("a SQL login with encryption {way}"), found, &name);
        let found = match connect(&Login { kerberos: true, ..plain(encrypt) }).await {
            Ok(mut client) => shown(&mut client, "SELECT LOWER(SUSER_SNAME())").await,
            Err(error) => Err(error),
        };
        judge.judge(
            "kerberos",
            &format!("a ticket logs in with encryption {way}"),
            found,
            &format!("keyferry\\{user}"),
        );
    }
    for packet in [512, 32_767] {
        let found = match connect(&Login { packet, ..plain(EncryptionSetting::PreferOff) }).await {
            Ok(mut client) => {
                shown(
                    &mut client,
                    "SELECT LEN(v), v FROM (SELECT REPLICATE(CAST('ab' AS varchar(max)), 9000) AS v) t",
                )
                .await
            }
            Err(error) => Err(error),
        };
        let expected = format!("18000 | {}", "ab".repeat(9000));
        judge.judge("login", &format!("packets of {packet} bytes"), found, &expected);
    }
    let refused = |result: TdsResult<TdsClient>| match result {
        Ok(_) => "no error".to_owned(),
        Err(Error::SqlServerError { diagnostics }) => {
            diagnostics.errors.first().map_or_else(String::new, |error| error.number.to_string())
        }
        Err(other) => other.to_string(),
    };
    let found = refused(connect(&Login { password: "wrong", ..plain(EncryptionSetting::On) }).await);
    judge.same("login", "a wrong password is 18456", &found, "18456");
    let found = refused(connect(&Login { database: "nowhere", ..plain(EncryptionSetting::On) }).await);
    judge.same("login", "an unknown database is 4060", &found, "4060");
}

fn differs(case: &Case, answer: &Answer) -> Option<String> {
    let told = answer.error.as_ref().map(|error| {
        let line = error.line_number.unwrap_or(0);
        (error.number, error.class, error.state, line, error.message.clone())
    });
    let found = |told: &Option<(u32, i32, u8, i32, String)>| {
        format!("found error {told:?}, expected {:?}", case.error)
    };
    match (&told, &case.error) {
        (None, None) => {}
        (Some((number, class, state, line, text)), Some(wanted)) => {
            let same = *number == wanted.number
                && *class == wanted.class
                && *state == wanted.state
                && (wanted.line == 0 || *line == wanted.line)
                && *text == wanted.text;
            if !same {
                return Some(found(&told));
            }
        }
        _ => return Some(found(&told)),
    }
    if case.topic == "setup" {
        return None;
    }
    let results: Vec<_> =
        answer.results.iter().filter(|rows| case.error.is_none() || !rows.is_empty()).cloned().collect();
    let same = results.len() == case.results.len()
        && results.iter().zip(&case.results).all(|(rows, wanted)| {
            rows.len() == wanted.len()
                && rows.iter().zip(wanted).all(|(row, wanted)| {
                    row.len() == wanted.len()
                        && row.iter().zip(wanted).all(|(value, wanted)| agrees(value, wanted))
                })
        });
    if !same {
        return Some(format!("found {}, expected {:?}", show(&results), case.results));
    }
    (!case.counts.is_empty() && case.counts != answer.counts)
        .then(|| format!("found counts {:?}, expected {:?}", answer.counts, case.counts))
}

async fn statements(judge: &mut Judge, client: &mut TdsClient) {
    for case in cases(ME, &variable("SQLSERVER_DATABASE")) {
        let problem = match run(client, &case.sql).await {
            Ok(answer) => differs(&case, &answer),
            Err(error) => Some(error.to_string()),
        };
        match problem {
            Some(problem) => judge.miss(&case.topic, &case.what, &problem),
            None if case.topic == "setup" => {}
            None => println!("proved  {}: {}", case.topic, case.what),
        }
    }
}

fn parameter(name: &str, value: SqlType) -> RpcParameter {
    RpcParameter::new(Some(name.to_owned()), StatusFlags::NONE, value)
}

async fn parameters(judge: &mut Judge, client: &mut TdsClient) {
    let decimal = DecimalParts::from_string("-12345.678900", 20, 6).ok();
    let text = |text: &str| SqlType::NVarchar(Some(SqlString::from_utf8_string(text.to_owned())), 40);
    let values = [
        ("bit", SqlType::Bit(Some(true)), "1"),
        ("tinyint", SqlType::TinyInt(Some(255)), "255"),
        ("smallint", SqlType::SmallInt(Some(-32_768)), "-32768"),
        ("int", SqlType::Int(Some(i32::MAX)), "2147483647"),
        ("bigint", SqlType::BigInt(Some(i64::MIN)), "-9223372036854775808"),
        ("real", SqlType::Real(Some(1.5)), "1.5"),
        ("float", SqlType::Float(Some(-1.25)), "-1.25"),
        ("decimal", SqlType::Decimal(decimal), "-12345.678900"),
        ("nvarchar", text("Süd 東京 😀"), "Süd 東京 😀"),
        ("an empty nvarchar", text(""), "''"),
        ("varbinary", SqlType::VarBinary(Some(vec![0, 255]), 10), "0x00FF"),
        ("NULL", SqlType::Int(None), "NULL"),
    ];
    for (what, value, expected) in values {
        let first =
            client.execute_sp_executesql("SELECT @p".to_owned(), vec![parameter("@p", value)], ()).await;
        let found = gather(client, first).await.map(|answer| show(&answer.results));
        judge.judge("parameters", &format!("{what} goes and comes back"), found, expected);
    }
    let two = vec![parameter("@a", SqlType::Int(Some(40))), parameter("@b", SqlType::Int(Some(2)))];
    let first = client.execute_sp_executesql("SELECT @a + @b; SELECT @a / 0".to_owned(), two, ()).await;
    let found = gather(client, first)
        .await
        .map(|answer| format!("{} {:?}", show(&answer.results[..1]), answer.error.map(|error| error.number)));
    judge.judge("parameters", "several parameters, and an error behind a result", found, "42 Some(8134)");
}

async fn procedures(judge: &mut Judge, client: &mut TdsClient) {
    let made = shown(
        client,
        "CREATE PROCEDURE dbo.mt_add @a int, @sum int OUTPUT AS\nBEGIN\n  SELECT @a AS a;\n  SET @sum = @a + 1;\n  RETURN -5;\nEND",
    )
    .await;
    judge.judge("procedures", "one is made", made, "");
    let given = vec![
        parameter("@a", SqlType::Int(Some(41))),
        RpcParameter::new(Some("@sum".to_owned()), StatusFlags::BY_REF_VALUE, SqlType::Int(None)),
    ];
    let first = client.execute_stored_procedure("dbo.mt_add".to_owned(), None, Some(given), ()).await;
    let found = gather(client, first).await.map(|answer| {
        let outputs: Vec<String> = client.get_return_values().iter().map(|one| text(&one.value)).collect();
        format!("{} {outputs:?} {:?}", show(&answer.results), client.get_return_status())
    });
    judge.judge(
        "procedures",
        "a result, an output parameter and the return code",
        found,
        "41 [\"42\"] Some(-5)",
    );
    let gone = shown(client, "DROP PROCEDURE dbo.mt_add; EXEC dbo.mt_add 1").await;
    judge.judge("procedures", "dropped, it is 2812", gone, "error 2812");
}

async fn transactions(judge: &mut Judge, client: &mut TdsClient) -> TdsResult<()> {
    client.begin_transaction(TransactionIsolationLevel::ReadCommitted, None).await?;
    shown(client, "INSERT INTO dbo.mt_depot (id, name) VALUES (70, N'kept')").await?;
    client.save_transaction("half".to_owned()).await?;
    shown(client, "INSERT INTO dbo.mt_depot (id, name) VALUES (71, N'not kept')").await?;
    client.rollback_transaction(Some("half".to_owned()), None).await?;
    let open = shown(client, "SELECT @@TRANCOUNT").await?;
    client.commit_transaction(None, None).await?;
    let kept = shown(client, "SELECT id FROM dbo.mt_depot WHERE id >= 70").await?;
    judge.same(
        "transactions",
        "begin, save, roll back to the savepoint, commit",
        &format!("{open}, {kept}"),
        "1, 70",
    );
    client.begin_transaction(TransactionIsolationLevel::Snapshot, None).await?;
    shown(client, "DELETE FROM dbo.mt_depot WHERE id = 70").await?;
    client.rollback_transaction(None, None).await?;
    let back = shown(client, "SELECT id, @@TRANCOUNT FROM dbo.mt_depot WHERE id >= 70").await?;
    judge.same("transactions", "a rollback under SNAPSHOT takes back", &back, "70 | 0");
    Ok(())
}

async fn others(judge: &mut Judge, client: &mut TdsClient) -> TdsResult<()> {
    let mut right = 0;
    let mut next = client
        .execute("SELECT value, REPLICATE('x', value % 30) FROM GENERATE_SERIES(1, 20000)".to_owned(), ())
        .await?;
    while next == StatementResult::Rows {
        while let Some(row) = client.next_row().await? {
            right += u32::from(
                matches!((&row[0], &row[1]), (ColumnValues::Int(number), ColumnValues::String(filler)) if filler.to_utf8_string().len() as i32 == number % 30),
            );
        }
        next = client.advance().await?;
    }
    judge.same("results", "20,000 rows of different lengths arrive", &right.to_string(), "20000");
    client.execute("SELECT value FROM GENERATE_SERIES(1, 200000)".to_owned(), ()).await?;
    client.next_row().await?;
    client.cancel_query(10).await?;
    let after = shown(client, "SELECT 7").await?;
    judge.same("time-outs", "a result that is cancelled half-way leaves the connection of use", &after, "7");
    let late =
        client.execute("WAITFOR DELAY '00:00:30'".to_owned(), ExecuteOptions::new().timeout_secs(1)).await;
    let after = shown(client, "SELECT 8").await?;
    judge.same(
        "time-outs",
        "a query that takes too long is given up",
        &format!("{} {after}", late.is_err()),
        "true 8",
    );
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut judge = Judge::default();
    logins(&mut judge).await;
    let (password, database) = (variable("SQLSERVER_PASSWORD"), variable("SQLSERVER_DATABASE"));
    let login = Login {
        encrypt: EncryptionSetting::On,
        password: &password,
        database: &database,
        kerberos: false,
        packet: 8000,
    };
    match connect(&login).await {
        Ok(mut client) => {
            statements(&mut judge, &mut client).await;
            parameters(&mut judge, &mut client).await;
            procedures(&mut judge, &mut client).await;
            if let Err(error) = transactions(&mut judge, &mut client).await {
                judge.miss("transactions", "the requests are answered", &error.to_string());
            }
            if let Err(error) = others(&mut judge, &mut client).await {
                judge.miss("results", "the requests are answered", &error.to_string());
            }
        }
        Err(error) => judge.miss("login", "the login of the statements", &error.to_string()),
    }
    std::process::exit(i32::from(judge.missed > 0));
}
