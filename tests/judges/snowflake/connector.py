#!/usr/bin/env python3
"""Snowflake's own Python connector judges the Snowflake stand-in.

    connector.py --url https://127.0.0.1:PORT --ca ca.pem --token TOKEN [--user U] [--role R] ...

It needs snowflake-connector-python (4.x) and, for Parquet, pyarrow; with pandas it also tries write_pandas. Every
option may come from the environment: SNOWFLAKE_URL, SNOWFLAKE_CA, SNOWFLAKE_TOKEN, SNOWFLAKE_USER, SNOWFLAKE_ACCOUNT,
SNOWFLAKE_ROLE, SNOWFLAKE_WAREHOUSE, SNOWFLAKE_DATABASE, SNOWFLAKE_SCHEMA. One line for each thing proved; the exit code is
1 if anything was missed. What it makes has a name of its own and is dropped at the end.
"""

import argparse
import datetime as dt
import decimal
import os
import pathlib
import sys
import tempfile
import urllib.parse
import uuid

MISSES = []


def proof(what, ok, detail=""):
    print(f"{'proved' if ok else 'MISSED'}  {what}{'' if ok else ': ' + str(detail)}", flush=True)
    if not ok:
        MISSES.append(what)


def attempt(what, action):
    """Runs one proof; an exception is a miss, not the end."""
    try:
        result = action()
        ok, detail = result if isinstance(result, tuple) else (result, "not as expected")
        proof(what, bool(ok), detail)
    except Exception as error:  # noqa: BLE001 - whatever the driver raises is a miss
        proof(what, False, f"{type(error).__name__}: {error}")


def equal(found, expected):
    return found == expected, f"found {found!r}, expected {expected!r}"


def options():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    defaults = {
        "url": None, "ca": None, "token": None, "user": "SVC", "account": "myorg-myaccount", "role": None,
        "warehouse": None, "database": None, "schema": None,
    }
    for name, default in defaults.items():
        value = os.environ.get(f"SNOWFLAKE_{name.upper()}", default)
        parser.add_argument(f"--{name}", default=value, required=value is None and name in ("url", "ca", "token"))
    return parser.parse_args()


def connect(args, token=None, **more):
    import snowflake.connector

    url = urllib.parse.urlparse(args.url)
    if snowflake.connector.__version__.startswith("4."):
        more["disable_ocsp_checks"] = True
    return snowflake.connector.connect(
        protocol=url.scheme, host=url.hostname, port=url.port, account=args.account, user=args.user,
        authenticator="oauth", token=token or args.token, role=args.role, warehouse=args.warehouse,
        database=args.database, schema=args.schema, login_timeout=20, network_timeout=30, socket_timeout=30,
        platform_detection_timeout_seconds=0, **more,
    )


def login_proofs(args):
    from snowflake.connector.errors import DatabaseError

    def refused():
        tampered = args.token[:-8] + ("AAAAAAAA" if args.token[-8:] != "AAAAAAAA" else "BBBBBBBB")
        try:
            connect(args, token=tampered).close()
        except DatabaseError as error:
            return equal(error.errno, 390303)
        return False, "a token with a broken signature was taken"

    attempt("a token with a broken signature is refused with 390303", refused)


def type_proofs(cursor):
    utc = dt.timezone.utc
    tz = dt.timezone(dt.timedelta(hours=2))
    cases = [
        ("NUMBER(38,0)", "99999999999999999999999999999999999999::NUMBER(38,0)", 10**38 - 1),
        ("NUMBER(12,2)", "-1234567890.12::NUMBER(12,2)", decimal.Decimal("-1234567890.12")),
        ("FLOAT", "0.1::FLOAT", 0.1),
        ("VARCHAR", "'\u00e9 \u65e5\u672c \U0001f600 \"\\''", "\u00e9 \u65e5\u672c \U0001f600 \"'"),
        ("BOOLEAN", "TRUE", True),
        ("DATE", "'1969-12-31'::DATE", dt.date(1969, 12, 31)),
        ("DATE 0001", "'0001-01-01'::DATE", dt.date(1, 1, 1)),
        ("TIME", "'23:59:59.123456'::TIME(6)", dt.time(23, 59, 59, 123456)),
        ("TIMESTAMP_NTZ", "'2024-02-29 12:34:56.123456'::TIMESTAMP_NTZ(6)", dt.datetime(2024, 2, 29, 12, 34, 56, 123456)),
        ("TIMESTAMP_NTZ before 1970", "'1950-01-01 00:00:00.500'::TIMESTAMP_NTZ(3)", dt.datetime(1950, 1, 1, 0, 0, 0, 500000)),
        ("TIMESTAMP_LTZ", "'2024-01-02 03:04:05 +0000'::TIMESTAMP_LTZ(0)", dt.datetime(2024, 1, 2, 3, 4, 5, tzinfo=utc)),
        ("TIMESTAMP_TZ", "'2024-01-02 03:04:05 +0200'::TIMESTAMP_TZ(0)", dt.datetime(2024, 1, 2, 3, 4, 5, tzinfo=tz)),
        ("BINARY", "TO_BINARY('00FF10', 'HEX')", b"\x00\xff\x10"),
        ("NULL", "NULL::NUMBER(5,0)", None),
    ]
    for name, expression, expected in cases:
        def one(expression=expression, expected=expected):
            found = cursor.execute(f"SELECT {expression}").fetchone()[0]
            if isinstance(found, bytearray):
                found = bytes(found)
            return equal(found, expected)

        attempt(f"SELECT of {name}", one)


def statement_proofs(cursor, table):
    def changes():
        cursor.execute(f"CREATE TABLE {table} (ID NUMBER(10,0), NAME VARCHAR)")
        cursor.execute(f"INSERT INTO {table} VALUES (1, 'a'), (2, 'b'), (3, 'c')")
        inserted = cursor.rowcount
        cursor.execute(f"UPDATE {table} SET NAME = 'z' WHERE ID > 1")
        updated = cursor.rowcount
        cursor.execute(f"DELETE FROM {table} WHERE ID = 3")
        return equal((inserted, updated, cursor.rowcount), (3, 2, 1))

    attempt("INSERT, UPDATE and DELETE report their rows", changes)
    attempt("bound parameters", lambda: equal(
        cursor.execute("SELECT ?, ?", (7, "it's"), _force_qmark_paramstyle=True).fetchone(), (7, "it's")))
    attempt("describe without execution", lambda: equal(
        [column.name for column in cursor.describe(f"SELECT NAME, ID FROM {table}")], ["NAME", "ID"]))

    def async_query():
        cursor.execute_async(f"SELECT COUNT(*) FROM {table}")
        cursor.get_results_from_sfqid(cursor.sfqid)
        return equal(cursor.fetchall(), [(2,)])

    attempt("an asynchronous query is polled and fetched", async_query)

    def missing():
        from snowflake.connector.errors import ProgrammingError

        try:
            cursor.execute("SELECT * FROM NO_SUCH_TABLE_HERE")
        except ProgrammingError as error:
            return equal((error.errno, error.sqlstate), (2003, "42S02"))
        return False, "no error"

    attempt("a missing table is error 2003, SQLSTATE 42S02", missing)


def transaction_proofs(args, connection, table):
    other = connect(args)
    try:
        def isolation():
            mine, theirs = connection.cursor(), other.cursor()
            count = f"SELECT COUNT(*) FROM {table}"
            mine.execute("BEGIN")
            mine.execute(f"INSERT INTO {table} VALUES (50, 'open')")
            inside = mine.execute(count).fetchone()[0]
            outside = theirs.execute(count).fetchone()[0]
            connection.rollback()
            after = mine.execute(count).fetchone()[0]
            return equal((inside - outside, after - outside), (1, 0))

        attempt("two sessions: own writes seen, the other's not, ROLLBACK undoes", isolation)
    finally:
        other.close()


def stage_proofs(cursor, stage, table, folder):
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = {"ID": pa.array([100, 101, None], pa.int32()), "NAME": pa.array(["x", None, "\u00fc"])}
    source = folder / "part.parquet"
    pq.write_table(pa.table(rows), source)
    attempt("CREATE STAGE", lambda: cursor.execute(f"CREATE STAGE {stage}").fetchone()[0].endswith("successfully created."))

    def put():
        cursor.execute(f"PUT 'file://{source}' @{stage}/run/ AUTO_COMPRESS = FALSE")
        return equal([row[6] for row in cursor.fetchall()], ["UPLOADED"])

    attempt("PUT encrypts and uploads over S3", put)
    attempt("LIST shows the file", lambda: equal(
        [row[0].split("/")[-1] for row in cursor.execute(f"LIST @{stage}").fetchall()], ["part.parquet"]))
    copy = (
        f"COPY INTO {table} (ID, NAME) FROM (SELECT $1:\"ID\"::NUMBER(10,0), $1:\"NAME\"::VARCHAR FROM @{stage}/run/) "
        "FILES = ('part.parquet') FILE_FORMAT = (TYPE = PARQUET USE_VECTORIZED_SCANNER = TRUE) ON_ERROR = ABORT_STATEMENT"
    )

    def load():
        row = cursor.execute(copy).fetchone()
        return equal((row[1], row[2], row[3]), ("LOADED", 3, 3))

    attempt("COPY decrypts and loads what PUT sent", load)
    attempt("the rows are there, NULLs too", lambda: equal(
        cursor.execute(f"SELECT ID, NAME FROM {table} WHERE ID >= 100 OR ID IS NULL ORDER BY ID").fetchall(),
        [(100, "x"), (101, None), (None, "\u00fc")]))
    attempt("COPY does not load the same file twice", lambda: equal(
        (cursor.execute(copy).fetchone()[1], cursor.execute(f"SELECT COUNT(*) FROM {table} WHERE ID = 100").fetchone()[0]),
        ("LOAD_SKIPPED", 1)))

    def get():
        target = folder / "down"
        target.mkdir()
        cursor.execute(f"GET @{stage}/run/ 'file://{target}'")
        status = [row[2] for row in cursor.fetchall()]
        return equal((status, (target / "part.parquet").read_bytes() == source.read_bytes()), (["DOWNLOADED"], True))

    attempt("GET downloads and decrypts the same bytes", get)

    def multipart():
        big = folder / "big.bin"
        big.write_bytes(os.urandom(20 << 20))
        cursor.execute(f"PUT 'file://{big}' @{stage}/big/ AUTO_COMPRESS = FALSE THRESHOLD = 8388608")
        uploaded = [row[6] for row in cursor.fetchall()]
        target = folder / "big-down"
        target.mkdir()
        cursor.execute(f"GET @{stage}/big/ 'file://{target}'")
        cursor.fetchall()
        same = (target / "big.bin").read_bytes() == big.read_bytes()
        return equal((uploaded, same), (["UPLOADED"], True))

    attempt("a 20 MiB file goes up in parts and comes back", multipart)


def pandas_proof(connection, args, table):
    try:
        import pandas
        from snowflake.connector.pandas_tools import write_pandas
    except ImportError:
        print("SKIPPED write_pandas: pandas is not installed", flush=True)
        return

    def write():
        frame = pandas.DataFrame({"ID": [200, 201], "NAME": ["p", "q"]})
        ok, chunks, rows, _ = write_pandas(connection, frame, table.split(".")[-1], database=args.database, schema=args.schema, compression="snappy")
        found = connection.cursor().execute(f"SELECT ID, NAME FROM {table} WHERE ID >= 200 ORDER BY ID").fetchall()
        return equal((ok, chunks, rows, found), (True, 1, 2, [(200, "p"), (201, "q")]))

    attempt("write_pandas stages and copies a frame", write)


def main():
    args = options()
    # 4.x reads the first, 5.x the second.
    os.environ["REQUESTS_CA_BUNDLE"] = os.environ["SSL_CERT_FILE"] = str(pathlib.Path(args.ca).resolve())
    login_proofs(args)
    try:
        connection = connect(args)
    except Exception as error:  # noqa: BLE001
        proof("login with an OAuth token", False, f"{type(error).__name__}: {error}")
        return 1
    proof("login with an OAuth token", True)
    tag = uuid.uuid4().hex[:12].upper()
    table, stage = f"JUDGE_T_{tag}", f"JUDGE_S_{tag}"
    cursor = connection.cursor()
    try:
        type_proofs(cursor)
        statement_proofs(cursor, table)
        transaction_proofs(args, connection, table)
        with tempfile.TemporaryDirectory() as folder:
            stage_proofs(cursor, stage, table, pathlib.Path(folder))
        pandas_proof(connection, args, table)
    finally:
        for statement in (f"DROP TABLE IF EXISTS {table}", f"DROP STAGE IF EXISTS {stage}"):
            attempt(statement.rsplit(" ", 1)[0], lambda statement=statement: bool(cursor.execute(statement).fetchone()))
        connection.close()
    print(f"{'all proved' if not MISSES else str(len(MISSES)) + ' missed'}", flush=True)
    return 1 if MISSES else 0


if __name__ == "__main__":
    sys.exit(main())
