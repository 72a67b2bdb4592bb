# `make repro` and `make test` need nothing but Python 3.11 or newer: both make .venv first.
PYTHON ?= python3
VENV := .venv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: setup repository repro bench test lint storm

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

repro: setup ## a first look: the whole pipeline with one system of each kind, up to data/report/index.html
	$(VENV)/bin/dvc repro

SWEEPS ?= seeds seeds-album films maccap
bench: setup ## every system, then seeds (and SWEEPS="knight-k table-4 ..."): goes on where it was interrupted; hours
	@cmp -s params.yaml presets/bench.yaml || git diff --quiet params.yaml || { echo "params.yaml has edits of yours: commit them first"; exit 1; }
	cp presets/bench.yaml params.yaml
	$(VENV)/bin/dvc repro
	for sweep in $(SWEEPS); do $(VENV)/bin/unpaired sweep $$sweep || exit 1; done
	$(VENV)/bin/dvc repro report
	@echo "git checkout params.yaml && dvc repro brings the first look back, out of DVC's cache"

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
