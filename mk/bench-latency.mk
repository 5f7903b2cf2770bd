# How long people and Claude Code wait. Figures depend on the machine: read the ratios.
LATENCY_ROUNDS ?= 20
LATENCY_MB ?= 100
.PHONY: bench-latency
bench-latency: release ## Milliseconds of status and of the hooks, fastest and median, beside the shortest command
	$(CARGO) build --locked --example bench_latency
	MEMBRIDGE_BIN=$(TARGET_DIR)/release/membridge $(TARGET_DIR)/debug/examples/bench_latency $(LATENCY_ROUNDS) $(LATENCY_MB)
