# make demo: set up, and train a real model on this machine.
# make test: set up everything, the Slurm test cluster included when root, and run all tests.
# make horovod, make frameworks: what docs/launchers.md has recipes for, in environments of their own
#   that tests of the test cluster use where they are there; large, and minutes to build.
# make campaign: every fault as often as its test asks for, and the figures.
#
# PYTHON=…   the interpreter to build on (default: the first of 3.11 or newer on the PATH)
# PYTEST=…   further words for pytest, such as PYTEST="-k snapshot"

PYTHON ?= $(shell for p in python3.14 python3.13 python3.12 python3.11 python3; do \
	"$$p" -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
ROOT := $(shell [ "$$(id -u)" = 0 ] && echo yes)
APT := $(shell command -v apt-get)

.PHONY: demo test horovod frameworks campaign lint bench cluster-up cluster-down cluster-shell clean

demo: $(VENV)/.demo
	@$(BIN)/hpcrun demo

test: $(VENV)/.test $(if $(and $(ROOT),$(APT)),cluster-install)
	$(BIN)/python -m pytest --numprocesses=3 $(PYTEST)

campaign: $(VENV)/.test $(if $(and $(ROOT),$(APT)),cluster-install)
	HPCRUN_CAMPAIGN=1 $(BIN)/python -m pytest -m campaign $(PYTEST)

horovod: $(VENV)/.test cluster-install
	$(BIN)/python -m tests.frameworks horovod

frameworks: $(VENV)/.test cluster-install
	$(BIN)/python -m tests.frameworks others

lint: $(VENV)/.test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --config setup.cfg

bench: $(VENV)/.test
	$(BIN)/python -m benchmarks

cluster-install: $(VENV)/.test
	$(BIN)/python -m tests.cluster install

cluster-up: $(VENV)/.test
	$(BIN)/python -m tests.cluster up

cluster-down: $(VENV)/.test
	$(BIN)/python -m tests.cluster down

cluster-shell: $(VENV)/.test
	$(BIN)/python -m tests.cluster shell $(or $(LOGIN),alice)

$(VENV)/.base: setup.cfg pyproject.toml
	@test -n "$(PYTHON)" || $(if $(and $(ROOT),$(APT)),{ apt-get -qq update && apt-get -qq install -y python3-venv; },\
		{ echo "hpcrun needs Python 3.11 or newer with venv (Debian: apt-get install python3-venv)"; exit 1; })
	$(or $(PYTHON),python3) -m venv $(VENV)
	$(BIN)/pip install -q --disable-pip-version-check -e .
	@touch $@

$(VENV)/.demo: $(VENV)/.base
	$(BIN)/pip install -q --disable-pip-version-check -e '.[demo]'
	@touch $@

$(VENV)/.test: $(VENV)/.demo
	$(BIN)/pip install -q --disable-pip-version-check -e '.[demo,test]'
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
