#!/bin/sh
# Installs the Debian packages that Keyferry needs to build and to run its stand-ins.
# It lists them first, asks for nothing else, and uses sudo when it is not run as root.
set -eu

# What each is for:
#   pkg-config, libkrb5-dev   GSSAPI headers and libraries: the broker's Kerberos relay
#   clang, libclang-dev       the GSSAPI bindings are generated from those headers
#   krb5-kdc, krb5-admin-server, krb5-user   a real MIT KDC for the demo and the tests
#   freetds-bin               tsql, a second opinion on the SQL Server stand-in
#   ca-certificates           the system's roots, which a loader trusts when no ca_file is set
packages="pkg-config libkrb5-dev clang libclang-dev krb5-kdc krb5-admin-server krb5-user freetds-bin ca-certificates"

missing=""
for package in $packages; do
    status=$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null || true)
    [ "$status" = "install ok installed" ] || missing="$missing $package"
done
if [ -z "$missing" ]; then
    echo "packages: all present ($packages)"
    exit 0
fi
echo "packages: installing$missing"
if [ "$(id -u)" = 0 ]; then
    sudo=""
elif command -v sudo >/dev/null 2>&1; then
    sudo="sudo"
else
    echo "packages: not root and no sudo; run as root: apt-get install$missing" >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
$sudo apt-get update -qq
# The KDC package asks for a realm and starts a service; the demo brings its own realm, so neither is wanted.
# shellcheck disable=SC2086
$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
echo "packages: done"
