"""FreeTDS' tsql: both logins, every type as it or the server prints it, statements and error numbers."""

import os
import pathlib
import re
import struct
import subprocess
import sys
import tempfile

import matrix_odbc
from common import DATABASE, HOST, LOGIN, PASSWORD, PORT, Judge, cases

judge = Judge()
FOLDER = tempfile.TemporaryDirectory(prefix="keyferry-tsql-")
# tsql prints these rounded or in its own form of a date: here the server writes them, other clients judge their bytes.
BY_CAST = {"real", "float", "date", "time", "moment", "offset", "variant", "rowversion"}


def tsql(text, login=(LOGIN, PASSWORD), encryption="require"):
    """What tsql prints for a batch; a trusted login has no name and no password."""
    config = pathlib.Path(FOLDER.name) / "freetds.conf"
    config.write_text(
        f"[judged]\n host = {HOST}\n port = {PORT}\n tds version = 7.4\n client charset = UTF-8\n encryption = {encryption}\n"
        f" text size = 1000000\n spn = {os.environ['SQLSERVER_SPN']}\n ca file = {os.environ['SQLSERVER_CA']}\n"
    )
    environment = {**os.environ, "FREETDSCONF": str(config), "LC_ALL": "C.UTF-8"}
    who = ["-U", login[0], "-P", login[1]] if login else ["-U", "", "-P", ""]
    command = ["tsql", "-S", "judged", *who, "-D", DATABASE, "-o", "fhq", "-t", "|"]
    batch = f"{text}\nGO\nquit\n"
    done = subprocess.run(command, input=batch.encode(), env=environment, capture_output=True, timeout=60, check=False)
    return done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")


def rows(output):
    """The lines that are rows: tsql prints its prompt and messages to the same place."""
    return [line for line in output.splitlines() if line and not line.startswith(("locale", "using", "Setting", "Msg ", "\t"))]


def numbers(*outputs):
    return [int(number) for output in outputs for number in re.findall(r"Msg (\d+)", output)]


def logins():
    for name, login in (("SQL login", (LOGIN, PASSWORD)), ("Kerberos ticket", None)):
        for encryption in ("require", "request", "off"):
            out, err = tsql("SELECT DB_NAME()", login, encryption)
            judge.same("kerberos" if login is None else "login", f"{name}, encryption {encryption}", rows(out), [DATABASE])
            if not rows(out):
                print(err, file=sys.stderr)
    out, err = tsql("SELECT 1", (LOGIN, "wrong"))
    judge.same("login", "18456: a wrong password", 18456 in numbers(out, err), True)
    out, err = tsql("USE nowhere", (LOGIN, PASSWORD))
    judge.same("login", "911: an unknown database", numbers(out, err), [911])


def types():
    """Every type that FreeTDS prints exactly, and the others by the server's own text of them."""
    for column in matrix_odbc.cases("types.json")["columns"]:
        if not column["values"]:
            continue
        table, declared, form = f"dbo.tsql_{column['name']}", column["type"], column["form"]
        lines = [f"CREATE TABLE {table} (id int NOT NULL PRIMARY KEY, v {declared} NULL)", f"INSERT INTO {table} VALUES (0, NULL)"]
        lines += [f"INSERT INTO {table} VALUES ({row}, {literal})" for row, (_, literal, _) in enumerate(column["values"], 1)]
        shown = "v" if form not in BY_CAST else "CONVERT(nvarchar(100), v, 121)"
        if form in ("real", "float"):
            shown = "CONVERT(varchar(40), v, 3)"
        if declared in ("hierarchyid", "geography", "geometry"):
            shown = "CAST(v AS varbinary(max))"
        lines.append(f"SELECT {shown} FROM {table} WHERE id NOT IN ({', '.join(map(str, left_out(column)))}) ORDER BY id")
        out, err = tsql("\n".join(lines))
        found = out.splitlines()
        found = [line for line in found if not line.startswith(("locale", "using", "Setting"))]
        kept = [value for row, (_, _, value) in enumerate(column["values"], 1) if row not in left_out(column)]
        expected = ["NULL", *(printed(form, value) for value in kept)]
        judge.same("types", declared, found, expected)
        if err.strip() and found != expected:
            print(err, file=sys.stderr)
        tsql(f"DROP TABLE {table}")


def left_out(column):
    """Rows that are no single line of text, or that CONVERT rounds inside a sql_variant; -1 is none."""
    rounded = ("money", "smallmoney", "real", "float", "varbinary", "binary")
    awkward = [row for row, (_, _, value) in enumerate(column["values"], 1) if any(c in matrix_odbc.expected_text(value) for c in "\0\n\t")]
    inside = [row for row, (label, _, _) in enumerate(column["values"], 1) if column["form"] == "variant" and label in rounded]
    return [-1, *awkward, *inside]


def printed(form, value):
    """A value of types.json as tsql prints it."""
    if form == "variant":
        form, value = value
    text = matrix_odbc.expected_text(value)
    if form == "binary":
        return text[2:].lower()
    if form == "real":
        return with_exponent(f"{struct.unpack('>f', bytes.fromhex(text))[0]:.8e}")
    if form == "float":
        return with_exponent(f"{struct.unpack('>d', bytes.fromhex(text))[0]:.16e}")
    return text


def with_exponent(text):
    """SQL Server writes exponents with three digits."""
    digits, _, exponent = text.partition("e")
    return f"{digits}e{exponent[0]}{int(exponent[1:]):03}"


def statements():
    """The statements of statements.txt, each in a session of its own: the same rows, or the same error number."""
    before = None
    for case in cases("tsql"):
        if case.tags:
            continue
        # What goes on in the session of the case before it begins with "and".
        follows = before is not None and case.what.startswith("and ")
        out, err = tsql(f"{before.sql}\nGO\n{case.sql}" if follows else case.sql)
        before = case
        # An empty text is an empty line, and those are between results, too.
        expected = [row for row in (" | ".join(row) for result in case.results for row in result) if row != "''"]
        found = rows(out)
        found = found[len(found) - len(expected):] if follows else found
        if case.error is not None:
            judge.same(case.topic, case.what, case.error[0] in numbers(out, err), True)
        elif case.topic == "setup":
            continue
        elif case.topic != "types" and not any(re.search(r"\d{4}-\d\d-\d\d|\b0x", row) for row in expected):
            # tsql prints dates and binaries in a form of its own.
            judge.same(case.topic, case.what, [line.replace("|", " | ") for line in found], [line.replace("''", "") for line in expected])


if __name__ == "__main__":
    logins()
    types()
    statements()
    judge.exit()
