"""DDL, changes, bindings, several statements at once, describing, errors, and statements that are stopped."""

import datetime as dt
import decimal
import time

import account
from account import by_token, one, rows
from proof import attempt, refusal
from snowflake.connector.errors import DatabaseError, Error, ProgrammingError

STAMP = dt.datetime(2024, 2, 29, 12, 34, 56, 123456)
VALUES = (
    7, -1.5, decimal.Decimal("12345678901234567890.123"), "it's \\ \u00e9 \U0001f600", b"\x00\xff", True, None,
    dt.date(1999, 12, 31), dt.time(1, 2, 3), STAMP,
)


def changes(bench):
    cursor, table = bench.cursor, bench.fresh_table("ID NUMBER(10,0), NAME VARCHAR")
    cursor.execute(f"INSERT INTO {table} VALUES (1, 'a'), (2, 'b'), (3, 'c')")
    counts = [cursor.rowcount]
    cursor.execute(f"UPDATE {table} SET NAME = 'z' WHERE ID > 1")
    counts.append(cursor.rowcount)
    cursor.execute(f"DELETE FROM {table} WHERE ID = 3")
    counts.append(cursor.rowcount)
    cursor.execute(
        f"MERGE INTO {table} T USING (SELECT 1 AS ID, 'm' AS NAME UNION ALL SELECT 9, 'n') S ON T.ID = S.ID "
        "WHEN MATCHED THEN UPDATE SET NAME = S.NAME WHEN NOT MATCHED THEN INSERT (ID, NAME) VALUES (S.ID, S.NAME)")
    counts.append(cursor.rowcount)
    left = rows(cursor, f"SELECT ID, NAME FROM {table} ORDER BY ID")
    return (counts, left), ([3, 2, 1, 2], [(1, "m"), (2, "z"), (9, "n")])


def bindings(bench):
    connection = by_token(paramstyle="qmark")
    try:
        cursor = connection.cursor()
        table = bench.fresh_table(
            "A NUMBER(10,0), B FLOAT, C NUMBER(38,3), D VARCHAR, E BINARY, F BOOLEAN, G VARCHAR, H DATE, I TIME, J TIMESTAMP_NTZ")

        def by_position():
            cursor.execute(f"INSERT INTO {table} VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", VALUES)
            found = one(cursor, f"SELECT * FROM {table} WHERE D = ? AND H = ?", (VALUES[3], VALUES[7]))
            return tuple(bytes(value) if isinstance(value, bytearray) else value for value in found), VALUES

        attempt("bindings", "ten types bound by position come back as they went", by_position)

        def arrays():
            many = bench.fresh_table("ID NUMBER(10,0), NAME VARCHAR, AT TIMESTAMP_NTZ")
            given = [(at, None if at % 7 == 0 else f"name {at}", STAMP) for at in range(500)]
            cursor.executemany(f"INSERT INTO {many} VALUES (?, ?, ?)", given)
            count = cursor.rowcount
            found = rows(cursor, f"SELECT ID, NAME, AT FROM {many} ORDER BY ID")
            return (count, found == given), (500, True)

        attempt("bindings", "500 rows bound as arrays, NULLs among them", arrays)

        def staged():
            many = bench.fresh_table("ID NUMBER(10,0), NAME VARCHAR, AT TIMESTAMP_NTZ")
            cursor.execute("ALTER SESSION SET CLIENT_STAGE_ARRAY_BINDING_THRESHOLD = 600")
            given = [(at, None if at % 7 == 0 else f'na"me, {at}', STAMP) for at in range(400)]
            cursor.executemany(f"INSERT INTO {many} VALUES (?, ?, ?)", given)
            found = rows(cursor, f"SELECT ID, NAME, AT FROM {many} ORDER BY ID")
            staged = rows(cursor, "LIST @SYSTEMBIND") if not account.NATIVE else [1]
            return (len(found), found == given, len(staged) > 0), (400, True, True)

        attempt("bindings", "400 rows above the driver's threshold, by a file on a stage", staged)

        def refused():
            return refusal(lambda: cursor.execute("SELECT ?, ?", (1,)), ProgrammingError)[0], 2049

        attempt("bindings", "a binding that is missing is error 2049", refused)
    finally:
        connection.close()

    def numbered():
        connection = by_token(paramstyle="numeric")
        try:
            return one(connection.cursor(), "SELECT :2, :1, :2", ("a", 5)), (5, "a", 5)
        finally:
            connection.close()

    attempt("bindings", "bindings by number", numbered)
    attempt("bindings", "%s and %(name)s, which the connector itself writes as literals", lambda: (
        (one(bench.cursor, "SELECT %s, %s", ("it's", None)), one(bench.cursor, "SELECT %(x)s + 1", {"x": 41})),
        (("it's", None), 42)))


def several(bench):
    cursor, table = bench.cursor, bench.fresh_table("ID NUMBER(10,0)")

    def three():
        cursor.execute(
            f"INSERT INTO {table} VALUES (1), (2); SELECT ID FROM {table} ORDER BY ID; SELECT 'x;y'", num_statements=3)
        found = [cursor.fetchall()]
        while cursor.nextset():
            found.append(cursor.fetchall())
        return found, [[(2,)], [(1,), (2,)], [("x;y",)]]

    attempt("several", "three statements in one request, a result for each", three)
    attempt("several", "a count that does not match is error 8", lambda: (
        refusal(lambda: cursor.execute("SELECT 1; SELECT 2"), ProgrammingError)[0], 8))
    attempt("several", "num_statements=0 takes any number", lambda: (
        cursor.execute("SELECT 1; SELECT 2", num_statements=0).fetchall(), [(1,)]))
    attempt("several", "execute_string", lambda: (
        [list(found) for found in bench.connection.execute_string("SELECT 1; SELECT 'a' -- b;\n;")],
        [[(1,)], [("a",)]]))


def describing(bench):
    cursor, table = bench.cursor, bench.fresh_table("ID NUMBER(10,0) NOT NULL, NAME VARCHAR(5)")
    attempt("describe", "columns without execution", lambda: (
        [(column.name, column.is_nullable) for column in cursor.describe(f"SELECT NAME, ID, ID / 2 AS H FROM {table}")],
        [("NAME", True), ("ID", False), ("H", False)]))
    attempt("describe", "DESCRIBE TABLE and SHOW COLUMNS", lambda: (
        ([row[:2] for row in rows(cursor, f"DESCRIBE TABLE {table}")],
         [row[2] for row in rows(cursor, f"SHOW COLUMNS IN TABLE {table}")]),
        ([("ID", "NUMBER(10,0)"), ("NAME", "VARCHAR(5)")], ["ID", "NAME"])))
    attempt("describe", "INFORMATION_SCHEMA.COLUMNS", lambda: (
        rows(cursor, "SELECT COLUMN_NAME, DATA_TYPE, CHARACTER_MAXIMUM_LENGTH FROM INFORMATION_SCHEMA.COLUMNS "
             f"WHERE TABLE_NAME = '{table}' ORDER BY ORDINAL_POSITION"),
        [("ID", "NUMBER", None), ("NAME", "TEXT", 5)]))


def errors(bench):
    cursor, table = bench.cursor, bench.fresh_table("ID NUMBER(3,0) NOT NULL, NAME VARCHAR(3)")
    for what, sql, expected in (
        ("a syntax error", "SELEC 1", (1003, "42000")),
        ("a table that is missing", "SELECT * FROM NO_SUCH_TABLE_HERE", (2003, "42S02")),
        ("a column that is missing", f"SELECT NONE_SUCH FROM {table}", (904, "42000")),
        ("a function that is missing", "SELECT NO_SUCH_FUNCTION(1)", (2140, "42601")),
        ("a table that is there already", f"CREATE TABLE {table} (X NUMBER)", (2002, "42710")),
        ("a division by zero", "SELECT 1 / 0", (100051, "22012")),
        ("text that is no number", "SELECT 'abc'::NUMBER", (100038, "22018")),
        ("text that is no date", "SELECT 'abc'::DATE", (100040, "22007")),
        ("NULL in a column that must not be", f"INSERT INTO {table} VALUES (NULL, 'a')", (100072, "22000")),
        ("text that is too long", f"INSERT INTO {table} VALUES (1, 'abcd')", (100078, "22000")),
        ("an empty statement", "/* nothing */", (900, "42601")),
        ("a schema that is missing", "USE SCHEMA NO_SUCH_SCHEMA", (2043, "02000")),
    ):
        attempt("errors", f"{what} is {expected[0]}, SQLSTATE {expected[1]}", lambda sql=sql, expected=expected: (
            refusal(lambda: cursor.execute(sql), DatabaseError), expected))
    attempt("errors", "the session goes on after errors", lambda: (one(cursor, "SELECT 1"), 1))


def stopping(bench):
    def by_client():
        connection = by_token()
        try:
            begun = time.monotonic()
            found = refusal(lambda: connection.cursor().execute("CALL SYSTEM$WAIT(60)", timeout=1), Error)
            return (found, time.monotonic() - begun < 30), ((604, "57014"), True)
        finally:
            connection.close()

    if not account.NATIVE:
        attempt("stop", "a statement beyond its client's time-out is aborted with 604", by_client)

    def by_parameter():
        connection = by_token()
        try:
            connection.cursor().execute("ALTER SESSION SET STATEMENT_TIMEOUT_IN_SECONDS = 1")
            found = refusal(lambda: connection.cursor().execute("SELECT SYSTEM$WAIT(60)"), Error)
            return found, (630, "57014")
        finally:
            connection.close()

    attempt("stop", "STATEMENT_TIMEOUT_IN_SECONDS ends a statement with 630", by_parameter)

    def by_id():
        connection = by_token()
        try:
            cursor = connection.cursor()
            cursor.execute_async("SELECT SYSTEM$WAIT(60)")
            query = cursor.sfqid
            connection.cursor().execute(f"SELECT SYSTEM$CANCEL_QUERY('{query}')")
            begun = time.monotonic()
            while connection.is_still_running(status := connection.get_query_status(query)):
                if time.monotonic() - begun > 30:
                    break
                time.sleep(0.05)
            return status.name, "FAILED_WITH_ERROR"
        finally:
            connection.close()

    attempt("stop", "SYSTEM$CANCEL_QUERY ends a statement of the same user", by_id)


def judge(bench):
    attempt("statements", "INSERT, UPDATE, DELETE and MERGE report their rows", lambda: changes(bench))
    bindings(bench)
    several(bench)
    describing(bench)
    errors(bench)
    stopping(bench)
