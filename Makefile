# Every target sets up what it needs; nothing has to be run before.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SOURCES := setup.py $(shell find meshproxy filters -name '*.py')
# The data path compiled, beside its sources (plain Python where there is no C compiler).
COMPILED := .cache/compiled
WITH_COMPILED := PYTHONPATH=$(CURDIR)/$(COMPILED)
# What runs compiled in an installed meshproxy is tested in both forms.
TESTS_OF_DATA_PATH := $(addprefix tests/,wire trace linking filters export transport e2e) tests/sidecar/test_filters.py

.PHONY: demo test test-compiled test-services lint bench bench-kafka compiled lock clean

demo: $(COMPILED)/.ready
	@$(WITH_COMPILED) $(BIN)/meshproxy demo $(ARGS)

test: $(READY)
	@tests/setup.sh
	$(BIN)/pytest -m "not services" $(ARGS)
	$(MAKE) --no-print-directory test-compiled

test-compiled: $(COMPILED)/.ready
	$(WITH_COMPILED) $(BIN)/pytest -m "not services" $(TESTS_OF_DATA_PATH)

test-services: $(COMPILED)/.ready
	@PATH="$(CURDIR)/$(BIN):$$PATH" tests/services/setup.sh
	$(WITH_COMPILED) $(BIN)/pytest -m services $(ARGS)

compiled: $(COMPILED)/.ready

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(COMPILED)/.ready
	@PATH="$(CURDIR)/$(BIN):$$PATH" loadtest/setup.sh
	$(WITH_COMPILED) $(BIN)/python -m loadtest.bench $(ARGS)

bench-kafka: $(COMPILED)/.ready
	@PATH="$(CURDIR)/$(BIN):$$PATH" tests/services/setup.sh kafka
	@loadtest/kafka/setup.sh
	$(WITH_COMPILED) $(BIN)/python -m loadtest.kafka $(ARGS)

$(READY): pyproject.toml requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@rm -rf meshproxy.egg-info # an older one would tell of older entry points
	$(BIN)/pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@

$(COMPILED)/.ready: $(READY) $(SOURCES)
	@echo "compiling the data path (some minutes)"
	@rm -rf $(COMPILED) && mkdir -p .cache
	@$(BIN)/python -W ignore setup.py --quiet build --build-base .cache/build --build-lib $(COMPILED) \
	  > .cache/build.log 2>&1 || (cat .cache/build.log; exit 1)
	@$(BIN)/python -m compileall -q $(COMPILED)
	@touch $@

# Renew the exact versions (needs uv, from PyPI).
lock:
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --extra dev \
	  --no-emit-index-url --output-file requirements.lock pyproject.toml

clean:
	rm -rf $(VENV) .cache build dist *.egg-info
