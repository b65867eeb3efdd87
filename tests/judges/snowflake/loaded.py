#!/usr/bin/env python3
"""What the loader staged and loaded, seen by others: the Python connector fetches its files, pyarrow reads them, and DuckDB
answers the same questions from them as the Snowflake stand-in does from its tables.

Runs in `local-dev --loaded --judge`. Options by the environment: SELECTS (how many, 300), SEED.
"""

import base64
import collections
import datetime as dt
import decimal
import hashlib
import os
import pathlib
import random
import sys
import tempfile

import account
import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import random_selects
from account import one, rows
from proof import attempt, finish, missed, proved
from snowflake.connector.s3_storage_client import SnowflakeS3RestClient

DIGESTS = {}
# 38 digits, wherever their point is.
decimal.getcontext().prec = 80


def remember_digests():
    """The digest that the uploader wrote beside each file, as the connector reads it before a download."""
    header = SnowflakeS3RestClient.get_file_header

    def told(self, filename):
        found = header(self, filename)
        if found is not None:
            DIGESTS[filename] = found.digest
        return found

    SnowflakeS3RestClient.get_file_header = told


def fetch(cursor, folder):
    """Every staged file by GET; its path on the stage → its path here."""
    stage = next(row for row in rows(cursor, "SHOW STAGES") if "KEYFERRY" in row[1])[1]
    listed = [row[0].split("/", 1)[1] for row in rows(cursor, f"LIST @{stage}")]
    found = {}
    for at, path in enumerate(listed):
        target = folder / str(at)
        target.mkdir()
        cursor.execute(f"GET @{stage}/{path} 'file://{target}'")
        found[path] = target / path.rsplit("/", 1)[1]
    return found


def staged(cursor, folder):
    """What came down is what the loader hashed before it encrypted; and it is Parquet with these rows."""
    remember_digests()
    files = fetch(cursor, folder)
    attempt("put-get", f"GET brings every one of the {len(files)} files that the loader PUT", lambda: (
        (len(files) >= 10, all(path.stat().st_size > 0 for path in files.values())), (True, True)))

    def digests():
        wrong = []
        for path, file in files.items():
            digest = next((value for name, value in DIGESTS.items() if name.endswith(path)), None)
            if digest != base64.b64encode(hashlib.sha256(file.read_bytes()).digest()).decode():
                wrong.append((path, digest))
        return wrong, []

    attempt("put-get", "each file is, by SHA-256, what the loader hashed before it encrypted", digests)
    return files


def tables_of(cursor, files):
    """The loaded tables with the staged files that hold their rows, by the ledger's own chunks."""
    found = collections.defaultdict(list)
    names = {row[1] for row in rows(cursor, "SHOW TABLES") if not row[1].startswith("KEYFERRY")}
    schemas = {}
    for name in names:
        described = rows(cursor, f'DESCRIBE TABLE "{name}"')
        schemas[tuple(row[0] for row in described)] = name
    for file in files.values():
        table = pq.read_table(file)
        name = schemas.get(tuple(table.schema.names))
        if name is not None:
            found[name].append(table)
    return {name: pa.concat_tables(parts) for name, parts in found.items()}


def plain(value):
    """Values of both sides in one form."""
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, (int, decimal.Decimal)):
        return decimal.Decimal(value).normalize() + 0
    if isinstance(value, bytearray):
        return bytes(value)
    if isinstance(value, dt.datetime):
        return value.replace(tzinfo=None)
    return value


def same(found, expected):
    if isinstance(found, float) or isinstance(expected, float):
        if found is None or expected is None:
            return found is expected
        a, b = float(found), float(expected)
        return abs(a - b) <= 1e-6 * max(1.0, abs(a), abs(b))
    return plain(found) == plain(expected)


def equal_rows(cursor, name, table):
    """All rows of a table against the rows of its files, as multisets; times that are finer than Python's, which come as text, are left to others."""
    finer = {row[0] for row in rows(cursor, f'DESCRIBE TABLE "{name}"') if row[1].startswith("TIMESTAMP")}
    columns = [field.name for field in table.schema if not (pa.types.is_string(field.type) and field.name in finer)]
    shown = ", ".join('"' + column + '"' for column in columns)
    cursor.execute(f'SELECT {shown} FROM "{name}"')
    loaded = collections.Counter(tuple(map(plain, row)) for row in cursor.fetchall())
    sent = collections.Counter(
        tuple(map(plain, row.values())) for row in table.select(columns).to_pylist())
    surplus, lost = loaded - sent, sent - loaded
    if surplus or lost:
        return f"{sum(lost.values())} rows lost {list(lost)[:1]}, {sum(surplus.values())} surplus {list(surplus)[:1]}"
    return sum(loaded.values()) == table.num_rows


def cross_check(cursor, engine, tables):
    count, seed = int(os.environ.get("SELECTS", "300")), int(os.environ.get("SEED", "20261121"))
    print(f"random SELECTs: {count}, seed {seed}", flush=True)
    make = random_selects.Generator(random.Random(seed), tables)
    topics = collections.Counter()
    agreed = 0
    for number in range(count):
        question = make.question()
        topics.update(question.features)
        try:
            expected = engine.execute(question.duckdb).fetchall()
        except duckdb.Error as error:
            missed("duckdb", f"SELECT {number} of seed {seed}", f"DuckDB refuses it: {error}: {question.duckdb}")
            continue
        try:
            found = rows(cursor, question.snowflake)
        except Exception as error:  # noqa: BLE001
            missed("duckdb", f"SELECT {number} of seed {seed}", f"found {error}, expected {expected[:2]}: {question.snowflake}")
            continue
        differs = next(
            ((a, b) for a, b in zip(found, expected) if len(a) != len(b) or not all(map(same, a, b))), None)
        if len(found) != len(expected) or differs:
            differs = differs or (f"{len(found)} rows", f"{len(expected)} rows")
            missed("duckdb", f"SELECT {number} of seed {seed}",
                   f"found {differs[0]}, DuckDB {differs[1]}: Snowflake {question.snowflake} -- DuckDB {question.duckdb}")
            continue
        agreed += 1
    shares = ", ".join(f"{name} {times}" for name, times in topics.most_common())
    print(f"features of the SELECTs: {shares}", flush=True)
    if agreed == count:
        proved("duckdb", f"{agreed} random SELECTs, seed {seed}, are answered as DuckDB answers them")
    else:
        missed("duckdb", "random SELECTs are answered as DuckDB answers them", f"{agreed} of {count}")


def main():
    connection = account.by_token()
    cursor = connection.cursor()
    with tempfile.TemporaryDirectory() as folder:
        files = staged(cursor, pathlib.Path(folder))
        tables = tables_of(cursor, files)
        attempt("rows", "every table of TPC-H has staged files with its columns", lambda: (
            sorted(set(random_selects.PREFIXES) - set(tables)), []))
        for name, table in sorted(tables.items()):
            attempt("rows", f"{name}: the staged files hold its rows", lambda name=name, table=table: equal_rows(cursor, name, table))
        engine = duckdb.connect()
        engine.execute("SET default_null_order = 'nulls_last_on_asc_first_on_desc'")
        for name, table in tables.items():
            engine.register(f"arrow_{name}", table)
            engine.execute(f'CREATE TABLE "{name}" AS SELECT * FROM "arrow_{name}"')
        attempt("rows", "DuckDB counts the rows that the stand-in counts", lambda: (
            {name: int(one(cursor, f'SELECT COUNT(*) FROM "{name}"')) for name in tables},
            {name: engine.execute(f'SELECT COUNT(*) FROM "{name}"').fetchone()[0] for name in tables}))
        cross_check(cursor, engine, random_selects.usable(tables))
    connection.close()
    return finish()


if __name__ == "__main__":
    sys.exit(main())
