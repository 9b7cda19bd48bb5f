# Everything runs in .venv, which `make` fills once and again whenever pyproject.toml or constraints.txt changes.

PYTHON ?= python3
WORKERS ?= 2
PYTEST_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PIP_FLAGS := -q --disable-pip-version-check
# A file stays with one worker: its fixtures are made, and its functions compiled, once.
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(PYTEST_ARGS)

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow test-pandas2 test-extras test-lowest lint format types docs dist notebooks constraints clean

help:  ## list these targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  PYTHON=$(PYTHON) makes the environment, WORKERS=$(WORKERS) processes run the tests."

setup: $(INSTALLED)  ## create the environment and install the package in it

$(INSTALLED): pyproject.toml constraints.txt
	@if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
	  $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo "aevb needs Python 3.11 or newer, and '$(PYTHON)' is not that." >&2; \
	    echo "Name one that is: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }; \
	  $(PYTHON) -m venv --clear $(VENV) || { \
	    echo "'$(PYTHON) -m venv' failed; on Debian and Ubuntu, python3-venv provides it." >&2; exit 1; }; \
	fi
	@echo "Installing aevb and its tools into $(VENV) (once; about a minute)"
	@$(BIN)/python -m pip install $(PIP_FLAGS) -c constraints.txt -e '.[dev,docs,release]'
	@touch $@

demo: $(INSTALLED)  ## fit the digits, print the table, save the model and pictures
	$(BIN)/aevb demo

# Compiling is most of what the tests do. It takes half the time without XLA's optimizations and its
# newer code generator, and half of that again where an earlier run left its programs in the cache.
# The demo, and pages, notebooks, examples and long fits among the slow tests, run as they do for users.
AS_USERS := $(addprefix tests/,test_docs.py test_examples.py test_notebooks.py test_readme.py \
  test_vae.py experiments)
COMPILE_FAST := JAX_DISABLE_MOST_OPTIMIZATIONS=1 XLA_FLAGS=--xla_cpu_use_fusion_emitters=false
test test-slow test-pandas2: export JAX_COMPILATION_CACHE_DIR := $(CURDIR)/.jax_cache
test test-slow test-pandas2: export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS := 0
test: $(INSTALLED)  ## run the tests and the docstrings' examples, without the slow tests
	$(COMPILE_FAST) $(PYTEST) --doctest-modules src tests -m "not slow"

test-pandas2: $(INSTALLED)  ## run the tests of tables and AnnData with pandas 2
	$(BIN)/python -m venv --clear build/pandas2
	grep -v "^pandas==" constraints.txt > build/pandas2/constraints.txt
	build/pandas2/bin/python -m pip install $(PIP_FLAGS) -c build/pandas2/constraints.txt -e ".[data,plot]" "anndata>=0.12" pytest polars
	$(COMPILE_FAST) build/pandas2/bin/python -m pytest -q tests/test_anndata.py tests/test_columns.py tests/data/test_tables.py

EXTRAS ?= plot data stream flows mcmc onnx serve widget hub mlflow wandb tensorboard
test-extras: $(INSTALLED)  ## install each extra alone, and try what it is for (EXTRAS=serve: one)
	rm -rf dist
	$(BIN)/python -m build --no-isolation --wheel --outdir dist . >/dev/null
	set -e; for extra in $(EXTRAS); do \
	  $(BIN)/python -m venv --clear build/extra; \
	  build/extra/bin/python -m pip install $(PIP_FLAGS) -c constraints.txt "$$(echo dist/*.whl)[$$extra]"; \
	  build/extra/bin/python -W error::DeprecationWarning:aevb tests/one_extra.py $$extra; \
	done

TEST_TOOLS := pytest pytest-xdist hypothesis beartype alembic distributed flax grain httpx onnxruntime polars sqlalchemy
test-lowest: $(INSTALLED)  ## run the tests with the lowest versions that pyproject.toml allows
	$(BIN)/python -m venv --clear build/lowest
	$(BIN)/python tests/lowest.py > build/lowest.txt
	build/lowest/bin/python -m pip install $(PIP_FLAGS) -c build/lowest.txt ".[all]"
	build/lowest/bin/python -m pip install $(PIP_FLAGS) -c build/lowest.txt $(TEST_TOOLS)
	$(COMPILE_FAST) build/lowest/bin/python -m pytest -n $(WORKERS) --dist loadfile -o filterwarnings=ignore tests -m "not slow"

test-slow: $(INSTALLED)  ## run the slow tests
	$(COMPILE_FAST) $(PYTEST) --doctest-modules src tests $(addprefix --ignore=,$(AS_USERS)) -m slow
	$(PYTEST) --dist load $(AS_USERS) -m slow

lint: $(INSTALLED)  ## check style and formatting
	$(BIN)/ruff check --no-cache
	$(BIN)/ruff format --check

format: $(INSTALLED)  ## mend what the linter and the formatter can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

types: $(INSTALLED)  ## check the type hints
	$(BIN)/mypy

docs: $(INSTALLED)  ## build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

dist: $(INSTALLED)  ## build sdist and wheel, check them, run the README's examples with the wheel alone
	rm -rf dist build/wheel
	$(BIN)/python -m build --no-isolation --outdir dist . >/dev/null
	$(BIN)/twine check --strict dist/*
	$(BIN)/python -m venv build/wheel
	build/wheel/bin/python -m pip install $(PIP_FLAGS) -c constraints.txt dist/*.whl pytest
	cd build && wheel/bin/aevb --version && wheel/bin/python -m pytest -q ../tests/test_readme.py

notebooks: $(INSTALLED)  ## execute the notebooks and write docs/notebooks, a quarter of an hour (NOTEBOOKS=mnist: one)
	$(BIN)/python -m pip install $(PIP_FLAGS) -c constraints.txt -e '.[notebooks]'
	$(BIN)/python examples/notebooks/render.py $(NOTEBOOKS)

constraints:  ## renew constraints.txt from a fresh resolve
	$(PYTHON) -m venv --clear .constraints-venv
	.constraints-venv/bin/python -m pip install $(PIP_FLAGS) -e '.[dev,docs,release,notebooks]'
	{ grep '^#' constraints.txt; .constraints-venv/bin/python -m pip freeze --exclude-editable | LC_ALL=C sort -f; } > .constraints-venv/new
	mv .constraints-venv/new constraints.txt
	rm -rf .constraints-venv

clean:  ## remove the environment, the caches and what was built
	rm -rf $(VENV) .constraints-venv .hypothesis .jax_cache .mypy_cache .pytest_cache .ruff_cache build dist site aevb-demo
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
