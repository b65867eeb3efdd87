# SQL Server's clients against the SQL Server stand-in. Sourced by run.sh.
# shellcheck shell=bash
folder=$PWD/tests/judges/sqlserver
cases="cargo test --locked --workspace --features $features --test"
if CARGO_TARGET_DIR=$judges/mssql-tds cargo build --quiet --locked --manifest-path "$folder/mssql-tds/Cargo.toml"; then
    judge mssql-tds "SQL Server" "$worlds" --judge "$judges/mssql-tds/debug/judge-mssql-tds"
else
    skipped mssql-tds "could not be built"
fi
judge tiberius "SQL Server, our reader" bash -c "$cases e2e -- tiberius && $cases wire -- kerberos"

# Microsoft's ODBC driver comes in a wheel; pyodbc needs unixODBC's manager beside it.
if packages unixodbc freetds-bin && venv odbc "$folder/requirements-odbc.txt"; then
    python=$PWD/$judges/venvs/odbc/bin/python
    judge mssql-python "SQL Server" "$worlds" --judge "$python" "$folder/odbc_mssql_python.py"
    judge pyodbc "SQL Server" "$worlds" --judge "$python" "$folder/odbc_pyodbc.py"
    judge tsql "SQL Server" "$worlds" --judge python3 "$folder/tsql_judge.py"
else
    for client in mssql-python pyodbc tsql; do skipped "$client" "could not be installed"; done
fi

if venv sqlserver-clients "$folder/requirements-clients.txt"; then
    python=$PWD/$judges/venvs/sqlserver-clients/bin/python
    judge pymssql "SQL Server" "$worlds" --judge "$python" "$folder/pymssql_judge.py"
    judge python-tds "SQL Server" "$worlds" --judge "$python" "$folder/pytds_judge.py"
else
    skipped pymssql "could not be installed"
    skipped python-tds "could not be installed"
fi
if npm_install tedious "$folder/tedious"; then
    JUDGE_MODULES=$PWD/$judges/npm/tedious judge tedious "SQL Server" \
        "$worlds" --judge "$(command -v node)" "$folder/tedious/judge.js"
else
    skipped tedious "could not be installed"
fi
if maven_jars mssql-jdbc "$folder/jdbc"; then
    JUDGE_JARS=$PWD/$judges/jars/mssql-jdbc judge mssql-jdbc "SQL Server" "$worlds" --judge "$folder/jdbc/run.sh"
else
    skipped mssql-jdbc "could not be fetched"
fi
