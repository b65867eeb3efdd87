# Keyferry. `make help` says what there is.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
CARGO ?= cargo
ARGS ?=

.PHONY: help packages build demo test chaos memory bench reference lint manifests judges images pod-test host-test compose-test redteam fmt clean

help: ## This list
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

packages:
	@tests/setup/packages.sh

build: packages ## Builds broker, loader and local-dev (profile dev, opt-level 1)
	@echo "build: broker, loader, local-dev and the stand-ins; the first time takes some minutes"
	@$(CARGO) build --locked --workspace --bins

demo: build ## Moves sample tables from a local SQL Server to a local Snowflake and proves it (ARGS="--scale 0.1", "--keep")
	@target/debug/local-dev $(ARGS)

test: packages ## All tests that need only Rust, a C compiler and Debian's packages
	@tests/setup/test.sh

chaos: packages ## 300 runs whose loader or broker is killed (-9) half-way; counts what was lost or doubled (SEED=1 RUNS=300)
	@tests/setup/chaos.sh

memory: packages ## 200 million narrow rows and values of 64 MiB within 256 MiB; prints the loader's peak (ROWS=200000000 PROFILE=release)
	@tests/setup/memory.sh

bench: packages ## The loader and the broker beside other tools (release; needs Python 3); writes docs/benchmarks.md (ROWS=1000000 QUICK=1)
	@tests/setup/bench.sh

judges: packages ## Third-party clients against the stand-ins (needs Python 3, Node, a JDK with Maven; installs into target/judges)
	@tests/judges/run.sh

manifests: ## Everything in deploy/ against what will read it: Kubernetes' schemas, systemd, compose, ECS (needs Python 3 and Go)
	@tests/setup/manifests.sh

pod-test: packages ## The pods of deploy/kubernetes with podman, that of base/ as a kubelet runs it: the job, attacks from inside the loader's container, the drain (root; after `make images`)
	@tests/setup/pod.sh

host-test: packages ## deploy/systemd on a throw-away Debian with systemd in it: install, job by timer, attacks from inside the units, restarts, the stop (root)
	@tests/setup/host.sh

compose-test: packages ## deploy/compose with podman-compose: the job under production.yaml, then development.yaml (root; after `make images`; KEEP_IMAGE=1)
	@tests/setup/compose.sh

redteam: packages ## The tests of every row of SECURITY.md, as root; prints threat, control, outcome
	@tests/setup/redteam.sh

images: ## Both container images, built as the Dockerfiles say (podman; without a registry from Debian's packages), and a look at what is in them
	@tests/setup/images.sh

reference: packages ## Writes docs/configuration.md and docs/errors.md from the code
	@KEYFERRY_WRITE_REFERENCE=1 $(CARGO) test --locked --workspace --features keyferry-loader/failpoints --test e2e -- reference_

lint: packages ## rustfmt, clippy with warnings denied, and the dependency fence
	@tests/setup/map.sh --check
	@$(CARGO) fmt --all --check
	@$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	@if command -v cargo-deny >/dev/null 2>&1; then $(CARGO) deny --workspace check; else \
	  echo "lint: cargo-deny is not installed (cargo install --locked cargo-deny); the fence itself is also held by the boundary tests"; fi

fmt:
	@$(CARGO) fmt --all

clean: ## Removes what was built
	@$(CARGO) clean
