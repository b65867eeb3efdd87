#!/usr/bin/env bash
# The pods of deploy/kubernetes/podman and deploy/kubernetes/base with the images of `make images`, the stand-ins outside of them:
# the job runs to its end, a compromised loader attacks from inside, the broker drains. Needs root.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=tests/judges/lib.sh
. tests/judges/lib.sh
# shellcheck source=tests/setup/images/engine.sh
. tests/setup/images/engine.sh

if [ "$(id -u)" != 0 ]; then
    echo "pod-test: it makes users' folders and a tmpfs; run it as root (sudo make pod-test)" >&2
    exit 1
fi
packages python3-venv openssl
venv pod tests/setup/pod/requirements.txt
engine_ready
images_ready pod-test localhost
cargo build --locked --workspace --bins --features keyferry-loader/failpoints
exec "$worlds" --loaded --judge tests/setup/pod/inside.sh
