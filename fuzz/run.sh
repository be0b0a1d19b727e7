#!/bin/sh
# Fuzzes with the stable compiler: `fuzz/run.sh [SECONDS [TARGET...]]`. Each target, or each that is named, runs for
# SECONDS (60). What is new to it comes into found/TARGET, what makes it fail into artifacts/TARGET.
set -eu
cd "$(dirname "$0")"

seconds=${1:-60}
[ $# -eq 0 ] || shift
targets=${*:-$(cd fuzz_targets && ls -- *.rs | sed 's/\.rs$//')}

# the versions that the gate is built with
cp ../Cargo.lock Cargo.lock
RUSTC_WRAPPER=$PWD/rustc.sh ${CARGO:-cargo} build

for target in $targets; do
    mkdir -p "found/$target" "artifacts/$target"
    echo "fuzz: $target, $seconds seconds" >&2
    "${CARGO_TARGET_DIR:-target}/debug/$target" -max_total_time="$seconds" -timeout=10 -print_final_stats=1 \
        -artifact_prefix="artifacts/$target/" "found/$target" "corpus/$target"
done
