# Targets for a bare machine: Python 3.11 to 3.13 with venv, and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := runs/demo
SETUP := $(VENV)/.setup
CODE := manifests dedup training pipelines tests benchmarks

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow check format clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: $(SETUP) ## make .venv and install the project into it

$(SETUP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=23.2"
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	@touch $(SETUP)

demo: setup ## draw 3,000 bedrooms, run every stage on them, and show what came out
	@test -e $(DEMO)/truth.parquet || { rm -rf $(DEMO)/rooms.lmdb; $(BIN)/dcgan draw rooms $(DEMO)/rooms.lmdb --images 3000; }
	@$(BIN)/dcgan run pipelines/recipes/demo.yaml --run $(DEMO)

test: setup ## all tests but the slow ones
	$(BIN)/python -m pytest -m "not slow"

test-slow: setup ## the long kill-and-restart tests
	$(BIN)/python -m pytest -m slow

check: setup ## ruff, format and mypy --strict
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy --strict $(CODE)

format: setup ## mend what ruff can mend
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

clean: ## delete the demo's run and the caches, not .venv
	rm -rf $(DEMO) .pytest_cache .ruff_cache .mypy_cache .hypothesis build *.egg-info
