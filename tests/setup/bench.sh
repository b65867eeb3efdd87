#!/usr/bin/env bash
# Measures the loader and the broker beside what people would use instead, and writes docs/benchmarks.md.
# ROWS=1000000 rows of LINEITEM for each client; QUICK=1 a twentieth of everything, to see that it works.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=tests/judges/lib.sh
. tests/judges/lib.sh

echo "bench: building (release; the first time takes some minutes)"
# The selection of features is the workspace's; only what is measured is linked.
cargo build --locked --release --workspace --bin bench --bin loader --bin broker
CARGO_TARGET_DIR=target/bench-peers cargo build --locked --release --manifest-path tests/bench/peers/Cargo.toml
# The clients in Python: Microsoft's ODBC driver comes with one of their wheels, its manager from Debian.
packages unixodbc python3-venv
venv bench tests/bench/python/requirements.txt
python=$PWD/$judges/venvs/bench/bin/python

arguments=(run --rows "${ROWS:-1000000}" --python "$python" --peers "$PWD/target/bench-peers/release")
# A quick run proves that all of it works; its numbers are not for the document.
if [ -n "${QUICK:-}" ] && [ "${QUICK:-}" != 0 ]; then
    arguments+=(--quick)
else
    arguments+=(--document docs/benchmarks.md)
fi
exec target/release/bench "${arguments[@]}" "$@"
