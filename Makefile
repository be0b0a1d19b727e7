# Each target first installs what a build needs and is missing (scripts/setup.sh).
# CARGO=... replaces the cargo command; a Rust installed by rustup is found even when its folder is not in PATH.
CARGO ?= cargo
export PATH := $(PATH):$(HOME)/.cargo/bin

.DEFAULT_GOAL := help
.PHONY: help setup build release demo test bench

help:
	@echo "make demo    five backends, the gate on 127.0.0.1:8080 and :8443, four commands to try"
	@echo "make build   the release binary, target/release/weirgate"
	@echo "make release the same, trained on the work it is for (profile-guided optimisation; about 20 minutes)"
	@echo "make test    formatting, lints, documentation and every test, as CI runs them"
	@echo "make bench   micro benchmarks, then weirgate beside nginx and HAProxy on the same work"

setup:
	@scripts/setup.sh

build: setup
	$(CARGO) build --release --locked --bin weirgate

release: setup
	@CARGO="$(CARGO)" scripts/release.sh

demo: setup
	$(CARGO) build --locked --bin weirgate --example demo
	@$(CARGO) run --quiet --locked --example demo

# Clippy and doc share what they compile of the dependencies. The tests come last, so that the last line of the
# output is theirs, and go on after a failure, so that one run tells all.
test:
	@scripts/setup.sh test
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps --locked
	$(CARGO) test --locked --no-fail-fast

bench: setup
	$(CARGO) bench --locked
