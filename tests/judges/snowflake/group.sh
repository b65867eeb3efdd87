# Snowflake's clients against the Snowflake stand-in. Sourced by run.sh.
# shellcheck shell=bash
if venv connector4 tests/judges/snowflake/requirements-connector4.txt; then
    judge snowflake-connector-python-4 "Snowflake" \
        "$worlds" --judge "$PWD/$judges/venvs/connector4/bin/python" "$PWD/tests/judges/snowflake/connector.py"
else
    skipped snowflake-connector-python-4 "could not be installed"
fi
