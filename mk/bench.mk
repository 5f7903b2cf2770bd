# What it costs, measured on the release binary; and the long runs.
.PHONY: bench-bytes bench-memory soak fuzz

bench-bytes: release ## Bytes and requests of a push and a pull on 100 MB, beside whole files, zstd and restic; disk writes, CPU
	@command -v restic >/dev/null || apt-get install -y --no-install-recommends restic >/dev/null 2>&1 || echo "restic cannot be installed here: its column is skipped"
	$(CARGO) build --locked --example bench_bytes
	MEMBRIDGE_BIN=$(TARGET_DIR)/release/membridge $(TARGET_DIR)/debug/examples/bench_bytes $(or $(MEGABYTES),100)

bench-memory: release ## Peak memory of pushes and pulls of a 1 GB database, full and by delta: under 24 MB or it fails
	$(CARGO) build --locked --example bench_memory
	MEMBRIDGE_BIN=$(TARGET_DIR)/release/membridge $(TARGET_DIR)/debug/examples/bench_memory $(or $(MEGABYTES),1000) 24

soak: ## 300 random pushes of two nodes and a Python node, and each request of a whole push cut (SOAK_SEED, SOAK_PUSHES)
	$(CARGO) test --locked --test it -- --ignored --nocapture soak:: cuts::

fuzz: ## Each decoder's fuzz target for FUZZ_SECONDS (60), on samples that a test writes
	FUZZ_SEEDS=$(TARGET_DIR)/fuzz/seeds $(CARGO) test --locked --test it -- --exact fuzz::the_decoders_survive_mutated_samples
	scripts/fuzz.sh $(or $(FUZZ_SECONDS),60)
