# One profile and one target folder for running, testing and measuring: RocksDB takes about 40
# CPU-minutes to build, and a second profile or folder would build it again. The folder lies outside
# the checkout, so that a fresh clone finds it. Set CARGO_TARGET_DIR for another place.
CACHE_HOME := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)
CARGO_TARGET_DIR ?= $(CACHE_HOME)/oxkeeper/target
export CARGO_TARGET_DIR
export PATH := $(PATH):$(HOME)/.cargo/bin

CARGO ?= cargo
TOOLS := $(CARGO_TARGET_DIR)/tools/bin
export PATH := $(PATH):$(TOOLS)
OXKEEPER := $(CARGO_TARGET_DIR)/release/oxkeeper
export OXKEEPER_BIN := $(OXKEEPER)

.DEFAULT_GOAL := help
.PHONY: help run build test check fix fuzz deny unit sim compat compat-diff clients clients-fast bench
.PHONY: packages-run packages-test packages-compat rocksdb-note

help: ## Show what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: packages-run build ## Set up, build and start a server: make run ARGS="--client-port 2182"
	@$(OXKEEPER) standalone $(ARGS)

build: rocksdb-note ## Build the binary
	$(CARGO) build --release --workspace

test: packages-test check unit clients-fast ## Set up and pass all tests

check: rocksdb-note ## Formatting, lints and documentation
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --release -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --release

fix: ## Format, and mend what clippy can mend
	$(CARGO) clippy --workspace --all-targets --release --fix --allow-dirty --allow-staged
	$(CARGO) fmt --all

# Needs a nightly compiler; cargo-fuzz is installed if it is missing. What it finds lies in the folder
# fuzz/artifacts beside the target.
FUZZ_SECONDS ?= 60
FUZZ := CARGO_TARGET_DIR=$(CARGO_TARGET_DIR)/fuzz $(CARGO) +nightly fuzz
fuzz: $(TOOLS)/cargo-fuzz ## Run each fuzz target for a time: make fuzz FUZZ_SECONDS=600
	@set -e; for folder in $$(dirname $$(git ls-files '*/fuzz/Cargo.toml')); do \
		for target in $$($(FUZZ) list --fuzz-dir $$folder); do \
			echo "$$folder: $$target"; \
			$(FUZZ) run --fuzz-dir $$folder $$target -- -max_total_time=$(FUZZ_SECONDS); \
		done; \
	done

# Not among the tests: to build the tool takes longer than they do.
deny: $(TOOLS)/cargo-deny ## Check the licences of all dependencies, and banned ones (deny.toml)
	$(CARGO) deny check bans licenses sources

$(TOOLS)/%:
	$(CARGO) install --locked --root $(dir $(TOOLS)) $*

unit: build ## Tests of all crates
	$(CARGO) test --workspace --release

compat: packages-compat build compat-diff clients ## Compare with Apache ZooKeeper, run all clients

# One client by itself, on a server that runs already: compat-tests/clients/kazoo/run HOST:PORT
clients: build ## Run all real clients, into docs/compatibility.md
	compat-tests/clients/run-all --write docs/compatibility.md

clients-fast: build ## Run the real clients that need no further toolchain
	compat-tests/clients/run-all kazoo c zkcli

# Requests from seeds, to Apache ZooKeeper and to this server, compared reply by reply.
DIFF_ARGS ?= --seeds 0..20
compat-diff: build ## Compare with Apache ZooKeeper: make compat-diff DIFF_ARGS="--seeds 0..200"
	$(CARGO_TARGET_DIR)/release/compat-diff $(DIFF_ARGS)

# Runs the product's own code under faults, from seeds: docs/simulation.md.
SEEDS ?= 100
sim: ## Simulate: make sim SEEDS=100, or one seed with its trace: make sim SEED=7
	@$(CARGO) run --quiet --release -p oxkeeper-zk-sim --bin simulate -- $(or $(SEED),0..$(SEEDS))

# Loads Apache ZooKeeper and this server in turn, and writes docs/benchmarks.md. Wants a quiet machine.
BENCH_ARGS ?=
bench: packages-test build ## Measure against Apache ZooKeeper: make bench BENCH_ARGS="--rounds 5 --large"
	$(CARGO_TARGET_DIR)/release/bench $(BENCH_ARGS)

rocksdb-note:
	@ls $(CARGO_TARGET_DIR)/release/deps/liblibrocksdb_sys-*.rlib >/dev/null 2>&1 || \
		echo "RocksDB is compiled first, once: about a quarter of an hour on two cores. cargo shows other names meanwhile."

packages-run:
	@.ci/packages run

packages-test:
	@.ci/packages test

packages-compat:
	@.ci/packages compat
