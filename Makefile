# Every target sets up what it needs: a virtual environment in .venv, with the very files that requirements-develop.lock
# names by their hashes, and PyTorch in the version of constraints.txt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# A process for each core, whole files to each; the tests start many more, each of which would compile the package anew
# if Python were not let keep what it compiled.
TESTS := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest \
	--numprocesses logical --maxprocesses 8 --dist loadfile --no-loadscope-reorder

.PHONY: test test-without-bfloat16 check lock sbom check-lock demo format clean
.DEFAULT_GOAL := test

$(READY): pyproject.toml constraints.txt requirements-develop.lock
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements-develop.lock
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

test: $(READY)  ## everything that users rely on
	$(TESTS)

test-without-bfloat16: $(READY)  ## what depends on the arithmetic, as on a processor that has no bfloat16
	DIPTYCH_BFLOAT16=0 $(TESTS) -m precision

check: $(READY)  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

lock: $(READY)  ## requirements.lock and requirements-develop.lock, after pyproject.toml or constraints.txt changed
	$(BIN)/python dependencies/lock.py

sbom: $(READY)  ## sbom.cdx.json and the licences in THIRD-PARTY-NOTICES.md, after the locks or the bundled model changed
	$(BIN)/python dependencies/sbom.py

check-lock: $(READY)  ## whether the locks and the SBOM are what they would be if they were made today, and fit together
	$(BIN)/python dependencies/lock.py --check
	$(BIN)/python dependencies/sbom.py --check
	$(BIN)/python -m pip check

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

demo: $(READY)  ## searches, classifies and compares real and drawn pictures; writes demo/report.html
	$(BIN)/python examples/demo.py

clean:
	rm -rf $(VENV) demo build dist
