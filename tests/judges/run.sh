#!/usr/bin/env bash
# Runs every judge, or those of the groups that are named, and ends with a table: client, topic, what it proved.
# Exits non-zero on a miss, a failure or a skip. Groups: sqlserver snowflake identity workloads
set -uo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=tests/judges/lib.sh
. tests/judges/lib.sh

groups=("$@")
[ ${#groups[@]} -gt 0 ] || groups=(sqlserver snowflake identity workloads)
for group in "${groups[@]}"; do
    if [ ! -f "tests/judges/$group/group.sh" ]; then
        echo "judges: no group '$group'; there are: sqlserver snowflake identity workloads" >&2
        exit 64
    fi
done
rm -rf "$judges/logs"
mkdir -p "$judges/logs"

features="keyferry-loader/failpoints"
cargo build --locked --workspace --bins --features "$features" || exit 1
for group in "${groups[@]}"; do
    # shellcheck disable=SC1090
    . "tests/judges/$group/group.sh"
done
echo
python3 tests/judges/table.py "$judges/logs"
