#!/usr/bin/env bash
# Attacks broker and loader outside of containers: the test of every row of SECURITY.md. As root: other users, memory scans.
set -euo pipefail
cd "$(dirname "$0")/../.."
if [ "$(id -u)" != 0 ]; then
    echo "redteam: it attacks as other users and scans memory; run it as root (sudo make redteam)" >&2
    exit 1
fi
features=keyferry-loader/failpoints
cargo build --locked --workspace --bins --features "$features"
mapfile -t programs < <(cargo test --locked --workspace --lib --tests --no-run --features "$features" 2>&1 |
    grep -oE '\(target/debug/deps/[^)]+\)' | tr -d '()' | sed "s#^#$PWD/#")
export CI=1 # what needs root must be proved
exec target/debug/redteam "${programs[@]}"
