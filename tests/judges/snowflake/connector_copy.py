"""COPY INTO from Parquet and CSV that the connector staged, and `write_pandas`."""

import account
import pandas
import pyarrow as pa
import pyarrow.parquet as pq
from account import one, rows
from proof import attempt, refusal
from snowflake.connector.errors import DatabaseError, Error
from snowflake.connector.pandas_tools import write_pandas

PARQUET = "FILE_FORMAT = (TYPE = PARQUET USE_VECTORIZED_SCANNER = TRUE)"


def put(bench, stage, path):
    bench.cursor.execute(f"PUT 'file://{path}' @{stage}/ AUTO_COMPRESS = FALSE")


def parquet(bench):
    cursor, stage = bench.cursor, bench.fresh_stage()
    columns = {"ID": pa.array([100, 101, None], pa.int32()), "NAME": pa.array(["x", None, "\u00fc"])}
    expected = [(100, "x"), (101, None), (None, "\u00fc")]
    for codec in ("snappy", "gzip", "zstd", "lz4", "none"):
        def one_codec(codec=codec):
            table = bench.fresh_table("ID NUMBER(10,0), NAME VARCHAR")
            name = f"{codec}.parquet"
            pq.write_table(pa.table(columns), bench.folder / name, compression=codec)
            put(bench, stage, bench.folder / name)
            row = one(
                cursor,
                f"COPY INTO {table} (ID, NAME) FROM (SELECT $1:\"ID\"::NUMBER(10,0), $1:\"NAME\"::VARCHAR FROM @{stage}/) "
                f"FILES = ('{name}') {PARQUET} ON_ERROR = ABORT_STATEMENT")
            return (row[1:4], rows(cursor, f"SELECT * FROM {table} ORDER BY ID")), (("LOADED", 3, 3), expected)

        attempt("copy", f"Parquet packed with {codec}", one_codec)

    def by_name():
        table = bench.fresh_table("NAME VARCHAR, MORE NUMBER(5,0), ID NUMBER(10,0)")
        one(cursor, f"COPY INTO {table} FROM @{stage}/ FILES = ('snappy.parquet') {PARQUET} MATCH_BY_COLUMN_NAME = CASE_INSENSITIVE")
        return rows(cursor, f"SELECT ID, NAME, MORE FROM {table} ORDER BY ID"), [(*row, None) for row in expected]

    attempt("copy", "MATCH_BY_COLUMN_NAME", by_name)

    def twice():
        table = bench.fresh_table("ID NUMBER(10,0), NAME VARCHAR")
        copy = f"COPY INTO {table} FROM @{stage}/ FILES = ('zstd.parquet') {PARQUET} MATCH_BY_COLUMN_NAME = CASE_SENSITIVE"
        found = [one(cursor, text)[1] for text in (copy, copy, copy + " FORCE = TRUE")]
        return (found, one(cursor, f"SELECT COUNT(*) FROM {table}")), (["LOADED", "LOAD_SKIPPED", "LOADED"], 6)

    attempt("copy", "a file is loaded once, unless FORCE", twice)
    attempt("copy", "a file that is missing is error 91016", lambda: (
        refusal(lambda: cursor.execute(
            f"COPY INTO {bench.fresh_table('X VARIANT')} FROM @{stage}/ FILES = ('absent.parquet') {PARQUET}"), DatabaseError)[0],
        91016))


def csv(bench):
    cursor = bench.cursor
    form = "(TYPE = CSV SKIP_HEADER = 1 FIELD_OPTIONALLY_ENCLOSED_BY = '\"')"
    stage = bench.fresh_stage(f"FILE_FORMAT = {form}")
    (bench.folder / "good.csv").write_text('id,name\n1,"a, ""b"""\n2,\n')
    (bench.folder / "bad.csv").write_text("id,name\n3,c\nx,d\n5,e\n")
    for name in ("good.csv", "bad.csv"):
        cursor.execute(f"PUT 'file://{bench.folder / name}' @{stage}/")

    def loaded(on_error, *files):
        table = bench.fresh_table("ID NUMBER(10,0), NAME VARCHAR")
        names = ", ".join(f"'{name}.gz'" for name in files)
        found = rows(cursor, f"COPY INTO {table} FROM @{stage}/ FILES = ({names}) ON_ERROR = {on_error}")
        return sorted((row[1], row[3], row[5]) for row in found), rows(cursor, f"SELECT * FROM {table} ORDER BY ID")

    good = [(1, 'a, "b"'), (2, None)]
    attempt("copy", "CSV packed by the connector, by the stage's own format", lambda: (
        loaded("ABORT_STATEMENT", "good.csv"), ([("LOADED", 2, 0)], good)))
    attempt("copy", "ON_ERROR = CONTINUE leaves out the bad row", lambda: (
        loaded("CONTINUE", "bad.csv"), ([("PARTIALLY_LOADED", 2, 1)], [(3, "c"), (5, "e")])))
    attempt("copy", "ON_ERROR = SKIP_FILE leaves out the bad file", lambda: (
        loaded("SKIP_FILE", "good.csv", "bad.csv"), ([("LOADED", 2, 0), ("LOAD_FAILED", 0, 1)], good)))
    attempt("copy", "ON_ERROR = ABORT_STATEMENT refuses with 100038", lambda: (
        refusal(lambda: loaded("ABORT_STATEMENT", "good.csv", "bad.csv"), Error)[0], 100038))

    def validated():
        table = bench.fresh_table("ID NUMBER(10,0), NAME VARCHAR")
        copy = f"COPY INTO {table} FROM @{stage}/ FILES = ('bad.csv.gz') VALIDATION_MODE = "
        errors = rows(cursor, copy + "RETURN_ERRORS")
        first = refusal(lambda: cursor.execute(copy + "RETURN_2_ROWS"), Error)[0]
        good = rows(cursor, copy.replace("bad", "good") + "RETURN_1_ROWS")
        return (len(errors), "'x'" in errors[0][0], first, good, one(cursor, f"SELECT COUNT(*) FROM {table}")), (
            1, True, 100038, [("1", 'a, "b"')], 0)

    attempt("copy", "VALIDATION_MODE names errors and rows, and loads nothing", validated)

    def purged():
        table = bench.fresh_table("ID NUMBER(10,0), NAME VARCHAR")
        cursor.execute(f"COPY INTO {table} FROM @{stage}/ FILES = ('good.csv.gz') PURGE = TRUE")
        return [row[0].rsplit("/", 1)[1] for row in rows(cursor, f"LIST @{stage}")], ["bad.csv.gz"]

    attempt("copy", "PURGE removes what was loaded", purged)


def frames(bench):
    connection, cursor = bench.connection, bench.cursor
    where = {"database": account.variable("DATABASE"), "schema": account.variable("SCHEMA")}
    frame = pandas.DataFrame({
        "ID": [1, 2, 3], "NAME": ["p", None, "q"], "F": [0.5, 1.5, None],
        "DAY": pandas.Series([None, "2024-02-29", "1999-12-31"]),
    })
    expected = [(1, "p", 0.5, None), (2, None, 1.5, "2024-02-29"), (3, "q", None, "1999-12-31")]

    def written(**options):
        table = bench.fresh_table("ID NUMBER(10,0), NAME VARCHAR, F FLOAT, DAY VARCHAR")
        ok, chunks, count, _ = write_pandas(connection, frame, table, **where, **options)
        return (ok, chunks, count, rows(cursor, f"SELECT ID, NAME, F, DAY FROM {table} ORDER BY ID")), expected

    for what, options, chunks in (
        ("as it is", {}, 1), ("snappy", {"compression": "snappy"}, 1), ("in chunks", {"chunk_size": 2}, 2),
        ("bulk_upload_chunks", {"chunk_size": 1, "bulk_upload_chunks": True}, 3),
    ):
        def one_way(options=options, chunks=chunks):
            found, wanted = written(**options)
            return found, (True, chunks, 3, wanted)

        attempt("write_pandas", what, one_way)

    def created():
        table = f"{bench.table}_FRAME"
        bench.made.append(f"TABLE {table}")
        write_pandas(connection, frame, table, **where, auto_create_table=True)
        write_pandas(connection, frame, table, **where, auto_create_table=True, overwrite=True)
        types = [(row[0], row[1].split("(")[0]) for row in rows(cursor, f"DESCRIBE TABLE {table}")]
        return (types, rows(cursor, f"SELECT ID, NAME, F, DAY FROM {table} ORDER BY ID")), (
            [("ID", "NUMBER"), ("NAME", "VARCHAR"), ("F", "FLOAT"), ("DAY", "VARCHAR")], expected)

    attempt("write_pandas", "auto_create_table finds the columns by INFER_SCHEMA, overwrite replaces the rows", created)


def judge(bench):
    parquet(bench)
    csv(bench)
    frames(bench)
