#!/usr/bin/env bash
# deploy/compose with podman-compose: production.yaml with the images of `make images` and the stand-ins outside of it, then
# development.yaml, whose image is built as the file says. Needs root.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=tests/judges/lib.sh
. tests/judges/lib.sh
# shellcheck source=tests/setup/images/engine.sh
. tests/setup/images/engine.sh

if [ "$(id -u)" != 0 ]; then
    echo "compose-test: it makes users' folders in /etc/keyferry; run it as root (sudo make compose-test)" >&2
    exit 1
fi
if [ -e /etc/keyferry ] || podman volume ls --quiet 2>/dev/null | grep -q '^keyferry_'; then
    echo "compose-test: /etc/keyferry or a volume of it is there already: this machine runs Keyferry, or a run of this was killed" >&2
    exit 1
fi
engine_ready
packages python3-venv
venv compose tests/setup/compose/requirements.txt
images_ready compose-test docker.io
cargo build --locked --workspace --bins --features keyferry-loader/failpoints
"$worlds" --loaded --judge tests/setup/compose/production.sh
exec tests/setup/compose/development.sh
