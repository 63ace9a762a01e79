# Two commands: `make demo` and `make test`. Both install first; nothing happens there when nothing changed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TEST_PROCESSES ?= 2
UV := $(shell command -v uv 2>/dev/null || echo $(BIN)/uv)

.PHONY: install demo test lint format lock clean
.DELETE_ON_ERROR:

install: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' || \
	  { echo "error: $(PYTHON) is not Python 3.11, 3.12 or 3.13: set PYTHON=python3.12, say" >&2; exit 2; }
	@test -x $(BIN)/python || { command -v uv >/dev/null && uv venv -q --python $(PYTHON) $(VENV); } || $(PYTHON) -m venv $(VENV) || \
	  { echo "error: $(PYTHON) cannot make a virtual environment: install python3-venv, or uv" >&2; exit 2; }
	@test -x "$(UV)" || $(BIN)/python -m pip install -q --disable-pip-version-check uv
	$(UV) pip sync -q --python $(BIN)/python --require-hashes --compile-bytecode requirements.lock
	$(UV) pip install -q --python $(BIN)/python --no-deps -e .
	@touch $@

demo: install
	$(BIN)/python experiments/run.py

test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock:
	$(UV) pip compile -q --universal --generate-hashes --python-version 3.11 --extra dev \
	  --custom-compile-command "make lock" --upgrade pyproject.toml -o requirements.lock

clean:
	rm -rf $(VENV) prepared runs
