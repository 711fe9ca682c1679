# Every target sets up what it needs: a virtual environment in .venv with the files of requirements-develop.lock, checked
# by their hashes, and PyTorch in the version of constraints.txt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# One process per core; each runs whole files. The tests start many more processes, which reuse compiled modules only if
# Python may write them.
TESTS := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest \
	--numprocesses logical --maxprocesses 8 --dist loadfile --no-loadscope-reorder

.PHONY: test test-without-bfloat16 check house lock sbom check-lock demo format clean
.DEFAULT_GOAL := test

$(READY): pyproject.toml constraints.txt requirements-develop.lock
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements-develop.lock
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

test: $(READY)  ## all tests
	$(TESTS)

test-without-bfloat16: $(READY)  ## tests that depend on arithmetic, without bfloat16
	DIPTYCH_BFLOAT16=0 $(TESTS) -m precision

check: $(READY)  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

house: $(READY)  ## the order of the modules in every folder, and circles of imports
	$(BIN)/python tests/house.py

lock: $(READY)  ## both locks, after pyproject.toml or constraints.txt changed
	$(BIN)/python dependencies/lock.py

sbom: $(READY)  ## sbom.cdx.json and the licences in THIRD-PARTY-NOTICES.md, after the locks or the bundled model changed
	$(BIN)/python dependencies/sbom.py

check-lock: $(READY)  ## whether the locks and the SBOM are up to date and fit together
	$(BIN)/python dependencies/lock.py --check
	$(BIN)/python dependencies/sbom.py --check
	$(BIN)/python -m pip check

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

demo: $(READY)  ## searches, classifies and compares pictures; writes demo/report.html
	$(BIN)/python examples/demo.py

clean:
	rm -rf $(VENV) demo build dist
