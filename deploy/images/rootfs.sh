#!/bin/sh
# Lays out the final image: one program, the shared libraries that it asks for, the system's roots, a user, the folder that it
# writes. No shell, no tools. Arguments: the program, its user's name and number, that folder, where to.
# The Debian packages that something was taken of are listed in usr/share/doc/keyferry/packages, for the bill of materials.
set -eu
program=$1 user=$2 uid=$3 own=$4 root=$5
packages=$root/usr/share/doc/keyferry/packages
mkdir -p "$root/usr/local/bin" "$root/etc/ssl/certs" "$root/usr/share/doc/keyferry"
install -m 0755 "$program" "$root/usr/local/bin/"
# What the dynamic linker would open, and the linker itself.
ldd "$program" | grep -oE '/[^ ]+' | sort -u | while read -r library; do
    real=$(readlink -f "$library")
    install -D -m 0755 "$real" "$root$library"
    # A package may have its files under /lib although that is /usr/lib.
    package=$({ dpkg -S "$real" || dpkg -S "${real#/usr}"; } 2>/dev/null | head -n 1 | cut -d: -f1)
    [ -n "$package" ] || { echo "rootfs: $real is of no Debian package" >&2; exit 1; }
    install -D -m 0644 "/usr/share/doc/$package/copyright" "$root/usr/share/doc/$package/copyright"
    echo "$package" >>"$packages.names"
done
# /lib and /lib64 as Debian has them, so that a path means the same in both.
for folder in lib lib64; do
    if [ -d "$root/$folder" ]; then
        mkdir -p "$root/usr/$folder"
        cp -a "$root/$folder/." "$root/usr/$folder/"
        rm -r "${root:?}/$folder"
        ln -s "usr/$folder" "$root/$folder"
    fi
done
# Debian's roots and nothing that the building machine trusts beside them.
cat /usr/share/ca-certificates/mozilla/*.crt >"$root/etc/ssl/certs/ca-certificates.crt"
echo ca-certificates >>"$packages.names"
sort -u "$packages.names" | while read -r package; do
    dpkg-query -W -f '${Package} ${Version} ${Architecture}\n' "$package" | head -n 1
done >"$packages"
rm "$packages.names"
# A volume that is new takes over owner and mode of the image's folder.
install -d -m 0700 -o "$uid" -g "$uid" "$root$own"
printf 'hosts: files dns\n' >"$root/etc/nsswitch.conf"
printf 'root:x:0:0::/:/nonexistent\n%s:x:%s:%s::/:/nonexistent\n' "$user" "$uid" "$uid" >"$root/etc/passwd"
printf 'root:x:0:\n%s:x:%s:\nkeyferry:x:10000:\n' "$user" "$uid" >"$root/etc/group"
