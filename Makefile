# A fresh machine needs Python 3.10+ and make; everything else goes into .venv.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: quickstart test test-slow lint clean

$(STAMP): setup.py
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e ".[dev,tensorboard]"
	touch $(STAMP)

quickstart: $(STAMP)  ## train two teachers and 39 students on the bundled digits, print the comparison
	$(BIN)/kdbench grid configs/grids/quickstart.yaml
	$(BIN)/kdbench table runs/quickstart --out runs/quickstart

test: $(STAMP)  ## lint, types, tests
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2

test-slow: $(STAMP)  ## the tests that take minutes
	$(BIN)/python -m pytest -m slow

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/mypy

clean:
	rm -rf .venv runs build *.egg-info
