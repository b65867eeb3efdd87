#!/usr/bin/env bash
# The loader's peak memory with more rows than any memory holds, and with the largest values there are.
set -euo pipefail
cd "$(dirname "$0")/../.."
profile="${PROFILE:-dev}"
# The tests' own build is used when there is one.
features=()
if [ "$profile" = dev ]; then features=(--features keyferry-loader/failpoints); fi
echo "memory: building (profile $profile; the first time takes some minutes)"
cargo build --locked --workspace --bins --profile "$profile" "${features[@]}"
KEYFERRY_MEMORY_ROWS="${ROWS:-200000000}" RUST_BACKTRACE=0 \
    cargo test --locked --workspace --profile "$profile" "${features[@]}" --test e2e -- --ignored memory_full --test-threads 1 --nocapture
