# make demo: clips in, captions out.  make test: everything that has to hold; make test-tfio: the other audio decoder too; make test-flink: a cluster; make test-pages: a browser.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# tensorflow-io works with one old TensorFlow only, which excludes what Dataflow needs: an environment of its own.
TFIO_VENV := .venv-tfio
TFIO_BIN := $(TFIO_VENV)/bin
TFIO_READY := $(TFIO_VENV)/.ready

# Whoever sets this pays for it with seconds at every start: Beam and torch are thousands of files to compile.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: setup setup-tfio demo test test-tfio test-flink test-pages lint bench demo-models lock lock-tfio clean

setup: $(READY)

# uv installs the locked files, each checked against its hash; the project itself is linked in, not copied.
$(READY): requirements.lock setup.py
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Earshot needs Python 3.11 or newer; run: make PYTHON=python3.11 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet uv==0.13.8
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	touch $@

setup-tfio: $(TFIO_READY)

$(TFIO_READY): requirements-tfio.lock setup.py | setup
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(TFIO_VENV)
	$(BIN)/uv pip sync --quiet --python $(TFIO_BIN)/python --require-hashes requirements-tfio.lock
	$(BIN)/uv pip install --quiet --python $(TFIO_BIN)/python --no-deps --no-build-isolation --editable .
	touch $@

demo: setup
	$(BIN)/earshot demo

# Two tests at a time, each on one core; a file's tests stay together, because they share what they set up.
test: setup lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# The decoder that is not the default one (`decoder = "tensorflow-io"`), with the packages that it needs.
test-tfio: setup-tfio
	$(TFIO_BIN)/python -m pytest tests/tfio

# The demo profile on a real Flink cluster on this machine (Linux), also with one TaskManager killed.
test-flink: setup
	OMP_NUM_THREADS=1 EARSHOT_TEST_FLINK=1 $(BIN)/python -m pytest tests/flink

# The pages in a real browser: Chromium, from CHROMIUM=path, from the PATH, or as root from Debian's packages.
test-pages: setup
	tests/pages/chromium
	EARSHOT_TEST_PAGES=1 $(BIN)/python -m pytest tests/pages

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
	$(BIN)/python -m demo.train_objects
	$(BIN)/python -m demo.train_place
	$(BIN)/python -m demo.train_image_label
	$(BIN)/python -m demo.train_audio_caption
	$(BIN)/python -m demo.train_clap
	$(BIN)/python -m demo.train_writer
	$(BIN)/python -m demo.train_separation
	$(BIN)/python -m demo.train_speech
	$(BIN)/python -m demo.train_listener
	$(BIN)/python -m demo.train_video
	$(BIN)/python -m demo.train_fusion_tags
	$(BIN)/python -m demo.train_fusion_clap

lock: setup
	$(BIN)/uv pip compile setup.py --extra dev --extra gcp --generate-hashes --universal --python-version 3.11 --quiet --output-file requirements.lock

lock-tfio: setup
	$(BIN)/uv pip compile setup.py --extra tfio --extra test --generate-hashes --universal --python-version 3.11 --quiet --output-file requirements-tfio.lock

clean:
	rm -rf $(VENV) $(TFIO_VENV) .flink build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
