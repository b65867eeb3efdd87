"""What the Python clients share: arguments, the measurement, the Parquet file."""

import argparse
import json
import re
import resource
import time

LOGIN = "UID=judge;PWD=Judge-the-server-1"
BATCH_ROWS = 65_536
# (max) columns: a client that fetches in bulk reserves room for the longest value of each row.
LOB_ROWS = 128


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sql", required=True)
    parser.add_argument("--ddl", required=True)
    parser.add_argument("--port", required=True)
    parser.add_argument("--database", required=True)
    parser.add_argument("--out")
    parser.add_argument("--longest", type=int, required=True)
    return parser.parse_args()


def server(wanted):
    return f"SERVER=127.0.0.1,{wanted.port};DATABASE={wanted.database};{LOGIN};Encrypt=no;TrustServerCertificate=yes"


def driver():
    """Microsoft's ODBC Driver 18, out of the wheel that mssql-python brings."""
    import glob
    import os
    import platform

    import mssql_python_odbc

    root = os.path.dirname(mssql_python_odbc.__file__)
    found = sorted(glob.glob(f"{root}/**/debian_ubuntu/{platform.machine()}/**/libmsodbcsql-18*", recursive=True))
    return found[0] if found else sorted(glob.glob(f"{root}/**/libmsodbcsql-18*", recursive=True))[0]


def has_lob(wanted):
    return "(max)" in wanted.ddl


class Meter:
    def __init__(self):
        self.started, self.cpu = time.perf_counter(), self.used()

    @staticmethod
    def used():
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return usage.ru_utime + usage.ru_stime

    def stop(self, rows, versions, file_bytes=0, nulls=None):
        seconds, cpu = time.perf_counter() - self.started, self.used() - self.cpu
        with open("/proc/self/status", encoding="ascii") as status:
            peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
        measured = {
            "rows": rows,
            "seconds": seconds,
            "cpu_seconds": cpu,
            "peak_kib": peak,
            "file_bytes": file_bytes,
            "nulls": nulls or [],
            "versions": versions,
        }
        print(json.dumps(measured))


class Sink:
    """One row group for each batch, zstd level 1, a dictionary for short text alone: as Keyferry writes."""

    def __init__(self, wanted):
        self.out, self.writer = wanted.out, None
        self.lobs = re.findall(r"\[(\w+)\] \w+\(max\)", wanted.ddl)

    def write(self, batch):
        import pyarrow
        import pyarrow.parquet

        if not self.out:
            return
        if self.writer is None:
            plain = [field for field in batch.schema if field.name not in self.lobs]
            text = (pyarrow.string(), pyarrow.large_string())
            self.writer = pyarrow.parquet.ParquetWriter(
                self.out,
                batch.schema,
                compression="zstd",
                compression_level=1,
                use_dictionary=[field.name for field in plain if field.type in text],
                write_statistics=False,
                dictionary_pagesize_limit=256 * 1024,
                store_schema=False,
            )
            self.nulls = [0] * batch.num_columns
        self.nulls = [count + column.null_count for count, column in zip(self.nulls, batch.columns)]
        self.writer.write_batch(batch)

    def take(self, batches):
        """All batches of a reader; how many rows they had."""
        rows = 0
        for batch in batches:
            rows += batch.num_rows
            self.write(batch)
        return rows

    def close(self):
        import os

        if self.writer is None:
            return 0, []
        self.writer.close()
        return os.path.getsize(self.out), self.nulls
