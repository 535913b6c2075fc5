# Needs git, make and Python 3.11 or newer; everything else is installed into .venv.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check
CODE := tfgrpo memory baselines cli tests benchmarks
# Small models run many times slower when several threads share busy cores.
export OMP_NUM_THREADS ?= 1

.PHONY: help test coverage lint format bench docs clean

help:
	@echo "make test      lint, types, import contracts and all tests, in .venv"
	@echo "make coverage  the tests again, and which lines they reach"
	@echo "make bench     the offline benchmark, in .venv"
	@echo "make lint      the checks of 'make test' without the tests"
	@echo "make format    rewrite the code in the house style"
	@echo "make docs      write the help of every command to docs/commands.md"
	@echo "make clean     remove what was built, .venv included"

test: lint
	$(BIN)/python -m pytest -n 2 --dist worksteal

# Apart, because measuring makes some tests take three times as long.
coverage: .venv/.dev
	$(BIN)/python -m pytest -n 2 --dist worksteal --cov --cov-report=term:skip-covered

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/.base
	$(BIN)/tfgrpo bench

docs: .venv/.base
	$(BIN)/python -m typer cli.main utils docs --name tfgrpo --output docs/commands.md

clean:
	rm -rf .venv build dist *.egg-info .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamps: each is as new as the pyproject.toml that it was installed from. .dev includes .base.
.venv/.made:
	@command -v $(PYTHON) >/dev/null || { echo "There is no $(PYTHON) here; install Python 3.11 or newer, or run: make PYTHON=/path/to/python"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "tfgrpo needs Python 3.11 or newer, but $(PYTHON) is $$($(PYTHON) -V); run: make PYTHON=/path/to/newer/python"; exit 1; }
	$(PYTHON) -m venv .venv
	@touch $@

.venv/.base: pyproject.toml .venv/.made
	@echo "Installing tfgrpo into .venv; the first time takes some minutes ..."
	$(PIP) -e .
	@touch $@

.venv/.dev: pyproject.toml .venv/.made
	@echo "Installing tfgrpo and its development tools into .venv; the first time takes some minutes ..."
	$(PIP) -e '.[dev]'
	@touch .venv/.base $@
