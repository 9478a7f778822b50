# make demo: the whole thing on this machine, with real servers and a real attack.  make test: every test.
# Both install what they need first; run as root on Debian 12 with Python 3.11.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXTRAS := collector,cli,agent,servers
# A file of tests at a time in each of two processes: their collectors are mostly waited for.
PARALLEL := --numprocesses 2 --dist loadfile --no-loadscope-reorder
export PIP_DISABLE_PIP_VERSION_CHECK = 1
# Daemons are started some hundreds of times: they need not be compiled each time.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test bench faults phases bpf bpf-check proto proto-check lint unit kernel attacks benign e2e browser wheel bundle install install-dev clean
.DEFAULT_GOAL := help

help:  ## what there is
	@grep -hE '^[a-z][a-z0-9 -]*:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9 -]+):.*## /  make \1\t/' | expand -t 24

build/.packages-%: deploy/packages.sh
	@deploy/packages.sh $*
	@mkdir -p build && touch $@

$(BIN)/python: build/.packages-run
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade pip
	@touch $@

$(VENV)/.installed: $(BIN)/python pyproject.toml
	@echo "installing Modelward and the model servers of the demo into $(VENV)"
	@$(BIN)/python -m pip install --quiet --editable '.[$(EXTRAS)]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "installing what the tests need into $(VENV)"
	@$(BIN)/python -m pip install --quiet --editable '.[$(EXTRAS),dev]'
	@touch $@

install: $(VENV)/.installed  ## daemons and command, in .venv
	@$(PYTHON) agent/bpf/build.py

install-dev: build/.packages-compile build/.packages-test install $(VENV)/.installed-dev  ## and what the tests need

demo: install  ## the main job, told step by step (FRAMEWORK=torch, KEEP=1)
	@$(BIN)/python -m deploy.demo $(if $(FRAMEWORK),--framework $(FRAMEWORK)) $(if $(KEEP),--keep)

bpf: build/.packages-compile  ## compile the kernel side, if it changed
	@$(PYTHON) agent/bpf/build.py

bpf-check: build/.packages-compile  ## are the kernel objects what the sources make
	@$(PYTHON) agent/bpf/build.py --check

proto: install-dev  ## generate proto/modelward_proto/v1 from proto/modelward/v1
	$(BIN)/python proto/generate.py

proto-check: install-dev  ## is the generated code what the .proto files make
	$(BIN)/python proto/generate.py --check

lint: install-dev  ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: build/.packages-bench install-dev  ## what it costs, beside peers: needs root and a quiet machine (ONLY=a,c)
	$(BIN)/python -m tests.bench $(if $(ONLY),--only $(ONLY))

faults: install-dev  ## kills, full disks, wrong clocks, cut streams: what was provoked is what is stored (root; SEED=, ONLY=)
	@$(BIN)/python -m tests.faults $(if $(SEED),--seed $(SEED)) $(if $(ONLY),--only "$(ONLY)")

phases: install-dev  ## is every event of real model servers tagged right: phase, model, origin (root; ONLY=NAME,NAME)
	@$(BIN)/python -m tests.phases $(if $(ONLY),--only "$(ONLY)")

wheel: install-dev  ## the wheel, kernel objects inside
	$(BIN)/python -m build --wheel --outdir build/wheels

bundle: wheel  ## all that real hosts need, in one file (docs/install.md)
	@PYTHON=$(BIN)/python deploy/bundle.sh agent collector cli

unit kernel attacks benign e2e browser: install-dev  ## one suite of tests
	$(BIN)/python -m pytest $(if $(filter unit,$@),$(PARALLEL)) tests/$@

test: install-dev  ## everything CI runs
	MODELWARD_REQUIRE=all PARALLEL="$(PARALLEL)" .ci/suites.sh

clean:  ## remove what was built
	rm -rf build $(VENV)
