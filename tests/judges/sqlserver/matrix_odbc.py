"""Every type of types.json through Microsoft's ODBC driver: what a DB-API connection reads is what was written."""

import json
import math
import pathlib
import struct


def cases(name):
    return json.loads((pathlib.Path(__file__).parent / name).read_text(encoding="utf-8"))


def digits(declared):
    """Fractional digits of a declared time-like type."""
    if declared == "datetime":
        return 3
    if declared.startswith(("time(", "datetime2(", "datetimeoffset(")):
        return int(declared.split("(")[1].rstrip(")"))
    return 0


def build(cursor, column):
    """One table for a type: each value in a nullable column and in one without NULL; row 0 has the NULL."""
    table = f"dbo.matrix_{column['name']}"
    declared = column["type"]
    cursor.execute(f"CREATE TABLE {table} (id int NOT NULL PRIMARY KEY, v {declared} NULL, w {declared} NOT NULL)")
    values = column["values"]
    for row, (_, literal, _) in enumerate([["NULL", "NULL", None], *values]):
        beside = values[0][1] if row == 0 else literal
        cursor.execute(f"INSERT INTO {table} (id, v, w) VALUES ({row}, {literal}, {beside})")
    return table


def run(judge, connection, beyond=lambda column, label, expected: None):
    """`beyond` gives the vendor's words where this client cannot hold a value, and what it makes of it."""
    cursor = connection.cursor()
    for column in cases("types.json")["columns"]:
        if column["form"] == "rowversion":
            rowversion(judge, cursor)
            continue
        try:
            table = build(cursor, column)
            compare(judge, column, read(cursor, table, column), beyond)
            cursor.execute(f"DROP TABLE {table}")
        except Exception as error:  # every client has its own
            judge.miss("types", column["type"], error)
            cursor.close()
            cursor = connection.cursor()


def read(cursor, table, column):
    if column["form"] != "variant":
        return cursor.execute(f"SELECT v, w FROM {table} ORDER BY id").fetchall()
    # One row at a time: mssql-python sizes its buffer for a sql_variant by the value of the row before.
    rows = range(len(column["values"]) + 1)
    return [cursor.execute(f"SELECT v, w FROM {table} WHERE id = {row}").fetchone() for row in rows]


def compare(judge, column, found, beyond=lambda column, label, expected: None):
    wrong, cut = [], None
    values = [["NULL", None, None], *column["values"]]
    if len(found) != len(values):
        wrong.append(f"{len(found)} rows, {len(values)} were written")
    for row, (label, _, written) in zip(found, values):
        for place, value in zip(("nullable", "not null"), row):
            of, kind = (label, written) if label != "NULL" or place == "nullable" else (column["values"][0][0], column["values"][0][2])
            form, fraction = column["form"], digits(column["type"])
            if form == "variant" and kind is not None:
                form, kind = kind
                fraction = len(kind.split()[1].partition(".")[2]) if form in ("moment", "offset") else len(kind.partition(".")[2])
            expected = None if kind is None else expected_text(kind)
            seen = as_form(value, form, fraction)
            if seen == expected:
                continue
            known = beyond(column, of, expected)
            if known and seen == known[0]:
                cut = known[1]
                continue
            wrong.append(f"{of}, {place}: found {str(seen)[:80]!r}, expected {str(expected)[:80]!r}")
    if cut:
        judge.vendor("types", column["type"], cut)
    if wrong:
        judge.miss("types", column["type"], "; ".join(wrong))
    elif not cut:
        judge.proved("types", f"{column['type']}: NULL, {', '.join(label for label, *_ in column['values'])}")


def rowversion(judge, cursor):
    """The server writes these: eight bytes, larger with each change, and the same as the server's own cast."""
    cursor.execute("CREATE TABLE dbo.matrix_rowversion (id int NOT NULL PRIMARY KEY, n int NOT NULL, v rowversion)")
    for row in range(3):
        cursor.execute(f"INSERT INTO dbo.matrix_rowversion (id, n) VALUES ({row}, 0)")
    cursor.execute("UPDATE dbo.matrix_rowversion SET n = 1 WHERE id = 0")
    rows = cursor.execute("SELECT v, CAST(v AS bigint) FROM dbo.matrix_rowversion ORDER BY v").fetchall()
    read = [bytes(value) for value, _ in rows]
    numbers = [int.from_bytes(value, "big") for value in read]
    judge.same("types", "rowversion is eight bytes", [len(value) for value in read], [8, 8, 8])
    judge.same("types", "rowversion grows and is what the server casts", numbers, sorted({cast for _, cast in rows}))
    cursor.execute("DROP TABLE dbo.matrix_rowversion")


def expected_text(case):
    """What a case of types.json must read as; long values are written as a repetition."""
    if isinstance(case, dict):
        if "bytes" in case:
            return "0x" + case["bytes"].upper() * case["times"]
        return case["repeat"] * case["times"]
    return case


def as_form(value, form, fraction):
    """A value that a client read, in the form of types.json; `fraction` is the number of fractional digits."""
    if value is None:
        return None
    if isinstance(value, str) and form not in ("guid",):
        return value  # a reader that keeps more than Python's own types hold
    if form == "integer":
        return str(int(value))
    if form == "decimal":
        return format(value, "f")
    if form == "real":
        return struct.pack(">f", value).hex() if math.isfinite(value) else str(value)
    if form == "float":
        return struct.pack(">d", value).hex()
    if form in ("date",):
        return value.isoformat()
    if form == "time":
        return value.strftime("%H:%M:%S") + fractional(value.microsecond, fraction)
    if form == "moment":
        day = value.date().isoformat()
        return f"{day} {value.strftime('%H:%M:%S')}" + fractional(value.microsecond, fraction)
    if form == "offset":
        minutes = int(value.utcoffset().total_seconds()) // 60
        sign = "-" if minutes < 0 else "+"
        zone = f"{sign}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"
        text = f"{value.date().isoformat()} {value.strftime('%H:%M:%S')}"
        return text + fractional(value.microsecond, fraction) + f" {zone}"
    if form == "binary":
        return "0x" + bytes(value).hex().upper()
    if form == "guid":
        return str(value).upper()
    return str(value)


def fractional(microsecond, digits):
    return "." + f"{microsecond:06}0"[:digits] if digits else ""
