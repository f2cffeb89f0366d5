#!/usr/bin/env bash
# Lays out all that is in an image: the binary, who it runs as, where names are looked up, a place
# for data, and the licences of what is linked in.
#
#   packaging/tree.sh BINARY LICENCES DIRECTORY
#
# BINARY comes from packaging/static.sh, LICENCES from packaging/parts.py. docker/Dockerfile takes the
# directory as it is; without Docker it is run by
#
#   chroot --userspec=65532:65532 DIRECTORY /pilothouse serve --data-dir /data
#
# with /etc/hosts and /etc/resolv.conf of the machine put in beforehand, as Docker does.
set -euo pipefail
binary=$1 licences=$2 out=$3

install -Dm755 "$binary" "$out/pilothouse"
install -d -m755 "$out/etc"
echo 'pilothouse:x:65532:65532::/data:/' >"$out/etc/passwd"
echo 'pilothouse:x:65532:' >"$out/etc/group"
echo 'hosts: files dns' >"$out/etc/nsswitch.conf"
chmod 644 "$out"/etc/*
install -d -m700 "$out/data"
# Whoever may not give files away leaves that to the image.
if [[ $(id -u) == 0 ]]; then chown 65532:65532 "$out/data"; fi
install -Dm644 "$licences" "$out/usr/share/doc/pilothouse/licences.txt"
install -m644 "$(dirname "$0")/../LICENSE" "$out/usr/share/doc/pilothouse/LICENSE"
