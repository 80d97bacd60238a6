# make demo   set up, execute the quickstart notebook on the demo session, print its table (no account needed)
# make lab    open the notebooks in JupyterLab
# make test   set up, then everything that CI checks
# make lint   the checks that need no test run
# make test-6 the notebook and browser tests on ipykernel 6.31, which takes no clicks while a cell runs
# make docs   the README, all verbs, the Python API and the notebooks as pages in build/docs
# make bench  the benchmarks, by hand, on a quiet machine
# make clean  remove what the other targets made

PYTHON ?= python3
PYTEST_FLAGS ?=
VENV := .venv
BIN := $(VENV)/bin
VENV6 := .venv-ipykernel6
NOTEBOOK := notebooks/00_quickstart.ipynb

.DEFAULT_GOAL := help
.PHONY: help demo lab test test-6 lint docs bench clean

help:
	@sed -n 's/^# //p' $(firstword $(MAKEFILE_LIST)) | head -8

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) was not found: install Python 3.11 or later, or name yours: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than 3.11: name a later one, as in: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) cannot make virtual environments: on Debian and Ubuntu run 'apt install python3-venv', then make again"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.lab: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[lab]'
	@touch $@

$(VENV)/.test: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[lab,plots,export,test]'
	@touch $@ $(VENV)/.lab

demo: $(VENV)/.lab
	@$(BIN)/python -m claude_pool_nb.testing.notebooks $(NOTEBOOK)

lab: $(VENV)/.lab
	$(BIN)/jupyter lab $(NOTEBOOK)

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p claude_pool_nb
	$(BIN)/lint-imports

# The notebooks are run by nbval from within the tests. A home of its own: nobody's settings, account or ledger.
test: lint
	@command -v chromium chromium-browser google-chrome >/dev/null || echo "chromium is not installed: the browser tests are skipped (on Debian: apt install chromium)"
	@home=$$(mktemp -d) && trap 'rm -rf "$$home"' EXIT && \
	env HOME="$$home" XDG_CONFIG_HOME="$$home/config" XDG_DATA_HOME="$$home/data" XDG_CACHE_HOME="$$home/cache" \
	$(BIN)/python -m pytest --doctest-modules $(PYTEST_FLAGS) claude_pool_nb tests

$(VENV6)/.test: pyproject.toml | $(BIN)/python
	$(PYTHON) -m venv $(VENV6)
	$(VENV6)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[lab,plots,export,test]' 'ipykernel==6.31.*'
	@touch $@

test-6: $(VENV6)/.test
	@home=$$(mktemp -d) && trap 'rm -rf "$$home"' EXIT && \
	env HOME="$$home" XDG_CONFIG_HOME="$$home/config" XDG_DATA_HOME="$$home/data" XDG_CACHE_HOME="$$home/cache" \
	$(VENV6)/bin/python -m pytest $(PYTEST_FLAGS) tests/notebook tests/browser

$(VENV)/.docs: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	@touch $@

docs: $(VENV)/.docs
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going -c docs . build/docs
	@cp build/docs/README.html build/docs/index.html
	@echo "open build/docs/index.html"

bench: $(VENV)/.test
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) $(VENV6) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
