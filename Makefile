# Everything runs in .venv, which is made when it is needed.

DATA ?= .flowd
MANIFESTS ?= manifests/quickstart
LISTEN ?=
PYTHON ?= python3.13 python3.12 python3.11 python3
PYTEST_ARGS ?=
BENCH_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# An environment whose Python was removed or replaced is made anew, and filled anew.
$(shell test -x $(BIN)/python || rm -f $(VENV)/*.stamp)

.PHONY: help run test bench lint format schema client manual lock clean
.DEFAULT_GOAL := help

help: ## this list
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/\1|\2/p' Makefile | \
	    while IFS='|' read -r name text; do printf 'make %-8s %s\n' "$$name" "$$text"; done
	@echo
	@echo 'Variables: DATA, MANIFESTS, LISTEN (HOST:PORT or unix:PATH), PYTHON, PYTEST_ARGS, BENCH_ARGS'

# Steps find the environment's python3 first. exec: Ctrl-C reaches flowd, and nothing in between.
run: $(VENV)/run.stamp ## runs flowd on manifests/quickstart, with its data in .flowd
	@echo 'flowctl is $(BIN)/flowctl'
	@PATH="$(CURDIR)/$(BIN):$$PATH" exec $(BIN)/flowd \
	    --data '$(DATA)' --manifests '$(MANIFESTS)' $(if $(LISTEN),--listen '$(LISTEN)')

test: $(VENV)/test.stamp ## runs the tests; PYTEST_ARGS='-k drain' picks some
	$(BIN)/python -m pytest -n 2 --dist worksteal $(PYTEST_ARGS)

# Peers are installed into ~/.cache/flow-operator-bench; s6 only where it is already.
bench: $(VENV)/bench.stamp ## measures speed, writes docs/performance.md; BENCH_ARGS=--help tells more
	PYTHONPATH=benchmarks $(BIN)/python -m speed $(BENCH_ARGS)

lint: $(VENV)/dev.stamp ## checks style, types and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/dev.stamp ## formats the sources
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

schema: $(VENV)/run.stamp ## writes docs/flow.schema.json from the model
	@mkdir -p docs
	$(BIN)/python -m flow_operator.model.schema > docs/flow.schema.json.tmp
	@mv docs/flow.schema.json.tmp docs/flow.schema.json

client: $(VENV)/run.stamp ## writes the synchronous client from the asynchronous one
	$(BIN)/python -m flow_operator.client.generate

manual: $(VENV)/run.stamp ## writes docs/cli.md from the commands of flowctl
	$(BIN)/python -m flow_operator.flowctl.manual docs/tasks.yaml > docs/cli.md.tmp
	@mv docs/cli.md.tmp docs/cli.md
	$(BIN)/python -m flow_operator.flowctl.manual > docs/cli.md.tmp
	@mv docs/cli.md.tmp operator/flow_operator/flowctl/summaries.py

# For every Python and machine at once; uv tells the hashes of all files that an index has.
LOCK = $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
    --no-annotate --custom-compile-command 'make lock'
lock: $(VENV)/dev.stamp ## pins what the image installs, by hash
	$(LOCK) --extra container --output-file requirements.lock setup.py
	echo setuptools | $(LOCK) --output-file requirements-build.lock -

clean: ## removes .venv and caches, never the data
	rm -rf $(VENV) build dist operator/*.egg-info
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find operator tests manifests -name __pycache__ -type d -prune -exec rm -rf {} +

# --- the environment -------------------------------------------------------------------------

$(VENV)/run.stamp: EXTRAS :=
$(VENV)/bench.stamp: EXTRAS := [bench]
$(VENV)/test.stamp: EXTRAS := [test]
$(VENV)/dev.stamp: EXTRAS := [dev]
$(VENV)/run.stamp $(VENV)/bench.stamp $(VENV)/test.stamp $(VENV)/dev.stamp: setup.py | $(BIN)/python
	@echo 'Installing flow-operator$(EXTRAS) into $(VENV)'
	@$(PIP) --editable '.$(EXTRAS)'
	@touch $@

# The first of the candidates that is new enough and can make an environment.
$(BIN)/python:
	@old='flow-operator needs Python 3.11 or newer, and none of these is: $(PYTHON)'; why=$$old; \
	for python in $(PYTHON); do \
	    $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null || continue; \
	    $$python -m venv --clear $(VENV) > /dev/null 2>&1 && exit 0; \
	    test "$$why" != "$$old" || \
	        why="$$python cannot make an environment; install its venv and pip (on Debian: apt install $${python##*/}-venv)"; \
	done; \
	rm -rf $(VENV); echo "$$why" >&2; exit 1
