#!/usr/bin/env bash
# Measures the loader and the broker beside what people would use instead, and writes docs/benchmarks.md.
# ROWS=1000000 rows of LINEITEM for each client; QUICK=1 a twentieth of everything, to see that it works.
set -euo pipefail
cd "$(dirname "$0")/../.."
venv=target/bench/venv
requirements=tests/bench/python/requirements.txt

echo "bench: building (release; the first time takes some minutes)"
cargo build --locked --release --workspace --bins
CARGO_TARGET_DIR=target/bench-peers cargo build --locked --release --manifest-path tests/bench/peers/Cargo.toml

# The clients in Python: Microsoft's ODBC driver comes with one of their wheels, its manager from Debian.
if ! ldconfig -p | grep -q 'libodbc\.so\.2'; then
    echo "bench: installing unixodbc"
    sudo=""
    if [ "$(id -u)" != 0 ]; then sudo="sudo"; fi
    $sudo apt-get update -qq
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends unixodbc >/dev/null
fi
if ! cmp -s "$requirements" "$venv/requirements.txt"; then
    echo "bench: installing the clients in Python into $venv"
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$requirements"
    cp "$requirements" "$venv/requirements.txt"
fi

arguments=(run --rows "${ROWS:-1000000}" --python "$PWD/$venv/bin/python" --peers "$PWD/target/bench-peers/release")
# A quick run proves that all of it works; its numbers are not for the document.
if [ -n "${QUICK:-}" ] && [ "${QUICK:-}" != 0 ]; then
    arguments+=(--quick)
else
    arguments+=(--document docs/benchmarks.md)
fi
exec target/release/bench "${arguments[@]}" "$@"
