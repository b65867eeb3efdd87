# Sourced by inside.sh: what the file system looks like from inside a unit's process, and its groups' limits.
# shellcheck shell=bash

mounts() { # pid
    local table writable limit group
    table=$(inside cat "/proc/$1/mountinfo")
    # A later mount covers an earlier one at the same place.
    at() { awk -v at="$1" '$5 == at { line = $0 } END { print line }' <<<"$table"; }
    [[ $(at / | cut -d' ' -f 6) == ro,* ]] || missed "the broker's root is read-only"
    [[ $(at /tmp) == */systemd-private-* ]] || missed "the broker's /tmp is its own"
    [[ $(at /proc) == *hidepid=invisible*subset=pid* ]] || missed "/proc shows only its own user's processes"
    writable=$(awk '{ at[$5] = $6 } END { for (place in at) if (at[place] ~ /^rw/) print place }' <<<"$table" |
        grep -vE '^/(proc|sys|dev)(/|$)' | sort | paste -sd' ')
    proved "its root is read-only, /tmp its own, /proc without other users"
    expect "all that it may write" "$writable" "/run/keyferry /run/keyferry-private /tmp /var/log/keyferry /var/tmp"
    group=$(inside cat "/proc/$1/cgroup" | sed -nE 's/^[0-9]+:memory://p')
    if [ -n "$group" ]; then
        limit=$(inside cat "/sys/fs/cgroup/memory$group/memory.limit_in_bytes")
    else
        limit=$(inside cat "/sys/fs/cgroup$(inside sed -nE 's/^0:://p' "/proc/$1/cgroup")/memory.max")
    fi
    expect "the kernel's limit of its memory" "$limit" $((128 << 20))
}
