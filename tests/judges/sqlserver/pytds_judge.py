"""python-tds (a TDS client in plain Python) against the SQL Server stand-in."""

import datetime
import decimal
import io
import pathlib
import uuid

import pytds
from common import CA, DATABASE, HOST, LOGIN, PASSWORD, PORT, Judge, run_cases

ME = "pt"
judge = Judge()


def connect(user=LOGIN, password=PASSWORD, database=DATABASE, **options):
    options.setdefault("autocommit", True)
    options.setdefault("cafile", CA)
    return pytds.connect(HOST, database, user, password, port=PORT, disable_connect_retry=True, **options)


def told(error):
    """(number, class, state, line, text) of the first error that python-tds raises."""
    return error.msg_no, error.severity, getattr(error, "state", None), error.line or None, error.text


def run(cursor, sql):
    results, error = [], None
    try:
        cursor.execute(sql)
        while True:
            # It shows the count of an INSERT behind a result as another, empty one.
            if cursor.description is not None and (rows := [tuple(row) for row in cursor.fetchall()]):
                results.append(rows)
            if not cursor.nextset():
                break
    except pytds.Error as raised:
        error = told(raised)
    return results, None, error


def one(connection, sql, parameters=()):
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchone()


def logins():
    ways = {
        "without TLS": {"cafile": None},
        "with TLS for the login only": {"enc_login_only": True},
        "with TLS for everything": {},
        "with packets of 512 bytes": {"blocksize": 512},
        "with packets of 32,767 bytes": {"blocksize": 32767},
    }
    for way, options in ways.items():
        def check(options=options):
            with connect(**options) as connection:
                name, database, long = one(connection, "SELECT SUSER_SNAME(), DB_NAME(), REPLICATE(CAST('x' AS varchar(max)), 100000)")
                return (name.lower(), database, len(long)), (LOGIN.lower(), DATABASE, 100000)
        judge.proof("tls" if "TLS" in way else "login", f"a SQL login {way}", check)

    def refused(**options):
        try:
            connect(**options).close()
        except Exception as error:  # what OpenSSL raises is none of the client's own
            return getattr(error, "msg_no", None) or type(error).__name__
        return "no error"

    judge.proof("login", "a wrong password is 18456", lambda: (refused(password="wrong"), 18456))
    judge.proof("login", "an unknown login is 18456", lambda: (refused(user="nobody"), 18456))
    judge.proof("login", "an unknown database is 4060, then 18456", lambda: (refused(database="nowhere") in (4060, 18456), True))
    another = str(pathlib.Path(__file__).parent / "another-authority.pem")
    judge.proof("tls", "a certificate of another authority is refused by the client",
                lambda: (refused(cafile=another) not in ("no error", 18456), True))


def parameters(connection):
    values = {
        "int": (42, "int", 42),
        "bigint": (-9223372036854775808, "bigint", -9223372036854775808),
        "a text": ("Süd 東京 😀", "nvarchar(20)", "Süd 東京 😀"),
        "an empty text": ("", "nvarchar(20)", ""),
        "a text of 10,000 characters": ("ü" * 10000, "nvarchar(max)", "ü" * 10000),
        "bytes": (pytds.Binary(b"\x00\xff"), "varbinary(10)", b"\x00\xff"),
        "9,000 bytes": (pytds.Binary(b"\x07" * 9000), "varbinary(max)", b"\x07" * 9000),
        "a decimal": (decimal.Decimal("-12345.678900"), "decimal(20,6)", decimal.Decimal("-12345.678900")),
        "a decimal of 38 digits": (decimal.Decimal("9" * 38), "decimal(38,0)", decimal.Decimal("9" * 38)),
        "a float": (1.5e300, "float", 1.5e300),
        "true": (True, "bit", True),
        "NULL": (None, "int", None),
        "a date": (datetime.date(1, 1, 1), "date", datetime.date(1, 1, 1)),
        "a time": (datetime.time(23, 59, 59, 999999), "time(6)", datetime.time(23, 59, 59, 999999)),
        "a date and time": (datetime.datetime(9999, 12, 31, 23, 59, 59, 999999), "datetime2(6)", datetime.datetime(9999, 12, 31, 23, 59, 59, 999999)),
        "a uniqueidentifier": (uuid.UUID("6F9619FF-8B86-D011-B42D-00C04FC964FF"), "uniqueidentifier", uuid.UUID("6F9619FF-8B86-D011-B42D-00C04FC964FF")),
    }
    for what, (value, kind, expected) in values.items():
        judge.proof("parameters", f"{what} goes and comes back",
                    lambda value=value, kind=kind, expected=expected: (one(connection, f"SELECT CAST(%s AS {kind})", (value,))[0], expected))

    def offset():
        zone = datetime.timezone(datetime.timedelta(hours=-5, minutes=-30))
        given = datetime.datetime(2024, 2, 29, 23, 30, 0, 5, zone)
        found = one(connection, "SELECT CAST(%s AS datetimeoffset(6)), CONVERT(varchar(40), CAST(%s AS datetimeoffset(6)))", (given, given))
        return (found[0], found[0].utcoffset(), found[1]), (given, given.utcoffset(), "2024-02-29 23:30:00.000005 -05:30")

    judge.proof("parameters", "an instant keeps its offset", offset)
    judge.proof("parameters", "several parameters keep their order",
                lambda: (one(connection, "SELECT %s + %s, %s", (1, 2, "three")), (3, "three")))

    def many():
        with connection.cursor() as cursor:
            cursor.execute("CREATE TABLE #many (id int NOT NULL, v nvarchar(20) NULL)")
            cursor.executemany("INSERT INTO #many VALUES (%s, %s)", [(at, None if at == 3 else f"row {at}") for at in range(20)])
            cursor.execute("SELECT COUNT(*), COUNT(v), MAX(id) FROM #many WHERE id >= %s", (2,))
            return cursor.fetchone(), (18, 17, 19)

    judge.proof("parameters", "executemany inserts each row", many)


def procedures(connection):
    def outputs():
        with connection.cursor() as cursor:
            cursor.execute(
                "CREATE PROCEDURE dbo.pt_add @sum int OUTPUT, @said nvarchar(40) OUTPUT, @a int, @b nvarchar(20), @more decimal(9,2) = 1.25 AS\n"
                "BEGIN\n  SELECT @a AS a, @b AS b;\n  SET @sum = @a + 1;\n  SET @said = @b + N'!';\n  SELECT @more;\n  RETURN -5;\nEND"
            )
            given = (pytds.output(param_type="int"), pytds.output(param_type="nvarchar(40)"), 41, "hé")
            cursor.callproc("dbo.pt_add", given)
            first = cursor.fetchall()
            cursor.nextset()
            second = cursor.fetchall()
            while cursor.nextset():
                pass
            out, code = cursor.get_proc_outputs(), cursor.get_proc_return_status()
            cursor.execute("DROP PROCEDURE dbo.pt_add")
            return (first, second, list(out), code), ([(41, "hé")], [(decimal.Decimal("1.25"),)], [42, "hé!"], -5)

    judge.proof("procedures", "callproc: two results, output parameters, a default and the return code", outputs)

    def missing():
        with connection.cursor() as cursor:
            try:
                cursor.callproc("dbo.pt_nothing", (1,))
            except pytds.Error as error:
                return error.msg_no, 2812
            return "no error", 2812

    judge.proof("procedures", "a procedure that is not there is 2812", missing)


def transactions(connection):
    def undone():
        with connect(autocommit=False) as other, other.cursor() as cursor:
            cursor.execute("INSERT INTO dbo.pt_depot (id, name) VALUES (70, N'undone')")
            other.rollback()
            cursor.execute("INSERT INTO dbo.pt_depot (id, name) VALUES (71, N'done')")
            other.commit()
        with connection.cursor() as cursor:
            cursor.execute("SELECT id FROM dbo.pt_depot WHERE id >= 70")
            return cursor.fetchall(), [(71,)]

    judge.proof("transactions", "transaction requests: rollback takes back, commit keeps", undone)

    def snapshot():
        with connect(autocommit=False, isolation_level=5) as reader, reader.cursor() as reading:
            reading.execute("SELECT COUNT(*) FROM dbo.pt_depot")
            before = reading.fetchone()[0]
            with connection.cursor() as cursor:
                cursor.execute("INSERT INTO dbo.pt_depot (id, name) VALUES (72, N'later')")
            reading.execute("SELECT COUNT(*) FROM dbo.pt_depot")
            during = reading.fetchone()[0]
            reading.execute("SELECT transaction_isolation_level FROM sys.dm_exec_sessions WHERE session_id = @@SPID")
            level = reading.fetchone()[0]
            reader.rollback()
            reading.execute("SELECT COUNT(*) FROM dbo.pt_depot")
            return (during - before, reading.fetchone()[0] - before, level), (0, 1, 5)

    judge.proof("transactions", "isolation level SNAPSHOT sees one moment", snapshot)

    def conflict():
        with connect(autocommit=False, isolation_level=5) as reader, reader.cursor() as reading:
            reading.execute("SELECT name FROM dbo.pt_depot WHERE id = 72")
            reading.fetchall()
            with connection.cursor() as cursor:
                cursor.execute("UPDATE dbo.pt_depot SET name = N'changed' WHERE id = 72")
            try:
                reading.execute("UPDATE dbo.pt_depot SET name = N'lost' WHERE id = 72")
            except pytds.Error as error:
                return error.msg_no, 3960
            return "no error", 3960

    judge.proof("transactions", "a write over a later one under SNAPSHOT is 3960", conflict)


def results(connection):
    def counts():
        with connection.cursor() as cursor:
            cursor.execute("CREATE TABLE #c (i int); INSERT INTO #c VALUES (1), (2), (3)")
            cursor.execute("UPDATE #c SET i = i + 1 WHERE i > 1")
            return cursor.rowcount, 2

    judge.proof("results", "rowcount is what a statement changed", counts)

    def described():
        with connection.cursor() as cursor:
            cursor.execute("SELECT id, name, CAST(1.5 AS decimal(9,4)) AS d FROM dbo.pt_depot WHERE 1 = 0")
            found = [(column[0], column[4], column[5]) for column in cursor.description]
            return (found[0][0], found[1][0], found[2]), ("id", "name", ("d", 9, 4))

    judge.proof("results", "columns tell name, precision and scale", described)

    def large():
        with connection.cursor() as cursor:
            cursor.execute("SELECT value, REPLICATE(N'ü', value % 50) FROM GENERATE_SERIES(1, 20000)")
            total = sum(1 for number, filler in cursor if len(filler) == number % 50)
            return total, 20000

    judge.proof("results", "20,000 rows of different lengths arrive", large)

    def cancelled():
        with connection.cursor() as cursor:
            cursor.execute("SELECT value FROM GENERATE_SERIES(1, 200000)")
            cursor.fetchone()
            cursor.cancel()
            cursor.execute("SELECT 7")
            return cursor.fetchone(), (7,)

    judge.proof("time-outs", "a result that is cancelled half-way leaves the connection of use", cancelled)

    def late():
        with connect(timeout=1) as other, other.cursor() as cursor:
            try:
                cursor.execute("WAITFOR DELAY '00:00:30'")
            except (pytds.TimeoutError, TimeoutError) as error:
                return "timed out" in str(error), True
            return "no time-out", True

    judge.proof("time-outs", "a query that takes too long is given up", late)


def bulk(connection):
    def copied():
        with connection.cursor() as cursor:
            cursor.execute("CREATE TABLE dbo.pt_bulk (id int NOT NULL, v nvarchar(20) NULL)")
            rows = "".join(f"{at}\trow {at}\n" for at in range(1000))
            cursor.copy_to(io.StringIO(rows), "pt_bulk", schema="dbo", columns=("id", "v"))
            cursor.execute("SELECT COUNT(*), COUNT(v), MAX(id), MAX(v) FROM dbo.pt_bulk")
            found = cursor.fetchone()
            cursor.execute("DROP TABLE dbo.pt_bulk")
            return found, (1000, 1000, 999, "row 999")

    judge.proof("bulk", "copy_to of 1,000 rows", copied)


logins()
with connect() as connection:
    with connection.cursor() as cursor:
        run_cases(judge, ME, lambda sql: run(cursor, sql), leave_out={"100ns"}, exact=False)
    for part in (parameters, procedures, transactions, results, bulk):
        part(connection)
judge.exit()
