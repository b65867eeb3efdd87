#!/usr/bin/env bash
# All tests that need only Rust, a C compiler and Debian's packages. Ends with the tables of what they found, and with
# what was not proved.
set -euo pipefail
cd "$(dirname "$0")/../.."
unproved="target/not-proved.txt"
mkdir -p target
results="$PWD/target/results"
rm -rf "$unproved" "$results"
# The crash points exist only in this build; the feature changes the loader alone, so its dependencies are not rebuilt.
features="keyferry-loader/failpoints"
echo "test: building (profile dev, opt-level 1; the first time takes some minutes)"
cargo build --locked --workspace --bins --features "$features"
KEYFERRY_NOT_PROVED="$PWD/$unproved" KEYFERRY_RESULTS="$results" \
    cargo test --locked --workspace --no-fail-fast --features "$features"
echo
target/debug/results "$results"
if [ -s "$unproved" ]; then
    echo "NOT PROVED in this run (run as root to prove): $(wc -l <"$unproved")"
    sed 's/^/  /' "$unproved"
else
    echo "Nothing was left out for want of root."
fi
