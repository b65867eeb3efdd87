#!/usr/bin/env bash
# production.yaml in a world of stand-ins, which WORLD and the other variables of `local-dev --judge` name.
set -euo pipefail
# shellcheck source=tests/setup/host/install.sh
. tests/setup/host/install.sh
# shellcheck source=tests/setup/host/say.sh
. tests/setup/host/say.sh
work=target/compose
broker=keyferry_broker_1
compose() { target/judges/venvs/compose/bin/podman-compose -f deploy/compose/production.yaml -f tests/setup/compose/stand-ins.yaml "$@"; }
# Without a systemd as process 1 podman cannot set a timer for the health check, and says so at every turn.
quiet() { "$@" 2>&1 | { grep -v 'systemd connection' || true; }; }
context() { podman logs "$broker" 2>&1 | tail -n 20 | cut -c 1-300; tail -n 20 "$work"/*.log; }
clean() {
    compose --profile run down --volumes >/dev/null 2>&1 || true
    rm -rf /etc/keyferry
}
trap clean EXIT

# As the file's head says.
rm -rf "$work"
mkdir -p "$work"
configurations "$work" deploy/compose COMPOSED_
signing_key "$work"
install -d -m 0755 /etc/keyferry
install -d -m 0750 -g 10000 /etc/keyferry/broker /etc/keyferry/loader
install -d -m 0700 -o 10001 -g 10001 /etc/keyferry/credentials
install -m 0440 -g 10000 "$work/broker.yaml" "$WORLD/broker/role-id" "$WORLD/krb5.conf" "$WORLD/ca.pem" /etc/keyferry/broker/
install -m 0440 -g 10000 "$work/pipeline.yaml" "$WORLD/ca.pem" /etc/keyferry/loader/
install -m 0400 -o 10001 -g 10001 "$WORLD/broker/secret-id" /etc/keyferry/credentials/

quiet compose up -d broker >"$work/up.log"
for _ in $(seq 60); do
    if podman exec "$broker" /usr/local/bin/broker health --config /etc/keyferry/broker.yaml >/dev/null 2>&1; then break; fi
    sleep 0.5
done
[ "$(podman inspect --format '{{.State.Running}}' "$broker")" = true ] || missed "the broker starts"
quiet podman healthcheck run "$broker" >"$work/health.log" || missed "its health check"
proved "production.yaml's broker is up, and its health check says yes"
podman logs "$broker" 2>&1 | grep 'sandbox: every step is active' >/dev/null || missed "its own sandbox is whole"
podman exec "$broker" /usr/local/bin/broker selfcheck --pid 1 >"$work/selfcheck.txt" || missed "selfcheck"
proved "its own sandbox is whole; selfcheck: $(tail -n 1 "$work/selfcheck.txt") ($(grep -c '^ok' "$work/selfcheck.txt") ok)"
expect "read-only root, memory limit" "$(podman inspect --format '{{.HostConfig.ReadonlyRootfs}} {{.HostConfig.Memory}}' "$broker")" "true $((64 << 20))"
volume() { stat --format '%u:%g %a' "$(podman volume inspect --format '{{.Mountpoint}}' "keyferry_$1")"; }
expect "the socket's folder" "$(volume socket)" "10001:10000 750"
expect "the keytab's folder" "$(volume private)" "10001:10001 700"
for name in socket private; do
    findmnt --noheadings --output FSTYPE,OPTIONS "$(podman volume inspect --format '{{.Mountpoint}}' "keyferry_$name")" |
        grep -qE '^tmpfs .*nosuid,nodev,noexec.*size=1024k' || missed "keyferry_$name is a tmpfs of 1 MiB"
done
proved "both are tmpfs of 1 MiB, nosuid, nodev, noexec"

timeout 300 target/judges/venvs/compose/bin/podman-compose -f deploy/compose/production.yaml -f tests/setup/compose/stand-ins.yaml \
    --profile run run --rm -T loader >"$work/loader.log" 2>&1 || missed "the loader's end is 0"
proved "the loader ran to its end with 0: $(grep -E '^[0-9,]+ rows,' "$work/loader.log")"
proved "at Snowflake: $(python3 tests/setup/host/look.py rows COMPOSED_ "$work/pipeline.yaml")" || missed "the rows"
expect "files left in its spool" "$(find "$(podman volume inspect --format '{{.Mountpoint}}' keyferry_spool)" -type f | wc -l)" 0
quiet compose stop broker >"$work/stop.log"
expect "the broker's end" "$(podman inspect --format '{{.State.ExitCode}}' "$broker")" 0
podman logs "$broker" 2>&1 | grep "the Vault token is revoked" >/dev/null || missed "it drained"
proved "it revoked its Vault token"
echo
echo "compose-test: $count things were seen of production.yaml, all as they should be"
