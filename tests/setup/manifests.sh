#!/usr/bin/env bash
# Renders every overlay of deploy/kubernetes, and checks all of deploy/ against what will read it: the schemas of several
# Kubernetes versions, systemd, compose, ECS, promtool. Each check is also shown something wrong, and must refuse it.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=tests/judges/lib.sh
. tests/judges/lib.sh

kustomize=5.8.2 # 5.8.3 asks for a newer Go than is common
tools=$PWD/target/judges/go/bin
packages shellcheck python3-venv systemd
# promtool is wanted, and not the server that its package would start.
if ! PATH=$PATH:$tools command -v promtool >/dev/null; then
    echo "manifests: fetching promtool"
    unpacked=$(mktemp -d)
    (cd "$unpacked" && { apt-get download -qq prometheus || { apt-get update -qq && apt-get download -qq prometheus; }; } && dpkg -x prometheus_*.deb .)
    install -D "$unpacked/usr/bin/promtool" "$tools/promtool"
    rm -rf "$unpacked"
fi
export PATH=$PATH:$tools
if [[ $("$tools/kustomize" version 2>/dev/null) != *"v$kustomize"* ]]; then
    echo "manifests: building kustomize $kustomize"
    GOBIN=$tools go install "sigs.k8s.io/kustomize/kustomize/v5@v$kustomize"
fi
venv manifests tests/setup/manifests/requirements.txt

rendered=target/manifests
rm -rf "$rendered"
mkdir -p "$rendered"
for overlay in deploy/kubernetes/overlays/*/; do
    "$tools/kustomize" build "$overlay" >"$rendered/$(basename "$overlay").yaml"
done
cp deploy/kubernetes/podman/pod.yaml "$rendered/podman.yaml"
cp deploy/kubernetes/audit-verify.yaml "$rendered/"
find deploy tests/setup -name '*.sh' -print0 | xargs -0 shellcheck -x -S warning
exec "$judges/venvs/manifests/bin/python" tests/setup/manifests/check.py "$rendered" "$@"
