use super::*;

const GOOD: &str = r#"pipeline: sales-nightly
broker: { socket: broker.sock, server_uid: 10001 }
source:
  host: sql01.corp.example.com
  port: 1433
  database: SalesDB
  grant: sales-sql
  encrypt: required
  consistency: per_chunk
target:
  grant: analytics
  role: LOADER
  warehouse: LOAD_WH
  database: RAW_ZONE
  schema: Sales
  tags: { CostCenter: CC001 }
limits: { connections: 4, chunk_rows: 5000, memory_mib: 128 }
tables:
  - { source: dbo.Customers, target: Customers_Copy, mode: full, columns: { exclude: [Ssn] } }
  - source: "[my schema].[Order.Lines]"
"#;

fn parse(text: &str) -> Result<Pipeline, ConfigError> {
    Pipeline::parse(Path::new("/etc/keyferry/pipeline.yaml"), text)
}

fn error(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "the sample has no {from}");
    parse(&GOOD.replacen(from, to, 1)).unwrap_err().to_string()
}

#[test]
fn a_good_file_becomes_checked_types_with_defaults() {
    let pipeline = parse(GOOD).unwrap();
    assert_eq!(pipeline.broker.socket, Path::new("/etc/keyferry/broker.sock"));
    assert_eq!(pipeline.target.schema, "SALES");
    assert_eq!(pipeline.target.stage, "KEYFERRY_STAGE");
    assert_eq!(pipeline.limits.chunk, ByteSize::mib(512));
    assert_eq!(pipeline.limits.chunk_rows, Some(5000));
    assert_eq!(pipeline.source.consistency, Consistency::PerChunk);
    let [customers, lines] = pipeline.tables.as_slice() else { panic!("two tables") };
    assert_eq!(
        (customers.target.as_str(), customers.exclude.as_slice()),
        ("CUSTOMERS_COPY", &["Ssn".into()][..])
    );
    assert_eq!(
        (lines.source.name.as_str(), lines.target.as_str(), lines.line),
        ("Order.Lines", "ORDER.LINES", 20)
    );
}

#[test]
fn one_point_in_time_is_a_database_snapshot_where_one_is_named_and_a_lock_barrier_otherwise() {
    let read = |source: &str| parse(&GOOD.replacen("consistency: per_chunk", source, 1)).unwrap().source;
    let barrier = read("consistency: per_run");
    assert_eq!((barrier.consistency, barrier.database_snapshot), (Consistency::PerRunBarrier, None));
    let snapshot = read("consistency: per_run\n  database_snapshot: Monday\n  read_intent: true");
    assert_eq!(snapshot.consistency, Consistency::PerRunSnapshot);
    assert_eq!(snapshot.database_snapshot.as_deref(), Some("Monday"));
}

#[test]
fn every_refusal_names_file_line_column_and_the_fix() {
    let refusals = [
        error("consistency:", "consistancy:"),
        error("tables:", "tabels:"),
        error("chunk_rows:", "chunk_sows:"),
        error("mode: full", "mod: full"),
        error("  database: SalesDB\n", ""),
        error("port: 1433", "port: high"),
        error("port: 1433", "port: 0"),
        error("encrypt: required", "encrypt: requird"),
        error("encrypt: required", "encrypt: off"),
        error("consistency: per_chunk", "consistency: per_run\n  read_intent: true"),
        error("consistency: per_chunk", "consistency: per_chunk\n  database_snapshot: Monday"),
        error("mode: full", "mode: incremental"),
        error("mode: full", "mode: fulll"),
        error("mode: full", "key: [Id]"),
        error("mode: full", "watermark: { column: ModifiedDate, lag: 5m }"),
        error("exclude: [Ssn]", "hash: [Email]"),
        error("connections: 4", "connections: 0"),
        error("memory_mib: 128", "memory_mib: 1"),
        error("memory_mib: 128", "patience_seconds: 0"),
        error("  port: 1433", "  silence_seconds: 1000000"),
        error("source: dbo.Customers", "source: Customers"),
        error("target: Customers_Copy", "target: Order.Lines"),
        error("grant: sales-sql", "grant: \"\""),
        error("role: LOADER", "role: LOADER\n  role: LOADER"),
        error("target:\n", "target: [\n"),
    ];
    insta::assert_snapshot!(refusals.join("\n"));
}

#[test]
fn plaintext_needs_to_be_asked_for_twice() {
    let text = GOOD.replacen("encrypt: required", "encrypt: off\n  allow_plaintext: true", 1);
    assert_eq!(parse(&text).unwrap().source.encrypt, Encryption::Off);
}

#[test]
fn a_missing_file_is_named() {
    let error = Pipeline::read(Path::new("/nowhere/pipeline.yaml")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot read the pipeline file /nowhere/pipeline.yaml: No such file or directory (os error 2)"
    );
}
