"""Microsoft's ODBC Driver 18 through mssql-python: logins, encryption, types, statements, parameters, transactions."""

import datetime
import decimal
import os
import uuid

import mssql_python

import matrix_odbc
from common import DATABASE, HOST, LOGIN, PASSWORD, PORT, Judge, run_cases

judge = Judge()
SQL_LOGIN = f"UID={LOGIN};PWD={PASSWORD}"
KERBEROS = f"Trusted_Connection=yes;ServerSPN={os.environ['SQLSERVER_SPN']}"
PYTHON = (
    "Python's datetime and time hold microseconds, the seventh digit is cut: "
    "“microsecond: in range(1000000)”, https://docs.python.org/3/library/datetime.html#datetime.datetime.microsecond"
)


def connect(login=SQL_LOGIN, encrypt="yes", database=DATABASE, **options):
    text = f"SERVER=tcp:{HOST},{PORT};DATABASE={database};{login};Encrypt={encrypt}"
    return mssql_python.connect(text, **options)


def logins():
    for name, topic, login in (("SQL login", "login", SQL_LOGIN), ("Kerberos ticket", "kerberos", KERBEROS)):
        for encrypt in ("no", "yes", "strict"):
            judge.proof(topic, f"{name}, Encrypt={encrypt}", logged_in, login, encrypt)
    refused("18456: a wrong password", "Login failed for user", login=f"UID={LOGIN};PWD=wrong")
    refused("18456: an unknown login", "Login failed for user", login="UID=nobody;PWD=wrong")
    # The driver hands out the second of the two errors that an unknown database is answered with.
    refused("4060: an unknown database", "Login failed for user", database="nowhere")


def logged_in(login, encrypt):
    connection = connect(login, encrypt)
    found = connection.cursor().execute("SELECT DB_NAME(), CASE WHEN SUSER_SNAME() LIKE '%\\%' THEN 1 ELSE 0 END").fetchone()
    connection.close()
    return tuple(found), (DATABASE, 1 if login is KERBEROS else 0)


def refused(sentence, words, **how):
    try:
        connect(**how).close()
    except mssql_python.Error as error:
        found = str(error)
        judge.same("login", sentence, words if words in found else found, words)
    else:
        judge.miss("login", sentence, "the login was accepted")


def beyond(column, label, expected):
    """The seventh digit of a second, which Python's own types do not hold."""
    if expected is None or column["form"] not in ("time", "moment", "offset") or not column["type"].endswith("(7)"):
        return None
    clock, blank, zone = expected.partition(" +") if column["form"] == "offset" else (expected, "", "")
    if column["form"] == "offset" and not blank:
        clock, blank, zone = expected.partition(" -")
    return f"{clock[:-1]}0{blank}{zone}", PYTHON


def run(sql):
    """(results, counts, error) of a batch; mssql-python tells an error's words without its number."""
    cursor = connection.cursor()
    results, counts = [], []
    try:
        cursor.execute(sql)
        while True:
            if cursor.description:
                results.append([tuple(row) for row in cursor.fetchall()])
            elif cursor.rowcount >= 0:
                counts.append(cursor.rowcount)
            if not cursor.nextset():
                return results, None, None
    except mssql_python.Error as error:
        return results, None, (None, None, None, None, str(error.ddbc_error).rpartition("[SQL Server]")[2])
    finally:
        cursor.close()


def parameters():
    cursor = connection.cursor()
    cursor.execute(
        "CREATE TABLE dbo.mp_parameters (id int NOT NULL PRIMARY KEY, t nvarchar(50), d decimal(20,5), b varbinary(max), "
        "m datetime2(6), u uniqueidentifier, f float, n bigint, x bit)"
    )
    row = (
        1, "it's 日本 𝄞", decimal.Decimal("-123456789012345.67890"), b"\x00\xff" * 5000,
        datetime.datetime(2024, 2, 29, 12, 34, 56, 789012), uuid.UUID("6F9619FF-8B86-D011-B42D-00C04FC964FF"), 0.1, -(2**63), True,
    )
    cursor.execute("INSERT INTO dbo.mp_parameters VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", *row)
    found = tuple(cursor.execute("SELECT * FROM dbo.mp_parameters WHERE id = ?", 1).fetchone())
    judge.same("parameters", "a value of each type goes there and back", found, row)
    cursor.executemany("INSERT INTO dbo.mp_parameters (id, t) VALUES (?, ?)", [(number, f"row {number}") for number in range(2, 102)])
    judge.same("parameters", "an array of parameters", cursor.execute("SELECT COUNT(*) FROM dbo.mp_parameters WHERE t LIKE ?", "row %").fetchval(), 100)
    for number in (10, 20, 30):
        found = cursor.execute("SELECT t FROM dbo.mp_parameters WHERE id = ?", number).fetchval()
        judge.same("parameters", f"a prepared statement, executed with {number}", found, f"row {number}")
    cursor.execute("DROP TABLE dbo.mp_parameters")


def transactions():
    with connect() as first, connect(autocommit=True) as other:
        cursor = first.cursor()
        cursor.execute("CREATE TABLE dbo.mp_ledger (id int NOT NULL PRIMARY KEY, v int NOT NULL)")
        cursor.execute("INSERT INTO dbo.mp_ledger VALUES (1, 10)")
        first.commit()
        cursor.execute("UPDATE dbo.mp_ledger SET v = 11")
        first.rollback()
        judge.same("transactions", "the client's rollback undoes", cursor.execute("SELECT v FROM dbo.mp_ledger").fetchval(), 10)
        cursor.execute("UPDATE dbo.mp_ledger SET v = 12")
        first.commit()
        judge.same("transactions", "the client's commit is seen by others", other.cursor().execute("SELECT v FROM dbo.mp_ledger").fetchval(), 12)
        cursor.execute("DROP TABLE dbo.mp_ledger")
        first.commit()


def catalog():
    cursor = connection.cursor()
    cursor.execute("CREATE TABLE dbo.mp_described (id int IDENTITY(1,1) NOT NULL PRIMARY KEY, name nvarchar(40) NULL, price decimal(10,2) NOT NULL)")
    names = [row.table_name for row in cursor.tables(table="mp_described", tableType="TABLE")]
    judge.same("catalog", "SQLTables finds the table", names, ["mp_described"])
    columns = [(row.column_name, row.type_name, row.column_size, row.nullable) for row in cursor.columns(table="mp_described")]
    expected = [("id", "int identity", 10, 0), ("name", "nvarchar", 40, 1), ("price", "decimal", 10, 0)]
    judge.same("catalog", "SQLColumns describes its columns", columns, expected)
    cursor.execute("DROP TABLE dbo.mp_described")


if __name__ == "__main__":
    logins()
    connection = connect(autocommit=True)
    matrix_odbc.run(judge, connection, beyond)
    for part in (parameters, transactions, catalog):
        try:
            part()
        except Exception as error:  # a judge goes on after whatever its client raises
            judge.miss(part.__name__, "all of it", repr(error))
    connection = connect(autocommit=True)
    # The seventh digit is judged above, and each sql_variant by itself: mssql-python sizes its buffer for one by the
    # value of the row before.
    run_cases(judge, "mp", run, leave_out={"100ns", "variant"})
    judge.exit()
