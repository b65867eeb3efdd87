#!/usr/bin/env bash
# Runs the units in a world of stand-ins, which WORLD and the other variables of `local-dev --judge` name. One line for each
# thing that was seen; the first that is not ends it.
set -euo pipefail
# shellcheck source=tests/setup/host/image.sh
. tests/setup/host/image.sh
# shellcheck source=tests/setup/host/install.sh
. tests/setup/host/install.sh
# shellcheck source=tests/setup/host/say.sh
. tests/setup/host/say.sh
export CONTAINERS_CONF=$PWD/target/images/containers.conf
work=target/host
box=keyferry-host-test
broker=keyferry-broker.service
loader=keyferry-loader@sales-nightly.service

inside() { podman exec "$box" "$@"; }
shell() { podman exec --interactive "$box" bash -euo pipefail -c "$1"; }
show() { inside systemctl show --value --property "$2" "$1"; }
log() { inside journalctl --no-pager --output cat --unit "$1" "${@:2}"; }
context() {
    inside journalctl --no-pager --lines 40 --output cat | cut -c 1-300
    inside systemctl --no-pager status "$broker" "$loader"
}
# Asks again until a unit's property is so.
become() { # unit, property, value, seconds
    for _ in $(seq $(($4 * 5))); do
        if [ "$(show "$1" "$2")" = "$3" ]; then return; fi
        sleep 0.2
    done
    missed "$1: $2 is $(show "$1" "$2"), and not $3 after $4 s"
}
rows() { python3 tests/setup/host/look.py rows NIGHTLY_ "$work/seed/pipeline.yaml"; }

clean() { podman rm --force --time 2 "$box" >/dev/null 2>&1 || true; }
clean
trap clean EXIT
mkdir -p "$work"
host_start "$box"
for _ in $(seq 100); do
    if inside systemctl list-jobs >/dev/null 2>&1; then break; fi
    sleep 0.2
done
expect "systemd $(inside systemctl --version | sed -nE '1s/.*\((.*)\)/\1/p') is process 1, and is" "$(inside systemctl is-system-running --wait || true)" running

seed "$work/seed"
podman cp "$work/seed" "$box:/root/keyferry"
inside mkdir -p /etc/keyferry
podman cp "$WORLD/ca.pem" "$box:/etc/keyferry/ca.pem"
podman exec --interactive --workdir /root/keyferry "$box" bash -eu install.sh <"$WORLD/broker/secret-id" >"$work/install.log" 2>&1 ||
    { cat "$work/install.log" >&2; missed "the lines of deploy/README.md install and start it"; }
proved "the $(wc -l <"$work/seed/install.sh") lines of deploy/README.md install the pair, the units as they are in deploy/systemd"
for unit in deploy/systemd/*.service deploy/systemd/*.timer; do inside cat "/etc/systemd/system/${unit##*/}" | cmp -s - "$unit" || missed "$unit was changed"; done

# The broker.
expect "the broker, Type=$(show $broker Type), warm before systemd calls it" "$(show $broker ActiveState)" active
pid=$(show $broker MainPID)
log $broker | grep 'sandbox: every step is active' >/dev/null || missed "the broker's own sandbox is whole"
proved "its log begins: sandbox: every step is active"
inside broker selfcheck --pid "$pid" >"$work/selfcheck.txt" || { cat "$work/selfcheck.txt"; missed "selfcheck"; }
grep -q '^every control holds' "$work/selfcheck.txt" || missed "selfcheck"
proved "broker selfcheck --pid $pid: every control holds ($(grep -c '^ok' "$work/selfcheck.txt") ok, $(grep -c '^note' "$work/selfcheck.txt") note)"
status() { inside sed -nE "s/^$1:\s*//p" "/proc/$pid/status"; }
for field in CapInh CapPrm CapEff CapBnd CapAmb; do [ "$(status $field)" = 0000000000000000 ] || missed "$field"; done
expect "the kernel of it, all five capability sets 0, NoNewPrivs and Seccomp" "$(status NoNewPrivs) $(status Seccomp)" "1 2"
# shellcheck source=tests/setup/host/mounts.sh
. tests/setup/host/mounts.sh
mounts "$pid"
expect "who may enter the socket's folder" "$(inside stat --format '%U:%G %a' /run/keyferry)" "keyferry-broker:keyferry 750"
expect "the sealed secret_id's folder" "$(inside stat --format '%U:%G %a' /etc/credstore.encrypted)" "root:root 700"

# The loader, by its timer.
inside systemctl list-timers --no-pager | grep "keyferry-loader@sales-nightly.timer" >/dev/null || missed "the timer is listed"
proved "the timer is listed: $(inside systemctl list-timers --no-pager | grep sales-nightly | sed -E 's/ +/ /g' | cut -c 1-60)"
timer=/run/systemd/system/keyferry-loader@sales-nightly.timer.d
shell "mkdir -p $timer && printf '[Timer]\nOnCalendar=\nOnActiveSec=1s\nAccuracySec=100ms\nRandomizedDelaySec=0\n' >$timer/soon.conf
    systemctl daemon-reload && systemctl restart keyferry-loader@sales-nightly.timer"
become $loader ActiveState activating 20
proved "the timer, told to be soon, starts the loader"
become $loader ActiveState inactive 180
expect "the loader's end, $(show $loader NRestarts) restarts" "$(show $loader Result) $(show $loader ExecMainStatus)" "success 0"
proved "its report: $(log $loader | grep -E '^[0-9,]+ rows,')"
proved "at Snowflake: $(rows)" || missed "the rows"
expect "its metrics for node_exporter" "$(inside sed -nE 's/^keyferry_loader_run_exit_code.* //p' /var/lib/keyferry-loader/sales-nightly.prom)" 0
expect "files left in its spool" "$(inside find /var/cache/keyferry-loader -type f | wc -l)" 0
shell "rm -r $timer && systemctl daemon-reload && systemctl restart keyferry-loader@sales-nightly.timer"

# Attacks: the probe in the programs' place, everything else of the units as it is. The loader's while the broker serves.
podman cp tests/setup/host/probe.pl "$box:/usr/bin/keyferry-probe"
shell 'chmod 0755 /usr/bin/keyferry-probe && touch /tmp/keyferry-host-marker && chmod 1777 /run/lock'
attack() { # side, unit
    local unit=$2 place=/run/systemd/system/$2.d attempts
    shell "mkdir -p '$place' && printf '[Service]\nType=oneshot\nRestart=no\nExecStart=\nExecStart=/usr/bin/keyferry-probe $1\nExecStartPost=\n' >'$place/probe.conf'
        systemctl daemon-reload && systemctl stop --quiet '$unit' 2>/dev/null"
    inside systemctl start "$unit" 2>/dev/null || true
    log "$unit" _COMM=keyferry-probe >"$work/attacks-$1.txt"
    shell "rm -r '$place' && systemctl daemon-reload && systemctl reset-failed '$unit' || true"
    attempts=$(wc -l <"$work/attacks-$1.txt")
    if [ "$attempts" -lt 24 ] || grep -q MISSED "$work/attacks-$1.txt"; then
        cat "$work/attacks-$1.txt"
        missed "an attack from inside the $1's unit"
    fi
    # The same as the same user without the unit's walls: what the attempts are worth.
    inside setpriv --reuid "keyferry-$1" --regid "keyferry-$1" --clear-groups /usr/bin/keyferry-probe "$1" >"$work/bare-$1.txt" || true
    [ "$(grep -c MISSED "$work/bare-$1.txt")" -ge 10 ] || missed "the same attempts outside of the unit are refused as well"
    proved "$attempts attempts from inside the $1's unit are refused; without its walls $(grep -c MISSED "$work/bare-$1.txt") are not, or not by them"
}
attack loader $loader
attack broker $broker

# shellcheck source=tests/setup/host/life.sh
. tests/setup/host/life.sh
echo
echo "host-test: $count things were seen of the units, all as they should be"
