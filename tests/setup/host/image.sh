# Sourced: a Debian that systemd starts, of Debian's own packages. No image registry is asked.
# shellcheck shell=bash

host_image=localhost/keyferry/systemd-host:bookworm-1

host_image_ready() {
    if podman image exists "$host_image"; then return; fi
    echo "host-test: making a Debian with systemd (the first time takes a minute)"
    local rootfs=target/host/rootfs
    rm -rf "$rootfs"
    mkdir -p target/host
    # libgssapi-krb5-2 is what the broker asks for; perl-base, for the attacks, is in every Debian.
    debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,libgssapi-krb5-2,ca-certificates,procps \
        bookworm "$rootfs" >target/host/debootstrap.log
    rm -rf "$rootfs"/var/cache/apt/archives/* "$rootfs"/var/lib/apt/lists/*
    # What would reach for the kernel of the machine that this runs on.
    for unit in systemd-sysctl.service systemd-modules-load.service systemd-udevd.service systemd-remount-fs.service; do
        ln -sf /dev/null "$rootfs/etc/systemd/system/$unit"
    done
    : >"$rootfs/etc/machine-id"
    tar -C "$rootfs" -c . | podman import --change 'CMD ["/lib/systemd/systemd"]' --change 'STOPSIGNAL SIGRTMIN+3' \
        --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' --change 'ENV container=podman' \
        - "$host_image" >/dev/null
    rm -rf "$rootfs"
}

# Its systemd makes mount namespaces, and groups of its own under the memory and task controllers.
host_start() { # name, podman options...
    local name=$1 controller groups=()
    shift
    # Version 1 of control groups: podman mounts every controller read-only but systemd's own.
    for controller in memory pids; do
        if [ -d "/sys/fs/cgroup/$controller" ]; then groups+=(--volume "/sys/fs/cgroup/$controller:/sys/fs/cgroup/$controller:rw"); fi
    done
    podman run --detach --name "$name" --systemd=always --network host --cap-add SYS_ADMIN,SYS_PTRACE \
        --security-opt seccomp=unconfined --security-opt apparmor=unconfined "${groups[@]}" "$@" "$host_image" \
        sh -c "mount --make-rshared / && exec /lib/systemd/systemd" >/dev/null
}
