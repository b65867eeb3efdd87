#!/usr/bin/env bash
# The pair of deploy/systemd on a throw-away Debian whose first process is systemd, the stand-ins outside of it: installed as
# deploy/README.md says, started, attacked from inside both units, driven by its timer, restarted, stopped. Needs root.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=tests/judges/lib.sh
. tests/judges/lib.sh
# shellcheck source=tests/setup/images/engine.sh
. tests/setup/images/engine.sh
# shellcheck source=tests/setup/host/image.sh
. tests/setup/host/image.sh

if [ "$(id -u)" != 0 ]; then
    echo "host-test: it starts a systemd of its own; run it as root (sudo make host-test)" >&2
    exit 1
fi
engine_ready
host_image_ready
cargo build --locked --workspace --bins --features keyferry-loader/failpoints
exec "$worlds" --loaded --judge tests/setup/host/inside.sh
