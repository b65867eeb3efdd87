#!/usr/bin/env bash
# Runs every judge and ends with a table: client, stand-in, what it proved. Exits non-zero on a miss or a skip.
set -uo pipefail
cd "$(dirname "$0")/../.."
mkdir -p target/judges
declare -a table=()
bad=0

judge() { # name, stand-in, command...
    local name=$1 judged=$2 log="target/judges/$1.log"
    shift 2
    echo "judge: $name"
    if "$@" >"$log" 2>&1; then
        local proofs
        proofs=$(grep -cE '^(proved|test .* \.\.\. ok)' "$log")
        if [ "$proofs" -gt 0 ]; then
            table+=("$name|$judged|$proofs|agreed")
        else
            table+=("$name|$judged|0|PROVED NOTHING")
            bad=$((bad + 1))
        fi
    else
        table+=("$name|$judged|-|FAILED (see $log)")
        tail -n 25 "$log"
        bad=$((bad + 1))
    fi
}

features="keyferry-loader/failpoints"
cargo build --locked --workspace --bins --features "$features" || exit 1
judge tiberius "SQL Server, our reader" cargo test --locked --workspace --features "$features" --test e2e -- tiberius

venv=tests/judges/.venv
if [ ! -x "$venv/bin/python" ]; then
    python3 -m venv "$venv" && "$venv/bin/pip" install --quiet --disable-pip-version-check -r tests/judges/requirements.txt
fi
if "$venv/bin/python" -c 'import snowflake.connector' 2>/dev/null; then
    judge snowflake-connector-python "Snowflake, broker's token" \
        target/debug/local-dev --judge "$PWD/$venv/bin/python" "$PWD/tests/judges/snowflake_connector.py"
else
    table+=("snowflake-connector-python|Snowflake|-|SKIPPED: could not be installed")
    bad=$((bad + 1))
fi

echo
printf '%-28s %-28s %7s  %s\n' client judged proofs outcome
for row in "${table[@]}"; do
    IFS='|' read -r name judged proofs outcome <<<"$row"
    printf '%-28s %-28s %7s  %s\n' "$name" "$judged" "$proofs" "$outcome"
done
exit "$bad"
