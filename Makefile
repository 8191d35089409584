# Two commands for a newcomer: `make run` trains a federated MeshNet between two demo sites, `make test` checks it all.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test lint types unit chaos fuzz image platform-test service-aws-test bench lock clean

# What the lock file lists and nothing else, each file with its hash; then this package itself, which also compiles the
# native kernels where a C++ compiler is found; without one PyTorch computes.
$(VENV)/.installed: pyproject.toml setup.py requirements/lock.txt requirements/install.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python requirements/install.py --extras demo,docker,export,figures,dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

run: $(VENV)/.installed
	$(BIN)/coinstac-meshnet demo --output run

test: lint types unit

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed
	$(BIN)/mypy

unit: $(VENV)/.installed
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

# Whole runs under faults that recorded seeds draw: kills, full disks, what is lost, damaged, late or said twice on its
# way. A seed that fails prints the command that repeats it alone.
SEEDS ?= 200
chaos: $(VENV)/.installed
	$(BIN)/python requirements/install.py --extras demo,docker,export,figures,dev,service
	$(BIN)/python test/chaos/__main__.py --seeds $(SEEDS)

# Changed bytes for every reader of foreign bytes, so many minutes for each; what is found lies in build/fuzz/. With
# `pip install .[fuzz]` coverage leads the changes, without it chance.
MINUTES ?= 10
fuzz: $(VENV)/.installed
	$(BIN)/python test/fuzz --minutes $(MINUTES)

# The image of sites and centre; needs a Docker Engine, and as root installs Debian's.
image: $(VENV)/.installed
	PYTHON=$(BIN)/python test/platform/engine.sh image

# COINSTAC's own pipeline code from npm: with processes, then with real Docker where an engine can be had.
platform-test: $(VENV)/.installed
	PYTHON=$(BIN)/python test/platform/run.sh

# All of the service on an emulator of AWS: made by Terraform, a run through its gateway, and gone again; it takes minutes.
# Needs the extras service, aws and dev-service, terraform on the PATH, and the AWS provider where TF_PLUGIN_MIRROR says.
service-aws-test: $(VENV)/.installed
	MESHNET_AWS_TEST=1 $(BIN)/python -m pytest test/infrastructure test/service/test_aws.py

# What the README quotes of the machine; each prints one table and writes its raw numbers into benchmarks/results/.
bench: $(VENV)/.installed
	$(BIN)/python -m benchmarks.combine
	$(BIN)/python -m benchmarks.null_round
	$(BIN)/python -m benchmarks.kernels
	$(BIN)/python -m benchmarks.ring

# requirements/lock.txt, checkov.txt and sbom.cdx.json anew; `make lock LOCK_OPTIONS=--upgrade` takes the newest of what is left open.
lock: $(VENV)/.installed
	$(BIN)/python requirements/install.py --only lock
	$(BIN)/python requirements/lock.py $(LOCK_OPTIONS)

clean:
	rm -rf $(VENV) .checkov .checkov.log .platform run build .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info
	rm -f computation/model/native/*.so
