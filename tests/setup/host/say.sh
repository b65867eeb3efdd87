# Sourced: one line for each thing that was seen; the first that is not as it should be ends the test.
# shellcheck shell=bash

count=0

proved() {
    count=$((count + 1))
    printf 'proved  %s\n' "$*"
}
# `context`, a function of whoever sources this, prints what helps to find out why.
missed() {
    printf 'MISSED  %s\n' "$*" >&2
    context >&2 || true
    exit 1
}
expect() { # what, found, wanted
    [ "$2" = "$3" ] || missed "$1: $2, and not $3"
    proved "$1: $2"
}
