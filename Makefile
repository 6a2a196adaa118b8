# For a newcomer: `make demo` runs the main job, `make test` passes the tests. Both first install
# everything into .venv; nothing needs root, a compiler or a server.

VENV := .venv
BIN := $(VENV)/bin
# The first of these from 3.11 to 3.13; or say which: make install PYTHON3=/usr/bin/python3.12
PYTHON3 ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$p && break; done)

.PHONY: help install demo check test test-slow test-fast docs lock clean

help:
	@echo "make install   everything into $(VENV)"
	@echo "make demo      the whole loop on real images; DATA=folder for your own"
	@echo "make check     formatting, types, imports between the rooms, the generated client"
	@echo "make test      check, and the tests"
	@echo "make test-slow the tests that take long"
	@echo "make test-fast some tests, without servers and training, in a minute"
	@echo "make docs      the documentation as a site: build/site/index.html"
	@echo "make lock      versions of all packages into constraints.txt; UPGRADE=1 for the newest"

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON3)" || { echo "Python 3.11, 3.12 or 3.13 is needed: sudo apt-get install python3 python3-venv"; exit 1; }
	@$(PYTHON3) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON3) can make no virtual environment: sudo apt-get install python3-venv"; exit 1; }
	$(PYTHON3) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[server,starter,benchmarks,test]'
	@touch $@

export DATA  # a path with spaces or quotes arrives as it is
demo: install
	@$(BIN)/python -m demo

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.repository.unasync --check

# Two at a time: many tests wait for servers. Each network is too small for more than one thread.
test: check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

# Those that take long: processes killed and started, the starter trained and exported.
test-slow: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m slow

# Those that need neither a server nor a training.
FAST := api/archives clipcite/datasets \
	core/clip/checks core/clip/data core/clip/weights core/clip/training/test_losses.py \
	core/clip/evaluation/test_report.py core/clip/inference/test_calibration.py \
	core/clip/inference/test_class_offsets.py core/clip/inference/test_in_distribution.py \
	core/clip/test_config.py core/clip/test_imports.py core/clip/test_prompts.py \
	core/store/db/test_ids.py core/store/registry/test_references.py \
	core/test_scratch.py core/test_settings.py core/test_url_guard.py \
	docs/test_architecture.py repository/test_fault_cases.py repository/test_packages.py repository/test_readme.py \
	repository/test_unasync.py

test-fast: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal $(addprefix tests/,$(FAST))

docs: install
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	$(BIN)/python docs/build.py

# For every Python and platform. Without `install`, which would fail on versions that no longer fit.
lock:
	@test -x $(BIN)/python || $(PYTHON3) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet 'uv>=0.9,<1'
	$(BIN)/uv pip compile --universal --all-extras --python-version 3.11 --no-annotate --quiet \
		$(if $(UPGRADE),--upgrade) --custom-compile-command 'make lock' \
		--output-file constraints.txt pyproject.toml

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
