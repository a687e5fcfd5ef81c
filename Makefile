# `make demo` trains a tiny SDXL end to end; `make test` is all that CI runs. Both make .venv when needed.

VENV := .venv
BIN := $(VENV)/bin
# The newest Python that torch's wheels know here; any from 3.11 on will do.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
export TORCH_EXTENSIONS_DIR := $(CURDIR)/$(VENV)/torch_extensions
STAMP := $(VENV)/.installed

.PHONY: demo test test-all format clean

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer with venv is needed (Debian, Ubuntu: apt install python3-venv python3-dev)"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(STAMP)
	$(BIN)/python -m launcher.train.demo examples/demo/assets
	$(BIN)/simpletuner-tui --replay examples/demo/answers.json

test: $(STAMP)
	@.ci/groups

test-all: $(STAMP)
	@.ci/groups --all

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) build *.egg-info examples/demo/assets
