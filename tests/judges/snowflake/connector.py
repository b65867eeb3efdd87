#!/usr/bin/env python3
"""Snowflake's own Python connector, 4.x or 5.x, judges the Snowflake stand-in.

Everything comes from the environment that `local-dev --judge` sets. What it makes has a name of its own and is dropped at the end.
"""

import pathlib
import sys
import tempfile
import uuid

import account
import connector_copy
import connector_fetch
import connector_files
import connector_login
import connector_statements
import connector_transactions
import connector_types
import proof
import snowflake.connector


class Bench:
    """One session, and names that nobody else uses."""

    def __init__(self, connection, folder):
        tag = uuid.uuid4().hex[:12].upper()
        self.connection, self.cursor = connection, connection.cursor()
        self.table, self.stage, self.folder = f"JUDGE_T_{tag}", f"JUDGE_S_{tag}", folder
        self.made = []

    def fresh_table(self, columns):
        """A new table with these columns; dropped at the end."""
        name = f"{self.table}_{len(self.made)}"
        self.cursor.execute(f"CREATE TABLE {name} ({columns})")
        self.made.append(f"TABLE {name}")
        return name

    def fresh_stage(self, options=""):
        name = f"{self.stage}_{len(self.made)}"
        self.cursor.execute(f"CREATE STAGE {name} {options}")
        self.made.append(f"STAGE {name}")
        return name

    def clean(self):
        for what in self.made:
            self.cursor.execute(f"DROP {what}")


def main():
    print(f"snowflake-connector-python {snowflake.connector.__version__}", flush=True)
    try:
        connection = account.by_token()
    except Exception as error:  # noqa: BLE001
        proof.missed("login", "OAUTH token", f"{type(error).__name__}: {error}")
        return proof.finish()
    proof.proved("login", "an OAuth token that the broker gave")
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(connection, pathlib.Path(folder))
        for judge in (
            connector_login, connector_types, connector_statements, connector_transactions, connector_fetch,
            connector_files, connector_copy,
        ):
            judge.judge(bench)
        proof.attempt("statements", "everything that was made is dropped", lambda: bench.clean() is None)
    connection.close()
    return proof.finish()


if __name__ == "__main__":
    sys.exit(main())
