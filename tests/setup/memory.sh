#!/usr/bin/env bash
# The loader's peak memory with more rows than any memory holds, and with the largest values there are.
set -euo pipefail
cd "$(dirname "$0")/../.."
profile="${PROFILE:-release}"
echo "memory: building (profile $profile; the first time takes many minutes)"
cargo build --locked --workspace --bins --profile "$profile"
KEYFERRY_MEMORY_ROWS="${ROWS:-200000000}" RUST_BACKTRACE=0 \
    cargo test --locked --workspace --profile "$profile" --test e2e -- --ignored memory_full --test-threads 1 --nocapture
