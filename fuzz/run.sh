#!/bin/sh
# Runs every fuzz target (or those named) for SECONDS each; fails on the first finding.
#   fuzz/run.sh SECONDS [target...]
# Needs cargo-fuzz (cargo install cargo-fuzz) and a C++ compiler. Works on a stable toolchain:
# the sanitizer flags are let through by RUSTC_BOOTSTRAP.
set -eu
cd "$(dirname "$0")/.."
seconds=${1:?usage: fuzz/run.sh SECONDS [target...]}
shift
export RUSTC_BOOTSTRAP=1
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-fuzz/target}"
[ $# -gt 0 ] || set -- $(cargo fuzz list)
for target; do
    # What was found before is kept between runs, out of the repository.
    mkdir -p "fuzz/corpus/$target"
    cargo fuzz run "$target" "fuzz/corpus/$target" -- \
        -max_total_time="$seconds" -max_len=8192 -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
        2>"/tmp/fuzz-$target.log" || { tail -40 "/tmp/fuzz-$target.log"; echo "$target: FINDING"; exit 1; }
    echo "$target: $(grep -a number_of_executed_units "/tmp/fuzz-$target.log" | tr -s ' :' ' ' | cut -d' ' -f2) runs, no finding"
done
