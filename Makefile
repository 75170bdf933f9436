# A fresh machine needs Python 3.10+ and make; everything else goes into .venv.
PYTHON ?= python3
BIN := .venv/bin
BASE := .venv/.usable
STAMP := .venv/.installed
TESTS ?= tests

.PHONY: help quickstart test test-slow slow soak coverage lint site clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | awk -F '\t' '{ printf "make %-12s%s\n", $$1, $$2 }'

$(BASE): setup.py
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e .
	touch $(BASE)

$(STAMP): $(BASE)
	$(BIN)/python -m pip install --quiet -e ".[dev,docs,tensorboard]"
	touch $(STAMP)

quickstart: $(BASE)  ## train two teachers and 108 students on the bundled digits, print the comparison
	$(BIN)/kdbench grid configs/grids/quickstart.yaml
	$(BIN)/kdbench table runs/quickstart --out runs/quickstart

test: lint  ## check style and types, run the tests
	$(BIN)/python -m pytest -n 2

test-slow: $(STAMP)  ## run the tests that take minutes
	$(BIN)/python -m pytest -m slow

slow: $(STAMP)  ## list the tests that take minutes, by file
	$(BIN)/python -m pytest -m slow --collect-only -q

soak: $(STAMP)  ## ten minutes of accidents: kills, signals, damaged and hostile files, full disks (docs/trust.md)
	$(BIN)/python tools/soak.py

coverage: $(STAMP)  ## run the tests and report the lines that none of them reaches (TESTS=tests/data: of a folder)
	$(BIN)/python -m pytest -n 2 --cov --cov-report=term $(TESTS)

lint: $(STAMP)  ## check style and types
	$(BIN)/ruff check .
	$(BIN)/mypy

site: $(STAMP)  ## build the documentation as a site in site/
	$(BIN)/mkdocs build --strict

clean:  ## delete .venv, runs and builds
	rm -rf .venv runs build site *.egg-info
