"""Microsoft's ODBC Driver 18 through pyodbc: every digit of every type, statements, parameters, catalog calls."""

import datetime
import decimal
import os
import pathlib
import re
import struct
import threading

import mssql_python_odbc
import pyodbc

import matrix_odbc
from common import DATABASE, HOST, LOGIN, PASSWORD, PORT, Judge, run_cases

judge = Judge()
pyodbc.pooling = False
SQL_LOGIN = f"UID={LOGIN};PWD={PASSWORD}"
NULL_VARIANT = (
    "pyodbc's GetData_SqlVariant calls SQLGetData “with a data length of 0”, does not look at its indicator and goes on to "
    "“Get the SQL_CA_SS_VARIANT_TYPE field”: https://github.com/mkleehammer/pyodbc/pull/1354"
)
KERBEROS = f"Trusted_Connection=yes;ServerSPN={os.environ['SQLSERVER_SPN']}"


def driver():
    """The driver of the wheel mssql-python-odbc, for this kind of system."""
    libraries = pathlib.Path(mssql_python_odbc.__file__).parent.glob("libs/linux/debian_ubuntu/*/lib/libmsodbcsql-18*.so*")
    machine = os.uname().machine.replace("aarch64", "arm64")
    return str(next(path for path in libraries if machine in str(path)))


def connect(login=SQL_LOGIN, encrypt="yes", database=DATABASE, **options):
    text = f"DRIVER={driver()};SERVER=tcp:{HOST},{PORT};DATABASE={database};{login};Encrypt={encrypt}"
    return pyodbc.connect(text, timeout=20, **options)


def packets():
    """Values longer than any packet, in packets of the least and the largest size."""
    long = "0123456789abcdef" * 20_000
    for size in (512, 4096, 16000):  # TLS ends the driver's at 16 KiB
        connection = connect(attrs_before={112: size})
        cursor = connection.cursor()
        found = cursor.execute("SELECT CAST(? AS nvarchar(max)) UNION ALL SELECT REPLICATE(CAST(N'x' AS nvarchar(max)), 100000)", long).fetchall()
        judge.same("packets", f"of {size} bytes", [row[0] for row in found] == [long, "x" * 100_000], True)
        connection.close()


def error_of(error):
    """The server's number stands in brackets behind its words."""
    words = error.args[1] if len(error.args) > 1 else str(error)
    numbers = re.findall(r"\((\d+)\) \(SQL", words)
    return (int(numbers[0]) if numbers else None), words


def logins():
    for name, topic, login in (("SQL login", "login", SQL_LOGIN), ("Kerberos ticket", "kerberos", KERBEROS)):
        for encrypt in ("no", "yes", "strict"):
            try:
                connection = connect(login, encrypt)
                found = connection.cursor().execute("SELECT DB_NAME(), CAST(SESSIONPROPERTY('ANSI_NULLS') AS int)").fetchall()
                judge.same(topic, f"{name}, Encrypt={encrypt}", [tuple(row) for row in found], [(DATABASE, 1)])
                connection.close()
            except pyodbc.Error as error:
                judge.miss(topic, f"{name}, Encrypt={encrypt}", error)
    refused(18456, "a wrong password", login=f"UID={LOGIN};PWD=wrong")
    refused(18456, "an unknown login", login="UID=nobody;PWD=wrong")
    refused(4060, "an unknown database", database="nowhere")


def refused(number, sentence, **how):
    try:
        connect(**how).close()
        judge.miss("login", f"{number}: {sentence}", "the login was accepted")
    except pyodbc.Error as error:
        numbers = [int(found) for found in re.findall(r"\((\d+)\) \(SQL", str(error))]
        if number in numbers:
            judge.proved("login", f"{number}: {sentence}")
        else:
            judge.miss("login", f"{number}: {sentence}", error)


def moment(digits):
    """datetime2 comes as ODBC's structure, datetime and smalldatetime as the server counts them."""

    def read(raw):
        if len(raw) == 8:
            days, ticks = struct.unpack("<iI", raw)
            return shown(days, (ticks * 10 + 1) // 3 * 1_000_000, digits)
        if len(raw) == 4:
            days, minutes = struct.unpack("<HH", raw)
            return shown(days, minutes * 60_000_000_000, digits)
        year, month, day, hour, minute, second, nanos = struct.unpack("<hHHHHHI", raw)
        return f"{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}" + fraction(nanos, digits)

    return read


def shown(days, nanos, digits):
    """Days since 1900 and nanoseconds of a day."""
    seconds, nanos = divmod(nanos, 1_000_000_000)
    day = (datetime.date(1900, 1, 1) + datetime.timedelta(days=days)).isoformat()
    return f"{day} {seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}" + fraction(nanos, digits)


def fraction(nanos, digits):
    return "." + f"{nanos:09}"[:digits] if digits else ""


def exact_types():
    """The driver's own structures, which hold every digit, instead of Python's types."""
    connection = connect(autocommit=True)
    cursor = connection.cursor()
    for column in matrix_odbc.cases("types.json")["columns"]:
        digits = matrix_odbc.digits(column["type"])
        connection.clear_output_converters()
        if column["form"] == "moment":
            connection.add_output_converter(pyodbc.SQL_TYPE_TIMESTAMP, moment(digits))
        elif column["form"] == "time":
            connection.add_output_converter(-154, time_of(digits))
        elif column["form"] == "offset":
            connection.add_output_converter(-155, offset_of(digits))
        elif column["form"] == "rowversion":
            matrix_odbc.rowversion(judge, cursor)
            continue
        elif column["type"] in ("hierarchyid", "geography", "geometry"):
            connection.add_output_converter(-151, bytes)
        elif column["form"] == "variant":
            variants(connection, column)
            continue
        table = matrix_odbc.build(cursor, column)
        try:
            found = cursor.execute(f"SELECT v, w FROM {table} ORDER BY id").fetchall()
            matrix_odbc.compare(judge, column, found)
        except Exception as error:
            judge.miss("types", column["type"], error)
            cursor = connection.cursor()
        cursor.execute(f"DROP TABLE {table}")
    connection.close()


def time_of(digits):
    def read(raw):
        hour, minute, second, _, nanos = struct.unpack("<HHHHI", raw)
        return f"{hour:02}:{minute:02}:{second:02}" + fraction(nanos, digits)

    return read


def offset_of(digits):
    def read(raw):
        year, month, day, hour, minute, second, nanos, hours, minutes = struct.unpack("<hHHHHHIhh", raw)
        sign = "-" if hours < 0 or minutes < 0 else "+"
        zone = f" {sign}{abs(hours):02}:{abs(minutes):02}"
        return f"{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}" + fraction(nanos, digits) + zone

    return read


def variants(connection, column):
    """Each value, and what the server says of its own type."""
    cursor = connection.cursor()
    table = matrix_odbc.build(cursor, column)
    for row, (label, _, _) in enumerate(column["values"], start=1):
        base = cursor.execute(f"SELECT CAST(SQL_VARIANT_PROPERTY(v, 'BaseType') AS nvarchar(40)) FROM {table} WHERE id = {row}").fetchval()
        judge.same("types", f"sql_variant of {label}: its base type", base, {"wide": "decimal"}.get(label, label))
    found, kept = [], []
    null, beside = cursor.execute(f"SELECT v, w FROM {table} WHERE id = 0").fetchone()
    if null == "":
        judge.vendor("types", "NULL in a sql_variant is read as an empty text, which mssql-python reads as None", NULL_VARIANT)
    found.append([None if null == "" else null, beside])
    for row, case in enumerate(column["values"], start=1):
        try:
            cells = cursor.execute(f"SELECT v, w FROM {table} WHERE id = {row}").fetchone()
            read = {"time": time_of(6), "datetimeoffset": offset_of(6)}.get(case[0])
            # pyodbc gives these two as the driver's structures.
            found.append([read(cell) if read and isinstance(cell, bytes) else cell for cell in cells])
            kept.append(case)
        except pyodbc.ProgrammingError as error:
            judge.vendor("types", f"sql_variant of {case[0]}", f"pyodbc's own words: {error.args[0]}")
            cursor = connection.cursor()
    matrix_odbc.compare(judge, {**column, "values": kept}, found)
    cursor.execute(f"DROP TABLE {table}")


def parameters():
    connection = connect(autocommit=True)
    cursor = connection.cursor()
    cursor.execute("CREATE TABLE dbo.parameters (id int NOT NULL PRIMARY KEY, t nvarchar(50), d decimal(20,5), b varbinary(max), m datetime2(7), u uniqueidentifier, f float, n bigint, x bit)")
    row = (1, "it's 日本 𝄞", decimal.Decimal("-123456789012345.67890"), b"\x00\xff" * 5000, datetime.datetime(2024, 2, 29, 12, 34, 56, 789012),
           "6F9619FF-8B86-D011-B42D-00C04FC964FF", 0.1, -(2**63), True)
    cursor.execute("INSERT INTO dbo.parameters VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
    found = tuple(cursor.execute("SELECT * FROM dbo.parameters WHERE id = ?", 1).fetchone())
    judge.same("parameters", "a value of each type goes there and back", found, row)
    cursor.executemany("INSERT INTO dbo.parameters (id, t) VALUES (?, ?)", [(number, f"row {number}") for number in range(2, 50)])
    judge.same("parameters", "one prepared statement, 48 executions", cursor.execute("SELECT COUNT(*) FROM dbo.parameters").fetchval(), 49)
    cursor.fast_executemany = True
    cursor.executemany("INSERT INTO dbo.parameters (id, t) VALUES (?, ?)", [(number, "fast") for number in range(50, 150)])
    judge.same("parameters", "an array of parameters in one call", cursor.execute("SELECT COUNT(*) FROM dbo.parameters WHERE t = ?", "fast").fetchval(), 100)
    cursor.execute("INSERT INTO dbo.parameters (id, t, d) VALUES (?, ?, ?)", 1000, None, None)
    judge.same("parameters", "NULL is NULL", cursor.execute("SELECT COUNT(*) FROM dbo.parameters WHERE id = ? AND t IS NULL AND d IS NULL", 1000).fetchval(), 1)
    cursor.execute("UPDATE dbo.parameters SET t = ? WHERE id > ?", "changed", 140)
    judge.same("parameters", "a count of changed rows", cursor.rowcount, 10)
    found = cursor.execute("EXEC sp_executesql N'SELECT @a + @b AS total', N'@a int, @b int', @a = ?, @b = ?", 40, 2).fetchval()
    judge.same("parameters", "sp_executesql in a batch", found, 42)
    try:
        cursor.execute("SELECT CAST(? AS int)", "x").fetchall()
        judge.miss("parameters", "an error comes from a prepared statement", "no error")
    except pyodbc.Error as error:
        judge.same("parameters", "an error comes from a prepared statement", error_of(error)[0], 245)
    cursor = connection.cursor()
    cursor.execute("DROP TABLE dbo.parameters")
    connection.close()


def transactions():
    one, other = connect(), connect(autocommit=True)
    cursor = one.cursor()
    cursor.execute("CREATE TABLE dbo.ledger (id int NOT NULL PRIMARY KEY, v int NOT NULL)")
    cursor.execute("INSERT INTO dbo.ledger VALUES (1, 10), (2, 20)")
    one.commit()
    cursor.execute("UPDATE dbo.ledger SET v = 11 WHERE id = 1")
    one.rollback()
    judge.same("transactions", "the client's rollback", cursor.execute("SELECT v FROM dbo.ledger WHERE id = 1").fetchval(), 10)
    one.commit()
    cursor.execute("UPDATE dbo.ledger SET v = 12 WHERE id = 1")
    one.commit()
    judge.same("transactions", "another session sees what was committed", other.cursor().execute("SELECT v FROM dbo.ledger WHERE id = 1").fetchval(), 12)
    one.set_attr(pyodbc.SQL_ATTR_TXN_ISOLATION, pyodbc.SQL_TXN_SERIALIZABLE)
    level = one.cursor().execute("SELECT transaction_isolation_level FROM sys.dm_exec_sessions WHERE session_id = @@SPID").fetchval()
    judge.same("transactions", "an isolation level that the client sets", level, 4)
    one.commit()
    waiting(one, other)
    deadlock(one, other)
    cursor = one.cursor()
    one.rollback()
    cursor.execute("DROP TABLE dbo.ledger")
    one.commit()
    one.close()
    other.close()


def waiting(one, other):
    """What a session is told that waits for another one's lock: by the server's limit, and by the client's."""
    one.cursor().execute("UPDATE dbo.ledger SET v = v + 1 WHERE id = 1")
    cursor = other.cursor()
    cursor.execute("SET LOCK_TIMEOUT 50")
    try:
        cursor.execute("UPDATE dbo.ledger SET v = 0 WHERE id = 1")
        judge.miss("transactions", "1222: a lock that is not had in time", "it was had")
    except pyodbc.Error as error:
        judge.same("transactions", "1222: a lock that is not had in time", error_of(error)[0], 1222)
    cursor.execute("SET LOCK_TIMEOUT -1")
    other.timeout = 1
    try:
        other.cursor().execute("UPDATE dbo.ledger SET v = 0 WHERE id = 1")
        judge.miss("transactions", "a query that the client cancels", "it ended")
    except pyodbc.Error as error:
        judge.same("transactions", "a query that the client cancels", error.args[0], "HYT00")
    other.timeout = 0
    one.rollback()
    found = other.cursor().execute("SELECT v FROM dbo.ledger WHERE id = 1").fetchval()
    judge.same("transactions", "the session goes on after an attention, the row is as it was", found, 12)


def deadlock(one, other):
    """Two sessions that wait for each other: one of them is the victim, and the other goes on."""
    numbers = []
    other.autocommit = False
    one.cursor().execute("UPDATE dbo.ledger SET v = v + 1 WHERE id = 1")
    other.cursor().execute("CREATE TABLE dbo.elsewhere (id int)")
    other.cursor().execute("INSERT INTO dbo.elsewhere VALUES (1)")
    other.commit()
    other.cursor().execute("UPDATE dbo.elsewhere SET id = 3")

    def wait(connection, sql):
        try:
            connection.cursor().execute(sql)
        except pyodbc.Error as error:
            numbers.append(error_of(error)[0])
            connection.rollback()

    waiting = threading.Thread(target=wait, args=(other, "UPDATE dbo.ledger SET v = v + 1 WHERE id = 1"))
    waiting.start()
    wait(one, "UPDATE dbo.elsewhere SET id = 2")
    one.rollback()
    waiting.join(30)
    other.rollback()
    judge.same("transactions", "1205: a deadlock has one victim", numbers, [1205])
    other.cursor().execute("DROP TABLE dbo.elsewhere")
    other.commit()
    other.autocommit = True


def rights():
    """What is denied to one login stays open to another."""
    owner, guest = connect(autocommit=True), connect(KERBEROS, autocommit=True)
    name = guest.cursor().execute("SELECT SUSER_SNAME()").fetchval().replace("]", "]]")
    cursor = owner.cursor()
    cursor.execute("CREATE TABLE dbo.secret (id int NOT NULL)")
    cursor.execute(f"DENY SELECT, INSERT ON dbo.secret TO [{name}]")
    for sql in ("SELECT id FROM dbo.secret", "INSERT INTO dbo.secret VALUES (1)"):
        try:
            guest.cursor().execute(sql)
            judge.miss("errors", f"229: {sql.split()[0]} that was denied", "it was done")
        except pyodbc.Error as error:
            judge.same("errors", f"229: {sql.split()[0]} that was denied", error_of(error)[0], 229)
    judge.same("errors", "and another login may", cursor.execute("SELECT COUNT(*) FROM dbo.secret").fetchval(), 0)
    cursor.execute(f"REVOKE SELECT ON dbo.secret TO [{name}]")
    judge.same("errors", "until it is revoked", guest.cursor().execute("SELECT COUNT(*) FROM dbo.secret").fetchval(), 0)
    cursor.execute("DROP TABLE dbo.secret")


def catalog():
    connection = connect(autocommit=True)
    cursor = connection.cursor()
    cursor.execute("CREATE TABLE dbo.described (id int IDENTITY(1,1) NOT NULL CONSTRAINT pk_described PRIMARY KEY, name nvarchar(40) NULL, price decimal(10,2) NOT NULL, at datetime2(3) NULL)")
    cursor.execute("CREATE INDEX ix_described_name ON dbo.described (name)")
    tables = [(row.table_cat, row.table_schem, row.table_name, row.table_type) for row in cursor.tables(table="described")]
    judge.same("catalog", "SQLTables finds the table", tables, [(DATABASE, "dbo", "described", "TABLE")])
    columns = [(row.column_name, row.type_name, row.column_size, row.decimal_digits, row.nullable) for row in cursor.columns(table="described")]
    expected = [("id", "int identity", 10, 0, 0), ("name", "nvarchar", 40, None, 1), ("price", "decimal", 10, 2, 0), ("at", "datetime2", 23, 3, 1)]
    judge.same("catalog", "SQLColumns describes its columns", columns, expected)
    keys = [(row.column_name, row.key_seq, row.pk_name) for row in cursor.primaryKeys("described")]
    judge.same("catalog", "SQLPrimaryKeys names its key", keys, [("id", 1, "pk_described")])
    names = {row.index_name for row in cursor.statistics("described") if row.index_name}
    judge.same("catalog", "SQLStatistics lists its indexes", names, {"pk_described", "ix_described_name"})
    kinds = {row.type_name for row in cursor.getTypeInfo(pyodbc.SQL_INTEGER)}
    judge.same("catalog", "SQLGetTypeInfo knows int", "int" in kinds, True)
    described = [(column[0], column[1], column[3], column[6]) for column in cursor.execute("SELECT id, name, price FROM dbo.described").description]
    judge.same("catalog", "a statement's columns are described", described, [("id", int, 10, False), ("name", str, 40, True), ("price", decimal.Decimal, 10, False)])
    judge.same("catalog", "the server tells its name and version", connection.getinfo(pyodbc.SQL_DBMS_NAME), "Microsoft SQL Server")
    cursor.execute("DROP TABLE dbo.described")
    connection.close()


def run(sql):
    """(results, counts, error) of a batch."""
    cursor = connection.cursor()
    results = []
    try:
        cursor.execute(sql)
        while True:
            if cursor.description:
                results.append([tuple(row) for row in cursor.fetchall()])
            if not cursor.nextset():
                return results, None, None
    except pyodbc.Error as error:
        number, words = error_of(error)
        return results, None, (number, None, None, None, told(words))


def told(words):
    """The server's words, without the driver's before and its number behind."""
    return re.sub(r" \(\d+\) \(SQL.*", "", words, flags=re.DOTALL).rpartition("[SQL Server]")[2]


if __name__ == "__main__":
    for part in (logins, packets, exact_types, parameters, transactions, rights, catalog):
        try:
            part()
        except Exception as error:
            judge.miss(part.__name__, "all of it", repr(error))
    connection = connect(autocommit=True)
    run_cases(judge, "po", run, leave_out={"100ns", "offset", "variant"})
    judge.exit()
