"""mssql-python's Arrow fetch, and pyarrow for Parquet."""

import importlib.metadata

import common
import mssql_python
import pyarrow  # noqa: F401
import pyarrow.parquet  # noqa: F401

wanted = common.arguments()
connection = mssql_python.connect(common.server(wanted))
cursor = connection.cursor()
sink = common.Sink(wanted)
meter = common.Meter()
cursor.execute(wanted.sql)
rows = sink.take(cursor.arrow_reader(common.BATCH_ROWS if not common.has_lob(wanted) else common.LOB_ROWS))
size, nulls = sink.close()
version = importlib.metadata.version
meter.stop(
    rows,
    f"mssql-python {version('mssql-python')}, msodbcsql {version('mssql-python-odbc')}, pyarrow {version('pyarrow')}",
    size,
    nulls,
)
