# `make demo` and `make test` are all that a fresh machine needs: both make what they use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CODE := citewell service workers tests bench examples

.DEFAULT_GOAL := help
.PHONY: help demo test check format types check-compose clean

help:
	@echo "make demo           load examples/shop and ask it a question in each of its languages"
	@echo "make test           run the whole test suite (servers: see CONTRIBUTING.md)"
	@echo "make check          ruff, mypy --strict and the rules of the house"
	@echo "make check-compose  build, start, use and remove the served stack with Docker Compose"
	@echo "make format         let ruff put the code in shape"

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON) is older than Python 3.11"; echo "remedy: make PYTHON=python3.12 demo"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { echo "remedy: install your system's venv module, for example: apt-get install python3-venv"; exit 1; }
	@echo "Installing into $(VENV): some minutes the first time (PyTorch is large)."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: $(VENV)/.installed
	@HF_HUB_OFFLINE=1 CITEWELL_DATA_DIR=build/demo $(BIN)/python examples/demo.py

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest $(ARGS)

check: $(VENV)/.installed-dev types
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	MYPYPATH=build/types $(BIN)/mypy -p citewell
	$(BIN)/mypy --explicit-package-bases tests bench examples
	$(BIN)/python -m pytest -q tests/test_house.py

# The three top-level folders are installed under `citewell`; links lay the tree out that way for mypy.
types:
	@rm -rf build/types && mkdir -p build/types/citewell
	@ln -sfn $(CURDIR)/citewell/* $(CURDIR)/service $(CURDIR)/workers $(CURDIR)/es_mappings build/types/citewell/

format: $(VENV)/.installed-dev
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix $(CODE)

check-compose:
	deploy/docker/check-compose.sh

clean:
	rm -rf build .pytest_cache .mypy_cache .ruff_cache .hypothesis
