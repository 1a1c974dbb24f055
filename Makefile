# Two commands on a fresh machine: `make demo` and `make test`. Needs Python >= 3.11, pip and make.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: demo test lint format bench clean help

demo: $(READY)  ## set up, run the main job on the digits, print the table and the report's path
	@$(BIN)/paramdiff run experiment=digits

test: $(READY) lint  ## set up, check style, types and layers, run all tests
	@$(BIN)/python -m pytest -n auto --dist loadfile

lint: $(READY)
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

format: $(READY)  ## put the sources in order
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "paramdiff needs Python 3.11 or newer, this is " + sys.version.split()[0])'
	@echo "setting up $(VENV) (PyTorch is large: one to three minutes) ..."
	@test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[all,dev]'
	@touch $(READY)

bench: $(READY)  ## time every stage against the plain way, on PARAMDIFF_DATA=ROOT or random data
	@$(BIN)/python -m benchmarks

clean:  ## remove the environment and caches, keep runs/
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist

help:
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/:[^#]*##/\t/'
