# Two commands on a fresh machine with Python and make: `make train` and `make test`.

# The first that runs and is 3.11 to 3.13; `make PYTHON=/path/to/python …` overrides it.
FITS := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for p in python3 python python3.13 python3.12 python3.11; do \
	$$p -c '$(FITS)' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
EPOCHS ?= 100
COVERAGE ?= --cov

.PHONY: help train test test-all lint types schemas bench gallery clean

help:
	@echo 'make train     install into .venv and train the default recipe ($(EPOCHS) epochs)'
	@echo 'make test      install into .venv and run the tests'
	@echo 'make test-all  the slow tests too'
	@echo 'make lint      ruff, formatting, and which package may import which'
	@echo 'make types     mypy --strict on all of src'
	@echo 'make schemas   write the JSON Schemas of what commands print, from their types'
	@echo 'make bench     time warm epochs and cold commands beside Keras, PyTorch and NumPy'
	@echo 'make gallery   train on synthetic digits and draw docs/gallery anew'
	@echo 'make clean     remove .venv and caches'

$(VENV)/.installed: pyproject.toml
	@test -n '$(PYTHON)' || { echo 'make: mnistcli needs Python 3.11, 3.12 or 3.13' >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo 'installing mnistcli into $(VENV) (TensorFlow takes half a minute)'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check 'pip>=25.1'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --group dev
	@touch $@

train: $(VENV)/.installed
	@$(BIN)/mnistcli train --epochs $(EPOCHS) --dataset auto

test: $(VENV)/.installed-dev
	@$(BIN)/python -m pytest $(COVERAGE) -n auto --dist loadfile

test-all: $(VENV)/.installed-dev
	@XLA_FLAGS= $(BIN)/python -m pytest --cov -n auto --dist loadfile -m 'slow or not slow'

lint: $(VENV)/.installed-dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports --no-logo --no-cache

types: $(VENV)/.installed-dev
	@$(BIN)/mypy

schemas: $(VENV)/.installed
	@$(BIN)/python docs/answer_schemas.py

bench: $(VENV)/.installed
	@$(BIN)/python benchmarks/warm_epochs.py
	@$(BIN)/python benchmarks/cold_commands.py

gallery: $(VENV)/.installed-dev
	@$(BIN)/python docs/gallery.py

clean:
	rm -rf $(VENV) .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis
