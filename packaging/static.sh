#!/usr/bin/env bash
# Builds the binary that needs nothing of the system it runs on, and prints where it lies.
#
#   packaging/static.sh
#
# glibc is linked in. Since 2.34 it looks names up in files and by DNS without any library beside it,
# so /etc/hosts and /etc/resolv.conf count as for every other program; other sources of names
# (LDAP, mDNS) do not. Needs a C compiler and glibc 2.34 or newer with its static parts: libc6-dev
# on Debian 12 and later, glibc-static on Fedora.
set -euo pipefail
cd "$(dirname "$0")/.."

triple=$(uname -m)-unknown-linux-gnu
# With a target named, the flags do not reach build scripts and macros, which must stay dynamic. Random
# bytes come from the kernel's call: it is looked for in a shared library otherwise, and where there is
# none, in /dev/random, which a bare tree has not.
RUSTFLAGS="${RUSTFLAGS:-} -C target-feature=+crt-static --cfg getrandom_backend=\"linux_getrandom\"" \
  cargo build --release --locked --target "$triple" --package pilothouse >&2
echo "${CARGO_TARGET_DIR:-target}/$triple/release/pilothouse"
