"""arrow-odbc over Microsoft's ODBC Driver 18, and pyarrow for Parquet."""

import importlib.metadata

import arrow_odbc
import common
import pyarrow  # noqa: F401  (loaded before the measurement begins)
import pyarrow.parquet  # noqa: F401

wanted = common.arguments()
connection = arrow_odbc.connect(f"Driver={common.driver()};{common.server(wanted)}")
sink = common.Sink(wanted)
meter = common.Meter()
reader = connection.read_arrow_batches(
    query=wanted.sql,
    batch_size=common.LOB_ROWS if common.has_lob(wanted) else common.BATCH_ROWS,
    max_text_size=wanted.longest if common.has_lob(wanted) else None,
    max_binary_size=wanted.longest if common.has_lob(wanted) else None,
)
rows = sink.take(reader)
size, nulls = sink.close()
version = importlib.metadata.version
meter.stop(
    rows,
    f"arrow-odbc {version('arrow-odbc')}, msodbcsql {version('mssql-python-odbc')}, pyarrow {version('pyarrow')}",
    size,
    nulls,
)
