# Every target sets up what it needs; nothing has to be run before.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test test-services lint bench lock clean

demo: $(READY)
	@$(BIN)/meshproxy demo $(ARGS)

test: $(READY)
	$(BIN)/pytest -m "not services" $(ARGS)

test-services: $(READY)
	@PATH="$(CURDIR)/$(BIN):$$PATH" tests/services/setup.sh
	$(BIN)/pytest -m services $(ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY)
	@PATH="$(CURDIR)/$(BIN):$$PATH" loadtest/setup.sh
	$(BIN)/python -m loadtest.bench $(ARGS)

$(READY): pyproject.toml requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@

# Renew the exact versions (needs uv, from PyPI).
lock:
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --extra dev \
	  --no-emit-index-url --output-file requirements.lock pyproject.toml

clean:
	rm -rf $(VENV) .cache build dist *.egg-info
