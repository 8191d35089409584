# Two commands for a newcomer: `make run` trains a federated MeshNet between two demo sites, `make test` checks it all.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test lint types unit clean bench

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[demo,docker,dev]'
	touch $@

run: $(VENV)/.installed
	$(BIN)/coinstac-meshnet demo --output run

test: lint types unit

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed
	$(BIN)/mypy

unit: $(VENV)/.installed
	$(BIN)/python -m pytest

clean:
	rm -rf $(VENV) run build .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info
