# Sourced by inside.sh: restarts, failures, the stop, and the journal.
# shellcheck shell=bash disable=SC2154

seconds() { date +%s; }

shell "systemctl start $broker"
before=$(show $broker MainPID)
inside systemctl restart $broker || missed "a restart of the broker"
[ "$(show $broker MainPID)" != "$before" ] || missed "a restart makes a new process"
expect "the broker after a restart" "$(show $broker ActiveState) $(show $broker Result)" "active success"
inside systemctl kill --kill-whom=main --signal=KILL $broker
become $broker NRestarts 1 20
become $broker ActiveState active 30
proved "the broker, killed (-9), is started again by systemd and serves"
inside systemctl start $loader || missed "a second run"
expect "a second run of the loader" "$(show $loader Result) $(show $loader ExecMainStatus)" "success 0"
proved "at Snowflake again: $(rows)" || missed "the rows"

# A start that cannot succeed says so at once, and is not tried again.
fails() { # what, exit code
    local start
    start=$(seconds)
    if inside systemctl restart $broker 2>/dev/null; then missed "$1: the broker starts"; fi
    [ $(($(seconds) - start)) -lt 30 ] || missed "$1: the start took $(($(seconds) - start)) s"
    sleep 7 # RestartSec and more
    expect "$1: status, restarts, within $(($(seconds) - start - 7)) s" "$(show $broker ExecMainStatus) $(show $broker NRestarts) $(show $broker ActiveState)" "$2 0 failed"
    if inside systemctl start $loader 2>/dev/null; then missed "$1: the loader starts without its broker"; fi
    inside systemctl reset-failed $broker $loader 2>/dev/null || true
}
shell "cp -p /etc/keyferry/broker.yaml /root/right.yaml && sed -i 's/^audit:/adit:/' /etc/keyferry/broker.yaml"
fails "a wrong configuration" 78
shell "cp -p /root/right.yaml /etc/keyferry/broker.yaml && cp -p /etc/credstore.encrypted/secret-id /root/right-id
    printf no-secret-id | systemd-creds encrypt --name=secret-id - /etc/credstore.encrypted/secret-id 2>/dev/null"
fails "a secret_id that Vault refuses" 77
shell "cp -p /root/right-id /etc/credstore.encrypted/secret-id && systemctl start $broker"

# The stop.
inside systemctl stop $broker || missed "the broker stops"
expect "the broker's end" "$(show $broker Result) $(show $broker ExecMainStatus) $(show $broker ActiveState)" "success 0 inactive"
log $broker --lines 20 | grep "the Vault token is revoked" >/dev/null || missed "it drained"
shell 'test ! -e /run/keyferry-private && test ! -e /run/keyferry/broker.sock && test ! -e /run/credentials/keyferry-broker.service' ||
    missed "something of it is left in /run"
proved "it revoked its Vault token; keytab, ticket, credential and socket are gone from /run"
inside broker audit verify /var/log/keyferry/audit.log --key /root/keyferry/audit.pub >"$work/audit.txt" 2>&1 || { cat "$work/audit.txt"; missed "the audit log"; }
proved "the audit log of all its lives, chain and signatures: $(head -n 1 "$work/audit.txt" | tr -s ' ')"

# Nothing of a secret where everybody who administers the host looks; a decoy shows that the search finds it.
DECOY=decoy-$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
export DECOY
inside systemd-cat --identifier decoy echo "$DECOY"
inside journalctl --sync
inside journalctl --no-pager --output export >"$work/journal"
inside systemctl show $broker $loader >"$work/units"
shell 'tar -C / -c var/log/keyferry var/lib/keyferry-loader var/cache/keyferry-loader etc/credstore.encrypted etc/systemd/system' >"$work/files.tar"
proved "journal, units and files: $(python3 tests/setup/host/look.py secrets "$work/journal" "$work/units" "$work/files.tar")" || missed "secrets"
inside systemctl disable --quiet --now $broker keyferry-loader@sales-nightly.timer || missed "disable"
expect "units that failed" "$(inside systemctl list-units --failed --plain --no-legend | wc -l)" 0
