# Everything installs into .venv by itself; `make help` lists the targets.
PYTHON ?= python3
WORKERS ?= 2

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet
MEASURED := device graph engine runtime
COVERAGE := 90

# PoCL links its kernels with the system's linker; where there is none, with the ziglang wheel's.
LINKER = $(shell echo 'int x;' | gcc -shared -x c - -o /dev/null 2>/dev/null || echo ,linker)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-slow test-exports conformance bench bench-memory bench-serve soak isa check docs clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.demo ## a real network names a real photograph on an OpenCL device
	@$(BIN)/rekindle demo

test: $(VENV)/.test ## every test but the slow ones, with coverage
	$(BIN)/pytest -m "not slow" -n $(WORKERS) --dist loadfile --cov --cov-report=
	@for room in $(MEASURED); do printf 'lines covered in %-8s' $$room; \
	  $(BIN)/coverage report --include="src/rekindle/$$room/*" --format=total --fail-under=$(COVERAGE) \
	  || { echo "less than $(COVERAGE) %"; exit 1; }; done

test-slow: $(VENV)/.test ## the slow tests
	$(BIN)/pytest -m "slow and not matrix"

test-exports: $(VENV)/.test ## every network of tests/exports by every exporter and opset
	$(BIN)/pytest tests/exports

conformance: $(VENV)/.test ## ONNX's own node tests on PoCL and Rusticl, counted
	$(BIN)/python tests/conformance/report.py --json docs/conformance.json

bench: $(VENV)/.bench ## speed against other engines; hours from scratch: BENCH='--models resnet18 --batch 1'
	$(BIN)/python benchmarks/speed.py $(BENCH)

bench-memory: $(VENV)/.test ## memory plans of full-size networks, for an RX 580 and a CPU
	$(BIN)/python benchmarks/memory.py

bench-serve: $(VENV)/.test ## the server: overhead, batching, overload, lost workers, other servers
	$(BIN)/python benchmarks/serve.py $(BENCH)

soak: $(VENV)/.test ## the server: 500 times a model is loaded and unloaded; memory stays flat
	$(BIN)/python benchmarks/soak.py

isa: $(VENV)/.test ## the instructions of our kernels on Polaris (gfx803), held to what they promise
	$(BIN)/python benchmarks/isa.py --json benchmarks/results/isa.json

check: $(VENV)/.check ## style, types, import layers, fresh generated docs
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/generate.py --check

docs: $(VENV)/.docs ## write the generated pages and build the site into site/
	$(BIN)/python docs/generate.py
	$(BIN)/zensical build --clean

clean: ## remove .venv and everything built
	rm -rf $(VENV) site build dist .coverage* .hypothesis .*_cache

# A stamp is older than pyproject.toml, or not there: install again. Otherwise nothing happens.
$(VENV)/.python:
	@command -v $(PYTHON) >/dev/null || \
	  { echo "make: $(PYTHON) was not found. Debian, Ubuntu: apt-get install python3 python3-venv"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "make: Rekindle needs Python 3.11 or newer; $(PYTHON) is `$(PYTHON) --version 2>&1`." \
	         "Name another one: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "make: $(PYTHON) comes without venv. Debian, Ubuntu: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade 'pip>=25.1'
	@touch $@

$(VENV)/.demo: $(VENV)/.python pyproject.toml
	@echo "Installing Rekindle into $(VENV) (once) ..."
	$(PIP) -e '.[demo$(LINKER)]'
	@touch $@

$(VENV)/.test: $(VENV)/.demo
	$(PIP) -e '.[demo,otel,torch,web$(LINKER)]' --group test
	@touch $@

$(VENV)/.bench: $(VENV)/.test
	$(PIP) --group bench
	@touch $@

$(VENV)/.check: $(VENV)/.test
	$(PIP) --group check
	@touch $@

$(VENV)/.docs: $(VENV)/.demo
	$(PIP) --group docs
	@touch $@
