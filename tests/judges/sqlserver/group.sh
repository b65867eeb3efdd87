# SQL Server's clients against the SQL Server stand-in. Sourced by run.sh.
# shellcheck shell=bash
judge tiberius "SQL Server, our reader" cargo test --locked --workspace --features "$features" --test e2e -- tiberius
