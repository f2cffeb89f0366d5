#!/bin/sh
# Runs every fuzz target (or those named) for SECONDS each; fails on the first finding.
#   fuzz/run.sh SECONDS [target...]
# Needs cargo-fuzz (cargo install cargo-fuzz) and a C++ compiler. Works on a stable toolchain:
# the sanitizer flags are let through by RUSTC_BOOTSTRAP. All is built first and then run as it
# is, so that an edit meanwhile changes nothing.
set -eu
cd "$(dirname "$0")/.."
seconds=${1:?usage: fuzz/run.sh SECONDS [target...]}
shift
export RUSTC_BOOTSTRAP=1
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/fuzz/target}"
host=$(rustc -vV | sed -n 's/^host: //p')
logs=$CARGO_TARGET_DIR/logs
mkdir -p "$logs"
if [ $# -gt 0 ]; then
    for target; do cargo fuzz build --fuzz-dir fuzz/libfuzzer "$target"; done
else
    cargo fuzz build --fuzz-dir fuzz/libfuzzer
    set -- $(basename -s .rs fuzz/libfuzzer/src/bin/*.rs)
fi
for target; do
    # What is found stays between runs, out of the repository; keep.sh takes some of it in.
    corpus=$CARGO_TARGET_DIR/corpus/$target
    mkdir -p "$corpus" "fuzz/corpus/$target" "fuzz/artifacts/$target"
    ASAN_OPTIONS=detect_odr_violation=0 "$CARGO_TARGET_DIR/$host/release/$target" "$corpus" "fuzz/corpus/$target" \
        -artifact_prefix="fuzz/artifacts/$target/" -max_total_time="$seconds" \
        -max_len=8192 -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
        2>"$logs/$target.log" || { tail -40 "$logs/$target.log"; echo "$target: FINDING"; exit 1; }
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$logs/$target.log")
    echo "$target: $runs runs, no finding"
done
