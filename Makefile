# make demo: clips in, captions out.  make test: everything that has to hold.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# Whoever sets this pays for it with seconds at every start: Beam and torch are thousands of files to compile.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: setup demo test lint bench demo-models lock clean

setup: $(READY)

# uv installs the locked files, each checked against its hash; the project itself is linked in, not copied.
$(READY): requirements.lock setup.py
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Earshot needs Python 3.11 or newer; run: make PYTHON=python3.11 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet uv==0.13.8
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	touch $@

demo: setup
	$(BIN)/earshot demo

test: setup lint
	$(BIN)/python -m pytest

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup
	$(BIN)/python -m benchmarks

demo-models: setup
	$(BIN)/python -m demo.train_image_caption
	$(BIN)/python -m demo.train_audio_tags
	$(BIN)/python -m demo.train_synchronisation

lock: setup
	$(BIN)/uv pip compile setup.py --extra dev --extra gcp --generate-hashes --universal --python-version 3.11 --quiet --output-file requirements.lock

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
