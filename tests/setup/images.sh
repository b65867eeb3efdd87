#!/usr/bin/env bash
# Builds both images as Dockerfile.broker and Dockerfile.loader say, and looks at what came out. Needs root, or a podman that may build.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=tests/judges/lib.sh
. tests/judges/lib.sh
# shellcheck source=tests/setup/images/engine.sh
. tests/setup/images/engine.sh

packages python3-venv
venv images tests/setup/images/requirements.txt
"$judges/venvs/images/bin/hadolint" Dockerfile.broker Dockerfile.loader
engine_ready
base_ready
roots=/etc/ssl/certs/ca-certificates.crt
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
for name in broker loader; do
    echo "images: building keyferry/$name (the first time takes some minutes)"
    # Downloads trust what this machine trusts (a proxy's authority, say); the images hold Debian's own roots.
    podman build --pull=never --quiet --network host --volume "$roots:$roots:ro" --build-arg "REVISION=$revision" --file "Dockerfile.$name" \
        --tag "localhost/keyferry/$name:0.1.0" --tag "docker.io/keyferry/$name:0.1.0" . >/dev/null
done
exec "$judges/venvs/images/bin/python" tests/setup/images/check.py
