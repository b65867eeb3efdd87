"""pymssql (FreeTDS' db-lib) against the SQL Server stand-in."""

import datetime
import decimal
import os
import pathlib
import tempfile
import threading
import time

import pymssql
from common import CA, DATABASE, HOST, LOGIN, PASSWORD, PORT, Judge, run_cases

ME = "pm"
judge = Judge()

# FreeTDS takes encryption, the certificate authority and the service's name from its own file.
settings = tempfile.NamedTemporaryFile("w", suffix=".conf", delete=False)
SERVERS = {"plain": "off", "required": "require", "strict": "strict"}
for name, encryption in SERVERS.items():
    settings.write(
        f"[{name}]\nhost = {HOST}\nport = {PORT}\ntds version = 7.4\nclient charset = UTF-8\n"
        f"encryption = {encryption}\nca file = {CA}\nspn = {os.environ['SQLSERVER_SPN']}\n"
    )
wrong_ca = pathlib.Path(__file__).parent / "another-authority.pem"
settings.write(f"[distrusted]\nhost = {HOST}\nport = {PORT}\nencryption = require\nca file = {wrong_ca}\n")
settings.close()
os.environ["FREETDSCONF"] = settings.name


def connect(server="plain", user=LOGIN, password=PASSWORD, database=DATABASE, **options):
    options.setdefault("autocommit", True)
    return pymssql.connect(server, user, password, database, port=str(PORT), tds_version="7.4", **options)


def told(error):
    """(number, class, state, line, text) of what pymssql raises: it keeps the number and the text only."""
    number, text = (error.args[0] if isinstance(error.args[0], tuple) else error.args)[:2]
    text = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return number, None, None, None, text.split("DB-Lib error message")[0].strip()


def run(cursor, sql):
    results, error = [], None
    try:
        cursor.execute(sql)
        while True:
            if cursor.description is not None:
                results.append(cursor.fetchall())
            if not cursor.nextset():
                break
    except pymssql.Error as raised:
        error = told(raised)
    return results, None, error


def logins():
    for server, encryption in SERVERS.items():
        def check(server=server):
            with connect(server) as connection, connection.cursor() as cursor:
                cursor.execute("SELECT SUSER_SNAME(), DB_NAME(), ENCRYPTED = 1, @@SPID")
                row = cursor.fetchone()
                return (row[0].lower(), row[1].lower()), (LOGIN.lower(), DATABASE.lower())
        judge.proof("tls", f"a SQL login with encryption = {encryption}", check)

    def refused(**arguments):
        try:
            connect(**arguments).close()
        except pymssql.Error as error:
            return told(error)[0]
        return "no error"

    judge.proof("login", "a wrong password is 18456", lambda: (refused(password="wrong"), 18456))
    judge.proof("login", "an unknown login is 18456", lambda: (refused(user="nobody"), 18456))
    judge.proof("login", "an unknown database is 4060, then 18456", lambda: (refused(database="nowhere") in (4060, 18456), True))
    judge.proof("tls", "a certificate of another authority is refused by the client", lambda: (isinstance(refused(server="distrusted"), int), True))

    def kerberos():
        with connect(user=None, password=None) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT SUSER_SNAME()")
            return cursor.fetchone()[0].lower(), "keyferry\\svc_judge"
    judge.proof("kerberos", "a ticket logs in through FreeTDS' GSSAPI", kerberos)


def parameters(connection):
    cursor = connection.cursor()

    def round_trip():
        values = (1, "O'Brien ü", None, decimal.Decimal("12.50"), datetime.date(2024, 2, 29), b"\x00\xff", 2.5, True)
        cursor.execute("SELECT %s, %s, %s, %s, CAST(%s AS date), %s, %s, %s", values)
        row = cursor.fetchone()
        return tuple(row[:3]) + (row[3], row[4], bytes(row[5]), float(row[6]), row[7]), values[:7] + (1,)

    judge.proof("parameters", "values that it puts into the text come back", round_trip)

    def many():
        cursor.execute("CREATE TABLE #many (id int NOT NULL, v nvarchar(20) NULL)")
        cursor.executemany("INSERT INTO #many VALUES (%d, %s)", [(at, f"row {at}") for at in range(50)])
        cursor.execute("SELECT COUNT(*), MIN(v), MAX(id) FROM #many")
        return cursor.fetchone(), (50, "row 0", 49)

    judge.proof("parameters", "executemany inserts each row", many)

    def procedure():
        cursor.execute(
            "CREATE PROCEDURE dbo.pm_add @a int, @b nvarchar(20), @sum int OUTPUT, @said nvarchar(40) OUTPUT AS\n"
            "BEGIN\n  SET NOCOUNT ON;\n  SET @sum = @a + 1;\n  SET @said = @b + N'!';\n  RETURN 5;\nEND"
        )
        given = (41, "hé", pymssql.output(int), pymssql.output(str))
        # Behind its parameters it shows those once more that the server names.
        out = tuple(cursor.callproc("dbo.pm_add", given))[: len(given)]
        code = cursor.returnvalue
        cursor.execute("DROP PROCEDURE dbo.pm_add")
        return (out, code), ((41, "hé", 42, "hé!"), 5)

    judge.proof("procedures", "callproc: output parameters and the return code", procedure)

    def rows():
        cursor.execute("CREATE PROCEDURE dbo.pm_rows @a int = 3 AS\nBEGIN\n  SELECT @a AS a;\n  SELECT @a + 1 AS b;\nEND")
        cursor.callproc("dbo.pm_rows", ())
        found = cursor.fetchall()
        cursor.nextset()
        found += cursor.fetchall()
        cursor.execute("DROP PROCEDURE dbo.pm_rows")
        return found, [(3,), (4,)]

    judge.proof("procedures", "callproc: two results and a default", rows)


def transactions(connection):
    def undone():
        with connect(autocommit=False) as other, other.cursor() as cursor:
            cursor.execute("INSERT INTO dbo.pm_depot (id, name) VALUES (70, N'undone')")
            other.rollback()
            cursor.execute("INSERT INTO dbo.pm_depot (id, name) VALUES (71, N'done')")
            other.commit()
        cursor = connection.cursor()
        cursor.execute("SELECT id FROM dbo.pm_depot WHERE id >= 70")
        return cursor.fetchall(), [(71,)]

    judge.proof("transactions", "rollback takes back, commit keeps", undone)

    def isolation():
        cursor = connection.cursor()
        with connect(autocommit=False) as writer, writer.cursor() as writing:
            writing.execute("UPDATE dbo.pm_depot SET name = N'dirty' WHERE id = 71")
            cursor.execute("SET LOCK_TIMEOUT 50")
            try:
                cursor.execute("UPDATE dbo.pm_depot SET name = N'second' WHERE id = 71")
                number = None
            except pymssql.Error as error:
                number = told(error)[0]
            cursor.execute("SET LOCK_TIMEOUT -1")
            writer.rollback()
        cursor.execute("SELECT name FROM dbo.pm_depot WHERE id = 71")
        return (number, cursor.fetchone()[0]), (1222, "done")

    judge.proof("transactions", "a row that another transaction changes is locked: 1222 after LOCK_TIMEOUT", isolation)


def results(connection):
    cursor = connection.cursor()

    def counts():
        cursor.execute("CREATE TABLE #c (i int); INSERT INTO #c VALUES (1), (2), (3)")
        cursor.execute("UPDATE #c SET i = i + 1 WHERE i > 1")
        return cursor.rowcount, 2

    judge.proof("results", "rowcount is what a statement changed", counts)

    def dictionaries():
        rows = connection.cursor(as_dict=True)
        rows.execute("SELECT id, name FROM dbo.pm_depot WHERE id = 3")
        return rows.fetchall(), [{"id": 3, "name": "Süd"}]

    judge.proof("results", "columns have their names", dictionaries)

    def large():
        cursor.execute(
            "WITH d (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM d WHERE n < 99) "
            "SELECT a.n + 100 * b.n + 10000 * c.n AS n, REPLICATE('x', 50) AS filler FROM d a CROSS JOIN d b CROSS JOIN (SELECT n FROM d WHERE n < 3) c ORDER BY 1"
        )
        total = last = 0
        while rows := cursor.fetchmany(5000):
            total, last = total + len(rows), rows[-1][0]
        return (total, last), (30000, 29999)

    judge.proof("results", "30,000 rows arrive in order, in pieces", large)

    def left():
        cursor.execute("SELECT 1 UNION ALL SELECT 2; SELECT 3")
        cursor.fetchone()
        cursor.execute("SELECT 4")
        return cursor.fetchall(), [(4,)]

    judge.proof("results", "rows that were not fetched do not stay in the way", left)


def bulk(connection):
    def copied():
        cursor = connection.cursor()
        cursor.execute("CREATE TABLE dbo.pm_bulk (id int NOT NULL, v nvarchar(20) NULL, amount decimal(9,2) NULL, day datetime NULL)")
        rows = [(at, f"row {at} ü", decimal.Decimal(at) / 4, datetime.datetime(2024, 1, 1 + at % 28)) for at in range(1000)]
        rows.append((1000, None, None, None))
        connection.bulk_copy("dbo.pm_bulk", rows)
        cursor.execute("SELECT COUNT(*), COUNT(v), SUM(amount), MIN(day), MAX(v) FROM dbo.pm_bulk")
        found = cursor.fetchone()
        cursor.execute("DROP TABLE dbo.pm_bulk")
        return found, (1001, 1000, decimal.Decimal("124875.00"), datetime.datetime(2024, 1, 1), "row 999 ü")

    judge.proof("bulk", "bulk_copy of 1,001 rows", copied)


def time_outs():
    def cut():
        with connect(timeout=1) as connection, connection.cursor() as cursor:
            began = time.monotonic()
            try:
                cursor.execute("WAITFOR DELAY '00:00:30'")
                number = None
            except pymssql.Error as error:
                number = told(error)[0]
            # 20003: timed out; 20047: and therefore the connection is no longer of use.
            return (number in (20003, 20047), time.monotonic() - began < 20), (True, True)

    judge.proof("time-outs", "a query that takes too long is given up", cut)

    def cancelled():
        with connect() as connection:
            low = connection._conn
            timer = threading.Timer(0.5, low.cancel)
            try:
                low.execute_query("SELECT 1 AS a UNION ALL SELECT 2")
                first = next(iter(low))[0]
                low.cancel()
                low.execute_query("SELECT 7 AS a")
                return (first, [row[0] for row in low]), (1, [7])
            finally:
                timer.cancel()

    judge.proof("time-outs", "after a cancellation the connection is of use", cancelled)


logins()
with connect("required") as connection:
    with connection.cursor() as cursor:
        run_cases(judge, ME, lambda sql: run(cursor, sql), leave_out={"100ns", "variant"})
    parameters(connection)
    transactions(connection)
    results(connection)
    bulk(connection)
time_outs()
judge.exit()
