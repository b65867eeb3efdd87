#!/usr/bin/env bash
# deploy/kubernetes/base/pod.yaml as a kubelet would run it (kubelet.py), in the world that inside.sh has prepared in $work: once
# as it is, twice with an audit log on a claim that outlives the pod, and once with an attacker in the loader's container.
set -euo pipefail
here=tests/setup/pod
base=${work:?}/base
root=/run/keyferry-kubelet
claim=/var/lib/keyferry-claim
python=target/judges/venvs/pod/bin/python
step() { printf '\n=== %s\n' "$1"; }
fail() { echo "pod-test: $1" >&2; exit 1; }

clean() { rm -rf "$claim" "$root"; }
clean
trap clean EXIT
mkdir -p "$base"/{broker,pipeline,approle,logs}

# The configuration that inside.sh made, with what base/ has and the podman pod has not: accounts, and a folder in a volume.
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
accounts=$(sed -n '/^service_accounts:/,/^policy:/p' deploy/kubernetes/base/broker.yaml | grep -v '^policy:')
sed -e 's#tmpfs: /run/keyferry-private#&/own#; s#role_id_file: role-id#role_id_file: /etc/keyferry/role-id#' \
    -e 's#caller: { uid: 10002 }#caller: { uid: 10002, service_account: keyferry/keyferry-loader }#' \
    -e "s#listen: \"127.0.0.1:0\"#listen: \"127.0.0.1:$port\"#" "$work/broker.yaml" >"$base/broker/broker.yaml"
printf '%s\n' "$accounts" >>"$base/broker/broker.yaml"
sed -e 's#server_uid: 10001 }#server_uid: 10001, service_account_token: /run/secrets/keyferry/token }#' "$work/pipeline.yaml" >"$base/pipeline/pipeline.yaml"
grep -q service_account_token "$base/pipeline/pipeline.yaml" || fail "the pipeline names no token"
cp "$WORLD/broker/role-id" "$WORLD/ca.pem" "$WORLD/krb5.conf" "$base/broker/"
cp "$WORLD/ca.pem" "$base/pipeline/"
cp "$WORLD/broker/secret-id" "$base/approle/"
openssl genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out "$base/cluster.key"

kubelet() {
    "$python" "$here/kubelet.py" deploy/kubernetes/base/pod.yaml --root "$root" --key "$base/cluster.key" --logs "$base/logs" \
        --files "keyferry-broker=$base/broker" --files "keyferry-pipeline=$base/pipeline" --files "keyferry-approle=$base/approle" "$@"
}
logs() { tail -n 20 "$base/logs"/*.log >&2; }
moved() {
    grep -q "the Vault token is revoked" "$base/logs/broker.log" || { logs; fail "the broker did not drain"; }
    grep -E '^[0-9,]+ rows, ' "$base/logs/loader.log" || { logs; fail "the loader did not say how many rows"; }
}

step "base/pod.yaml: sidecar, probe, fsGroup, sub-paths, service-account token"
kubelet --look "broker=$base/broker.txt" --look "loader=$base/loader.txt" || { logs; fail "the pod of base/ did not end with 0"; }
moved
for name in loader broker; do
    printf '\n'
    cat "$base/$name.txt"
    grep -q "every control holds" "$base/$name.txt" || fail "the $name's sandbox is not whole"
    grep -q "sandbox: every step is active" "$base/logs/$name.log" || { logs; fail "a step of the $name's sandbox is missing"; }
done

step "base/pod.yaml, the audit log on a claim: two pods, one log"
for _ in first second; do
    kubelet --claim "audit=$claim" || { logs; fail "the pod with a claim did not end with 0"; }
    moved
done
starts=$(grep -c '"event":"Start"' "$claim/audit.log")
[ "$starts" = 2 ] || fail "the claim's log has $starts starts, not 2"
# 75: the chain holds; nothing is signed here.
code=0
target/debug/broker audit verify "$claim/audit.log" >"$base/verify.txt" 2>&1 || code=$?
[ "$code" = 75 ] || { cat "$base/verify.txt" >&2; fail "the claim's log is no whole chain"; }
echo "one chain over both pods: $(grep -E '^lines' "$base/verify.txt" | tr -s ' ')"

step "attacks from inside the loader's container"
install -d -m 0755 "$base/probe"
install -m 0755 target/debug/probe "$base/probe/probe"
ports=$(grep -oE '127\.0\.0\.1:[0-9]+' "$base/broker/broker.yaml" "$WORLD/krb5.conf" | grep -oE '[0-9]+$' | sort -u | paste -sd,)
kubelet --instead "loader=$PWD/$base/probe/probe" --env "PROBE_BROKER_PORTS=$ports" || { logs; fail "an attack was not refused, or the broker did not live through it"; }
attacks=$base/logs/loader.log
cat "$attacks"
if grep -q MISSED "$attacks" || [ "$(wc -l <"$attacks")" -lt 20 ]; then fail "an attack was not refused, or not tried"; fi
grep -q "the Vault token is revoked" "$base/logs/broker.log" || { logs; fail "the broker did not serve on and drain"; }
echo
echo "pod-test: the job ran, $(($(wc -l <"$attacks") - 2)) attacks were refused, the broker served on and drained"
