#!/bin/sh
# Keeps a few inputs of a target in the repository: of those that a run has found, a set that reaches
# all that they reach, and of that at most 30 inputs and 40 KB, small ones and large ones.
#   fuzz/keep.sh FOUND TARGET...     FOUND/TARGET holds what was found
# The target must have been built (fuzz/run.sh does).
set -eu
cd "$(dirname "$0")/.."
found=$(realpath "${1:?usage: fuzz/keep.sh FOUND TARGET...}")
shift
built="${CARGO_TARGET_DIR:-$PWD/fuzz/target}/$(rustc -vV | sed -n 's/^host: //p')/release"
for target; do
    kept=fuzz/corpus/$target
    mkdir -p "$kept"
    chosen=$(mktemp -d)
    ASAN_OPTIONS=detect_odr_violation=0 "$built/$target" -set_cover_merge=1 -max_len=4096 -timeout=20 \
        "$chosen" "$found/$target" "$kept" 2>/dev/null || echo "$target: some inputs were left out"
    # Those that somebody wrote have names and stay.
    find "$kept" -type f -regextype posix-extended -regex ".*/[0-9a-f]{40}" -delete
    # By size, every n-th of them.
    find "$chosen" -type f -size -2k -printf '%s %f\n' | sort -n | awk '
        { name[NR] = $2; size[NR] = $1 }
        END {
            step = NR > 30 ? NR / 30 : 1
            for (i = 1; i <= NR; i += step) {
                n = int(i)
                if (sum + size[n] > 40000) break
                sum += size[n]
                print name[n]
            }
        }' | while read -r name; do cp "$chosen/$name" "$kept/"; done
    rm -r "$chosen"
    echo "$target: $(find "$kept" -type f | wc -l) inputs, $(cat "$kept"/* | wc -c) bytes"
done
