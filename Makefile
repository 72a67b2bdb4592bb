# `make repro` and `make test` need nothing but Python 3.11 or newer: both make .venv first.
PYTHON ?= python3
VENV := .venv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: setup repro test lint sweeps clean

setup: $(VENV)/.installed

$(VENV)/.installed: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11 setup")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --require-hashes --requirement requirements.lock
	$(VENV)/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

repro: setup ## the whole pipeline on the embedded default, up to data/report/index.html
	dvc repro

test: setup lint ## style, types and every test
	python -m pytest

lint: setup
	ruff check .
	mypy

sweeps: setup ## the tables over seeds and over Knight's k; finished rows are kept
	unpaired sweep seeds
	unpaired sweep knight-k
	dvc repro report
