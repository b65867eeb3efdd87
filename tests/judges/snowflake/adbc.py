#!/usr/bin/env python3
"""The ADBC Snowflake driver (Go, in a wheel) judges the Snowflake stand-in; everything comes from the environment."""

import datetime as dt
import decimal
import os
import sys
import urllib.parse
import uuid

import adbc_driver_snowflake.dbapi
import pyarrow as pa
from proof import attempt, finish, missed, proved

URL = urllib.parse.urlparse(os.environ["SNOWFLAKE_URL"])
SQL, CLIENT = "adbc.snowflake.sql", "adbc.snowflake.sql.client_option"


def variable(name):
    return os.environ[f"SNOWFLAKE_{name}"]


def connect(autocommit=True, **own):
    options = {
        f"{SQL}.account": variable("ACCOUNT"), f"{SQL}.uri.host": URL.hostname, f"{SQL}.uri.port": str(URL.port),
        f"{SQL}.uri.protocol": "https", f"{SQL}.db": variable("DATABASE"), f"{SQL}.schema": variable("SCHEMA"),
        f"{SQL}.role": variable("ROLE"), f"{SQL}.warehouse": variable("WAREHOUSE"),
        f"{CLIENT}.disable_telemetry": "true", f"{CLIENT}.login_timeout": "20s", f"{CLIENT}.request_timeout": "60s",
    }
    return adbc_driver_snowflake.dbapi.connect(db_kwargs={**options, **own}, autocommit=autocommit)


def by_token(token=None, autocommit=True):
    return connect(autocommit, **{
        "username": variable("USER"), f"{SQL}.auth_type": "auth_oauth",
        f"{CLIENT}.auth_token": token or variable("TOKEN"),
    })


def by_key():
    return connect(**{
        "username": variable("KEY_USER"), f"{SQL}.auth_type": "auth_jwt",
        f"{CLIENT}.jwt_private_key": variable("PRIVATE_KEY_FILE"),
    })


def rows(connection, sql, *parameters):
    with connection.cursor() as cursor:
        cursor.execute(sql, *parameters)
        return cursor.fetchall()


def change(connection, sql):
    """ExecuteUpdate: its count is that of the changed rows, where a cursor's is that of the answer's."""
    with connection.cursor() as cursor:
        cursor.adbc_statement.set_sql_query(sql)
        return cursor.adbc_statement.execute_update()


def refusal(connection, sql):
    try:
        rows(connection, sql)
    except adbc_driver_snowflake.dbapi.Error as error:
        return error.vendor_code, error.sqlstate
    return "no error"


def login():
    def key_pair():
        with by_key() as connection:
            return rows(connection, "SELECT CURRENT_USER()"), [(variable("KEY_USER").upper(),)]

    attempt("login", "a key pair", key_pair)

    def broken():
        try:
            with by_token(variable("TOKEN")[:-8] + "AAAAAAAA") as connection:
                return rows(connection, "SELECT 1"), "a refusal"
        except adbc_driver_snowflake.dbapi.Error as error:
            return "390303" in str(error), True

    attempt("login", "a broken token is refused with 390303", broken)


def types(connection):
    utc = dt.timezone.utc
    for name, expression, expected in (
        ("NUMBER(38,0)", "99999999999999999999999999999999999999::NUMBER(38,0)", decimal.Decimal(10**38 - 1)),
        ("NUMBER(12,2)", "-1234567890.12::NUMBER(12,2)", decimal.Decimal("-1234567890.12")),
        ("FLOAT", "0.1::FLOAT", 0.1), ("VARCHAR", "'\u00e9 \U0001f600'", "\u00e9 \U0001f600"), ("BOOLEAN", "TRUE", True),
        ("DATE", "'1969-12-31'::DATE", dt.date(1969, 12, 31)), ("TIME", "'12:00:01'::TIME(0)", dt.time(12, 0, 1)),
        ("TIMESTAMP_NTZ", "'2024-02-29 12:34:56.123456'::TIMESTAMP_NTZ(6)", dt.datetime(2024, 2, 29, 12, 34, 56, 123456)),
        ("BINARY", "TO_BINARY('00FF', 'HEX')", b"\x00\xff"), ("NULL", "NULL::NUMBER(5,0)", None),
    ):
        attempt("types", name, lambda expression=expression, expected=expected: (
            rows(connection, f"SELECT {expression}")[0][0], expected))
    attempt("types", "TIMESTAMP_LTZ is the same instant", lambda: (
        rows(connection, "SELECT '2024-01-02 03:04:05 +0200'::TIMESTAMP_LTZ(3)")[0][0].astimezone(utc),
        dt.datetime(2024, 1, 2, 1, 4, 5, tzinfo=utc)))


def statements(connection, table):
    def changes():
        change(connection, f"CREATE TABLE {table} (ID NUMBER(10,0), NAME VARCHAR)")
        return [
            change(connection, f"INSERT INTO {table} VALUES (1, 'a'), (2, 'b'), (3, 'c')"),
            change(connection, f"UPDATE {table} SET NAME = 'z' WHERE ID > 1"),
            change(connection, f"DELETE FROM {table} WHERE ID = 3"),
        ], [3, 2, 1]

    attempt("statements", "DDL and the counts of changes", changes)
    for what, sql, expected in (
        ("a syntax error", "SELEC 1", (1003, "42000")), ("a missing table", "SELECT * FROM NO_SUCH_TABLE_HERE", (2003, "42S02")),
        ("a division by zero", "SELECT 1 / 0", (100051, "22012")),
    ):
        attempt("errors", f"{what} is {expected}", lambda sql=sql, expected=expected: (refusal(connection, sql), expected))
    attempt("bindings", "rows bound by position", lambda: (
        connection.cursor().executemany(f"INSERT INTO {table} VALUES (?, ?)", [(10, "ten"), (11, None)]) is None
        and rows(connection, f"SELECT ID, NAME FROM {table} WHERE ID >= 10 ORDER BY ID"), [(10, "ten"), (11, None)]))


def transactions(connection, table):
    def two_sessions():
        count = f"SELECT COUNT(*) FROM {table} WHERE ID = 50"
        with by_token(autocommit=False) as other:
            change(other, f"INSERT INTO {table} (ID) VALUES (50)")
            found = [rows(other, count)[0][0], rows(connection, count)[0][0]]
            other.rollback()
            found.append(rows(other, count)[0][0])
            change(other, f"INSERT INTO {table} (ID) VALUES (50)")
            other.commit()
            found.append(rows(connection, count)[0][0])
            return [int(number) for number in found], [1, 0, 0, 1]

    attempt("transactions", "autocommit off, rollback, commit, and what another session sees", two_sessions)


def fetching(connection, table):
    many = "SELECT SEQ4() AS N, 'row ' || SEQ4() AS T FROM TABLE(GENERATOR(ROWCOUNT => 120000)) ORDER BY N"

    def parts():
        with connection.cursor() as cursor:
            cursor.execute(many)
            found = cursor.fetch_arrow_table()
        return (found.num_rows, [int(number) for number in found["N"].to_pylist()] == list(range(120_000)),
                found["T"][119_999].as_py()), (120_000, True, "row 119999")

    attempt("fetch", "120000 rows in several parts as one Arrow table, in their order", parts)

    def schema():
        found = connection.adbc_get_table_schema(table)
        return [(field.name, str(field.type)) for field in found], [("ID", "int64"), ("NAME", "string")]

    attempt("metadata", "the schema of a table", schema)


def ingest(connection, table):
    frame = pa.table({"ID": pa.array([7001, 7002, None], pa.int64()), "NAME": ["from Go", None, "\u00fc"]})

    def append():
        with connection.cursor() as cursor:
            count = cursor.adbc_ingest(table, frame, mode="append")
        return (count, rows(connection, f"SELECT ID, NAME FROM {table} WHERE ID > 7000 OR ID IS NULL ORDER BY ID")), (
            3, [(7001, "from Go"), (7002, None), (None, "\u00fc")])

    attempt("copy", "bulk ingestion: Parquet, packed and encrypted by the driver, PUT and COPY", append)

    def create():
        with connection.cursor() as cursor:
            cursor.adbc_ingest(f"{table}_I", frame, mode="create")
        found = rows(connection, f'SELECT COUNT(*), COUNT(ID) FROM "{table}_I"')
        change(connection, f'DROP TABLE "{table}_I"')
        return [int(number) for number in found[0]], [3, 2]

    attempt("copy", "bulk ingestion into a table that the driver makes", create)


def main():
    try:
        connection = by_token()
        rows(connection, "SELECT 1")
    except Exception as error:  # noqa: BLE001
        missed("login", "OAUTH token", f"{type(error).__name__}: {error}")
        return finish()
    proved("login", "an OAuth token that the broker gave")
    table = f"ADBC_{uuid.uuid4().hex[:10].upper()}"
    login()
    types(connection)
    statements(connection, table)
    transactions(connection, table)
    fetching(connection, table)
    ingest(connection, table)
    attempt("statements", "everything that was made is dropped", lambda: change(connection, f"DROP TABLE {table}") is not None)
    connection.close()
    return finish()


if __name__ == "__main__":
    sys.exit(main())
