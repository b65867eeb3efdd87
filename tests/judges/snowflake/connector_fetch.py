"""How results are fetched: rows, data frames, Arrow tables, in parts, later, and by another session."""

import decimal

from account import by_token, one, rows
from proof import attempt, refusal
from snowflake.connector import DictCursor
from snowflake.connector.errors import DatabaseError, Error

MANY = 120_000
NUMBERS = f"SELECT SEQ4() AS N, 'row ' || SEQ4() AS T, SEQ4() / 4 AS Q FROM TABLE(GENERATOR(ROWCOUNT => {MANY})) ORDER BY N"


def frames(bench):
    cursor = bench.cursor
    table = bench.fresh_table("N NUMBER(10,0), D NUMBER(12,2), T VARCHAR, AT TIMESTAMP_NTZ(6), B BOOLEAN, DAY DATE")
    cursor.execute(
        f"INSERT INTO {table} VALUES (1, 1.25, 'a', '2024-02-29 01:02:03.000004', TRUE, '2024-02-29'), (2, NULL, NULL, NULL, NULL, NULL)")

    def frame():
        found = cursor.execute(f"SELECT * FROM {table} ORDER BY N").fetch_pandas_all()
        return (
            list(found.columns), found["N"].tolist(), str(found["AT"][0]), found["T"].isna().tolist(), float(found["D"][0]),
        ), (["N", "D", "T", "AT", "B", "DAY"], [1, 2], "2024-02-29 01:02:03.000004", [False, True], 1.25)

    attempt("fetch", "fetch_pandas_all", frame)

    def arrow():
        found = cursor.execute(f"SELECT N, T, B FROM {table} ORDER BY N").fetch_arrow_all()
        return found.to_pydict(), {"N": [1, 2], "T": ["a", None], "B": [True, None]}

    attempt("fetch", "fetch_arrow_all", arrow)
    attempt("fetch", "an empty result as a data frame keeps its columns", lambda: (
        list(cursor.execute(f"SELECT N, T FROM {table} WHERE N > 9").fetch_pandas_all().columns), ["N", "T"]))


def parts(bench):
    for form in ("ARROW", "JSON"):
        bench.cursor.execute(f"ALTER SESSION SET PYTHON_CONNECTOR_QUERY_RESULT_FORMAT = '{form}'")

        def in_order():
            cursor = bench.connection.cursor()
            cursor.execute(NUMBERS)
            batches = len(cursor.get_result_batches())
            right = all(
                row == (at, f"row {at}", decimal.Decimal(at) / 4) for at, row in enumerate(cursor))
            return (batches > 2, cursor.rowcount, right), (True, MANY, True)

        attempt("fetch", f"{MANY} rows in several parts, in their order, by {form}", in_order)
    bench.cursor.execute("ALTER SESSION SET PYTHON_CONNECTOR_QUERY_RESULT_FORMAT = 'ARROW'")

    def batches():
        found = list(bench.connection.cursor().execute(NUMBERS).fetch_pandas_batches())
        numbers = [number for frame in found for number in frame["N"].tolist()]
        return (len(found) > 2, numbers == list(range(MANY))), (True, True)

    attempt("fetch", "fetch_pandas_batches gives every part", batches)
    attempt("fetch", "fetchmany and DictCursor", lambda: (
        ([len(bench.connection.cursor().execute(NUMBERS).fetchmany(size)) for size in (1, 1000)],
         bench.connection.cursor(DictCursor).execute("SELECT 1 AS A, 'b' AS B").fetchall()),
        ([1, 1000], [{"A": 1, "B": "b"}])))


def later(bench):
    connection, cursor = bench.connection, bench.connection.cursor()

    def asynchronous():
        cursor.execute_async("SELECT SYSTEM$WAIT(300, 'MILLISECONDS'), 42")
        query = cursor.sfqid
        running = connection.is_still_running(connection.get_query_status(query))
        cursor.get_results_from_sfqid(query)
        found = cursor.fetchall()
        return (running, found, connection.get_query_status(query).name), (
            True, [("waited 300 milliseconds", 42)], "SUCCESS")

    attempt("async", "a statement runs on, is asked about, and its rows are fetched", asynchronous)

    def failed():
        cursor.execute_async("SELECT 1 / 0 FROM (SELECT SYSTEM$WAIT(10, 'MILLISECONDS'))")
        query = cursor.sfqid
        found = refusal(lambda: cursor.get_results_from_sfqid(query) or cursor.fetchall(), DatabaseError, Error)
        status = connection.get_query_status(query)
        return (connection.is_an_error(status), found[0]), (True, 100051)

    attempt("async", "a statement that failed says so with its own error", failed)

    def elsewhere():
        cursor.execute("SELECT 'shared' AS X")
        query = cursor.sfqid
        other = by_token()
        try:
            reader = other.cursor()
            reader.get_results_from_sfqid(query)
            return (reader.fetchall(), one(reader, f"SELECT * FROM TABLE(RESULT_SCAN('{query}'))")), (
                [("shared",)], "shared")
        finally:
            other.close()

    attempt("async", "another session of the user fetches a result by its id, and RESULT_SCAN does", elsewhere)

    def large():
        cursor.execute_async(NUMBERS)
        cursor.get_results_from_sfqid(cursor.sfqid)
        return sum(1 for _ in cursor), MANY

    attempt("async", "a large result in parts", large)


def judge(bench):
    frames(bench)
    parts(bench)
    later(bench)
    attempt("fetch", "nothing is left of the session's format", lambda: (
        rows(bench.cursor, "SELECT 1"), [(1,)]))
