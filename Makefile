# Two commands for newcomers: make demo, make test. Both make their own environment first.
VENV ?= .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null && echo $$p && break; done)
CUSTOMER := 59294462
EXTRAS ?= dev

.PHONY: demo fast test long lint check coverage docs pictures bench pins sbom audit torture
.DEFAULT_GOAL := demo

demo: $(VENV)/ready
	$(BIN)/amzrec train --run runs/demo --overwrite
	$(BIN)/amzrec recommend $(CUSTOMER) --run runs/demo
	$(BIN)/amzrec compare --overwrite
	@echo "Pictures: runs/demo/plots and runs/comparison.png"

fast: $(VENV)/ready  # at each save, in a minute
	$(BIN)/pytest -m "not slow and not long and not spark and not real"

test: $(VENV)/ready
	$(BIN)/pytest -m "not long and not spark"

long: $(VENV)/ready  # what `make test` leaves out: whole trainings, kills, two processes, Spark
	$(BIN)/pytest -m "long or spark"

lint: $(VENV)/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

check: lint test long

$(VENV)/ready: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "amzrec needs Python 3.11, 3.12 or 3.13: install one, or name it with PYTHON=..."; exit 1; }
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[$(EXTRAS)]'
	@touch $@

coverage: $(VENV)/ready  # which lines the tests run, line by line in build/coverage/index.html
	$(BIN)/pytest --cov --cov-report=term --cov-report=html:build/coverage

docs: $(VENV)/ready  # what docs/ takes from the code: every flag, every file
	$(BIN)/python scripts/write_docs.py

pictures: $(VENV)/ready  # those of the README; needs Chromium
	rm -rf build/pictures && mkdir -p build/pictures
	$(BIN)/amzrec describe --out build/pictures/sample.png
	cp build/pictures/sample.png docs/pictures/sample.png
	$(BIN)/amzrec compare --root build/pictures/compared
	cp build/pictures/compared/comparison.png docs/pictures/comparison.png
	$(BIN)/python scripts/page_pictures.py build/pictures/compared/joint $(CUSTOMER)

bench: $(VENV)/ready  # the tables of benchmarks/quality.md, in hours
	@test -n "$(DATA)" || { echo "make bench DATA=FOLDER: a folder with ml-100k, ml-1m, amazon_us_reviews and sequences"; exit 1; }
	$(BIN)/python scripts/bench/quality.py $(DATA) --out benchmarks/quality.md

torture: $(VENV)/ready  # kills, damaged files, full disks, commands in each other's way: an hour, or MINUTES=
	$(BIN)/python scripts/torture --minutes $(or $(MINUTES),60) --out benchmarks/reliability.md

pins: $(VENV)/ready
	(head -1 constraints.txt; $(BIN)/pip freeze --exclude-editable | sed 's/ @ .*//') > constraints.new
	mv constraints.new constraints.txt

sbom: $(VENV)/ready  # what is installed, as CycloneDX JSON beside a release
	$(BIN)/python scripts/sbom.py build/sbom.json

audit: constraints.txt  # known holes of what is pinned; asks the network
	test -x $(VENV)-audit/bin/pip-audit || { $(PYTHON) -m venv $(VENV)-audit && $(VENV)-audit/bin/pip install --quiet pip-audit; }
	$(VENV)-audit/bin/pip-audit --strict --no-deps --disable-pip --requirement constraints.txt
