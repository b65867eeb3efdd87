#!/usr/bin/env bash
# Runs the pod in a world of stand-ins, which WORLD and the other variables of `local-dev --judge` name.
set -euo pipefail
place=/run/keyferry-pod
work=target/pod
pod=$work/pod.yaml
step() { printf '\n=== %s\n' "$1"; }

clean() {
    podman pod rm --force keyferry >/dev/null 2>&1 || true
    umount "$place" 2>/dev/null || true
    rm -rf "$place" /var/log/keyferry-pod /var/spool/keyferry-pod /etc/keyferry-pod
}
clean
trap clean EXIT
rm -rf "$work"
mkdir -p "$work" "$place"

# The host's side of the volumes, as the manifest's head says.
mount -t tmpfs -o mode=0755,size=2m,nosuid,nodev,noexec tmpfs "$place"
install -d -m 0750 -o 10001 -g 10000 "$place/socket"
install -d -m 0700 -o 10001 -g 10001 "$place/private" "$place/credentials" /var/log/keyferry-pod
install -d -m 0700 -o 10002 -g 10002 /var/spool/keyferry-pod
install -d -m 0750 -o root -g 10000 /etc/keyferry-pod /etc/keyferry-pod/broker /etc/keyferry-pod/loader

# The world's own configuration files, with the paths that they have inside.
private=$(sed -nE 's/.*tmpfs: ([^,}]+).*/\1/p' "$WORLD/broker/broker.yaml")
sed -e "s#$WORLD/socket/broker.sock#/run/keyferry/broker.sock#; s#group: \"[0-9]*\"#group: \"10000\"#" \
    -e "s#$WORLD/ca.pem#/etc/keyferry/ca.pem#g; s#$WORLD/krb5.conf#/etc/keyferry/krb5.conf#; s#$private#/run/keyferry-private#" \
    -e "s#secret_id_file: secret-id#secret_id_file: /run/secrets/keyferry/secret-id#; s#path: audit.log#path: /var/log/keyferry/audit.log#" \
    -e "s#mode: enforce#mode: enforce, strict: true#" "$WORLD/broker/broker.yaml" >"$work/broker.yaml"
sed -e "s#$WORLD/socket/broker.sock#/run/keyferry/broker.sock#; s#$WORLD/ca.pem#/etc/keyferry/ca.pem#g" \
    -e "s#$WORLD/loader/spool#/var/spool/keyferry#; s#mode: enforce#mode: enforce, strict: true#" "$WORLD/loader/pipeline.yaml" >"$work/pipeline.yaml"
if grep -n "$WORLD" "$work"/*.yaml; then
    echo "pod-test: a path of the host is left in a configuration" >&2
    exit 1
fi
for file in broker.yaml role-id ca.pem krb5.conf; do
    from=$WORLD/$file
    case $file in broker.yaml) from=$work/$file ;; role-id) from=$WORLD/broker/role-id ;; esac
    install -m 0440 -o root -g 10000 "$from" "/etc/keyferry-pod/broker/$file"
done
install -m 0440 -o root -g 10000 "$WORLD/ca.pem" "$work/pipeline.yaml" /etc/keyferry-pod/loader/
install -m 0400 -o 10001 -g 10001 "$WORLD/broker/secret-id" "$place/credentials/secret-id"
sed -E 's#image: keyferry/#image: localhost/keyferry/#' deploy/kubernetes/podman/pod.yaml >"$pod"

code() { podman inspect --format '{{.State.ExitCode}}' "keyferry-$1"; }
start() { podman play kube --network host "$1" >"$work/play.log" 2>&1 || { cat "$work/play.log" >&2; exit 1; }; }

step "the job runs to its end, both programs with \`sandbox.strict\`"
start "$pod"
# While it runs: what the kernel says of it.
for _ in $(seq 100); do
    podman exec keyferry-loader /usr/local/bin/loader selfcheck --pid 1 >"$work/loader-selfcheck.txt" 2>&1 && break
    sleep 0.1
done
timeout 180 podman wait keyferry-loader >/dev/null || { podman logs keyferry-broker keyferry-loader; exit 1; }
podman logs keyferry-loader 2>"$work/loader.log" >"$work/loader.out" || true
podman logs keyferry-broker >"$work/broker.log" 2>&1 || true
if [ "$(code loader)" != 0 ]; then
    tail -n 20 "$work/broker.log" "$work/loader.log" "$work/loader.out"
    echo "pod-test: the loader ended with $(code loader)" >&2
    exit 1
fi
for name in broker loader; do
    grep -q "sandbox: every step is active" "$work/$name.log" || { echo "pod-test: a step of the $name's sandbox is missing" >&2; exit 1; }
done
tail -n 12 "$work/loader.out"

step "what the kernel says of the loader while it ran"
cat "$work/loader-selfcheck.txt"
grep -q "every control holds" "$work/loader-selfcheck.txt" || { echo "pod-test: the loader's sandbox is not whole" >&2; exit 1; }

step "what the kernel says of the broker, and of nobody else who could read it"
podman top keyferry-broker user pid capeff capbnd seccomp 2>/dev/null | tee "$work/top.txt"
podman exec keyferry-broker /usr/local/bin/broker selfcheck --pid 1 || { echo "pod-test: the broker's sandbox is not whole" >&2; exit 1; }

step "the broker drains"
podman stop --time 40 keyferry-broker >/dev/null
podman logs keyferry-broker >"$work/broker.log" 2>&1 || true
if [ "$(code broker)" != 0 ] || ! grep -q "the Vault token is revoked" "$work/broker.log"; then
    tail -n 20 "$work/broker.log"
    echo "pod-test: the broker ended with $(code broker), or did not drain" >&2
    exit 1
fi
echo "it ended with 0; its last word: $(grep -o '"message":"[^"]*"' "$work/broker.log" | tail -n 1)"
podman pod rm --force keyferry >/dev/null

clean
export work
tests/setup/pod/base.sh
