"""Every type, in both result formats: values, NULLs, and what the cursor says of its columns."""

import datetime as dt
import decimal
import json

from account import one
from proof import attempt

UTC = dt.timezone.utc
EAST = dt.timezone(dt.timedelta(hours=2))
CASES = [
    ("NUMBER(38,0)", "99999999999999999999999999999999999999::NUMBER(38,0)", 10**38 - 1),
    ("NUMBER(38,0) of 19 digits", "-9223372036854775809::NUMBER(38,0)", -(2**63) - 1),
    ("NUMBER(3,0)", "-128::NUMBER(3,0)", -128),
    ("NUMBER(12,2)", "-1234567890.12::NUMBER(12,2)", decimal.Decimal("-1234567890.12")),
    ("NUMBER(38,37)", "1.2345678901234567890123456789012345678::NUMBER(38,37)",
     decimal.Decimal("1.2345678901234567890123456789012345678")),
    ("FLOAT", "0.1::FLOAT", 0.1),
    ("FLOAT of 1e308", "1.7976931348623157e308::FLOAT", 1.7976931348623157e308),
    ("VARCHAR", "'\u00e9 \u65e5\u672c \U0001f600 \"\\''", "\u00e9 \u65e5\u672c \U0001f600 \"'"),
    ("VARCHAR, empty", "''", ""),
    ("BOOLEAN", "TRUE", True),
    ("DATE", "'1969-12-31'::DATE", dt.date(1969, 12, 31)),
    ("DATE 0001", "'0001-01-01'::DATE", dt.date(1, 1, 1)),
    ("DATE 9999", "'9999-12-31'::DATE", dt.date(9999, 12, 31)),
    ("TIME(6)", "'23:59:59.123456'::TIME(6)", dt.time(23, 59, 59, 123456)),
    ("TIME(0)", "'00:00:01'::TIME(0)", dt.time(0, 0, 1)),
    ("TIMESTAMP_NTZ(6)", "'2024-02-29 12:34:56.123456'::TIMESTAMP_NTZ(6)", dt.datetime(2024, 2, 29, 12, 34, 56, 123456)),
    ("TIMESTAMP_NTZ(9)", "'2024-02-29 12:34:56.123456789'::TIMESTAMP_NTZ(9)", dt.datetime(2024, 2, 29, 12, 34, 56, 123456)),
    ("TIMESTAMP_NTZ before 1970", "'1950-01-01 00:00:00.500'::TIMESTAMP_NTZ(3)", dt.datetime(1950, 1, 1, 0, 0, 0, 500000)),
    ("TIMESTAMP_NTZ(9) before 1970", "'1950-01-01 00:00:00.500'::TIMESTAMP_NTZ(9)", dt.datetime(1950, 1, 1, 0, 0, 0, 500000)),
    ("TIMESTAMP_LTZ(0)", "'2024-01-02 03:04:05 +0000'::TIMESTAMP_LTZ(0)", dt.datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)),
    ("TIMESTAMP_LTZ(9)", "'2024-01-02 03:04:05.6 +0000'::TIMESTAMP_LTZ(9)", dt.datetime(2024, 1, 2, 3, 4, 5, 600000, tzinfo=UTC)),
    ("TIMESTAMP_TZ(0)", "'2024-01-02 03:04:05 +0200'::TIMESTAMP_TZ(0)", dt.datetime(2024, 1, 2, 3, 4, 5, tzinfo=EAST)),
    ("TIMESTAMP_TZ(9)", "'2024-01-02 03:04:05.25 +0200'::TIMESTAMP_TZ(9)", dt.datetime(2024, 1, 2, 3, 4, 5, 250000, tzinfo=EAST)),
    ("BINARY", "TO_BINARY('00FF10', 'HEX')", b"\x00\xff\x10"),
    ("VARIANT", "PARSE_JSON('{\"a\": [1, 2.5, null, \"x\"]}')", {"a": [1, 2.5, None, "x"]}),
    ("ARRAY", "ARRAY_CONSTRUCT(1, 'a')", [1, "a"]),
    ("OBJECT", "OBJECT_CONSTRUCT('k', 1)", {"k": 1}),
]
# How description numbers the types (snowflake.connector.constants.FIELD_TYPES).
CODES = {
    "fixed": 0, "real": 1, "text": 2, "date": 3, "timestamp_ltz": 6, "timestamp_tz": 7, "timestamp_ntz": 8, "binary": 11,
    "time": 12, "boolean": 13,
}


def plain(name, found):
    if isinstance(found, bytearray):
        return bytes(found)
    if name in ("VARIANT", "ARRAY", "OBJECT"):
        return json.loads(found)
    return found


def judge(bench):
    cursor = bench.cursor
    for form in ("ARROW", "JSON"):
        cursor.execute(f"ALTER SESSION SET PYTHON_CONNECTOR_QUERY_RESULT_FORMAT = '{form}'")
        for name, expression, expected in CASES:
            def value(expression=expression, expected=expected, name=name):
                found = plain(name, one(cursor, f"SELECT {expression}"))
                return (type(found).__name__ if found is None else found, found == expected), (expected, True)

            attempt("types", f"{name} by {form}", value)

        def nulls():
            types = ("NUMBER(5,0)", "NUMBER(9,3)", "FLOAT", "VARCHAR", "BOOLEAN", "DATE", "TIME", "TIMESTAMP_NTZ",
                     "TIMESTAMP_LTZ", "TIMESTAMP_TZ", "BINARY", "VARIANT")
            sql = "SELECT " + ", ".join(f"NULL::{kind}" for kind in types)
            return one(cursor, sql), (None,) * len(types)

        attempt("types", f"NULL of twelve types by {form}", nulls)
    cursor.execute("ALTER SESSION SET PYTHON_CONNECTOR_QUERY_RESULT_FORMAT = 'ARROW'")

    def description():
        table = bench.fresh_table(
            "A NUMBER(12,2) NOT NULL, B VARCHAR(20), C TIMESTAMP_NTZ(3), D BINARY(8), E BOOLEAN, F FLOAT, G DATE")
        cursor.execute(f"SELECT * FROM {table}")
        found = [(column.name, column.type_code, column.precision, column.scale, column.internal_size, column.is_nullable)
                 for column in cursor.description]
        return found, [
            ("A", CODES["fixed"], 12, 2, None, False), ("B", CODES["text"], None, None, 20, True),
            ("C", CODES["timestamp_ntz"], 0, 3, None, True), ("D", CODES["binary"], None, None, 8, True),
            ("E", CODES["boolean"], None, None, None, True), ("F", CODES["real"], None, None, None, True),
            ("G", CODES["date"], None, None, None, True),
        ]

    attempt("types", "a cursor's description names type, precision, scale, length and NULLs", description)
