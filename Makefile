# One profile and one target folder for running, testing and measuring: RocksDB takes about 40
# CPU-minutes to build, and a second profile or folder would build it again. The folder lies outside
# the checkout, so that a fresh clone finds it. Set CARGO_TARGET_DIR for another place.
CACHE_HOME := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)
CARGO_TARGET_DIR ?= $(CACHE_HOME)/oxkeeper/target
export CARGO_TARGET_DIR
export PATH := $(PATH):$(HOME)/.cargo/bin

CARGO ?= cargo
OXKEEPER := $(CARGO_TARGET_DIR)/release/oxkeeper
export OXKEEPER_BIN := $(OXKEEPER)

.DEFAULT_GOAL := help
.PHONY: help run build test check unit compat compat-diff clients clients-fast bench
.PHONY: packages-run packages-test packages-compat

help: ## Show what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: packages-run build ## Set up, build and start a server: make run ARGS="--client-port 2182"
	@$(OXKEEPER) standalone $(ARGS)

build: ## Build the binary
	$(CARGO) build --release --workspace

test: packages-test check unit clients-fast ## Set up and pass all tests

check: ## Formatting and lints
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --release -- -D warnings

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

# Loads Apache ZooKeeper and this server in turn, and writes docs/benchmarks.md. Wants a quiet machine.
BENCH_ARGS ?=
bench: packages-test build ## Measure against Apache ZooKeeper: make bench BENCH_ARGS="--rounds 5 --large"
	$(CARGO_TARGET_DIR)/release/bench $(BENCH_ARGS)

packages-run:
	@.ci/packages run

packages-test:
	@.ci/packages test

packages-compat:
	@.ci/packages compat
