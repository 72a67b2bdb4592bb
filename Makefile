# `make repro` and `make test` need nothing but Python 3.11 or newer: both make .venv first.
PYTHON ?= python3
VENV := .venv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: setup repository repro test lint storm sweeps

setup: repository $(VENV)/.installed

repository: # DVC refuses to work outside of one: said before the long installation
	@$(PYTHON) -c 'import pathlib, sys; here = pathlib.Path.cwd(); \
	    sys.exit(0 if any((folder / ".git").exists() for folder in (here, *here.parents)) else "DVC needs a git repository, and a ZIP \
	holds none: run `git init && git add --all && git commit --message start`, then the same command again")'

$(VENV)/.installed: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11 setup")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --require-hashes --requirement requirements.lock
	$(VENV)/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

repro: setup ## the whole pipeline on the embedded default, up to data/report/index.html
	$(VENV)/bin/dvc repro

test: setup lint ## style, types and every test
	$(VENV)/bin/python -m pytest

lint: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

STORMS ?= kills dvc-kills writers power-cuts damages names values inputs
ROUNDS ?= 100
SEED ?= 0
storm: setup ## what `make test` tries a few rounds of, at length (hours): make storm STORMS=kills ROUNDS=20 SEED=1
	for storm in $(STORMS); do $(VENV)/bin/python -m tests.storm $$storm --rounds $(ROUNDS) --seed $(SEED) || exit 1; done

sweeps: setup ## the tables over seeds, Knight's k, recipes and SynTIC's switches; finished rows are kept
	$(VENV)/bin/unpaired sweep seeds
	$(VENV)/bin/unpaired sweep seeds-album
	$(VENV)/bin/unpaired sweep knight-k
	$(VENV)/bin/unpaired sweep maccap
	$(VENV)/bin/unpaired sweep films
	$(VENV)/bin/unpaired sweep knight-film
	$(VENV)/bin/unpaired sweep maccap-small
	$(VENV)/bin/unpaired sweep recipe-4k
	$(VENV)/bin/unpaired sweep synthetic
	$(VENV)/bin/unpaired sweep table-4
	$(VENV)/bin/dvc repro report
