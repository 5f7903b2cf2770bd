# What people and CI type. `make help` lists it.
CARGO ?= cargo
PREFIX ?= $(HOME)/.local
BIN_DIR ?= $(HOME)/.claude-mem-minio/bin
TARGET_DIR := $(abspath $(or $(CARGO_TARGET_DIR),target))

# `make` alone lists the targets, whatever the parts declare first.
.DEFAULT_GOAL := help
include mk/*.mk

.PHONY: help build test test-claude-mem lint fmt deny demo release dist test-dist test-packages deb reproducible install uninstall

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## Development build of everything; tests and the demo use the same
	$(CARGO) build --locked --all-targets

test: ## All tests
	$(CARGO) test --locked

test-claude-mem: ## Tests with the real claude-mem worker of three releases, from npm; says so where npm is missing
	CARGO=$(CARGO) tests/claude-mem/run.sh

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
