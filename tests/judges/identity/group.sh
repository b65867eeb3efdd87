# Sourced by run.sh.
# shellcheck shell=bash
:
