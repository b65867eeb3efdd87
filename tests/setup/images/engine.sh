# Sourced: a podman that needs nothing of the host's own settings, and the base image where no registry can be reached.
# shellcheck shell=bash

base=docker.io/library/rust:1.95.0-bookworm

engine_ready() {
    packages podman runc debootstrap netavark aardvark-dns iptables uidmap catatonit
    mkdir -p target/images
    cat >target/images/containers.conf <<'CONF'
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=20000:20000"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
CONF
    export CONTAINERS_CONF=$PWD/target/images/containers.conf
}

# The base of the build stage. Without a registry: Debian's own packages and the toolchain of this machine, under its name.
base_ready() {
    if podman image exists "$base" || timeout 60 podman pull --quiet "$base" >/dev/null 2>&1; then return; fi
    echo "images: no registry has $base; making it of Debian's packages and this machine's toolchain"
    local rootfs=target/images/rootfs toolchain
    toolchain=$(rustc --print sysroot)
    rm -rf "$rootfs"
    debootstrap --variant=minbase --include=ca-certificates,gcc,libc6-dev bookworm "$rootfs" >target/images/debootstrap.log
    mkdir -p "$rootfs/usr/local/cargo"
    tar -C "$toolchain" -c bin lib libexec | tar -C "$rootfs/usr/local" -x
    rm -rf "$rootfs/var/cache/apt/archives"
    tar -C "$rootfs" -c . | podman import \
        --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
        --change 'ENV CARGO_HOME=/usr/local/cargo' --change 'CMD ["bash"]' - "$base" >/dev/null
    rm -rf "$rootfs"
}

# What `make images` builds, under this place's name.
images_ready() { # who asks, place
    local name
    for name in broker loader; do
        podman image exists "$2/keyferry/$name:0.1.0" || { echo "$1: no image of the $name yet; run \`make images\` first" >&2; exit 1; }
    done
}
