#!/bin/sh
# A wrapper of the compiler (`RUSTC_WRAPPER`), for run.sh: the gate and the targets are compiled as libFuzzer wants it, the
# crates below them as always. These are the options of cargo-fuzz, but for the address sanitizer, which only the nightly
# compiler has.
rustc=$1
shift
case " $* " in
    *" --crate-name weirgate "* | *" fuzz_targets/"*) ;;
    *) exec "$rustc" "$@" ;;
esac
set -- "$@" --cfg fuzzing -Copt-level=2 -Ccodegen-units=1 -Cpasses=sancov-module
for option in level=4 inline-8bit-counters pc-table trace-compares; do
    set -- "$@" "-Cllvm-args=-sanitizer-coverage-$option"
done
exec "$rustc" "$@"
