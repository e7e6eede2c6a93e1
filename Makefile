# Everything a contributor does, from a fresh machine with Python 3.11+, Node 20.16+ and npm.
# Each target sets up what it needs; a second call is quick. Run `make help` for the list.

PYTHON ?= python3
BIN := .venv/bin
STAMPS := .cache/stamps
RUNTIME_SOURCES := $(shell find runtime/src runtime/tools -type f 2>/dev/null) $(wildcard runtime/*.json)
PYTEST_FLAGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint format bench conformance build clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile | expand -t 20

setup: $(STAMPS)/python $(STAMPS)/runtime $(STAMPS)/chromium ## virtual environment, Node packages, built runtime, a browser

demo: setup ## convert a digit classifier and run it in a real browser on every backend
	$(BIN)/python examples/digits/demo.py

test: setup lint ## every check: format, lint, types, the runtime's own tests, pytest with real browsers
	$(BIN)/pytest $(PYTEST_FLAGS)

lint: $(STAMPS)/python $(STAMPS)/runtime ## format, lint and type checks, Python and TypeScript
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	runtime/node_modules/.bin/pyright --pythonpath $(BIN)/python
	npm run --prefix runtime --silent check

format: $(STAMPS)/python ## rewrite the sources as ruff formats them
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup $(STAMPS)/peers ## beside onnxruntime-web in one page of a real browser
	$(BIN)/python -m benchmarks.web

conformance: setup ## the suites on every backend in Chromium, judged by the reference; a page in report/
	$(BIN)/webdnn conformance --suite onnx,historical,contrib --html report --json report/report.json

build: setup ## wheel and source archive in dist/
	$(BIN)/python -m build --no-isolation

clean: ## remove everything that these targets made
	rm -rf .venv .cache dist build site report runtime/node_modules benchmarks/node_modules webdnn_onnx/_runtime
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(STAMPS)/python: requirements-dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "make setup: expected Python 3.11 or newer, got $$($(PYTHON) --version); set PYTHON=..." >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || { \
	  echo "make setup: cannot create .venv; on Debian: apt-get install python3-venv" >&2; rm -rf .venv; exit 1; }
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@mkdir -p $(@D) && touch $@

$(STAMPS)/node: runtime/package-lock.json
	@command -v npm >/dev/null || { \
	  echo "make setup: expected Node.js 20.16+ and npm on PATH, got none; on Debian: apt-get install nodejs npm" >&2; exit 1; }
	npm ci --prefix runtime --no-fund --no-audit --loglevel=error
	@mkdir -p $(@D) && touch $@

$(STAMPS)/peers: benchmarks/package-lock.json
	npm ci --prefix benchmarks --no-fund --no-audit --loglevel=error
	@mkdir -p $(@D) && touch $@

$(STAMPS)/runtime: $(STAMPS)/node $(RUNTIME_SOURCES)
	npm run --prefix runtime --silent build
	@mkdir -p $(@D) && touch $@

$(STAMPS)/chromium:
	@./.ci/chromium
	@mkdir -p $(@D) && touch $@
