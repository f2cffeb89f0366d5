#!/usr/bin/env bash
# Makes one archive for sites without a network: the binary, what runs it, the documentation,
# the licences of everything that is linked in, a list of parts (CycloneDX), and checksums.
#
#   packaging/bundle.sh [BINARY] [DIRECTORY]
#
# BINARY is built by packaging/static.sh if it is not given. Needs bash, tar, sha256sum, python3 and
# cargo with the crates at hand; the machine that takes the archive needs nothing but tar and sha256sum.
set -euo pipefail
cd "$(dirname "$0")/.."

binary=${1:-}
out=${2:-target/bundle}
if [[ -z $binary ]]; then
  binary=$(packaging/static.sh)
fi
is_static=
case $(ldd "$binary" 2>&1 || true) in
  *"statically linked"* | *"not a dynamic executable"*) is_static=yes ;;
esac
version=$("$binary" version | cut -d' ' -f2)
name=pilothouse-$version-$(uname -m)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/$name

install -Dm755 "$binary" "$root/pilothouse"
install -m644 README.md LICENSE CHANGELOG.md SECURITY.md "$root/"
cp -r docs "$root/docs"
mkdir -p "$root/docker"
cp -r docker/compose*.yaml docker/grafana docker/alloy "$root/docker/"
mkdir -p "$root/packaging" "$root/completions"
install -m644 packaging/pilothouse.service packaging/pilothouse.yaml "$root/packaging/"
for shell in bash zsh fish; do
  "$binary" completions "$shell" >"$root/completions/pilothouse.$shell"
done
python3 packaging/parts.py ${is_static:+--static} --sbom "$root/sbom.cdx.json" --licences "$root/licences.txt"
if [[ $is_static ]]; then
  # For an image that is made where nothing can be fetched; in the archive each file is there once.
  packaging/tree.sh "$binary" "$root/licences.txt" "$root/tree"
  ln -f "$root/pilothouse" "$root/tree/pilothouse"
  ln -f "$root/licences.txt" "$root/LICENSE" "$root/tree/usr/share/doc/pilothouse/"
  install -m644 docker/Dockerfile "$root/docker/"
fi

(cd "$root" && find . -type f ! -name SHA256SUMS -print0 | sort -z | xargs -0 sha256sum >SHA256SUMS)
mkdir -p "$out"
# The same files give the same archive.
tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@${SOURCE_DATE_EPOCH:-0}" \
  -C "$work" -cf - "$name" | gzip -n >"$out/$name.tar.gz"
(cd "$out" && sha256sum "$name.tar.gz" >"$name.tar.gz.sha256")
echo "$out/$name.tar.gz"
