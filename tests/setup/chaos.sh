#!/usr/bin/env bash
# Loader and broker killed at every crash point and at random moments; every row is counted afterwards.
set -euo pipefail
cd "$(dirname "$0")/../.."
features="keyferry-loader/failpoints"
echo "chaos: building (profile dev, opt-level 1; the first time takes some minutes)"
cargo build --locked --workspace --bins --features "$features"
KEYFERRY_CHAOS_SEED="${SEED:-1}" KEYFERRY_CHAOS_RUNS="${RUNS:-300}" RUST_BACKTRACE=0 \
    cargo test --locked --workspace --features "$features" --test e2e -- --ignored chaos_every_point
