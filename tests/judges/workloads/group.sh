# The examples of other workloads, each as a user of its own: a token from the broker by brokerctl, a query by the driver
# that its language has. Sourced by run.sh.
# shellcheck shell=bash
# Debian's own Python: one that lies in somebody's home could not be run by other users.
packages python3 python3-venv
if PATH=/usr/bin:$PATH venv workloads deploy/examples/dbt/requirements.txt && npm_install report deploy/examples/node && maven_jars report deploy/examples/jdbc; then
    # One world for all four; it writes a log for each.
    "$worlds" --loaded --judge bash tests/judges/workloads/all.sh || echo "judge: the world of the workloads ended with $?"
    for client in brokerctl-python brokerctl-node brokerctl-jdbc brokerctl-dbt; do
        [ -f "$judges/logs/$client.log" ] || skipped "$client" "its world did not start"
    done
else
    skipped workloads "the packages could not be installed"
fi
