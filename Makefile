# Every target sets up what it needs in $(VENV); the first run takes a minute, later ones nothing.
# CI=true tests the built wheel in place of the source tree, and a missing tool fails instead of skipping.

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
WORKERS ?= 3

BIN := $(abspath $(VENV))/bin
UV := VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/uv --quiet
RUN := PATH="$(BIN):$$PATH"
SHELL_FILES = .ci/run $(shell find bench ezbatch ezbatch_jupyter notebooks scripts tests -name '*.sh' 2>/dev/null)
LOCK := --universal --python-version 3.10 --generate-hashes --no-emit-index-url --upgrade --custom-compile-command 'make lock'
INSTALLED := $(if $(filter true,$(CI)),wheel,$(VENV)/.editable)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo test check lab bench soak lock clean wheel system-tools

help:  ## this list
	@awk -F ':.*##' '/^[a-z-]+:.*##/ { printf "  make %-8s%s\n", $$1, $$2 }' Makefile

demo: $(if $(wildcard $(VENV)/.dev),$(VENV)/.dev,$(VENV)/.demo) $(VENV)/.editable  ## a real pipeline on this machine, no account needed
	@$(RUN) python notebooks/run_demo.py $(ARGS)

# All of them side by side, since they mostly wait; tests/conftest.py says what stays together. Some in one process.
test: $(VENV)/.dev $(INSTALLED) system-tools  ## the tests (ARGS="-k name" for some of them)
	@$(RUN) pytest $(or $(ARGS),-n $(WORKERS) --dist loadgroup --max-worker-restart 0)

check: $(VENV)/.dev $(VENV)/.editable  ## ruff, mypy --strict, shellcheck, cfn-lint
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/shellcheck $(SHELL_FILES)
	$(BIN)/cfn-lint ezbatch/aws/template.yaml

lab: $(VENV)/.dev $(VENV)/.editable  ## JupyterLab on notebooks/
	@$(RUN) jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root) $(ARGS) notebooks

bench: $(VENV)/.dev $(VENV)/.editable  ## the measurements, beside what they are compared with
	@$(RUN) python -m bench $(ARGS)

soak: $(VENV)/.dev $(INSTALLED) system-tools  ## the tests that take minutes
	@$(RUN) pytest -m soak -o faulthandler_exit_on_timeout=false $(ARGS)

lock: $(VENV)/.dev  ## choose the newest versions and write requirements/*.txt
	echo uv | $(UV) pip compile $(LOCK) -o requirements/uv.txt -
	$(UV) pip compile $(LOCK) --extra jupyter --group dev -o requirements/dev.txt pyproject.toml
	$(UV) pip compile $(LOCK) --group build --group demo -c requirements/dev.txt -o requirements/demo.txt pyproject.toml

clean:  ## remove the environment and everything built
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

wheel: $(VENV)/.dev
	@rm -rf dist $(VENV)/.editable
	@$(BIN)/python -m hatchling build -t wheel -d dist
	@$(UV) pip install --no-deps --reinstall dist/*.whl

system-tools:
	@sh scripts/system-tools.sh

# A Debian without python3-venv has no ensurepip; its pip can still fill an environment from outside.
$(VENV)/.uv: requirements/uv.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo 'ezbatch needs Python 3.10 or newer: make PYTHON=python3.12 ...' >&2; exit 1; }
	@echo 'setting up $(VENV)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) >/dev/null 2>&1 || $(PYTHON) -m venv --clear --without-pip $(VENV)
	@if $(BIN)/python -m pip --version >/dev/null 2>&1; \
	then $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt; \
	else $(PYTHON) -m pip --python $(BIN)/python install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt; fi
	@touch $@

$(VENV)/.demo $(VENV)/.dev: $(VENV)/.%: requirements/%.txt $(VENV)/.uv
	@$(UV) pip install --require-hashes -r $<
	@touch $@

$(VENV)/.editable: pyproject.toml
	@$(UV) pip install --no-deps --no-build-isolation --editable .
	@touch $@
