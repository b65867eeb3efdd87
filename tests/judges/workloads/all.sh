#!/usr/bin/env bash
# Runs inside a world with loaded tables: the four workloads, one log for each.
set -uo pipefail
# shellcheck source=tests/judges/lib.sh
. tests/judges/lib.sh
bad=0
for client in python node jdbc dbt; do
    judge "brokerctl-$client" "broker, Snowflake" python3 tests/judges/workloads/judge.py "$client"
    [ "$(tail -n 1 "$judges/logs/brokerctl-$client.log")" = "exit  0" ] || bad=1
done
exit "$bad"
