"""The reference way: pyodbc, pandas in chunks of 50,000 rows, write_pandas."""

import importlib.metadata
import os
import urllib.parse
import warnings

import common
import pandas
import pyodbc
import snowflake.connector
from snowflake.connector.pandas_tools import write_pandas

CHUNK_ROWS = 50_000
# pandas asks for SQLAlchemy; this way is the one that is written by hand.
warnings.filterwarnings("ignore", category=UserWarning)

wanted = common.arguments()
pyodbc.pooling = False
source = pyodbc.connect(f"Driver={common.driver()};{common.server(wanted)}")
url = urllib.parse.urlparse(os.environ["SNOWFLAKE_URL"])
target = snowflake.connector.connect(
    protocol=url.scheme,
    host=url.hostname,
    port=url.port,
    account=os.environ["SNOWFLAKE_ACCOUNT"],
    user=os.environ["SNOWFLAKE_USER"],
    authenticator="oauth",
    token=os.environ["SNOWFLAKE_TOKEN"],
    role=os.environ["SNOWFLAKE_ROLE"],
    warehouse=os.environ["SNOWFLAKE_WAREHOUSE"],
    database=os.environ["SNOWFLAKE_DATABASE"],
    schema=os.environ["SNOWFLAKE_SCHEMA"],
    disable_ocsp_checks=True,
    platform_detection_timeout_seconds=0,
)
table = os.environ["BENCH_TARGET"]
meter = common.Meter()
rows = 0
for frame in pandas.read_sql(wanted.sql, source, chunksize=CHUNK_ROWS):
    frame.columns = [name.upper() for name in frame.columns]
    # write_pandas's COPY takes binary for text (BINARY_AS_TEXT); hexadecimal digits are what a BINARY column reads.
    for name in frame.columns:
        if frame[name].map(lambda value: isinstance(value, bytes)).any():
            frame[name] = frame[name].map(lambda value: value.hex() if isinstance(value, bytes) else None)
    done, _, written, _ = write_pandas(target, frame, table, use_logical_type=True)
    assert done and written == len(frame), (done, written, len(frame))
    rows += written
version = importlib.metadata.version
meter.stop(
    rows,
    f"pyodbc {version('pyodbc')}, msodbcsql {version('mssql-python-odbc')}, pandas {version('pandas')}, "
    f"snowflake-connector-python {version('snowflake-connector-python')}",
)
