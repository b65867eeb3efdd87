#!/usr/bin/env bash
# development.yaml: its image built as the file says, the demo in one container without a network, the proof, the stop.
set -euo pipefail
cd "$(dirname "$0")/../../.."
# shellcheck source=tests/judges/lib.sh
. tests/judges/lib.sh
# shellcheck source=tests/setup/images/engine.sh
. tests/setup/images/engine.sh
# shellcheck source=tests/setup/host/say.sh
. tests/setup/host/say.sh
engine_ready
venv compose tests/setup/compose/requirements.txt
work=target/compose
box=keyferry-development_local-dev_1
roots=/etc/ssl/certs/ca-certificates.crt
compose() { target/judges/venvs/compose/bin/podman-compose "$@"; }
logs() { podman logs "$box" 2>&1; }
context() { logs | tail -n 30; tail -n 20 "$work"/development-*.log; }
clean() { compose -f deploy/compose/development.yaml down --volumes >/dev/null 2>&1 || true; }
clean
trap clean EXIT
mkdir -p "$work"

if [ -z "${KEEP_IMAGE:-}" ] || ! podman image exists docker.io/keyferry/local-dev:0.1.0; then
    base_ready
    echo "compose-test: building development.yaml's image: all of it, once (10 to 20 minutes; KEEP_IMAGE=1 takes the one that is there)"
    # Downloads trust what this machine trusts, as in `make images`.
    compose --podman-build-args "--pull=never --network host --volume $roots:$roots:ro --tag docker.io/keyferry/local-dev:0.1.0" \
        -f deploy/compose/development.yaml build >"$work/development-build.log" 2>&1 || missed "development.yaml's image"
    proved "development.yaml's image is built as the file says"
fi
compose -f deploy/compose/development.yaml up -d >"$work/development-up.log" 2>&1 || missed "it starts"
for _ in $(seq 240); do
    if logs | grep -E '^[0-9]+ proved, ' >/dev/null || [ "$(podman inspect --format '{{.State.Running}}' "$box")" != true ]; then break; fi
    sleep 1
done
logs | grep -E '^[0-9]+ proved, 0 failed' >/dev/null || missed "the demo in one container"
proved "the demo in one container: $(logs | grep -E '^[0-9]+ proved, ')"
proved "of it: $(logs | grep -E '^[0-9,]+ rows, ')"
logs | grep -E 'no long-lived secret in the loader|different unprivileged' | grep -v ' proved *$' && missed "a claim that is not proved"
expect "its network is without a way out" "$(podman network inspect --format '{{.Internal}}' keyferry-development_alone)" true
compose -f deploy/compose/development.yaml stop >"$work/development-stop.log" 2>&1 || missed "it stops"
expect "its end" "$(podman inspect --format '{{.State.ExitCode}}' "$box")" 0
echo
echo "compose-test: $count things were seen of development.yaml, all as they should be"
