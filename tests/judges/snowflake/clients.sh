#!/usr/bin/env bash
# Runs the clients that are named, one after the other, in the world around it. Each has a log of its own.
set -uo pipefail
cd "$(dirname "$0")/../../.."
# shellcheck source=tests/judges/lib.sh
. tests/judges/lib.sh
here=tests/judges/snowflake
for client in "$@"; do
    case $client in
    snowflake-connector-python-4) judge "$client" Snowflake "$judges/venvs/connector4/bin/python" "$here/connector.py" ;;
    snowflake-connector-python-5) judge "$client" Snowflake "$judges/venvs/connector5/bin/python" "$here/connector.py" ;;
    adbc-driver-snowflake) judge "$client" Snowflake "$judges/venvs/adbc-snowflake/bin/python" "$here/adbc.py" ;;
    snowflake-sdk)
        NODE_EXTRA_CA_CERTS=$SNOWFLAKE_CA judge "$client" Snowflake node "$here/node/judge.mjs" "$PWD/$judges/npm/snowflake-sdk"
        ;;
    snowflake-jdbc) judge "$client" Snowflake "$here/jdbc/run.sh" "$PWD/$judges/jars/snowflake-jdbc" ;;
    snowflake-api) judge "$client" Snowflake "$judges/snowflake-api/debug/snowflake-api-judge" ;;
    loaded-files-and-duckdb)
        judge "$client" "Snowflake, the loader" "$judges/venvs/connector4/bin/python" "$here/loaded.py"
        ;;
    *) echo "judges: no client '$client'" >&2 && exit 64 ;;
    esac
done
