# What people and CI type. `make help` lists it.
CARGO ?= cargo
PREFIX ?= $(HOME)/.local
BIN_DIR ?= $(HOME)/.claude-mem-minio/bin
TARGET_DIR := $(abspath $(or $(CARGO_TARGET_DIR),target))

LATENCY_ROUNDS ?= 20
LATENCY_MB ?= 100

.PHONY: help build test test-claude-mem test-page test-servers lint fmt deny demo release bench bench-context bench-memory bench-rows bench-latency soak power-cuts coverage mutants load-fleet fuzz dist \
	test-dist test-packages deb reproducible install uninstall

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## Development build of everything; tests and the demo use the same
	$(CARGO) build --locked --all-targets

# Tests wait for stores, workers and locks more than they compute: several at a time for each core.
test: ## All tests
	RUST_TEST_THREADS=$${RUST_TEST_THREADS:-$$(($$(getconf _NPROCESSORS_ONLN) * 4))} $(CARGO) test --locked

test-claude-mem: ## Tests with the real claude-mem worker of three releases, from npm; says so where npm is missing
	CARGO=$(CARGO) tests/claude-mem/run.sh

test-page: ## The server's page in headless Chromium; says so where chromium or chromedriver is missing
	@if command -v chromium >/dev/null && command -v chromedriver >/dev/null; then \
	    $(CARGO) test --locked --test it -- --ignored --test-threads=1 fleet_page::; \
	else \
	    echo "skipped: no chromium here; on Debian: apt-get install --no-install-recommends chromium chromium-driver"; \
	fi

# S3 servers: installed, started on random ports, tested, stopped; ends with a table server × property.
# SERVERS="conforming directory moto rclone s3s-fs" picks some; ROUNDS sets the rounds of the race (20).
test-servers: ## Run the contract and the races on our server's modes, a directory, moto, rclone and s3s-fs
	tests/servers/run.sh $(SERVERS)

lint: ## Format and lint checks, as CI runs them
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings

fmt: ## Format the sources
	$(CARGO) fmt

deny: ## Licences, sources, duplicate and banned crates; DENY_CHECKS=advisories too where its database can be fetched
	scripts/deny.sh $(DENY_CHECKS)

demo: ## Two machines, a push and a pull, over a directory and over S3
	$(CARGO) build --locked --bin membridge --example demo
	MEMBRIDGE_BIN=$(TARGET_DIR)/debug/membridge $(TARGET_DIR)/debug/examples/demo

release: ## Optimised build for this machine
	$(CARGO) build --locked --release --bin membridge

# What it costs, measured on the release binary.
bench: release ## What it costs beside Python with whole files, rclone, restic and the floor; writes docs/benchmarks.md (SIZES="3 100 1000" ROUNDS=5)
	$(CARGO) build --locked --example bench
	BENCH_TOOLS=$$(scripts/bench.sh $(TARGET_DIR)/bench-tools) MEMBRIDGE_BIN=$(TARGET_DIR)/release/membridge \
	    $(TARGET_DIR)/debug/examples/bench $(or $(ROUNDS),3) $(or $(SIZES),3 100) docs

bench-memory: release ## Peak memory of pushes and pulls of a 1 GB database, full and by delta: under 24 MB or it fails
	$(CARGO) build --locked --example bench_memory
	MEMBRIDGE_BIN=$(TARGET_DIR)/release/membridge $(TARGET_DIR)/debug/examples/bench_memory $(or $(MEGABYTES),1000) 24

bench-context: ## In how many sessions that start claude-mem's context has what another machine recorded a moment ago
	MEMBRIDGE_WORKER_TESTS="--ignored session_context::" tests/claude-mem/run.sh

bench-rows: release ## What the row log costs on 100 MB: first publish, a session published and collected, nothing new; the same sealed, as ratios; a year of folding
	$(CARGO) build --locked --example bench_rows
	MEMBRIDGE_BIN=$(TARGET_DIR)/release/membridge $(TARGET_DIR)/debug/examples/bench_rows $(or $(MEGABYTES),100)

# How long people and Claude Code wait. Figures depend on the machine: read the ratios.
bench-latency: release ## Milliseconds of status and of the hooks, fastest and median, beside the shortest command
	$(CARGO) build --locked --example bench_latency
	MEMBRIDGE_BIN=$(TARGET_DIR)/release/membridge $(TARGET_DIR)/debug/examples/bench_latency $(LATENCY_ROUNDS) $(LATENCY_MB)

# The long runs.
soak: ## Thousands of random lives of rows and of fleets (FLEET_SEED, FLEET_CASES, FLEET_FROM), random pushes (SOAK_SEED), each request of a push cut
	$(CARGO) test --locked --test it -- --ignored --nocapture soak:: cuts:: fleet_model::faults::

power-cuts: ## Two hundred power cuts in a publish, an arrival, an archive and a restore (POWER_CUTS for each, POWER_SEED for one)
	$(CARGO) test --locked --test it -- --ignored --nocapture power_cuts::

coverage: ## Lines that the tests run, by folder, and those that none runs; fails under 90 % where the promise rests
	scripts/coverage.sh

mutants: ## Mutants of the deciding modules (MUTANTS_FILES), or of what changed (SINCE="1 day ago"), each against the unit tests
	scripts/mutants.sh

load-fleet: release ## What the server bears: 1,000 heartbeats a second for LOAD_SECONDS (30), 10,000 jobs, 10,000 silent connections
	MEMBRIDGE_BIN=$(TARGET_DIR)/release/membridge $(CARGO) test --locked --test it -- --ignored --nocapture fleet_load::

fuzz: ## Each decoder's fuzz target for FUZZ_SECONDS (60), on samples that a test writes
	FUZZ_SEEDS=$(TARGET_DIR)/fuzz/seeds $(CARGO) test --locked --test it -- --exact fuzz::the_decoders_survive_mutated_samples
	scripts/fuzz.sh $(or $(FUZZ_SECONDS),60)

dist: ## Static binaries, checksums and SBOM in dist/
	scripts/dist.sh

test-dist: ## Run what is in dist/: natively, and under qemu-user for the other architectures
	$(CARGO) build --locked --example bench_memory --example tour
	EXAMPLES=$(TARGET_DIR)/debug/examples scripts/test-dist.sh

test-packages: ## Try what is around the binaries of dist/: scripts, units, install.sh, .deb, APKBUILD, SBOM, workflows
	scripts/test-packages.sh

deb: ## .deb packages of what is in dist/
	packaging/debian/all.sh

reproducible: ## Build twice in two folders and compare the bytes
	scripts/reproducible.sh

install: release ## Install the binary and the hook scripts for this user
	scripts/install-local.sh install "$(TARGET_DIR)/release/membridge" "$(DESTDIR)$(PREFIX)/bin" "$(DESTDIR)$(BIN_DIR)"

uninstall: ## Remove what `make install` installed; settings, memory and state stay
	scripts/install-local.sh uninstall - "$(DESTDIR)$(PREFIX)/bin" "$(DESTDIR)$(BIN_DIR)"
